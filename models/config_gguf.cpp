// ModelConfig from and to the GGUF keys of architectures nemotron_h and nemotron_h_moe.
//
// The file has no layer pattern: a layer is Mamba-2 if it has neither key-value heads nor a
// feed-forward length, attention if it has key-value heads, else feed-forward.
//
// Dimensions that vary from layer to layer (Puzzle) are arrays of block_count numbers under the
// usual keys. llama.cpp reads such arrays for expert_used_count and expert_feed_forward_length
// (since September 2026) and for the attention heads; for the other keys it wants one number.
#include "core/error.h"
#include "models/config.h"

#include <algorithm>
#include <functional>

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
    // Of block i, whether the file has one number for all blocks or one per block.
    int64_t of_block(const char* key, size_t i) const {
        return metadata_.get_per_layer(prefix_ + key, n_blocks_)[i];
    }
    int64_t of_block(const char* key, size_t i, int64_t fallback) const {
        return metadata_.contains(prefix_ + key) ? of_block(key, i) : fallback;
    }

    void read_layers(ModelConfig& config) {
        n_blocks_ = integer("block_count");
        const int64_t n_extra = integer("nextn_predict_layers", 0);
        if (n_blocks_ < 1 || n_blocks_ > 512 || n_extra < 0 || n_extra >= n_blocks_)
            fail(ErrorCode::bad_file,
                 "{}: key {}block_count is {} with {} prediction blocks, but 1 to 512 layers are "
                 "supported",
                 file_.path(), prefix_, n_blocks_, n_extra);
        for (size_t i = 0; i < static_cast<size_t>(n_blocks_ - n_extra); ++i) {
            LayerConfig layer;
            if (const int64_t n_ff = of_block("feed_forward_length", i); n_ff > 0) {
                read_feed_forward(i, n_ff, layer);
            } else if (of_block("attention.head_count_kv", i) > 0) {
                layer.kind = LayerKind::attention;
                layer.attention = attention_shape(i, config.n_embd);
            } else {
                layer.kind = LayerKind::mamba2;
                layer.mamba2 = mamba2_shape(i);
            }
            config.layers.push_back(layer);
        }
    }

    AttentionShape attention_shape(size_t i, int64_t n_embd) const {
        AttentionShape shape;
        shape.n_heads = of_block("attention.head_count", i);
        shape.n_kv_heads = of_block("attention.head_count_kv", i);
        const int64_t usual_dim = shape.n_heads > 0 ? n_embd / shape.n_heads : 0;
        shape.head_dim = of_block("attention.key_length", i, usual_dim);
        return shape;
    }

    Mamba2Shape mamba2_shape(size_t i) const {
        Mamba2Shape shape;
        shape.n_heads = of_block("ssm.time_step_rank", i);
        shape.state_size = of_block("ssm.state_size", i);
        shape.n_groups = of_block("ssm.group_count", i);
        shape.conv_kernel = of_block("ssm.conv_kernel", i);
        const int64_t d_inner = of_block("ssm.inner_size", i);
        if (shape.n_heads < 1 || d_inner % shape.n_heads != 0)
            fail(ErrorCode::bad_file,
                 "{}: key {}ssm.inner_size is {}, not a multiple of {}ssm.time_step_rank = {}",
                 file_.path(), prefix_, d_inner, prefix_, shape.n_heads);
        shape.head_dim = d_inner / shape.n_heads;
        return shape;
    }

    void read_feed_forward(size_t i, int64_t n_ff, LayerConfig& layer) const {
        const bool dense = file_.find(fmt::format("blk.{}.ffn_up.weight", i)) != nullptr;
        if (dense || of_block("expert_count", i, 0) == 0) {
            layer.kind = LayerKind::mlp;
            layer.n_ff = n_ff;
            return;
        }
        layer.kind = LayerKind::moe;
        layer.moe = moe_shape(i, n_ff);
    }

    // `n_ff` is for files that do not tell the experts' width apart.
    MoeShape moe_shape(size_t i, int64_t n_ff) const {
        MoeShape moe;
        moe.router.n_experts = of_block("expert_count", i);
        moe.router.n_used = of_block("expert_used_count", i);
        moe.router.n_groups = std::max<int64_t>(1, of_block("expert_group_count", i, 1));
        moe.router.n_groups_used = std::max<int64_t>(1, of_block("expert_group_used_count", i, 1));
        moe.router.normalize = metadata_.get_bool(prefix_ + "expert_weights_norm", false);
        moe.router.scale =
            static_cast<float>(metadata_.get_real(prefix_ + "expert_weights_scale", 1.0));
        moe.n_ff = of_block("expert_feed_forward_length", i, n_ff);
        if (of_block("expert_shared_count", i, 0) > 0)
            moe.n_ff_shared = of_block("expert_shared_feed_forward_length", i);
        moe.n_latent = of_block("moe_latent_size", i, 0);
        return moe;
    }

    const ModelFile& file_;
    const GgufMetadata& metadata_;
    std::string prefix_;
    int64_t n_blocks_ = 0;
};

class ConfigWriter {
public:
    ConfigWriter(const ModelConfig& config, GgufMetadata& metadata)
        : config_(config), metadata_(metadata), prefix_(config.architecture + ".") {
        for (const LayerConfig& layer : config.layers) {
            mamba2_.push_back(layer.kind == LayerKind::mamba2 ? &layer.mamba2 : nullptr);
            attention_.push_back(layer.kind == LayerKind::attention ? &layer.attention : nullptr);
            moe_.push_back(layer.kind == LayerKind::moe ? &layer.moe : nullptr);
            n_ff_.push_back(layer.kind == LayerKind::mlp   ? layer.n_ff
                            : layer.kind == LayerKind::moe ? layer.moe.n_ff
                                                           : 0);
        }
    }

