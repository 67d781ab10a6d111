#include "convert/read_ahead.h"

#include "core/error.h"

namespace nemo {

ReadAhead::ReadAhead(const std::vector<Slab>& slabs) : slabs_(slabs) {
    for (size_t i = 0; i < kLoaders; ++i) begin(i);
}

void ReadAhead::begin(size_t slab) {
    if (slab >= slabs_.size()) return;
    loaders_[slab % kLoaders].run([this, slab] {
        const Slab& wanted = slabs_[slab];
        loaded_[slab % loaded_.size()].load(wanted.source->ranges(
            wanted.first_row * wanted.row_length, wanted.n_rows * wanted.row_length));
    });
}

const LoadedBytes& ReadAhead::next() {
    NEMO_ASSERT(n_taken_ < slabs_.size());
    const size_t slab = n_taken_++;
    loaders_[slab % kLoaders].wait();
    begin(slab + kLoaders);  // into the memory of the slab before
    return loaded_[slab % loaded_.size()];
}

}  // namespace nemo
