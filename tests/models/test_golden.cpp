// The engine against the float64 reference: every layer kind, every split of the prompt, every
// instruction tier, any number of threads.
#include "core/error.h"
#include "tests/models/golden_model.h"

using namespace nemo;

namespace {

constexpr KvTypes kExact = {DType::f32, DType::f32};
constexpr int64_t kChunks[] = {1, 2, 3, 5, 64, 65, 1000};
constexpr int64_t kFewChunks[] = {1, 5, 1000};

// The largest relative error of any position.
double worst_error(const std::vector<float>& logits, const std::vector<float>& golden,
                   size_t n_vocab) {
    REQUIRE(logits.size() == golden.size());
    double worst = 0;
    for (size_t i = 0; i < logits.size(); i += n_vocab)
        worst = std::max(worst, relative_error(&logits[i], &golden[i], n_vocab));
    return worst;
}

// State [H, P, N] of the reference in the engine's order [H, N, P].
std::vector<float> transposed(const std::vector<float>& state, const Mamba2Shape& shape) {
    const auto n_heads = static_cast<size_t>(shape.n_heads);
    const auto p = static_cast<size_t>(shape.head_dim);
    const auto n = static_cast<size_t>(shape.state_size);
    std::vector<float> result(state.size());
    for (size_t h = 0; h < n_heads; ++h)
        for (size_t i = 0; i < p; ++i)
            for (size_t j = 0; j < n; ++j) result[(h * n + j) * p + i] = state[(h * p + i) * n + j];
    return result;
}

// [n_rows, n_heads * head_dim].
std::vector<float> decoded(const KvCache& cache, int64_t n_rows) {
    const KvLayout& layout = cache.layout;
    std::vector<float> rows, padded(static_cast<size_t>(layout.padded_dim()));
    for (int64_t row = 0; row < n_rows; ++row)
        for (int64_t h = 0; h < layout.n_heads; ++h) {
            decode_row(layout.type, cache.row(row, h), padded.data(), layout.padded_dim());
            rows.insert(rows.end(), padded.begin(), padded.begin() + layout.head_dim);
        }
    return rows;
}

void check_states(const GoldenModel& golden, const Model& model, const SequenceState& state) {
    constexpr double kTolerance = 1e-4;
    for (size_t i = 0; i < model.config().layers.size(); ++i) {
        const LayerConfig& layer = model.config().layers[i];
        CAPTURE(i);
        if (layer.kind == LayerKind::mamba2) {
            const auto ssm =
                transposed(golden.read<float>(fmt::format("state.ssm.{}", i)), layer.mamba2);
            CHECK(relative_error(state.ssm_state(i), ssm.data(), ssm.size()) < kTolerance);
            // The reference has [conv_dim, K-1], the engine [K-1, conv_dim].
            const auto conv = golden.read<float>(fmt::format("state.conv.{}", i));
            const auto n_channels = static_cast<size_t>(layer.mamba2.conv_dim());
            const size_t n_steps = conv.size() / n_channels;
            std::vector<float> by_time(conv.size());
            for (size_t c = 0; c < n_channels; ++c)
                for (size_t k = 0; k < n_steps; ++k)
                    by_time[k * n_channels + c] = conv[c * n_steps + k];
            CHECK(relative_error(state.conv_state(i), by_time.data(), by_time.size()) < kTolerance);
        } else if (layer.kind == LayerKind::attention) {
            const auto keys = golden.read<float>(fmt::format("state.k.{}", i));
            const auto values = golden.read<float>(fmt::format("state.v.{}", i));
            const auto error = [&](const KvCache& cache, const std::vector<float>& expected) {
                const std::vector<float> rows = decoded(cache, state.position());
                REQUIRE(rows.size() == expected.size());
                return relative_error(rows.data(), expected.data(), expected.size());
            };
            CHECK(error(state.keys(i), keys) < kTolerance);
            CHECK(error(state.values(i), values) < kTolerance);
        }
    }
}

// Runs a golden model with one and two threads and its tokens in chunks of every size;
// check(model, session, logits) after each run. Not only close: one fixed order of every sum,
// however the work is cut.
template <class Check>
void check_runs(const GoldenModel& golden, CpuTier tier, const KvTypes& types,
                std::span<const int64_t> chunks, Check check) {
    const auto tokens = golden.read<int32_t>("tokens");
    std::vector<float> first;
    for (const int n_threads : {1, 2}) {
        const auto backend = make_cpu_backend(n_threads, tier);
        const Model model(golden.file(), *backend);
        for (const int64_t chunk : chunks) {
            CAPTURE(n_threads);
            CAPTURE(chunk);
            Session session(model, {.n_context = 1000, .chunk = chunk, .kv_types = types});
            const std::vector<float> logits = all_logits(session, tokens);
            check(model, session, logits);
            if (first.empty()) first = logits;
            CHECK(logits == first);
        }
    }
}

void check_f32(const std::string& name, CpuTier tier) {
    const GoldenModel golden(name, DType::f32);
    const auto expected = golden.read<float>("logits");
    check_runs(golden, tier, kExact, kChunks,
               [&](const Model& model, const Session& session, const std::vector<float>& logits) {
                   const auto n_vocab = static_cast<size_t>(model.config().n_vocab);
                   CHECK(worst_error(logits, expected, n_vocab) < 1e-4);
                   check_states(golden, model, session.state());
               });
}

// Only the caches are rounded; the bounds are twice what the worst of these models shows.
void check_caches(const std::string& name, CpuTier tier, const KvTypes& types, double tolerance) {
    const GoldenModel golden(name, DType::f32);
    const auto expected = golden.read<float>("logits");
    check_runs(golden, tier, types, kFewChunks,
               [&](const Model& model, const Session&, const std::vector<float>& logits) {
                   const auto n_vocab = static_cast<size_t>(model.config().n_vocab);
                   CHECK(worst_error(logits, expected, n_vocab) < tolerance);
               });
}

void check_quantized(const std::string& name, CpuTier tier, DType type, const std::string& tensor) {
    const GoldenModel golden(name, type);
    const auto expected = golden.read<float>(tensor);
    const auto positions = golden.read<int32_t>("quantized.positions");
    check_runs(golden, tier, kExact, kFewChunks,
               [&](const Model& model, const Session&, const std::vector<float>& logits) {
                   const auto n_vocab = static_cast<size_t>(model.config().n_vocab);
                   for (size_t i = 0; i < positions.size(); ++i) {
                       const float* row = &logits[static_cast<size_t>(positions[i]) * n_vocab];
                       CAPTURE(positions[i]);
                       CHECK(relative_error(row, &expected[i * n_vocab], n_vocab) < 2e-2);
                   }
               });
}

}  // namespace

