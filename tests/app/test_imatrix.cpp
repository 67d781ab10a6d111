// nemo-cli imatrix: what it collects against a computation that looks at the operations from
// outside, and its sensitivities against the divergence of a really quantized model.
#include "app/importance_collector.h"
#include "core/error.h"
#include "core/tokenizer.h"
#include "tests/app/process.h"
#include "tests/models/golden_model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace nemo {
namespace {

// Passes every operation on and sums up the inputs of the products, those of the experts' second
// matrices by computing the first in float64.
class WatchedBackend final : public Backend {
public:
    struct Sums {
        std::vector<double> squares;
        std::vector<int64_t> counts;
    };

    explicit WatchedBackend(Backend& inner) : inner_(inner) {}

    std::map<std::string, Sums> sums;

    void set_observer(MatmulObserver*) override {}
    Weight upload(const TensorView& view, const TensorView* scale) override {
        return inner_.upload(view, scale);
    }
    FloatBuffer alloc(int64_t n_floats) override { return inner_.alloc(n_floats); }
    void sync() override { inner_.sync(); }
    void embed(const Weight& table, std::span<const int32_t> tokens, float* y) override {
        inner_.embed(table, tokens, y);
    }
    void rms_norm(const float* x, const Weight& weight, float eps, int64_t n_tokens, int64_t n,
                  float* y, Readers) override {
        inner_.rms_norm(x, weight, eps, n_tokens, n, y);
    }
    void layer_norm(const float* x, const Weight& weight, const Weight& bias, float eps,
                    int64_t n_tokens, int64_t n, float* y, Readers) override {
        inner_.layer_norm(x, weight, bias, eps, n_tokens, n, y);
    }
    void rope(const RotaryShape& rotary, int64_t n_heads, int64_t head_dim, int64_t position,
              int64_t n_tokens, float* x) override {
        inner_.rope(rotary, n_heads, head_dim, position, n_tokens, x);
    }
    void matmul(const Weight& weight, const float* x, int64_t n_tokens, float* y, Epilogue epilogue,
                const Weight& bias, Readers) override {
        for (int64_t t = 0; t < n_tokens; ++t) add_row(weight, 0, x + t * weight.n_in());
        inner_.matmul(weight, x, n_tokens, y, epilogue, bias);
    }
    void conv_silu(const Mamba2Shape& shape, const float* xbc, int64_t x_stride,
                   const Weight& weight, const Weight& bias, float* state, int64_t n_tokens,
                   float* y, bool keep_state) override {
        inner_.conv_silu(shape, xbc, x_stride, weight, bias, state, n_tokens, y, keep_state);
    }
    void ssm_scan(const SsmScan& scan) override { inner_.ssm_scan(scan); }
    void gated_group_norm(float* y, const float* z, int64_t z_stride, const Weight& weight,
                          float eps, int64_t n_tokens, int64_t n, int64_t n_groups,
                          Readers) override {
        inner_.gated_group_norm(y, z, z_stride, weight, eps, n_tokens, n, n_groups);
    }
    void kv_append(const float* rows, int64_t n_tokens, int64_t position,
                   const KvCache& cache) override {
        inner_.kv_append(rows, n_tokens, position, cache);
    }
    void attention(const AttentionShape& shape, const float* q, const KvCache& keys,
                   const KvCache& values, int64_t position, int64_t n_tokens, float* y) override {
        inner_.attention(shape, q, keys, values, position, n_tokens, y);
    }
    void route(const RouterShape& shape, const float* logits, const Weight& bias, int64_t n_tokens,
               int32_t* ids, float* weights) override {
        inner_.route(shape, logits, bias, n_tokens, ids, weights);
    }
    void experts(const Weight& up, const Weight& down, const RouterShape& shape, const int32_t* ids,
                 const float* weights, const float* x, int64_t n_tokens, float* y) override {
        for (int64_t i = 0; i < n_tokens * shape.n_used; ++i) {
            const float* input = x + i / shape.n_used * up.n_in();
            add_row(up, ids[i], input);
            add_row(down, ids[i], hidden(up, ids[i], input).data());
        }
        inner_.experts(up, down, shape, ids, weights, x, n_tokens, y);
    }
    void add(const float* x, int64_t n, float* y) override { inner_.add(x, n, y); }
    void copy(const float* from, int64_t n, float* to) override { inner_.copy(from, n, to); }
    void clear(float* x, int64_t n) override { inner_.clear(x, n); }

private:
    void add_row(const Weight& weight, int64_t matrix, const float* row) {
        Sums& entry = sums[weight.view.name];
        entry.squares.resize(static_cast<size_t>(weight.n_in() * weight.view.dims[2]));
        entry.counts.resize(static_cast<size_t>(weight.view.dims[2]));
        ++entry.counts[static_cast<size_t>(matrix)];
        for (int64_t i = 0; i < weight.n_in(); ++i)
            entry.squares[static_cast<size_t>(matrix * weight.n_in() + i)] +=
                std::pow(double{row[i]}, 2);
    }

