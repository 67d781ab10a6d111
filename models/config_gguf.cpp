// ModelConfig from and to the GGUF keys of architectures nemotron_h and nemotron_h_moe.
//
// The file has no layer pattern: a layer is Mamba-2 if it has neither key-value heads nor a
// feed-forward length, attention if it has key-value heads, else feed-forward.
#include "core/error.h"
#include "models/config.h"

#include <algorithm>

namespace nemo {

namespace {

class ConfigReader {
public:
    explicit ConfigReader(const ModelFile& file) : file_(file), metadata_(file.metadata()) {}

    ModelConfig read() {
        ModelConfig config;
        config.architecture = metadata_.get_string("general.architecture");
        if (config.architecture != "nemotron_h" && config.architecture != "nemotron_h_moe")
            fail(ErrorCode::bad_file,
                 "{}: architecture {}, but only nemotron_h and nemotron_h_moe are supported",
                 file_.path(), config.architecture);
        prefix_ = config.architecture + ".";
        config.name = metadata_.get_string("general.name", "");
        config.n_embd = integer("embedding_length");
        config.n_context = integer("context_length");
        config.rms_eps =
            static_cast<float>(metadata_.get_real(prefix_ + "attention.layer_norm_rms_epsilon"));
        config.tied_embeddings = file_.find("output.weight") == nullptr;
        const TensorView* embedding = file_.find("token_embd.weight");
        if (embedding == nullptr)
            fail(ErrorCode::bad_file, "{}: tensor token_embd.weight is missing", file_.path());
        config.n_vocab = embedding->dims[1];
        read_layers(config);
        check_config(config, file_.path());
        return config;
    }

private:
    int64_t integer(const char* key) const { return metadata_.get_integer(prefix_ + key); }
    int64_t integer(const char* key, int64_t fallback) const {
        return metadata_.get_integer(prefix_ + key, fallback);
    }
    std::vector<int64_t> per_layer(const char* key, int64_t n) const {
        return metadata_.get_per_layer(prefix_ + key, n);
    }

    void read_layers(ModelConfig& config) const {
        const int64_t n_blocks = integer("block_count");
        const int64_t n_extra = integer("nextn_predict_layers", 0);
        if (n_blocks < 1 || n_blocks > 512 || n_extra < 0 || n_extra >= n_blocks)
            fail(ErrorCode::bad_file,
                 "{}: key {}block_count is {} with {} prediction blocks, but 1 to 512 layers are "
                 "supported",
                 file_.path(), prefix_, n_blocks, n_extra);
        const std::vector<int64_t> n_heads = per_layer("attention.head_count", n_blocks);
        const std::vector<int64_t> n_kv_heads = per_layer("attention.head_count_kv", n_blocks);
        const std::vector<int64_t> n_ff = per_layer("feed_forward_length", n_blocks);
        for (int64_t i = 0; i < n_blocks - n_extra; ++i) {
            const auto index = static_cast<size_t>(i);
            LayerConfig layer;
            if (n_ff[index] > 0) {
                read_feed_forward(i, n_blocks, n_ff[index], layer);
            } else if (n_kv_heads[index] > 0) {
                layer.kind = LayerKind::attention;
                layer.attention = {n_heads[index], n_kv_heads[index],
                                   head_dim(config.n_embd, n_heads[index])};
            } else {
                layer.kind = LayerKind::mamba2;
                layer.mamba2 = mamba2_shape();
            }
            config.layers.push_back(layer);
        }
    }

    int64_t head_dim(int64_t n_embd, int64_t n_heads) const {
        if (metadata_.contains(prefix_ + "attention.key_length"))
            return integer("attention.key_length");
        return n_heads > 0 ? n_embd / n_heads : 0;
    }

    Mamba2Shape mamba2_shape() const {
        Mamba2Shape shape;
        shape.n_heads = integer("ssm.time_step_rank");
        shape.state_size = integer("ssm.state_size");
        shape.n_groups = integer("ssm.group_count");
        shape.conv_kernel = integer("ssm.conv_kernel");
        const int64_t d_inner = integer("ssm.inner_size");
        if (shape.n_heads < 1 || d_inner % shape.n_heads != 0)
            fail(ErrorCode::bad_file,
                 "{}: key {}ssm.inner_size is {}, not a multiple of {}ssm.time_step_rank = {}",
                 file_.path(), prefix_, d_inner, prefix_, shape.n_heads);
        shape.head_dim = d_inner / shape.n_heads;
        return shape;
    }

