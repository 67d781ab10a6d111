// Whole conversions, read back through ModelFile.
#include "convert/convert.h"
#include "convert/hf_config.h"

#include "checkpoint_fixture.h"
#include "core/model_file.h"
#include "quant/codec.h"
#include "quant/half.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <array>
#include <cmath>
#include <csignal>
#include <limits>
#include <map>

namespace nemo {
namespace {

const ProgressCallback kSilent = [](const ConvertProgress&) {};

void convert(const std::filesystem::path& input, const std::filesystem::path& output, DType type,
             int n_threads = 2) {
    write_model(make_plan(input, type), output, n_threads, kSilent);
}

std::vector<float> decoded(const TensorView& tensor) {
    std::vector<float> values(static_cast<size_t>(tensor.n_elements()));
    decode_row(tensor.dtype, tensor.data, values.data(), tensor.n_elements());
    return values;
}

// The checkpoint's values under this name without its prefix; {} if there is none. Knows nothing of
// the converter's way to find them.
std::vector<double> checkpoint_values(const TestCheckpoint& checkpoint, const std::string& name) {
    for (const TestTensor& tensor : checkpoint.tensors) {
        if (tensor.name != name && tensor.name != "backbone." + name &&
            tensor.name != "model." + name) {
            continue;
        }
        std::vector<double> values;
        const size_t n_bytes = tensor.dtype == "F32" ? 4 : tensor.dtype == "BF16" ? 2 : 1;
        for (size_t i = 0; i < tensor.bytes.size(); i += n_bytes) {
            std::array<unsigned char, 4> raw = {};
            std::memcpy(raw.data(), tensor.bytes.data() + i, n_bytes);
            uint32_t bits = 0;
            for (size_t k = 0; k < n_bytes; ++k) bits |= uint32_t{raw[k]} << (8 * k);
            if (n_bytes == 2) bits <<= 16;
            values.push_back(n_bytes == 1 ? e4m3_to_f32(raw[0]) : std::bit_cast<float>(bits));
        }
        if (tensor.dtype == "F8_E4M3") {
            const double scale = checkpoint_values(checkpoint, name + "_scale").at(0);
            for (double& value : values) value = static_cast<float>(value * scale);
        }
        return values;
    }
    return {};
}

// What a tensor of the GGUF file should hold.
std::vector<double> expected_values(const TestCheckpoint& checkpoint, const std::string& name) {
    static const std::map<std::string, std::string> kNames = {
        {"attn_norm.weight", "norm.weight"},
        {"ssm_in.weight", "mixer.in_proj.weight"},
        {"ssm_conv1d.weight", "mixer.conv1d.weight"},
        {"ssm_conv1d.bias", "mixer.conv1d.bias"},
        {"ssm_dt.bias", "mixer.dt_bias"},
        {"ssm_a", "mixer.A_log"},
        {"ssm_d", "mixer.D"},
        {"ssm_norm.weight", "mixer.norm.weight"},
        {"ssm_out.weight", "mixer.out_proj.weight"},
        {"attn_q.weight", "mixer.q_proj.weight"},
        {"attn_k.weight", "mixer.k_proj.weight"},
        {"attn_v.weight", "mixer.v_proj.weight"},
        {"attn_output.weight", "mixer.o_proj.weight"},
        {"ffn_up.weight", "mixer.up_proj.weight"},
        {"ffn_down.weight", "mixer.down_proj.weight"},
        {"ffn_gate_inp.weight", "mixer.gate.weight"},
        {"exp_probs_b.bias", "mixer.gate.e_score_correction_bias"},
        {"ffn_up_exps.weight", "mixer.experts.#.up_proj"},
        {"ffn_down_exps.weight", "mixer.experts.#.down_proj"},
        {"ffn_up_shexp.weight", "mixer.shared_experts.up_proj.weight"},
        {"ffn_down_shexp.weight", "mixer.shared_experts.down_proj.weight"},
        {"ffn_latent_down.weight", "mixer.fc1_latent_proj.weight"},
        {"ffn_latent_up.weight", "mixer.fc2_latent_proj.weight"},
        {"nextn.enorm.weight", "enorm.weight"},
        {"nextn.hnorm.weight", "hnorm.weight"},
        {"nextn.eh_proj.weight", "eh_proj.weight"},
        {"post_attention_norm.weight", "norm.weight"},
        {"nextn.shared_head_norm.weight", "final_layernorm.weight"}};
    if (name == "token_embd.weight") return checkpoint_values(checkpoint, "embeddings.weight");
    if (name == "output_norm.weight") return checkpoint_values(checkpoint, "norm_f.weight");
    if (name == "output.weight") return checkpoint_values(checkpoint, "lm_head.weight");
    const size_t dot = name.find('.', 4);
    std::string layer = "layers." + name.substr(4, dot - 4) + ".";
    std::string local = kNames.at(name.substr(dot + 1));
    const size_t n_layers = config_from_hf(checkpoint.config, "config.json").layers.size();
    if (layer == fmt::format("layers.{}.", n_layers)) {
        const bool is_first = local.starts_with("e") || local.starts_with("hnorm") ||
                              name.find(".attn_") != std::string::npos;
        layer = is_first ? "mtp.layers.0." : "mtp.layers.1.";
    }
    std::vector<double> values;
    if (const size_t hash = local.find('#'); hash != std::string::npos) {
        const std::string stacked = local.substr(0, hash) + local.substr(hash + 2);
        values = checkpoint_values(checkpoint, layer + stacked);
        for (int expert = 0; expert < 12; ++expert) {
            const std::string one =
                local.substr(0, hash) + std::to_string(expert) + local.substr(hash + 1) + ".weight";
            const std::vector<double> more = checkpoint_values(checkpoint, layer + one);
            values.insert(values.end(), more.begin(), more.end());
        }
        return values;
    }
    values = checkpoint_values(checkpoint, layer + local);
    if (local == "mixer.A_log") {
        for (double& value : values) value = -std::exp(value);
    }
    return values;
}

// The largest error that rounding to the type may cause in the block of 32 that `i` lies in.
double tolerance(const TensorView& tensor, const std::vector<double>& expected, size_t i) {
    double largest = 0.0;
    for (size_t k = i / 32 * 32; k < std::min(expected.size(), i / 32 * 32 + 32); ++k) {
        largest = std::max(largest, std::fabs(expected[k]));
    }
    switch (tensor.dtype) {
        case DType::f32:
            return std::fabs(expected[i]) * 1e-7;
        case DType::f16:
            return std::fabs(expected[i]) * 0x1p-11 + 0x1p-25;
        case DType::bf16:
            return std::fabs(expected[i]) * 0x1p-8;
        case DType::q8_0:
            return largest / 127.0 * 0.51 + largest * 0x1p-10;
        // The opposite end of the range is cut off at 7/8.
        default:
            return largest / 8.0 * 1.01;
    }
}

void check_conversion(const std::string& model, DType type) {
    TempFolder folder;
    convert(kGoldenModels / model, folder / "out.gguf", type);
    const ModelFile file = ModelFile::open(folder / "out.gguf");
    const TestCheckpoint checkpoint = golden_checkpoint(model);
    for (const TensorView& tensor : file.tensors()) {
        CAPTURE(tensor.name);
        const std::vector<float> values = decoded(tensor);
        const std::vector<double> expected = expected_values(checkpoint, tensor.name);
        REQUIRE(values.size() == expected.size());
        size_t n_wrong = 0;
        for (size_t i = 0; i < values.size(); ++i) {
            n_wrong += std::fabs(values[i] - expected[i]) > tolerance(tensor, expected, i);
        }
        CHECK(n_wrong == 0);
    }
}

TEST_CASE("every golden model converts to every type with the checkpoint's values") {
    for (const char* model : {"dense", "mixed_order", "moe", "moe_latent", "per_layer", "fp8",
                              "one_group", "mtp", "puzzle"}) {
        for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0}) {
            CAPTURE(model);
            CAPTURE(dtype_info(type).name);
            check_conversion(model, type);
        }
    }
}

