// ModelConfig from and to GGUF keys: what all architectures share, and the list of them.
#include "core/error.h"
#include "models/config.h"
#include "models/config_keys.h"

#include <algorithm>
#include <iterator>

namespace nemo {

namespace {

struct Architecture {
    const char* name;
    void (*read)(const ConfigReader& keys, ModelConfig& config);
    void (*write)(const ModelConfig& config, ConfigWriter& keys);
};

constexpr Architecture kArchitectures[] = {
    {"nemotron_h", read_nemotron_h, write_nemotron_h},
    {"nemotron_h_moe", read_nemotron_h, write_nemotron_h},
    {"nemotron", read_nemotron, write_nemotron},
};

const Architecture* find_architecture(const std::string& name) {
    const auto* found =
        std::ranges::find_if(kArchitectures, [&](const Architecture& a) { return name == a.name; });
    return found == std::end(kArchitectures) ? nullptr : found;
}

std::string architecture_names() {
    std::string names;
    for (const Architecture& architecture : kArchitectures)
        names += (names.empty() ? "" : ", ") + std::string(architecture.name);
    return names;
}

}  // namespace

int64_t ConfigReader::n_blocks() const {
    const int64_t n = integer("block_count");
    check_block_count(n, fmt::format("{}: key {}", file_.path(), name("block_count")));
    return n;
}

AttentionShape ConfigReader::attention_shape(size_t i, int64_t n_embd) const {
    AttentionShape shape;
    shape.n_heads = of_block("attention.head_count", i);
    shape.n_kv_heads = of_block("attention.head_count_kv", i, shape.n_heads);
    const int64_t usual_dim = shape.n_heads > 0 ? n_embd / shape.n_heads : 0;
    shape.head_dim = of_block("attention.key_length", i, usual_dim);
    return shape;
}

ModelConfig config_from_gguf(const ModelFile& file) {
    ModelConfig config;
    config.architecture = file.metadata().get_string("general.architecture");
    const Architecture* architecture = find_architecture(config.architecture);
    if (architecture == nullptr)
        fail(ErrorCode::bad_file, "{}: architecture {}, but only {} are supported", file.path(),
             config.architecture, architecture_names());
    const ConfigReader keys(file, config.architecture);
    config.name = file.metadata().get_string("general.name", "");
    config.n_embd = keys.integer("embedding_length");
    config.n_context = keys.integer("context_length");
    config.tied_embeddings = file.find("output.weight") == nullptr;
    const TensorView* embedding = file.find("token_embd.weight");
    if (embedding == nullptr)
        fail(ErrorCode::bad_file, "{}: tensor token_embd.weight is missing", file.path());
    config.n_vocab = embedding->dims[1];
    architecture->read(keys, config);
    check_config(config, file.path());
    return config;
}

void add_config_metadata(const ModelConfig& config, GgufMetadata& metadata) {
    const Architecture* architecture = find_architecture(config.architecture);
    NEMO_ASSERT(architecture != nullptr);
    metadata.set_string("general.architecture", config.architecture);
    if (!config.name.empty()) metadata.set_string("general.name", config.name);
    ConfigWriter keys(config.architecture, metadata);
    keys.u32("block_count", config.n_blocks());
    keys.u32("context_length", config.n_context);
    keys.u32("embedding_length", config.n_embd);
    keys.u32("vocab_size", config.n_vocab);
    architecture->write(config, keys);
}

}  // namespace nemo
