// Backend on the CPU: cuts every operation into pieces whose size depends on the shapes only, and
// runs the tier's inner loops on them. Weights are the mapped file itself.
#include "kernels/cpu/cpu_backend.h"

#include "core/environment.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/experts.h"
#include "kernels/cpu/float_product.h"
#include "kernels/cpu/mamba.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/panel_product.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/router.h"
#include "kernels/cpu/scratch.h"
#include "quant/codec.h"

#include <sys/mman.h>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

namespace nemo {

namespace {

// Pieces of work: long enough to hide the claim of the next one, and enough of them for many cores.
constexpr int64_t kTokenGrain = 4;
constexpr int64_t kGroupGrain = 4;
constexpr int64_t kElementGrain = 16384;
constexpr int64_t kCopyGrain = 1 << 17;

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;

constexpr size_t rounded_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

// Zeros on pages of 2 MiB, if the system has any: a state of a hundred megabytes is copied into
// them twice as fast as into as many small ones. What does not fill a large page is left to small
// ones: else a page of an 8B's Q8_0 caches, 2.1 MiB, would take 4. Null if there is no memory.
FloatBuffer alloc_huge_pages(size_t n_bytes) {
    n_bytes = rounded_up(n_bytes, kPage);
    // More by a large page, so that there are `n_bytes` that begin where one may; what is around
    // them goes back.
    void* memory = ::mmap(nullptr, n_bytes + kHugePage, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return {};
    auto* first = static_cast<std::byte*>(memory);
    const size_t n_before = rounded_up(reinterpret_cast<uintptr_t>(first), kHugePage) -
                            reinterpret_cast<uintptr_t>(first);
    if (n_before > 0) ::munmap(first, n_before);
    first += n_before;
    ::munmap(first + n_bytes, kHugePage - n_before);
    ::madvise(first, n_bytes, MADV_HUGEPAGE);
    return {reinterpret_cast<float*>(first), [n_bytes](float* p) { ::munmap(p, n_bytes); }};
}

// Zeros that begin at a cache line. Null if there is no memory.
FloatBuffer alloc_small(size_t n_bytes) {
    constexpr size_t kAlignment = 64;
    void* memory = std::calloc(n_bytes + kAlignment, 1);
    if (memory == nullptr) return {};
    const size_t padding = kAlignment - reinterpret_cast<uintptr_t>(memory) % kAlignment;
    auto* floats = reinterpret_cast<float*>(static_cast<std::byte*>(memory) + padding);
    return {floats, [memory](float*) { std::free(memory); }};
}

class CpuBackend final : public Backend {
public:
    CpuBackend(int n_threads, const TierOps& ops)
        : pool_(n_threads),
          ops_(ops),
          panels_(pool_.n_threads()),
          float_panels_(pool_.n_threads()),
          attention_(pool_.n_threads()),
          mamba_(pool_.n_threads()),
          tiles_(static_cast<size_t>(pool_.n_threads())),
          floats_(tiles_.size()),
          routers_(tiles_.size()) {}

    void set_observer(MatmulObserver* observer) override { observer_ = observer; }

    Weight upload(const TensorView& view, const TensorView* scale) override {
        return {.view = view,
                .scale = scale == nullptr ? nullptr : reinterpret_cast<const float*>(scale->data)};
    }

    // Large blocks come straight from the kernel as zero pages that cost nothing until they are
    // used: a cache for a long context is mostly such pages.
    FloatBuffer alloc(int64_t n_floats) override {
        constexpr auto kMostFloats = std::numeric_limits<int64_t>::max() / 8;
        FloatBuffer buffer;
        if (n_floats >= 0 && n_floats < kMostFloats) {
            const size_t n_bytes = static_cast<size_t>(n_floats) * sizeof(float);
            buffer = n_bytes < kHugePage ? alloc_small(n_bytes) : alloc_huge_pages(n_bytes);
        }
        if (buffer == nullptr)
            fail(ErrorCode::out_of_memory, "cannot allocate memory for {} fp32 values", n_floats);
        return buffer;
    }

    void sync() override {}

    void embed(const Weight& table, std::span<const int32_t> tokens, float* y) override {
        const TensorView& view = table.view;
        const int64_t n = view.row_length();
        pool_.parallel_for(std::ssize(tokens), kTokenGrain, [&](int64_t begin, int64_t end, int) {
            for (int64_t t = begin; t < end; ++t)
                decode_row(view.dtype, view.row(tokens[static_cast<size_t>(t)]), y + t * n, n);
        });
    }

    void rms_norm(const float* x, const Weight& weight, float eps, int64_t n_tokens, int64_t n,
                  float* y, Readers readers) override {
        norm_rows(n_tokens, n, y, readers, [&](int64_t t, float* row) {
            ops_.rms_norm(x + t * n, weight.f32(), n, eps, row);
        });
    }

    void layer_norm(const float* x, const Weight& weight, const Weight& bias, float eps,
                    int64_t n_tokens, int64_t n, float* y, Readers readers) override {
        norm_rows(n_tokens, n, y, readers, [&](int64_t t, float* row) {
            ops_.layer_norm(x + t * n, weight.f32(), bias.f32(), n, eps, row);
        });
    }

    void matmul(const Weight& weight, const float* x, int64_t n_tokens, float* y, Epilogue epilogue,
                const Weight& bias, Readers readers) override {
        if (observer_ != nullptr)
            for (int64_t t = 0; t < n_tokens; ++t)
                observer_->observe(weight, 0, x + t * weight.n_in());
        const DotPlan plan = plan_dot(ops_, weight.view.dtype);
        const float* bias_values = bias.present() ? bias.f32() : nullptr;
        const bool is_packed = take_packed(x, n_tokens);
        if (is_packed || (plan.quantized && n_tokens > kSmallBatch)) {
            multiply_panels(plan, weight, x, is_packed, n_tokens, y, epilogue, bias_values,
                            readers);
        } else if (n_tokens <= kSmallBatch) {
            input_.prepare(ops_, pool_, plan, x, weight.n_in(), n_tokens);
            multiply_rows(ops_, pool_, plan, weight, input_, bias_values, epilogue, y, tiles_);
        } else {
            float_panels_.run(ops_, pool_, plan, weight, x, n_tokens, bias_values, epilogue, y);
        }
    }

    void conv_silu(const Mamba2Shape& shape, const float* xbc, int64_t x_stride,
                   const Weight& weight, const Weight& bias, float* state, int64_t n_tokens,
                   float* y, bool keep_state) override {
        mamba_.conv_silu(ops_, pool_, shape, xbc, x_stride, weight, bias, state, n_tokens, y,
                         keep_state);
    }

    void ssm_scan(const SsmScan& scan) override { mamba_.scan(ops_, pool_, scan); }

    void gated_group_norm(float* y, const float* z, int64_t z_stride, const Weight& weight,
                          float eps, int64_t n_tokens, int64_t n, int64_t n_groups,
                          Readers readers) override {
        const int64_t size = n / n_groups;
        const auto make_group = [&](int64_t t, int64_t i, float* row) {
            ops_.gated_norm(y + t * n + i, z + t * z_stride + i, weight.f32() + i, size, eps,
                            row + i);
        };
        const bool is_packed = pack_made(n_tokens, n, y, readers, [&](int64_t t, float* row) {
            for (int64_t i = 0; i < n; i += size) make_group(t, i, row);
        });
        if (is_packed) return;
        pool_.parallel_for(n_tokens * n_groups, kGroupGrain, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i)
                make_group(i / n_groups, i % n_groups * size, y + i / n_groups * n);
        });
    }