TEST_CASE("the configuration survives the file") {
    for (const char* model : {"moe_latent", "per_layer", "one_group", "mtp", "puzzle"}) {
        CAPTURE(model);
        TempFolder folder;
        convert(kGoldenModels / model, folder / "out.gguf", DType::f32);
        const ModelFile file = ModelFile::open(folder / "out.gguf");
        const std::vector<TensorSpec> specs = tensor_inventory(config_from_gguf(file));
        REQUIRE(specs.size() == file.tensors().size());
        for (size_t i = 0; i < specs.size(); ++i) {
            CHECK(specs[i].name == file.tensors()[i].name);
            CHECK(specs[i].dims == file.tensors()[i].dims);
        }
    }
}

TEST_CASE("the file does not depend on the number of threads") {
    TempFolder folder;
    convert(kGoldenModels / "moe", folder / "1", DType::q4_0, 1);
    convert(kGoldenModels / "moe", folder / "4", DType::q4_0, 4);
    CHECK(read_file(folder / "1") == read_file(folder / "4"));
}

TEST_CASE("tensors larger than a slab are written whole") {
    TestCheckpoint checkpoint = mlp_checkpoint(32);
    constexpr int64_t kWidth = 100'000;  // 12.8 MB in F32
    checkpoint.field("intermediate_size") = Json(kWidth);
    const std::string mixer = "backbone.layers.0.mixer.";
    checkpoint.tensor(mixer + "up_proj.weight") =
        f32_tensor(mixer + "up_proj.weight", {kWidth, 32}, 3);
    checkpoint.tensor(mixer + "down_proj.weight") =
        f32_tensor(mixer + "down_proj.weight", {32, kWidth}, 4);
    TempFolder folder;
    checkpoint.write(folder / "in");
    int n_calls = 0;
    ConvertProgress last;
    write_model(make_plan(folder / "in", DType::f32), folder / "out", 2,
                [&](const ConvertProgress& progress) {
                    CHECK(progress.n_done_bytes >= last.n_done_bytes);
                    last = progress;
                    ++n_calls;
                });
    CHECK(n_calls == 6 + 2 + 1);  // one per slab: two tensors have two, and the end
    CHECK(last.n_done_bytes == last.n_total_bytes);
    const ModelFile file = ModelFile::open(folder / "out");
    for (const char* name : {"up_proj.weight", "down_proj.weight"}) {
        const TensorView* view =
            file.find(std::string("blk.0.ffn_") + (name[0] == 'u' ? "up" : "down") + ".weight");
        REQUIRE(view != nullptr);
        const std::string& bytes = checkpoint.tensor(mixer + name).bytes;
        REQUIRE(view->n_bytes() == std::ssize(bytes));
        CHECK(std::memcmp(view->data, bytes.data(), bytes.size()) == 0);
    }
}

