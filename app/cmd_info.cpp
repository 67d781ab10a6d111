// nemo-cli info: what a model file holds and what it will need in memory.
#include "app/commands.h"
#include "core/byte_size.h"
#include "core/console.h"
#include "core/error.h"
#include "core/model_file.h"
#include "models/config.h"
#include "models/memory.h"
#include "models/sequence_state.h"

#include <algorithm>
#include <map>

namespace nemo {

namespace {

std::string size_of(int64_t n_bytes) {
    return size_text(static_cast<uint64_t>(n_bytes));
}

std::string line(std::string_view label, std::string_view value) {
    return fmt::format("{:<22}{}\n", label, value);
}

// "6 mamba2, 5 mlp, 1 attention   M-M-*"
std::string layers_text(const ModelConfig& config) {
    std::string pattern;
    for (const LayerConfig& layer : config.layers) {
        switch (layer.kind) {
            case LayerKind::mamba2:
                pattern += 'M';
                break;
            case LayerKind::attention:
                pattern += '*';
                break;
            case LayerKind::mlp:
                pattern += '-';
                break;
            case LayerKind::moe:
                pattern += 'E';
                break;
        }
    }
    std::string counts;
    for (const LayerKind kind :
         {LayerKind::mamba2, LayerKind::attention, LayerKind::mlp, LayerKind::moe})
        if (const int64_t n = config.n_layers(kind); n > 0)
            counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", n, layer_kind_name(kind));
    return fmt::format("{} ({})  {}", config.layers.size(), counts, pattern);
}

// A line per type, the largest share first.
std::string quantization_text(const ModelFile& file) {
    struct Share {
        int64_t n_tensors = 0;
        int64_t n_elements = 0;
        int64_t n_bytes = 0;
    };
    std::map<std::string_view, Share> shares;
    for (const TensorView& tensor : file.tensors()) {
        Share& share = shares[dtype_info(tensor.dtype).name];
        ++share.n_tensors;
        share.n_elements += tensor.n_elements();
        share.n_bytes += tensor.n_bytes();
    }
    std::vector<std::pair<std::string_view, Share>> sorted(shares.begin(), shares.end());
    std::ranges::sort(sorted, std::greater{},
                      [](const auto& entry) { return entry.second.n_bytes; });
    std::string text;
    for (const auto& [name, share] : sorted)
        text += line(fmt::format("  {}", name),
                     fmt::format("{:>5} tensors {:>14} weights  {}", share.n_tensors,
                                 share.n_elements, size_of(share.n_bytes)));
    return text;
}

}  // namespace

int run_info(const InfoCommand& command) {
    const ModelFile file = ModelFile::open(command.model);
    const ModelConfig config = config_from_gguf(file);
    int64_t n_weights = 0;
    int64_t n_weight_bytes = 0;
    for (const TensorView& tensor : file.tensors()) {
        n_weights += tensor.n_elements();
        n_weight_bytes += tensor.n_bytes();
    }
    const MemoryNeed need =
        memory_need(config, n_weight_bytes, command.n_context, command.kv_types);

    std::string out = line("file", terminal_safe_line(file.path()));
    out += line("name", terminal_safe_line(config.name));
    out += line("architecture", config.architecture);
    out += line("layers", layers_text(config));
    if (!config.prediction_blocks.empty())
        out += line("prediction head", fmt::format("{} block(s), kept in the file but not used",
                                                   config.prediction_blocks.size()));
    out += line("hidden size", std::to_string(config.n_embd));
    out += line("vocabulary", std::to_string(config.n_vocab));
    out += line("trained context", std::to_string(config.n_context));
    out += line("weights", fmt::format("{}", n_weights));
    out +=
        line("file size",
             fmt::format("{} ({:.2f} bits per weight)", size_text(file.n_file_bytes()),
                         static_cast<double>(n_weight_bytes) * 8 / static_cast<double>(n_weights)));
    out += "types\n" + quantization_text(file);
    out += line("recurrent state",
                fmt::format("{} ({} bytes) per session", size_of(need.state), need.state));
    out += line("key-value cache", fmt::format("{} bytes per token ({} keys, {} values)",
                                               kv_bytes_per_token(config, command.kv_types),
                                               dtype_info(command.kv_types.keys).name,
                                               dtype_info(command.kv_types.values).name));
    out += line(fmt::format("memory at {}", command.n_context),
                fmt::format("{} = weights {} + state {} + cache {} + scratch {}",
                            size_of(need.total()), size_of(need.weights), size_of(need.state),
                            size_of(need.cache), size_of(need.scratch)));
    write_stdout(out);
    return 0;
}

}  // namespace nemo