    void write() {
        metadata_.set_string("general.architecture", config_.architecture);
        if (!config_.name.empty()) metadata_.set_string("general.name", config_.name);
        set_u32("block_count", std::ssize(n_ff_));
        set_u32("context_length", config_.n_context);
        set_u32("embedding_length", config_.n_embd);
        set_u32("vocab_size", config_.n_vocab);
        // llama.cpp requires both spellings of the one epsilon.
        set_f32("attention.layer_norm_rms_epsilon", config_.rms_eps);
        set_f32("attention.layer_norm_epsilon", config_.rms_eps);
        set_array("feed_forward_length", n_ff_);
        write_attention();
        write_mamba2();
        if (config_.has_moe()) write_moe();
    }

private:
    template <class Shape>
    using Blocks = std::vector<const Shape*>;  // per block, nullptr in those of another kind

    void set_u32(const char* key, int64_t value) {
        metadata_.set_u32(prefix_ + key, static_cast<uint32_t>(value));
    }
    void set_f32(const char* key, float value) { metadata_.set_f32(prefix_ + key, value); }
    void set_array(const char* key, const std::vector<int64_t>& values) {
        metadata_.set_i32_array(prefix_ + key, std::vector<int32_t>(values.begin(), values.end()));
    }

    template <class Shape>
    static const Shape* first(const Blocks<Shape>& blocks) {
        const auto found = std::ranges::find_if(blocks, [](auto* block) { return block; });
        return found == blocks.end() ? nullptr : *found;
    }

    template <class Shape, class Get>
    static std::vector<int64_t> column(const Blocks<Shape>& blocks, int64_t elsewhere, Get get) {
        std::vector<int64_t> values;
        for (const Shape* block : blocks)
            values.push_back(block != nullptr ? std::invoke(get, *block) : elsewhere);
        return values;
    }

    // One number where all blocks of the kind agree, which is what every reader expects; else one
    // per block, `elsewhere` in blocks of another kind. Nothing if there is no block of the kind.
    template <class Shape, class Get>
    void set_per_block(const char* key, const Blocks<Shape>& blocks, Get get,
                       int64_t elsewhere = 0) {
        const Shape* any = first(blocks);
        if (any == nullptr) return;
        const int64_t value = std::invoke(get, *any);
        const std::vector<int64_t> values = column(blocks, value, get);
        if (std::ranges::count(values, value) == std::ssize(values))
            set_u32(key, value);
        else
            set_array(key, column(blocks, elsewhere, get));
    }

    void write_attention() {
        set_array("attention.head_count_kv", column(attention_, 0, &AttentionShape::n_kv_heads));
        // Readers divide by the head count of the first block, even if no block attends.
        const AttentionShape* any = first(attention_);
        if (any == nullptr) return set_u32("attention.head_count", 1);
        set_per_block("attention.head_count", attention_, &AttentionShape::n_heads, any->n_heads);
        set_per_block("attention.key_length", attention_, &AttentionShape::head_dim);
        set_per_block("attention.value_length", attention_, &AttentionShape::head_dim);
    }

    void write_mamba2() {
        set_per_block("ssm.conv_kernel", mamba2_, &Mamba2Shape::conv_kernel);
        set_per_block("ssm.inner_size", mamba2_, &Mamba2Shape::d_inner);
        set_per_block("ssm.state_size", mamba2_, &Mamba2Shape::state_size);
        set_per_block("ssm.time_step_rank", mamba2_, &Mamba2Shape::n_heads);
        set_per_block("ssm.group_count", mamba2_, &Mamba2Shape::n_groups);
    }

    void write_moe() {
        const auto router = [](int64_t RouterShape::*field) {
            return [field](const MoeShape& moe) { return moe.router.*field; };
        };
        set_per_block("expert_count", moe_, router(&RouterShape::n_experts));
        set_per_block("expert_used_count", moe_, router(&RouterShape::n_used));
        set_per_block("expert_feed_forward_length", moe_, &MoeShape::n_ff);
        const bool any_shared = std::ranges::any_of(
            moe_, [](const MoeShape* moe) { return moe != nullptr && moe->n_ff_shared > 0; });
        if (any_shared) {
            set_per_block("expert_shared_count", moe_,
                          [](const MoeShape& moe) { return int64_t{moe.n_ff_shared > 0}; });
            set_per_block("expert_shared_feed_forward_length", moe_, &MoeShape::n_ff_shared);
        }
        set_per_block("expert_group_count", moe_, router(&RouterShape::n_groups));
        set_per_block("expert_group_used_count", moe_, router(&RouterShape::n_groups_used));
        const bool any_latent = std::ranges::any_of(
            moe_, [](const MoeShape* moe) { return moe != nullptr && moe->n_latent > 0; });
        if (any_latent) set_per_block("moe_latent_size", moe_, &MoeShape::n_latent);
        // check_config has seen that these two are the same in all blocks.
        const RouterShape& any = first(moe_)->router;
        metadata_.set_bool(prefix_ + "expert_weights_norm", any.normalize);
        set_f32("expert_weights_scale", any.scale);
    }

    const ModelConfig& config_;
    GgufMetadata& metadata_;
    std::string prefix_;
    Blocks<Mamba2Shape> mamba2_;
    Blocks<AttentionShape> attention_;
    Blocks<MoeShape> moe_;
    std::vector<int64_t> n_ff_;  // per block, 0 without a feed-forward part
};

}  // namespace

ModelConfig config_from_gguf(const ModelFile& file) {
    return ConfigReader(file).read();
}

void add_config_metadata(const ModelConfig& config, GgufMetadata& metadata) {
    ConfigWriter(config, metadata).write();
}

}  // namespace nemo
