#include "convert/hf_config.h"

#include "convert/hf_fields.h"
#include "core/error.h"

#include <algorithm>

namespace nemo {

namespace {

struct HfArchitecture {
    const char* name;
    const char* model_type;
    void (*read)(const HfFields& fields, ModelConfig& config);
    void (*read_prediction)(const HfFields& fields, ModelConfig& config);
};

constexpr HfArchitecture kArchitectures[] = {
    {"NemotronHForCausalLM", "nemotron_h", read_hf_nemotron_h, read_hf_nemotron_h_prediction},
    {"NemotronHPuzzleForCausalLM", "nemotron_h_puzzle", read_hf_nemotron_h,
     read_hf_nemotron_h_prediction},
    {"NemotronForCausalLM", "nemotron", read_hf_nemotron, nullptr},
};

std::string supported_names() {
    std::string names;
    for (const HfArchitecture& architecture : kArchitectures) {
        names += fmt::format("{}{} (model_type {})", names.empty() ? "" : ", ", architecture.name,
                             architecture.model_type);
    }
    return names;
}

const HfArchitecture& find_architecture(const HfFields& fields) {
    const Json* names = fields.find({"architectures"});
    const Json* model_type = fields.find({"model_type"});
    for (const HfArchitecture& architecture : kArchitectures) {
        const bool matches =
            names != nullptr
                ? names->is_array() && std::ranges::find(names->array(), Json(architecture.name)) !=
                                           names->array().end()
                : model_type != nullptr && *model_type == Json(architecture.model_type);
        if (matches) return architecture;
    }
    if (names != nullptr) {
        fail(ErrorCode::bad_file, "{}: architectures is {}; supported: {}", fields.source(),
             to_json_text(*names), supported_names());
    }
    fail(ErrorCode::bad_file, "{}: model_type is {}; supported: {}", fields.source(),
         model_type == nullptr ? "missing" : to_json_text(*model_type), supported_names());
}

// Multimodal checkpoints wrap the language model's configuration.
const Json& language_model(const Json& root) {
    const Json* wrapped = root.find("llm_config");
    return wrapped != nullptr ? *wrapped : root;
}

}  // namespace

bool announces_prediction_head(const Json& root) {
    const Json* n_blocks = language_model(root).find("num_nextn_predict_layers");
    return n_blocks != nullptr && n_blocks->is_integer() && n_blocks->integer() > 0;
}

ModelConfig config_from_hf(const Json& root, const std::string& source, bool prediction_head) {
    const Json& config = language_model(root);
    if (!config.is_object()) fail(ErrorCode::bad_file, "{}: not a JSON object", source);
    const HfFields fields(config, source);
    const HfArchitecture& architecture = find_architecture(fields);

    ModelConfig result;
    result.n_vocab = fields.integer({"vocab_size"});
    result.n_embd = fields.integer({"hidden_size"});
    result.n_context = fields.integer({"max_position_embeddings"}, int64_t{0});
    result.tied_embeddings = fields.flag({"tie_word_embeddings"}, false);
    architecture.read(fields, result);
    if (prediction_head && architecture.read_prediction != nullptr)
        architecture.read_prediction(fields, result);
    check_config(result, source);
    return result;
}

}  // namespace nemo