TEST_CASE("a weight that is not finite or too large for the type ends the conversion") {
    const std::string up = "backbone.layers.0.mixer.up_proj.weight";
    const auto message_with = [&](float value, DType type) {
        TestCheckpoint checkpoint = mlp_checkpoint(32);
        std::memcpy(checkpoint.tensor(up).bytes.data() + 40, &value, sizeof value);
        TempFolder folder;
        checkpoint.write(folder / "in");
        const std::string message =
            error_message([&] { convert(folder / "in", folder / "out", type); });
        CHECK(names_in(folder / "") == std::vector<std::string>{"in"});
        return message;
    };
    check_contains(message_with(std::numeric_limits<float>::quiet_NaN(), DType::f32),
                   up + ": element 10 is nan");
    check_contains(message_with(70000.0f, DType::f16), up + " holds 70000, but F16 ends at 65504");
    check_contains(message_with(-1e30f, DType::q8_0), "but Q8_0 ends at");
    check_contains(message_with(1e30f, DType::q4_0), "but Q4_0 ends at");
}

TEST_CASE("an existing target is only replaced when asked for, a checkpoint's own file never") {
    TempFolder folder;
    mlp_checkpoint(32).write(folder / "in");
    const std::filesystem::path in = folder / "in";
    const ConversionPlan plan = make_plan(in, DType::f32);
    const auto refusal = [&](const std::filesystem::path& target, bool force) {
        return error_message([&] { check_target(plan, target, force); }, ErrorCode::runtime);
    };
    CHECK_NOTHROW(check_target(plan, folder / "new.gguf", false));
    write_file(folder / "old.gguf", "old");
    check_contains(refusal(folder / "old.gguf", false), "exists already; --force replaces it");
    CHECK_NOTHROW(check_target(plan, folder / "old.gguf", true));
    write_file(in / "old.gguf", "old");
    CHECK_NOTHROW(check_target(plan, in / "old.gguf", true));
    check_contains(refusal(in / "model.safetensors", true), "is part of the input");
    std::filesystem::create_hard_link(in / "config.json", folder / "link.gguf");
    check_contains(refusal(folder / "link.gguf", true), "is part of the input");
    check_contains(refusal(folder / "", true), "not a regular file");
    check_contains(refusal("/dev/null", true), "not a regular file");
}

