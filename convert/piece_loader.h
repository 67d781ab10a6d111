// Loads one piece of the input after the other, the next ones while the present one is being worked
// on. A piece is what is worked on together: tens of megabytes, from one file or several.
#pragma once

#include "core/background_tasks.h"
#include "core/loaded_bytes.h"

#include <array>
#include <cstddef>
#include <functional>
#include <vector>

namespace nemo {

class PieceLoader {
public:
    // Where piece `index` is. Called on other threads, and at the same time.
    using Ranges = std::function<std::vector<MappedRange>(size_t index)>;
    PieceLoader(size_t n_pieces, Ranges ranges);

    // The next piece, until the next call. Throws as LoadedBytes::load() and `ranges`.
    const LoadedBytes& next();

private:
    void begin(size_t index);

    static constexpr size_t kLoaders = 2;  // so that the disk always has something to do

    size_t n_pieces_;
    Ranges ranges_;
    size_t n_taken_ = 0;
    std::array<LoadedBytes, kLoaders + 1> loaded_;  // those being loaded, and the one in use
    std::array<BackgroundTasks, kLoaders> loaders_{BackgroundTasks(1), BackgroundTasks(1)};
};

}  // namespace nemo
