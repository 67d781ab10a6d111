// make_checkpoint SHAPE DIR [--layers N] [--shard-bytes N] [--tokenizer DIR]: writes a checkpoint
// of random BF16 weights with the shapes of a real model, for measurements of nemo-convert at full
// size and for tests that end it in the middle. Built on request, not installed.
//
// SHAPE: 8b (Nemotron-H-8B, 16 GB), 9b-v2 (Nano-9B-v2), 30b-a3b (Nemotron-3-Nano-30B-A3B), tiny-mlp
// (one layer of 48 MB). --layers keeps that many of the pattern's, the first of each kind included.
// Weights are nearly normal, with a scale per row and layer and a few large values, as in trained
// models: encoders then take the time they take on those. The same arguments give the same bytes.

#include <fmt/core.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Shape {
    std::string pattern;
    int64_t n_embd, n_vocab;
    int64_t n_ff;
    int64_t mamba_heads, mamba_head_dim, n_groups, n_state;
    int64_t n_heads, n_kv_heads, head_dim;
    int64_t n_experts = 0, n_used = 0, n_ff_expert = 0, n_ff_shared = 0;
};

Shape shape_named(const std::string& name) {
    if (name == "8b")
        return {.pattern = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
                .n_embd = 4096,
                .n_vocab = 131072,
                .n_ff = 21504,
                .mamba_heads = 128,
                .mamba_head_dim = 64,
                .n_groups = 8,
                .n_state = 128,
                .n_heads = 32,
                .n_kv_heads = 8,
                .head_dim = 128};
    if (name == "9b-v2")
        return {.pattern = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
                .n_embd = 4480,
                .n_vocab = 131072,
                .n_ff = 15680,
                .mamba_heads = 128,
                .mamba_head_dim = 80,
                .n_groups = 8,
                .n_state = 128,
                .n_heads = 40,
                .n_kv_heads = 8,
                .head_dim = 128};
    if (name == "30b-a3b")
        return {.pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
                .n_embd = 2688,
                .n_vocab = 131072,
                .n_ff = 1856,
                .mamba_heads = 64,
                .mamba_head_dim = 64,
                .n_groups = 8,
                .n_state = 128,
                .n_heads = 32,
                .n_kv_heads = 2,
                .head_dim = 128,
                .n_experts = 128,
                .n_used = 6,
                .n_ff_expert = 1856,
                .n_ff_shared = 3712};
    if (name == "tiny-mlp")
        return {.pattern = "-",
                .n_embd = 256,
                .n_vocab = 512,
                .n_ff = 46080,
                .mamba_heads = 8,
                .mamba_head_dim = 64,
                .n_groups = 1,
                .n_state = 16,
                .n_heads = 4,
                .n_kv_heads = 2,
                .head_dim = 64};
    throw std::runtime_error("unknown shape " + name + "; one of 8b, 9b-v2, 30b-a3b, tiny-mlp");
}

// The first layer of each kind, then the first of those left, in the order of the pattern.
std::string shortened(const std::string& pattern, size_t n_layers) {
    if (n_layers == 0 || n_layers >= pattern.size()) return pattern;
    std::vector<bool> kept(pattern.size());
    size_t n_kept = 0;
    for (size_t i = 0; i < pattern.size() && n_kept < n_layers; ++i)
        if (pattern.find(pattern[i]) == i) kept[i] = ++n_kept > 0;
    for (size_t i = 0; i < pattern.size() && n_kept < n_layers; ++i)
        if (!kept[i]) kept[i] = ++n_kept > 0;
    std::string result;
    for (size_t i = 0; i < pattern.size(); ++i)
        if (kept[i]) result += pattern[i];
    return result;
}

std::string config_text(const Shape& shape) {
    std::string text = fmt::format(
        R"({{"architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h",
 "hybrid_override_pattern": "{}", "num_hidden_layers": {}, "hidden_size": {}, "vocab_size": {},
 "intermediate_size": {}, "mamba_num_heads": {}, "mamba_head_dim": {}, "n_groups": {},
 "ssm_state_size": {}, "conv_kernel": 4, "num_attention_heads": {}, "num_key_value_heads": {},
 "head_dim": {}, "tie_word_embeddings": false, "use_conv_bias": true, "norm_eps": 1e-05,
 "layer_norm_epsilon": 1e-05, "torch_dtype": "bfloat16", "max_position_embeddings": 8192,
 "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0)",
        shape.pattern, shape.pattern.size(), shape.n_embd, shape.n_vocab, shape.n_ff,
        shape.mamba_heads, shape.mamba_head_dim, shape.n_groups, shape.n_state, shape.n_heads,
        shape.n_kv_heads, shape.head_dim);
    if (shape.n_experts > 0)
        text += fmt::format(
            R"(,
 "n_routed_experts": {}, "num_experts_per_tok": {}, "moe_intermediate_size": {},
 "moe_shared_expert_intermediate_size": {}, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
 "norm_topk_prob": true, "routed_scaling_factor": 2.5)",
            shape.n_experts, shape.n_used, shape.n_ff_expert, shape.n_ff_shared);
    return text + "}\n";
}

