// Memory for recurrent states, used again: a message takes up to three states of a hundred
// megabytes and drops as many, and fresh memory costs more than what is copied there; in a virtual
// machine, ten times as much.
//
// A buffer goes back when its owner lets go of it, whoever that is. One thread at a time.
#pragma once

#include "kernels/backend.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace nemo {

class RecurrentBuffers {
public:
    // What one message may take: a state is left, one is kept before it and one after it.
    static constexpr size_t kMostSpare = 3;

    RecurrentBuffers(Backend& backend, int64_t n_floats);

    // Contents undefined.
    FloatBuffer get() const;
    size_t n_spare() const { return spare_->size(); }
    // Gets `n` spare ones, at most kMostSpare, and their pages from the system.
    void prepare(size_t n);
    // Frees all but `n` of them.
    void limit(size_t n) noexcept;

private:
    using Spare = std::vector<std::shared_ptr<FloatBuffer>>;

    Backend& backend_;
    int64_t n_floats_;
    std::shared_ptr<Spare> spare_;  // also of every buffer that is in use
};

}  // namespace nemo
