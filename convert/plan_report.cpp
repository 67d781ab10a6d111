#include "convert/plan_report.h"

#include "models/memory.h"

#include <fmt/core.h>

namespace nemo {

namespace {

constexpr int64_t kShownContexts[] = {4096, 32768, 131072};

std::string tensor_lines(const ConversionPlan& plan) {
    constexpr const char* kLine = "{:<30} {:<20} {:<8} {:<6} {:>14}\n";
    std::string text = fmt::format(kLine, "tensor", "shape", "from", "to", "bytes");
    for (const PlannedTensor& tensor : plan.tensors)
        text += fmt::format(kLine, tensor.spec.name, dims_text(tensor.spec.dims),
                            tensor.source->type_name(), dtype_info(tensor.dtype).name,
                            tensor.info().n_bytes());
    return text;
}

std::string file_lines(const ConversionPlan& plan) {
    const std::vector<PlannedPart> parts = planned_parts(plan);
    uint64_t n_file_bytes = 0;
    std::string lines;
    for (size_t i = 0; i < parts.size(); ++i) {
        const uint64_t n_bytes = gguf_file_bytes(parts[i].metadata, plan.tensor_infos(parts[i]));
        n_file_bytes += n_bytes;
        if (parts.size() > 1)
            lines += fmt::format("  part {} of {}: {} tensors, {} bytes\n", i + 1, parts.size(),
                                 parts[i].n_tensors, n_bytes);
    }
    return fmt::format("{} {} bytes\n", parts.size() > 1 ? "files" : "file", n_file_bytes) + lines;
}

std::string memory_lines(const ModelConfig& config, uint64_t n_weight_bytes) {
    const auto mib = [](int64_t n_bytes) { return static_cast<double>(n_bytes) / (1 << 20); };
    constexpr const char* kHeader = "{:<16} {:>12} {:>12} {:>12} {:>12} {:>12}\n";
    std::string text = "memory to run it, in MiB:\n";
    text += fmt::format(kHeader, "context", "total", "weights", "cache", "state", "scratch");
    for (const int64_t n_context : kShownContexts) {
        const MemoryNeed need =
            memory_need(config, static_cast<int64_t>(n_weight_bytes), n_context);
        text += fmt::format("{:<16} {:>12.1f} {:>12.1f} {:>12.1f} {:>12.1f} {:>12.1f}\n", n_context,
                            mib(need.total()), mib(need.weights), mib(need.cache), mib(need.state),
                            mib(need.scratch));
    }
    return text;
}

}  // namespace

std::string plan_table(const ConversionPlan& plan) {
    uint64_t n_source_bytes = 0;
    for (const PlannedTensor& tensor : plan.tensors) n_source_bytes += tensor.source->n_bytes();
    const uint64_t n_target_bytes = plan.n_tensor_bytes();
    std::string text = tensor_lines(plan);
    text += fmt::format("{} tensors, {} weights, {} bytes -> {} bytes, {:.3f} bits per weight\n",
                        plan.tensors.size(), plan.n_weights(), n_source_bytes, n_target_bytes,
                        plan.bits_per_weight());
    text += file_lines(plan);
    for (const std::string& note : plan.notes) text += note + "\n";
    if (plan.config) text += memory_lines(*plan.config, n_target_bytes);
    return text;
}

}  // namespace nemo