struct Tensor {
    std::string name;
    std::vector<int64_t> dims;  // slowest first
    float scale;                // standard deviation
    float mean = 0.0f;

    int64_t n_elements() const {
        int64_t n = 1;
        for (const int64_t dim : dims) n *= dim;
        return n;
    }
};

class Inventory {
public:
    explicit Inventory(const Shape& shape) : shape_(shape) {
        add("backbone.embeddings.weight", {shape.n_vocab, shape.n_embd}, 0.02f);
        for (size_t i = 0; i < shape.pattern.size(); ++i) add_layer(i);
        add_norm("backbone.norm_f.weight", shape.n_embd);
        add("lm_head.weight", {shape.n_vocab, shape.n_embd}, 0.02f);
    }
    std::vector<Tensor> tensors;

private:
    void add(const std::string& name, std::vector<int64_t> dims, float scale, float mean = 0.0f) {
        tensors.push_back({name, std::move(dims), scale, mean});
    }
    void add_norm(const std::string& name, int64_t n) { add(name, {n}, 0.1f, 1.0f); }
    // With the scale that keeps activations in range, a little different in every layer.
    void add_matrix(const std::string& name, int64_t n_out, int64_t n_in) {
        const float variation = 0.7f + 0.1f * static_cast<float>(tensors.size() % 7);
        add(name, {n_out, n_in}, variation / std::sqrt(static_cast<float>(n_in)));
    }

    void add_layer(size_t i) {
        const std::string layer = fmt::format("backbone.layers.{}.", i);
        const std::string mixer = layer + "mixer.";
        add_norm(layer + "norm.weight", shape_.n_embd);
        switch (shape_.pattern[i]) {
            case 'M':
                return add_mamba(mixer);
            case '*':
                return add_attention(mixer);
            case '-':
                add_matrix(mixer + "up_proj.weight", shape_.n_ff, shape_.n_embd);
                add_matrix(mixer + "down_proj.weight", shape_.n_embd, shape_.n_ff);
                return;
            default:
                return add_experts(mixer);
        }
    }

    void add_mamba(const std::string& mixer) {
        const int64_t inner = shape_.mamba_heads * shape_.mamba_head_dim;
        const int64_t conv = inner + 2 * shape_.n_groups * shape_.n_state;
        add_matrix(mixer + "in_proj.weight", inner + conv + shape_.mamba_heads, shape_.n_embd);
        add(mixer + "conv1d.weight", {conv, 1, 4}, 0.3f);
        add(mixer + "conv1d.bias", {conv}, 0.1f);
        add(mixer + "dt_bias", {shape_.mamba_heads}, 0.5f, -4.0f);
        add(mixer + "A_log", {shape_.mamba_heads}, 0.5f, 1.0f);
        add(mixer + "D", {shape_.mamba_heads}, 0.1f, 1.0f);
        add_norm(mixer + "norm.weight", inner);
        add_matrix(mixer + "out_proj.weight", shape_.n_embd, inner);
    }

    void add_attention(const std::string& mixer) {
        const int64_t q = shape_.n_heads * shape_.head_dim;
        const int64_t kv = shape_.n_kv_heads * shape_.head_dim;
        add_matrix(mixer + "q_proj.weight", q, shape_.n_embd);
        add_matrix(mixer + "k_proj.weight", kv, shape_.n_embd);
        add_matrix(mixer + "v_proj.weight", kv, shape_.n_embd);
        add_matrix(mixer + "o_proj.weight", shape_.n_embd, q);
    }

    void add_experts(const std::string& mixer) {
        add_matrix(mixer + "gate.weight", shape_.n_experts, shape_.n_embd);
        add(mixer + "gate.e_score_correction_bias", {shape_.n_experts}, 0.01f);
        for (int64_t e = 0; e < shape_.n_experts; ++e) {
            const std::string expert = fmt::format("{}experts.{}.", mixer, e);
            add_matrix(expert + "up_proj.weight", shape_.n_ff_expert, shape_.n_embd);
            add_matrix(expert + "down_proj.weight", shape_.n_embd, shape_.n_ff_expert);
        }
        add_matrix(mixer + "shared_experts.up_proj.weight", shape_.n_ff_shared, shape_.n_embd);
        add_matrix(mixer + "shared_experts.down_proj.weight", shape_.n_embd, shape_.n_ff_shared);
    }

    const Shape& shape_;
};

// ---------------------------------------------------------------- weights

class Random {
public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
    uint64_t next() {  // xorshift64
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }

private:
    uint64_t state_;
};

// The sum of four uniform numbers, of standard deviation 1.
float nearly_normal(uint64_t random) {
    constexpr float kPerUnit = 1.0f / 37837.2f;  // 65536 / sqrt(12) * sqrt(4)
    const auto sum = static_cast<int>((random & 0xffff) + (random >> 16 & 0xffff) +
                                      (random >> 32 & 0xffff) + (random >> 48));
    return static_cast<float>(sum - 131070) * kPerUnit;
}