    // relu(up_e x)^2; the tests use F32 weights.
    static std::vector<float> hidden(const Weight& up, int64_t expert, const float* x) {
        std::vector<float> result;
        const float* w = up.f32() + expert * up.n_in() * up.n_out();
        for (int64_t r = 0; r < up.n_out(); ++r, w += up.n_in()) {
            double sum = 0;
            for (int64_t i = 0; i < up.n_in(); ++i) sum += double{w[i]} * x[i];
            result.push_back(static_cast<float>(std::pow(std::max(sum, 0.0), 2)));
        }
        return result;
    }

    Backend& inner_;
};

std::string some_text(int n_sentences) {
    std::string text;
    for (int i = 0; i < n_sentences; ++i)
        text += "Sentence " + std::to_string(i * i) + " is not like the others, or is it?\n";
    return text;
}

ProcessResult run_imatrix(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {program("nemo-cli"), "imatrix"});
    return run_process(std::move(arguments));
}

void check_against_watched(const std::string& golden_name) {
    CAPTURE(golden_name);
    const GoldenModel golden(golden_name, DType::f32);
    const TempFolder folder;
    const std::string text = some_text(6);
    write_file(folder / "text", text);
    const std::string out = (folder / "out.gguf").string();
    const std::vector<std::string> arguments = {"-m",       golden.file()->path(),
                                                "-f",       (folder / "text").string(),
                                                "-c",       "40",
                                                "--chunks", "3",
                                                "-o",       out};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), arguments.begin(), arguments.end());
        return run_imatrix(more);
    };
    const ProcessResult result = with({"-t", "1"});
    CHECK(result.err.empty());
    REQUIRE(result.status == 0);
    CHECK(contains(result.out, "3 chunks of 40 tokens"));
    const std::string bytes = read_file(out);
    CHECK(with({"-t", "1"}).status == 1);
    REQUIRE(with({"-t", "3", "--force"}).status == 0);
    CHECK(read_file(out) == bytes);

    const TokenizerData vocabulary = tokenizer_from_gguf(*golden.file());
    const std::vector<int32_t> tokens =
        Tokenizer::create(vocabulary, "golden")->encode(text, false);
    const auto backend = make_cpu_backend(1);
    WatchedBackend watched(*backend);
    const Model model(golden.file(), watched);
    for (size_t start = 0; start < 120; start += 40) {
        std::vector<int32_t> chunk(tokens.begin() + static_cast<ptrdiff_t>(start),
                                   tokens.begin() + static_cast<ptrdiff_t>(start + 40));
        if (vocabulary.add_bos) chunk[0] = vocabulary.bos;
        Session session(model, {.n_context = 40});
        session.append(chunk);
    }

    const Importance importance = read_importance(out);
    CHECK(importance.n_chunks == 3);
    CHECK(importance.chunk_size == 40);
    std::erase_if(watched.sums, [](const auto& entry) { return !entry.first.starts_with("blk."); });
    CHECK(importance.tensors.size() == watched.sums.size());
    for (const auto& [name, expected] : watched.sums) {
        CAPTURE(name);
        REQUIRE(importance.tensors.count(name) == 1);
        const TensorImportance& entry = importance.tensors.at(name);
        CHECK(entry.counts == expected.counts);
        REQUIRE(entry.mean_square.size() == expected.squares.size());
        const size_t n_columns = expected.squares.size() / expected.counts.size();
        double worst = 0;
        for (size_t i = 0; i < expected.squares.size(); ++i) {
            const auto count = static_cast<double>(expected.counts[i / n_columns]);
            const double mean = count > 0 ? expected.squares[i] / count : 1.0;
            worst = std::max(worst, std::fabs(entry.mean_square[i] - mean) / (mean + 1e-9));
        }
        // The experts' hidden values are computed in another order here.
        CHECK(worst < 1e-4);
    }
}

}  // namespace

TEST_CASE("the importance matrix is the mean square of each input column") {
    check_against_watched("dense");
}

TEST_CASE("the importance of experts counts the tokens that chose them") {
    check_against_watched("moe");
    check_against_watched("moe_latent");
}

