#include "convert/nvfp4_scale.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

namespace nemo {

namespace {

// What the largest weight of a matrix becomes. Not the 448 * 6 that blocks could hold, so that also
// its block may have a scale that makes it a 4 instead of a 6, where that fits the others better.
constexpr float kLargestNormalized = 256.0f * 6.0f;
constexpr int64_t kChunkElements = int64_t{1} << 20;  // of the pass over a matrix
constexpr int64_t kBufferElements = int64_t{1} << 14;

// The weights of another source, every matrix divided by its factor. Factors are computed when they
// are first needed, by all threads that need them together, and then kept.
class NormalizedSource final : public WeightSource {
public:
    NormalizedSource(WeightSourcePtr weights, int64_t n_matrices, int64_t n_per_matrix)
        : weights_(std::move(weights)),
          n_per_matrix_(n_per_matrix),
          n_chunks_((n_per_matrix + kChunkElements - 1) / kChunkElements),
          passes_(static_cast<size_t>(n_matrices)) {}

    const std::string& name() const override { return weights_->name(); }
    std::string_view type_name() const override { return weights_->type_name(); }
    uint64_t n_bytes() const override { return weights_->n_bytes(); }

    std::vector<MappedRange> ranges(int64_t first, int64_t n) const override {
        return weights_->ranges(first, n);
    }
    std::optional<uint32_t> checksum() const override { return weights_->checksum(); }
    void read(int64_t first, int64_t n, float* target, const LoadedBytes& loaded) const override {
        weights_->read(first, n, target, loaded);
        while (n > 0) {
            const int64_t matrix = first / n_per_matrix_;
            const int64_t n_here = std::min(n, (matrix + 1) * n_per_matrix_ - first);
            const float scale = factor(matrix);
            for (int64_t i = 0; i < n_here; ++i) target[i] /= scale;
            first += n_here;
            target += n_here;
            n -= n_here;
        }
    }

    std::vector<float> factors() const override {
        std::vector<float> result;
        for (size_t i = 0; i < passes_.size(); ++i)
            result.push_back(factor(static_cast<int64_t>(i)));
        return result;
    }

private:
    struct Pass {
        std::atomic<int64_t> n_taken{0};  // chunks
        std::atomic<int64_t> n_done{0};
        std::atomic<float> largest{0.0f};
    };

    float factor(int64_t matrix) const {
        Pass& pass = passes_[static_cast<size_t>(matrix)];
        while (pass.n_taken < n_chunks_) {
            const int64_t chunk = pass.n_taken.fetch_add(1);
            if (chunk < n_chunks_) run_chunk(matrix, chunk, pass);
        }
        for (int64_t n = pass.n_done; n < n_chunks_; n = pass.n_done) pass.n_done.wait(n);
        return factor_for(pass.largest);
    }

    void run_chunk(int64_t matrix, int64_t chunk, Pass& pass) const {
        // Also after an exception: nobody may wait for it for ever.
        struct Done {
            Pass& pass;
            ~Done() {
                ++pass.n_done;
                pass.n_done.notify_all();
            }
        } done{pass};
        const int64_t first = chunk * kChunkElements;
        const int64_t n = std::min(kChunkElements, n_per_matrix_ - first);
        const float largest = largest_magnitude(matrix * n_per_matrix_ + first, n);
        float known = pass.largest;
        while (known < largest && !pass.largest.compare_exchange_weak(known, largest)) {
        }
    }

    float largest_magnitude(int64_t first, int64_t n) const {
        LoadedBytes loaded;
        loaded.load(weights_->ranges(first, n));
        std::vector<float> values(static_cast<size_t>(std::min(n, kBufferElements)));
        float largest = 0.0f;
        for (int64_t i = 0; i < n; i += kBufferElements) {
            const int64_t n_here = std::min(kBufferElements, n - i);
            weights_->read(first + i, n_here, values.data(), loaded);
            for (int64_t j = 0; j < n_here; ++j)
                largest = std::max(largest, std::fabs(values[static_cast<size_t>(j)]));
        }
        return largest;
    }

    static float factor_for(float largest) {
        if (largest == 0.0f) return 1.0f;
        return std::max(largest / kLargestNormalized, std::numeric_limits<float>::min());
    }

    WeightSourcePtr weights_;
    int64_t n_per_matrix_;
    int64_t n_chunks_;
    mutable std::vector<Pass> passes_;  // one per matrix
};

class FactorSource final : public WeightSource {
public:
    explicit FactorSource(WeightSourcePtr weights) : weights_(std::move(weights)) {}

    const std::string& name() const override { return weights_->name(); }
    std::string_view type_name() const override { return "F32"; }
    uint64_t n_bytes() const override { return 0; }  // counted with the weights, or computed
    void read(int64_t first, int64_t n, float* target, const LoadedBytes&) const override {
        const std::vector<float> factors = weights_->factors();
        std::copy_n(factors.begin() + first, n, target);
    }

private:
    WeightSourcePtr weights_;
};

bool has_factors(const WeightSource& source) {
    return std::ranges::any_of(source.factors(), [](float factor) { return factor != 1.0f; });
}

}  // namespace

bool can_be_nvfp4(const PlannedTensor& tensor) {
    if (takes_scale(tensor.spec.role)) return true;
    const bool is_stored = tensor.source->encoded_type() == DType::nvfp4;
    return is_stored && !has_factors(*tensor.source);
}

void append_tensor(PlannedTensor tensor, std::vector<PlannedTensor>& tensors) {
    if (tensor.dtype != DType::nvfp4) return tensors.push_back(std::move(tensor));
    NEMO_ASSERT(can_be_nvfp4(tensor));
    const int64_t n_matrices = tensor.spec.dims[2];
    if (tensor.source->encoded_type() != DType::nvfp4)
        tensor.source = std::make_shared<NormalizedSource>(
            tensor.source, n_matrices, tensor.spec.dims[0] * tensor.spec.dims[1]);
    else if (!has_factors(*tensor.source))
        return tensors.push_back(std::move(tensor));
    PlannedTensor scale = {.spec = {.role = TensorRole::scale,
                                    .block = tensor.spec.block,
                                    .name = scale_name(tensor.spec.name),
                                    .dims = {n_matrices, 1, 1, 1},
                                    .n_dims = 1,
                                    .always_f32 = true},
                           .dtype = DType::f32,
                           .source = std::make_shared<FactorSource>(tensor.source)};
    tensors.push_back(std::move(tensor));
    tensors.push_back(std::move(scale));
}

}  // namespace nemo