TEST_CASE("a cancelled conversion leaves the old target and nothing else") {
    TempFolder folder;
    write_file(folder / "out.gguf", "old");
    const ConversionPlan plan = make_plan(kGoldenModels / "dense", DType::q8_0);
    for (int n_before = 0; n_before < 5; ++n_before) {
        int n_calls = 0;
        error_message(
            [&] {
                write_model(plan, folder / "out.gguf", 1, [&](const ConvertProgress&) {
                    if (n_calls++ == n_before) fail(ErrorCode::interrupted, "stop");
                });
            },
            ErrorCode::interrupted);
        CHECK(names_in(folder / "") == std::vector<std::string>{"out.gguf"});
        CHECK(read_file(folder / "out.gguf") == "old");
    }
    write_model(plan, folder / "out.gguf", 1, kSilent);
    CHECK_NOTHROW(ModelFile::open(folder / "out.gguf"));
}

TEST_CASE("a folder that cannot be written is a runtime error") {
    const ConversionPlan plan = make_plan(kGoldenModels / "dense", DType::q8_0);
    check_contains(error_message([&] { write_model(plan, "/nowhere/out.gguf", 1, kSilent); },
                                 ErrorCode::runtime),
                   "/nowhere/out.gguf");
}

// Files of this process cannot grow beyond a limit, as if the disk were full there.
int convert_with_file_limit(const ConversionPlan& plan, const std::filesystem::path& target,
                            rlim_t n_bytes) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit = {n_bytes, n_bytes};
        setrlimit(RLIMIT_FSIZE, &limit);
        try {
            write_model(plan, target, 1, kSilent);
        } catch (const Error& error) {
            _exit(static_cast<int>(error.code()));
        }
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

TEST_CASE("a disk that fills up leaves nothing behind") {
    TempFolder folder;
    const ConversionPlan plan = make_plan(kGoldenModels / "dense", DType::f32);
    const uint64_t n_bytes = gguf_file_bytes(plan.metadata, plan.tensor_infos());
    for (const uint64_t limit : {uint64_t{0}, uint64_t{1000}, n_bytes / 2, n_bytes - 1}) {
        CAPTURE(limit);
        CHECK(convert_with_file_limit(plan, folder / "out.gguf", limit) ==
              static_cast<int>(ErrorCode::runtime));
        CHECK(names_in(folder / "").empty());
    }
    // While it is written, the file is rounded up to blocks and has two blocks more.
    CHECK(convert_with_file_limit(plan, folder / "out.gguf", n_bytes + 3 * 4096) == 0);
    CHECK(names_in(folder / "") == std::vector<std::string>{"out.gguf"});
}

}  // namespace
}  // namespace nemo
