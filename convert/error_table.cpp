#include "convert/error_table.h"

#include "core/thread_pool.h"
#include "quant/codec.h"
#include "quant/importance.h"

#include <algorithm>

namespace nemo {

namespace {

// Of a tensor, about this many elements are tried, in at least kMinRows rows and at most
// kMaxRows; experts beyond that are skipped evenly.
constexpr int64_t kSampleElements = int64_t{1} << 18;
constexpr int64_t kMinRows = 16;
constexpr int64_t kMaxRows = 128;

int64_t n_rows_of(const TensorSpec& spec) {
    return spec.dims[1] * spec.dims[2] * spec.dims[3];
}

int64_t n_sample_rows(const TensorSpec& spec) {
    const int64_t wanted = std::max({kMinRows, kSampleElements / spec.dims[0], spec.dims[2]});
    return std::min({wanted, kMaxRows, n_rows_of(spec)});
}

// Buffers of one thread.
struct Scratch {
    LoadedBytes loaded;
    std::vector<float> values;
    std::vector<float> decoded;
    std::vector<std::byte> encoded;
};

// The part of all input rows that the matrix of this row sees.
double share_of(const PlannedTensor& tensor, int64_t row) {
    const int64_t n_matrices = tensor.spec.dims[2] * tensor.spec.dims[3];
    if (tensor.importance == nullptr || std::ssize(tensor.importance->counts) != n_matrices)
        return 1;
    return tensor.importance->share(row / tensor.spec.dims[1]);
}

// One error per candidate.
void measure_row(const MeasuredTensor& measured, int64_t row, Scratch& scratch,
                 std::span<RelativeError> errors) {
    const PlannedTensor& tensor = *measured.tensor;
    const int64_t n = tensor.spec.dims[0];
    scratch.values.resize(static_cast<size_t>(n));
    scratch.decoded.resize(static_cast<size_t>(n));
    scratch.loaded.load(tensor.source->ranges(row * n, n));
    tensor.source->read(row * n, n, scratch.values.data(), scratch.loaded);
    const float* importance = tensor.importance_of_row(row);
    for (size_t c = 0; c < measured.candidates.size(); ++c) {
        const DTypeInfo& info = dtype_info(measured.candidates[c]);
        scratch.encoded.resize(static_cast<size_t>(n / info.block_size * info.block_bytes));
        encode_row(info.dtype, scratch.values.data(), scratch.encoded.data(), n, importance);
        decode_row(info.dtype, scratch.encoded.data(), scratch.decoded.data(), n);
        errors[c].add_row(scratch.values.data(), scratch.decoded.data(), importance, n,
                          share_of(tensor, row));
    }
}

std::vector<double> measure_tensor(const MeasuredTensor& measured, ThreadPool& pool,
                                   std::vector<Scratch>& scratch) {
    const size_t n_candidates = measured.candidates.size();
    const int64_t n_rows = n_rows_of(measured.tensor->spec);
    const int64_t n_sampled = n_sample_rows(measured.tensor->spec);
    std::vector<RelativeError> errors(static_cast<size_t>(n_sampled) * n_candidates);
    pool.parallel_for(n_sampled, 1, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t row = (2 * i + 1) * n_rows / (2 * n_sampled);
            measure_row(
                measured, row, scratch[static_cast<size_t>(thread)],
                std::span(errors).subspan(static_cast<size_t>(i) * n_candidates, n_candidates));
        }
    });
    // Summed in the order of rows, whoever measured them.
    std::vector<RelativeError> totals(n_candidates);
    for (size_t i = 0; i < errors.size(); ++i) totals[i % n_candidates].add(errors[i]);
    std::vector<double> values;
    for (size_t c = 0; c < n_candidates; ++c)
        values.push_back(measured.tensor->source->encoded_type() == measured.candidates[c]
                             ? 0.0
                             : totals[c].value());
    return values;
}

}  // namespace

std::vector<std::vector<double>> measure_errors(std::span<const MeasuredTensor> tensors,
                                                int n_threads, const MeasureProgress& on_progress) {
    ThreadPool pool(n_threads);
    std::vector<Scratch> scratch(static_cast<size_t>(pool.n_threads()));
    std::vector<std::vector<double>> errors;
    for (const MeasuredTensor& measured : tensors) {
        on_progress(errors.size(), tensors.size());
        errors.push_back(measure_tensor(measured, pool, scratch));
    }
    on_progress(errors.size(), tensors.size());
    return errors;
}

}  // namespace nemo
