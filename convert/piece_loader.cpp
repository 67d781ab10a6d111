#include "convert/piece_loader.h"

#include "core/error.h"

#include <utility>

namespace nemo {

PieceLoader::PieceLoader(size_t n_pieces, Ranges ranges)
    : n_pieces_(n_pieces), ranges_(std::move(ranges)) {
    for (size_t i = 0; i < kLoaders; ++i) begin(i);
}

void PieceLoader::begin(size_t index) {
    if (index >= n_pieces_) return;
    loaders_[index % kLoaders].run(
        [this, index] { loaded_[index % loaded_.size()].load(ranges_(index)); });
}

const LoadedBytes& PieceLoader::next() {
    NEMO_ASSERT(n_taken_ < n_pieces_);
    const size_t index = n_taken_++;
    loaders_[index % kLoaders].wait();
    begin(index + kLoaders);  // takes the place of the piece before
    return loaded_[index % loaded_.size()];
}

}  // namespace nemo