TEST_CASE("output.weight is collected if asked for") {
    const GoldenModel golden("dense", DType::q8_0);
    const TempFolder folder;
    write_file(folder / "text", some_text(4));
    const std::vector<std::string> arguments = {
        "-m", golden.file()->path(), "-f", (folder / "text").string(), "-c", "32", "-o"};
    const auto tensors = [&](std::vector<std::string> more) {
        more.insert(more.begin(), arguments.begin(), arguments.end());
        REQUIRE(run_imatrix(more).status == 0);
        return read_importance(folder / "out").tensors;
    };
    const std::string out = (folder / "out").string();
    CHECK(tensors({out}).count("output.weight") == 0);
    const auto with_output = tensors({out, "--force", "--process-output"});
    REQUIRE(with_output.count("output.weight") == 1);
    CHECK(with_output.at("output.weight").counts == with_output.at("blk.0.ssm_in.weight").counts);
}

TEST_CASE("inputs that are not numbers are reported with the weight's name") {
    const TestTensor matrix = random_tensor(DType::f32, {4, 2, 1, 1}, 1);
    Weight weight = matrix.weight();
    weight.view.name = "blk.0.ffn_up.weight";
    ImportanceCollector collector(false);
    const float row[] = {1, 2, std::numeric_limits<float>::quiet_NaN(), 4};
    collector.observe(weight, 0, row);
    CHECK_THROWS_WITH_AS(collector.tensors("model"), doctest::Contains("blk.0.ffn_up.weight"),
                         Error);
}

TEST_CASE("sensitivities predict the divergence of a quantized model") {
    const GoldenModel f32("mixed_order", DType::f32);
    const TempFolder folder;
    write_file(folder / "text", some_text(20));
    const std::string text = (folder / "text").string();
    const std::string out = (folder / "out").string();
    const ProcessResult result = run_imatrix(
        {"-m", f32.file()->path(), "-f", text, "-c", "64", "--sensitivity", "4", "-o", out});
    CHECK(result.err.empty());
    REQUIRE(result.status == 0);
    CHECK(contains(result.out, "\nssm_in before attention "));
    const Importance importance = read_importance(out);
    // A Mamba layer right before attention is a class of its own.
    CHECK(importance.find_sensitivity("blk.0.ssm_in.weight").has_value());
    CHECK(importance.find_sensitivity("token_embd.weight").has_value());
    CHECK_FALSE(importance.find_sensitivity("blk.0.ssm_conv1d.weight").has_value());
    for (const auto& [name, value] : importance.sensitivity) CHECK(value > 0);

    // The same rounding for all tensors at once: the sum of the parts, nearly.
    double predicted = 0;
    for (size_t at = result.out.find("KL/error\n") + 9; at < result.out.size();
         at = result.out.find('\n', at) + 1)
        predicted += std::stod(result.out.substr(at + 32 + 1 + 7 + 1 + 10 + 1, 10));
    const GoldenModel q4("mixed_order", DType::q4_0);
    const std::string base = (folder / "base").string();
    const std::string cli = program("nemo-cli");
    REQUIRE(run_process({cli, "perplexity", "-m", f32.file()->path(), "-f", text, "-c", "64",
                         "--chunks", "4", "--kl-base", base})
                .status == 0);
    const ProcessResult all =
        run_process({cli, "perplexity", "-m", q4.file()->path(), "--kl", base});
    const std::string label = "KL divergence mean ";
    const double measured = std::stod(all.out.substr(all.out.find(label) + label.size()));
    CHECK(predicted > measured / 1.5);
    CHECK(predicted < measured * 1.5);
}

TEST_CASE("imatrix's mistakes have the documented exit codes") {
    const GoldenModel golden("dense", DType::q8_0);
    const TempFolder folder;
    write_file(folder / "text", some_text(4));
    const std::string model = golden.file()->path();
    const std::string text = (folder / "text").string();
    const std::string out = (folder / "out").string();
    CHECK(run_imatrix({"-m", model, "-f", text}).status == 2);
    CHECK(run_imatrix({"-m", model, "-o", out}).status == 2);
    CHECK(run_imatrix({"-m", model, "-f", text, "-o", out, "-c", "4000"}).status == 2);
    CHECK(run_imatrix({"-m", model, "-f", text, "-o", text, "--force"}).status == 2);
    CHECK(run_imatrix({"-m", model, "-f", text, "-o", model, "--force"}).status == 2);
    CHECK(run_imatrix({"-m", text, "-f", text, "-o", out}).status == 3);
    CHECK_FALSE(std::filesystem::exists(out));
    CHECK(run_imatrix({"-m", model, "-f", text, "-c", "32", "-o", (folder / "none/out").string()})
              .status == 1);
}

}  // namespace nemo
