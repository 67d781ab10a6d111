#include "app/sensitivity.h"

#include "app/perplexity.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/thread_pool.h"
#include "models/inventory.h"
#include "quant/codec.h"

#include <algorithm>
#include <cmath>
#include <deque>

namespace nemo {

namespace {

constexpr DType kCoarseType = DType::q4_0;
constexpr int64_t kGrainElements = int64_t{1} << 16;
// Below this the copy is the tensor itself, but for the rounding of its scales.
constexpr double kNoError = 1e-7;

struct CoarseTensor {
    std::vector<std::byte> bytes;
    TensorView view;
    double relative_error = 0;
};

class CoarseCopier {
public:
    CoarseCopier(const ModelFile& file, const Importance& importance, int n_threads)
        : file_(file), importance_(importance), pool_(n_threads) {}

    CoarseTensor copy(const TensorView& original) {
        CoarseTensor coarse;
        coarse.view = original;
        coarse.view.dtype = kCoarseType;
        coarse.bytes.resize(static_cast<size_t>(coarse.view.n_bytes()));
        coarse.view.data = coarse.bytes.data();

        const int64_t n_rows = original.n_rows();
        const int64_t grain = std::max<int64_t>(1, kGrainElements / original.row_length());
        // One per piece, added up in order: the same sum for any number of threads.
        std::vector<RelativeError> errors(static_cast<size_t>((n_rows + grain - 1) / grain));
        const Weights weights = weights_of(original);
        pool_.parallel_for(n_rows, grain, [&](int64_t begin, int64_t end, int) {
            for (int64_t row = begin; row < end; ++row)
                copy_row(original, weights, row, coarse,
                         errors[static_cast<size_t>(begin / grain)]);
        });
        RelativeError total;
        for (const RelativeError& error : errors) total.add(error);
        coarse.relative_error = total.value();
        return coarse;
    }

private:
    struct Weights {
        const TensorImportance* entry = nullptr;
        std::span<const float> mean_square;  // [n_matrices, n_columns], or empty
        const float* scale = nullptr;        // of an NVFP4 tensor, [n_matrices]
    };

    Weights weights_of(const TensorView& original) const {
        Weights weights;
        const auto entry = importance_.tensors.find(original.name);
        if (entry != importance_.tensors.end()) weights.entry = &entry->second;
        weights.mean_square =
            importance_.weights(original.name, original.row_length(), original.dims[2]);
        // Bound before, so it fits.
        const TensorView* scale =
            original.dtype == DType::nvfp4 ? file_.find(scale_name(original.name)) : nullptr;
        if (scale != nullptr) weights.scale = reinterpret_cast<const float*>(scale->data);
        return weights;
    }

    static void copy_row(const TensorView& original, const Weights& weights, int64_t row,
                         CoarseTensor& coarse, RelativeError& error) {
        const int64_t n = original.row_length();
        const int64_t matrix = row / original.dims[1];
        std::vector<float> exact(static_cast<size_t>(n));
        std::vector<float> rounded(static_cast<size_t>(n));
        decode_row(original.dtype, original.row(row), exact.data(), n);
        if (weights.scale != nullptr)
            for (float& value : exact) value *= weights.scale[matrix];
        std::byte* target = coarse.bytes.data() + row * coarse.view.row_bytes();
        encode_row(kCoarseType, exact.data(), target, n);
        decode_row(kCoarseType, target, rounded.data(), n);
        const float* columns =
            weights.mean_square.empty() ? nullptr : weights.mean_square.data() + matrix * n;
        error.add_row(exact.data(), rounded.data(), columns, n,
                      weights.entry != nullptr ? weights.entry->share(matrix) : 1);
    }

    const ModelFile& file_;
    const Importance& importance_;
    ThreadPool pool_;
};

std::vector<ClassSensitivity> tensor_classes(const Model& model) {
    std::vector<ClassSensitivity> classes;
    const std::vector<TensorSpec> inventory = tensor_inventory(model.config());
    const std::set<int> before_attention = layers_before_attention(inventory);
    for (const TensorSpec& spec : inventory) {
        const TensorView* tensor = model.file().find(spec.name);
        const bool fits = spec.dims[0] % dtype_info(kCoarseType).block_size == 0;
        if (spec.always_f32 || tensor == nullptr || !fits) continue;
        const std::string name = tensor_stem(spec.name) +
                                 (before_attention.contains(spec.layer) ? " before attention" : "");
        auto found = std::ranges::find(classes, name, &ClassSensitivity::name);
        if (found == classes.end()) found = classes.insert(found, {.name = name});
        found->tensors.push_back(spec.name);
    }
    return classes;
}

// The predictions that all others are compared with.
class BasePredictions {
public:
    BasePredictions(const TextChunks& text, int64_t n_chunks, const TokenizerData& vocabulary)
        : text_(text), n_chunks_(n_chunks), vocabulary_(vocabulary) {}