    void rope(const RotaryShape& rotary, int64_t n_heads, int64_t head_dim, int64_t position,
              int64_t n_tokens, float* x) override {
        pool_.parallel_for(n_tokens, kTokenGrain, [&](int64_t begin, int64_t end, int thread) {
            float* angles = floats_[static_cast<size_t>(thread)].get(rotary.n_dims);
            for (int64_t t = begin; t < end; ++t)
                rotate_heads(rotary, n_heads, head_dim, position + t, angles,
                             x + t * n_heads * head_dim);
        });
    }

    void kv_append(const float* rows, int64_t n_tokens, int64_t position,
                   const KvCache& cache) override {
        append_rows(pool_, rows, n_tokens, position, cache);
    }

    void attention(const AttentionShape& shape, const float* q, const KvCache& keys,
                   const KvCache& values, int64_t position, int64_t n_tokens, float* y) override {
        attention_.run(ops_.attention, pool_, {shape, q, keys, values, position, n_tokens, y});
    }

    void route(const RouterShape& shape, const float* logits, const Weight& bias, int64_t n_tokens,
               int32_t* ids, float* weights) override {
        const float* bias_values = bias.present() ? bias.f32() : nullptr;
        pool_.parallel_for(n_tokens, kTokenGrain, [&](int64_t begin, int64_t end, int thread) {
            for (int64_t t = begin; t < end; ++t)
                route_token(shape, logits + t * shape.n_experts, bias_values,
                            ids + t * shape.n_used, weights + t * shape.n_used,
                            routers_[static_cast<size_t>(thread)]);
        });
    }

    void experts(const Weight& up, const Weight& down, const RouterShape& shape, const int32_t* ids,
                 const float* weights, const float* x, int64_t n_tokens, float* y) override {
        handed_on_ = {};
        experts_.run(ops_, pool_, up, down, shape.n_used, ids, weights, x, n_tokens, y, tiles_,
                     panels_, observer_);
    }