uint16_t to_bf16(float value) {
    return static_cast<uint16_t>((std::bit_cast<uint32_t>(value) + 0x8000u) >> 16);
}

void write_weights(const Tensor& tensor, uint64_t seed, std::ofstream& file) {
    constexpr uint64_t kOutlierMask = 4095;
    Random random(seed + 1);
    const int64_t row = tensor.dims.size() > 1 ? tensor.dims.back() : tensor.n_elements();
    std::vector<uint16_t> values(static_cast<size_t>(row));
    for (int64_t first = 0; first < tensor.n_elements(); first += row) {
        const float row_scale =
            tensor.scale *
            (tensor.dims.size() > 1 ? std::exp(0.3f * nearly_normal(random.next())) : 1.0f);
        for (uint16_t& value : values) {
            const uint64_t bits = random.next();
            float x = nearly_normal(bits);
            if (tensor.dims.size() > 1 && (bits >> 20 & kOutlierMask) == 0) x *= 6.0f;
            value = to_bf16(tensor.mean + row_scale * x);
        }
        file.write(reinterpret_cast<const char*>(values.data()),
                   static_cast<std::streamsize>(values.size() * sizeof(uint16_t)));
    }
}

void write_shard(const fs::path& path, std::span<const Tensor> tensors, uint64_t seed) {
    std::string header = "{";
    int64_t offset = 0;
    for (const Tensor& tensor : tensors) {
        const int64_t end = offset + 2 * tensor.n_elements();
        header +=
            fmt::format(R"({}"{}":{{"dtype":"BF16","shape":[)", offset > 0 ? "," : "", tensor.name);
        for (size_t i = 0; i < tensor.dims.size(); ++i)
            header += fmt::format("{}{}", i > 0 ? "," : "", tensor.dims[i]);
        header += fmt::format(R"(],"data_offsets":[{},{}]}})", offset, end);
        offset = end;
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::ofstream file(path, std::ios::binary);
    const uint64_t n = header.size();
    file.write(reinterpret_cast<const char*>(&n), sizeof n);
    file << header;
    for (size_t i = 0; i < tensors.size(); ++i) write_weights(tensors[i], seed + i, file);
    if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

void write_checkpoint(const fs::path& folder, const Shape& shape, int64_t shard_bytes) {
    const std::vector<Tensor> tensors = Inventory(shape).tensors;
    std::vector<size_t> first = {0};  // tensor of each shard
    int64_t n_bytes = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
        const int64_t n = 2 * tensors[i].n_elements();
        if (n_bytes > 0 && n_bytes + n > shard_bytes) {
            first.push_back(i);
            n_bytes = 0;
        }
        n_bytes += n;
    }
    first.push_back(tensors.size());
    std::string index;
    const size_t n_shards = first.size() - 1;
    for (size_t s = 0; s < n_shards; ++s) {
        const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, n_shards);
        const auto shard = std::span(tensors).subspan(first[s], first[s + 1] - first[s]);
        write_shard(folder / name, shard, first[s]);
        for (const Tensor& tensor : shard)
            index += fmt::format(R"({}"{}":"{}")", index.empty() ? "" : ",\n", tensor.name, name);
    }
    std::ofstream(folder / "model.safetensors.index.json")
        << R"({"metadata":{},"weight_map":{)" << index << "}}\n";
}

int64_t number(const std::string& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < 1)
        throw std::runtime_error(text + " is no number");
    return value;
}

void run(const std::vector<std::string>& arguments) {
    if (arguments.size() < 2 || arguments.size() % 2 != 0)
        throw std::runtime_error(
            "usage: make_checkpoint SHAPE DIR [--layers N] [--shard-bytes N] [--tokenizer DIR]");
    std::map<std::string, std::string> options = {
        {"--layers", "1000"},
        {"--shard-bytes", "5000000000"},
        {"--tokenizer", NEMO_SOURCE_DIR "/tests/golden/models/dense"}};
    for (size_t i = 2; i < arguments.size(); i += 2) {
        if (!options.contains(arguments[i])) throw std::runtime_error("unknown " + arguments[i]);
        options[arguments[i]] = arguments[i + 1];
    }
    Shape shape = shape_named(arguments[0]);
    shape.pattern = shortened(shape.pattern, static_cast<size_t>(number(options["--layers"])));
    const fs::path folder = arguments[1];
    fs::create_directories(folder);
    std::ofstream(folder / "config.json") << config_text(shape);
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
        fs::copy_file(fs::path(options["--tokenizer"]) / name, folder / name,
                      fs::copy_options::overwrite_existing);
    write_checkpoint(folder, shape, number(options["--shard-bytes"]));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run({argv + 1, argv + argc});
        return 0;
    } catch (const std::exception& error) {
        fmt::print(stderr, "make_checkpoint: {}\n", error.what());
        return 1;
    }
}
