// Working memory that grows to the largest size asked for and is then reused. Contents are lost at
// the next get.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace nemo {

template <class T>
class ScratchBuffer {
public:
    // At least n values, uninitialized. Grows by half at least: some sizes rise with every token.
    T* get(int64_t n) {
        if (n > capacity_) {
            const int64_t capacity = std::max(n, capacity_ + capacity_ / 2);
            values_.reset();
            capacity_ = 0;
            const size_t n_bytes = static_cast<size_t>(capacity) * sizeof(T);
            values_.reset(static_cast<T*>(::operator new(n_bytes, kAlignment)));
            capacity_ = capacity;
        }
        return values_.get();
    }

    // What the last get returned.
    T* get() const { return values_.get(); }

private:
    static constexpr std::align_val_t kAlignment{64};
    struct Free {
        void operator()(T* values) const { ::operator delete(values, kAlignment); }
    };
    std::unique_ptr<T, Free> values_;
    int64_t capacity_ = 0;
};

}  // namespace nemo
