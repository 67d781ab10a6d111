// Fetches the input of slab after slab, the next ones while the present one is being encoded.
#pragma once

#include "convert/weight_source.h"
#include "core/background_tasks.h"
#include "core/loaded_bytes.h"

#include <array>
#include <cstdint>
#include <vector>

namespace nemo {

// Rows of one tensor that are encoded together.
struct Slab {
    size_t tensor = 0;  // of a list that whoever makes the slabs knows
    const WeightSource* source = nullptr;
    int64_t first_row = 0;
    int64_t n_rows = 0;
    int64_t row_length = 0;  // elements
};

class ReadAhead {
public:
    // The slabs and their sources must outlive this object.
    explicit ReadAhead(const std::vector<Slab>& slabs);

    // What the next slab is read from, as far as it is worth loading; until the next call. Throws
    // as LoadedBytes::load().
    const LoadedBytes& next();

private:
    void begin(size_t slab);

    static constexpr size_t kLoaders = 2;  // so that the disk always has something to do

    const std::vector<Slab>& slabs_;
    size_t n_taken_ = 0;
    std::array<LoadedBytes, kLoaders + 1> loaded_;  // one more than are being loaded
    std::array<BackgroundTasks, kLoaders> loaders_{BackgroundTasks(1), BackgroundTasks(1)};
};

}  // namespace nemo