    template <class OnChunk>
    void collect(const Model& model, const OnChunk& on_chunk) {
        run(model, on_chunk, [&](std::span<const float> logits) {
            const double normaliser = log_sum_exp(logits);
            if (!std::isfinite(normaliser))
                fail(ErrorCode::bad_file, "{}: the model's predictions are not numbers",
                     model.file().path());
            normalisers_.push_back(normaliser);
            logits_.insert(logits_.end(), logits.begin(), logits.end());
        });
    }

    // Mean over all scored tokens.
    template <class OnChunk>
    double divergence(const Model& model, const OnChunk& on_chunk) const {
        std::vector<double> base(static_cast<size_t>(model.config().n_vocab));
        double sum = 0;
        size_t index = 0;
        run(model, on_chunk, [&](std::span<const float> logits) {
            const float* base_logits = logits_.data() + index * logits.size();
            for (size_t i = 0; i < logits.size(); ++i)
                base[i] = base_logits[i] - normalisers_[index];
            sum += kl_divergence(base, logits, log_sum_exp(logits));
            ++index;
        });
        return sum / static_cast<double>(index);
    }

private:
    template <class OnChunk, class OnRow>
    void run(const Model& model, const OnChunk& on_chunk, const OnRow& on_row) const {
        Session session(model, {.n_context = text_.n_context});
        for (int64_t i = 0; i < n_chunks_; ++i) {
            predict_chunk(model, session, text_.chunk(i, vocabulary_),
                          [&](int64_t, std::span<const float> logits, int32_t) { on_row(logits); });
            on_chunk();
        }
    }

    const TextChunks& text_;
    int64_t n_chunks_;
    const TokenizerData& vocabulary_;
    std::vector<float> logits_;  // [n_chunks * n_scored, n_vocab]
    std::vector<double> normalisers_;
};

}  // namespace

std::vector<ClassSensitivity> measure_sensitivity(const Engine& engine, const TextChunks& text,
                                                  int64_t n_chunks, const Importance& importance,
                                                  int n_threads,
                                                  const SensitivityProgress& on_progress) {
    const Model& model = engine.model();
    std::vector<ClassSensitivity> classes = tensor_classes(model);
    n_chunks = std::min(n_chunks, text.n_chunks);
    const int64_t n_passes = n_chunks * (1 + std::ssize(classes));
    int64_t n_done = 0;
    const auto on_chunk = [&] { on_progress(++n_done, n_passes); };

    BasePredictions base(text, n_chunks, engine.tokenizer().data());
    base.collect(model, on_chunk);
    CoarseCopier copier(model.file(), importance, n_threads);
    for (ClassSensitivity& cls : classes) {
        std::deque<CoarseTensor> copies;
        TensorReplacements replacements;
        for (const std::string& name : std::exchange(cls.tensors, {})) {
            if (interrupted()) fail(ErrorCode::interrupted, "interrupted");
            CoarseTensor coarse = copier.copy(*model.file().find(name));
            if (coarse.relative_error < kNoError) continue;
            cls.tensors.push_back(name);
            cls.relative_error += coarse.relative_error;
            copies.push_back(std::move(coarse));
            replacements[name] = copies.back().view;
        }
        if (cls.tensors.empty()) {
            n_done += n_chunks;
            continue;
        }
        // The file is shared, and the unchanged tensors are used where they are.
        const Model changed(model.shared_file(), model.backend(), replacements);
        cls.divergence = base.divergence(changed, on_chunk);
        if (!std::isfinite(cls.divergence))
            fail(ErrorCode::bad_file, "{}: with {} in Q4_0 the predictions are not numbers",
                 model.file().path(), cls.name);
    }
    std::erase_if(classes, [](const ClassSensitivity& cls) { return cls.tensors.empty(); });
    return classes;
}

}  // namespace nemo