TEST_CASE("F32 logits and states equal the float64 reference") {
    for (const std::string& name : golden_names()) {
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name);
            CAPTURE(cpu_tier_name(tier));
            check_f32(name, tier);
        }
    }
}

TEST_CASE("a prediction head in the file changes nothing") {
    const TempFolder folder;
    const auto backend = make_cpu_backend(1);
    const auto logits_with = [&](PredictionHead head) {
        const ConversionPlan plan =
            make_plan(golden_folder("mtp"), uniform_output_type(DType::q8_0), head);
        write_model(plan, folder / "model.gguf", 1, [](const ConvertProgress&) {});
        const Model model(std::make_shared<ModelFile>(ModelFile::open(folder / "model.gguf")),
                          *backend);
        Session session(model, {.n_context = 100, .chunk = 64});
        return all_logits(session, {5, 6, 7, 8, 9});
    };
    CHECK(logits_with(PredictionHead::keep) == logits_with(PredictionHead::leave_out));
}

TEST_CASE("Q8_0 and Q4_0 logits equal the reference on the same rounded weights") {
    for (const std::string& name : golden_names()) {
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name);
            CAPTURE(cpu_tier_name(tier));
            check_quantized(name, tier, DType::q8_0, "logits.q8_0");
            check_quantized(name, tier, DType::q4_0, "logits.q4_0");
        }
    }
}

TEST_CASE("F32 logits with rounded caches") {
    for (const std::string& name : golden_names()) {
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name);
            CAPTURE(cpu_tier_name(tier));
            check_caches(name, tier, {DType::f16, DType::f16}, 4e-4);
            check_caches(name, tier, {DType::q8_0, DType::f16}, 5e-3);
            check_caches(name, tier, {DType::q8_0, DType::q8_0}, 7e-3);
        }
    }
}