    void add(const float* x, int64_t n, float* y) override {
        pool_.parallel_for(n, kElementGrain, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) y[i] += x[i];
        });
    }

    void copy(const float* from, int64_t n, float* to) override {
        pool_.parallel_for(n, kCopyGrain, [&](int64_t begin, int64_t end, int) {
            std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin) * sizeof(float));
        });
    }

    void clear(float* x, int64_t n) override {
        pool_.parallel_for(n, kElementGrain, [&](int64_t begin, int64_t end, int) {
            std::memset(x + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
        });
    }

private:
    // Packs the rows of y instead of storing them, if readers want that.
    bool pack_made(int64_t n_tokens, int64_t n, const float* y, Readers readers,
                   const PanelProduct::MakeRow& make) {
        handed_on_ = {};
        const QuantFormat format = packed_format(n_tokens, readers);
        if (format == QuantFormat::count) return false;
        panels_.pack_made(ops_, pool_, format, n_tokens, n, make);
        handed_on_ = {y, readers.size()};
        return true;
    }

    void norm_rows(int64_t n_tokens, int64_t n, float* y, Readers readers,
                   const PanelProduct::MakeRow& make) {
        if (pack_made(n_tokens, n, y, readers, make)) return;
        pool_.parallel_for(n_tokens, kTokenGrain, [&](int64_t begin, int64_t end, int) {
            for (int64_t t = begin; t < end; ++t) make(t, y + t * n);
        });
    }

    // A product by panels, of x or of what is packed already.
    void multiply_panels(const DotPlan& plan, const Weight& weight, const float* x, bool is_packed,
                         int64_t n_tokens, float* y, Epilogue epilogue, const float* bias,
                         Readers readers) {
        const QuantFormat next =
            epilogue == Epilogue::add || handed_on_.n_readers > 0 ||
                    !PanelProduct::can_pack_results(weight.n_out(), pool_.n_threads())
                ? QuantFormat::count
                : packed_format(n_tokens, readers);
        if (next == QuantFormat::count && !is_packed)
            return panels_.run(ops_, pool_, plan.format, weight, x, n_tokens, bias, epilogue, y);
        if (!is_packed) panels_.pack(ops_, pool_, plan.format, x, n_tokens, weight.n_in());
        if (next == QuantFormat::count)
            return panels_.multiply_packed(ops_, pool_, weight, bias, epilogue, y);
        panels_.multiply_and_pack(ops_, pool_, weight, bias, epilogue, next);
        handed_on_ = {y, readers.size()};
    }

    // The format for whose weights results can be packed instead of being stored: that of all
    // readers, products by panels; else none (count). An observer wants to see the values.
    QuantFormat packed_format(int64_t n_tokens, Readers readers) const {
        QuantFormat format = QuantFormat::count;
        if (observer_ != nullptr || n_tokens <= kSmallBatch || !PanelProduct::can_pack(n_tokens))
            return format;
        for (const Weight* reader : readers) {
            const DotPlan plan = plan_dot(ops_, reader->view.dtype);
            if (!plan.quantized || (format != QuantFormat::count && format != plan.format))
                return QuantFormat::count;
            format = plan.format;
        }
        return format;
    }

    // Whether the values of x are those that panels_ has packed. Only for the next products: others
    // end it, as x may be memory that is in use again.
    bool take_packed(const float* x, int64_t n_tokens) {
        if (handed_on_.n_readers == 0 || handed_on_.y != x) {
            handed_on_ = {};
            return false;
        }
        --handed_on_.n_readers;
        NEMO_ASSERT(n_tokens == panels_.n_packed());
        return true;
    }

    ThreadPool pool_;
    const TierOps& ops_;
    MatmulObserver* observer_ = nullptr;
    DotInput input_;
    PanelProduct panels_;
    // The y whose values panels_ has packed, and products that are still to read them.
    struct {
        const float* y = nullptr;
        size_t n_readers = 0;
    } handed_on_;
    FloatProduct float_panels_;
    Experts experts_;
    Attention attention_;
    Mamba mamba_;
    // One per thread.
    std::vector<TileScratch> tiles_;
    std::vector<ScratchBuffer<float>> floats_;
    std::vector<RouterScratch> routers_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int n_threads, CpuTier tier) {
    NEMO_ASSERT(cpu_tier_supported(tier));
    return std::make_unique<CpuBackend>(n_threads, tier_ops(tier));
}

std::unique_ptr<Backend> make_cpu_backend(int n_threads) {
    return make_cpu_backend(n_threads, choose_cpu_tier(environment().cpu_tier));
}

}  // namespace nemo
