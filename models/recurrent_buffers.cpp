#include "models/recurrent_buffers.h"

#include <algorithm>
#include <utility>

namespace nemo {

RecurrentBuffers::RecurrentBuffers(Backend& backend, int64_t n_floats)
    : backend_(backend), n_floats_(n_floats), spare_(std::make_shared<Spare>()) {
    spare_->reserve(kMostSpare);  // so that going back never fails
}

FloatBuffer RecurrentBuffers::get() const {
    std::shared_ptr<FloatBuffer> memory;
    if (spare_->empty()) {
        memory = std::make_shared<FloatBuffer>(backend_.alloc(n_floats_));
    } else {
        memory = std::move(spare_->back());
        spare_->pop_back();
    }
    float* floats = memory->get();
    return {floats, [spare = spare_, memory = std::move(memory)](float*) mutable {
                if (spare->size() < kMostSpare) spare->push_back(std::move(memory));
                memory.reset();
            }};
}

void RecurrentBuffers::prepare(size_t n) {
    while (spare_->size() < std::min(n, kMostSpare)) {
        auto memory = std::make_shared<FloatBuffer>(backend_.alloc(n_floats_));
        backend_.clear(memory->get(), n_floats_);
        spare_->push_back(std::move(memory));
    }
}

void RecurrentBuffers::limit(size_t n) noexcept {
    spare_->resize(std::min(n, spare_->size()));
}

}  // namespace nemo