    void read_feed_forward(int64_t i, int64_t n_blocks, int64_t n_ff, LayerConfig& layer) const {
        const bool dense = file_.find(fmt::format("blk.{}.ffn_up.weight", i)) != nullptr;
        if (dense || integer("expert_count", 0) == 0) {
            layer.kind = LayerKind::mlp;
            layer.n_ff = n_ff;
            return;
        }
        layer.kind = LayerKind::moe;
        MoeShape& moe = layer.moe;
        const auto index = static_cast<size_t>(i);
        moe.router.n_experts = per_layer("expert_count", n_blocks)[index];
        moe.router.n_used = per_layer("expert_used_count", n_blocks)[index];
        moe.router.n_groups = std::max<int64_t>(1, integer("expert_group_count", 1));
        moe.router.n_groups_used = std::max<int64_t>(1, integer("expert_group_used_count", 1));
        moe.router.normalize = metadata_.get_bool(prefix_ + "expert_weights_norm", false);
        moe.router.scale =
            static_cast<float>(metadata_.get_real(prefix_ + "expert_weights_scale", 1.0));
        moe.n_ff = n_ff;
        if (integer("expert_shared_count", 0) > 0)
            moe.n_ff_shared = integer("expert_shared_feed_forward_length");
        moe.n_latent = integer("moe_latent_size", 0);
    }

    const ModelFile& file_;
    const GgufMetadata& metadata_;
    std::string prefix_;
};

class ConfigWriter {
public:
    ConfigWriter(const ModelConfig& config, GgufMetadata& metadata)
        : config_(config), metadata_(metadata), prefix_(config.architecture + ".") {}

    void write() {
        metadata_.set_string("general.architecture", config_.architecture);
        if (!config_.name.empty()) metadata_.set_string("general.name", config_.name);
        set_u32("block_count", std::ssize(config_.layers));
        set_u32("context_length", config_.n_context);
        set_u32("embedding_length", config_.n_embd);
        set_u32("vocab_size", config_.n_vocab);
        // llama.cpp requires both spellings of the one epsilon.
        set_f32("attention.layer_norm_rms_epsilon", config_.rms_eps);
        set_f32("attention.layer_norm_epsilon", config_.rms_eps);
        write_layer_arrays();
        if (const LayerConfig* layer = first(LayerKind::attention)) {
            set_u32("attention.head_count", layer->attention.n_heads);
            set_u32("attention.key_length", layer->attention.head_dim);
            set_u32("attention.value_length", layer->attention.head_dim);
        } else {
            // Readers divide by the head count even if no layer attends.
            set_u32("attention.head_count", 1);
        }
        if (const LayerConfig* layer = first(LayerKind::mamba2)) write_mamba2(layer->mamba2);
        if (const LayerConfig* layer = first(LayerKind::moe)) write_moe(layer->moe);
    }

private:
    void set_u32(const char* key, int64_t value) {
        metadata_.set_u32(prefix_ + key, static_cast<uint32_t>(value));
    }
    void set_f32(const char* key, float value) { metadata_.set_f32(prefix_ + key, value); }

    const LayerConfig* first(LayerKind kind) const {
        const auto found = std::ranges::find(config_.layers, kind, &LayerConfig::kind);
        return found == config_.layers.end() ? nullptr : &*found;
    }

    void write_layer_arrays() {
        std::vector<int32_t> n_ff;
        std::vector<int32_t> n_kv_heads;
        for (const LayerConfig& layer : config_.layers) {
            const int64_t width = layer.kind == LayerKind::mlp   ? layer.n_ff
                                  : layer.kind == LayerKind::moe ? layer.moe.n_ff
                                                                 : 0;
            n_ff.push_back(static_cast<int32_t>(width));
            n_kv_heads.push_back(layer.kind == LayerKind::attention
                                     ? static_cast<int32_t>(layer.attention.n_kv_heads)
                                     : 0);
        }
        metadata_.set_i32_array(prefix_ + "feed_forward_length", n_ff);
        metadata_.set_i32_array(prefix_ + "attention.head_count_kv", n_kv_heads);
    }

    void write_mamba2(const Mamba2Shape& shape) {
        set_u32("ssm.conv_kernel", shape.conv_kernel);
        set_u32("ssm.inner_size", shape.d_inner());
        set_u32("ssm.state_size", shape.state_size);
        set_u32("ssm.time_step_rank", shape.n_heads);
        set_u32("ssm.group_count", shape.n_groups);
    }

    void write_moe(const MoeShape& moe) {
        set_u32("expert_count", moe.router.n_experts);
        set_u32("expert_used_count", moe.router.n_used);
        set_u32("expert_feed_forward_length", moe.n_ff);
        if (moe.n_ff_shared > 0) {
            set_u32("expert_shared_count", 1);
            set_u32("expert_shared_feed_forward_length", moe.n_ff_shared);
        }
        metadata_.set_bool(prefix_ + "expert_weights_norm", moe.router.normalize);
        set_f32("expert_weights_scale", moe.router.scale);
        set_u32("expert_group_count", moe.router.n_groups);
        set_u32("expert_group_used_count", moe.router.n_groups_used);
        if (moe.n_latent > 0) set_u32("moe_latent_size", moe.n_latent);
    }

    const ModelConfig& config_;
    GgufMetadata& metadata_;
    std::string prefix_;
};

}  // namespace

ModelConfig config_from_gguf(const ModelFile& file) {
    return ConfigReader(file).read();
}

void add_config_metadata(const ModelConfig& config, GgufMetadata& metadata) {
    ConfigWriter(config, metadata).write();
}

}  // namespace nemo
