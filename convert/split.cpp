// Which tensors go into which file when the result is split. llama.cpp's keys and names, so that
// its loader finds the parts; unlike there the limit holds for the whole file, not only its
// tensors.
#include "convert/plan.h"
#include "core/error.h"

#include <limits>

namespace nemo {

namespace {

GgufMetadata part_metadata(const GgufMetadata& all, size_t index, size_t n_parts,
                           size_t n_tensors) {
    GgufMetadata metadata = index == 0 ? all : GgufMetadata();
    metadata.set_u16("split.no", static_cast<uint16_t>(index));
    metadata.set_u16("split.count", static_cast<uint16_t>(n_parts));
    metadata.set_i32("split.tensors.count", static_cast<int32_t>(n_tensors));
    return metadata;
}

// Number of tensors per part.
std::vector<size_t> part_sizes(const ConversionPlan& plan) {
    const uint64_t n_empty_bytes = gguf_file_bytes(part_metadata(GgufMetadata(), 1, 1, 0), {});
    std::vector<size_t> sizes = {0};
    uint64_t n_part_bytes = gguf_file_bytes(part_metadata(plan.metadata, 0, 1, 0), {});
    for (const PlannedTensor& tensor : plan.tensors) {
        // A little more than the tensor adds to a file: with the fixed part of a header.
        const GgufTensorInfo info = tensor.info();
        const uint64_t n_bytes = gguf_file_bytes(GgufMetadata(), std::span(&info, 1));
        if (n_part_bytes + n_bytes > plan.max_part_bytes && sizes.back() > 0) {
            sizes.push_back(0);
            n_part_bytes = n_empty_bytes;
        }
        n_part_bytes += n_bytes;
        ++sizes.back();
        if (n_part_bytes > plan.max_part_bytes)
            fail(ErrorCode::usage,
                 "the result cannot be split into files of {} bytes: the one with tensor {} needs "
                 "{}",
                 plan.max_part_bytes, info.name, n_part_bytes);
    }
    return sizes;
}

}  // namespace

std::vector<PlannedPart> planned_parts(const ConversionPlan& plan) {
    if (plan.max_part_bytes == 0) return {{plan.metadata, 0, plan.tensors.size()}};
    const std::vector<size_t> sizes = part_sizes(plan);
    if (sizes.size() == 1) return {{plan.metadata, 0, plan.tensors.size()}};
    if (sizes.size() > std::numeric_limits<uint16_t>::max())
        fail(ErrorCode::usage, "the result would be split into {} files, at most {} are possible",
             sizes.size(), std::numeric_limits<uint16_t>::max());
    std::vector<PlannedPart> parts;
    size_t first = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
        parts.push_back(
            {part_metadata(plan.metadata, i, sizes.size(), plan.tensors.size()), first, sizes[i]});
        first += sizes[i];
    }
    return parts;
}

std::filesystem::path part_path(const std::filesystem::path& target, size_t index, size_t n_parts) {
    if (n_parts == 1) return target;
    std::filesystem::path stem = target;
    if (stem.extension() == ".gguf") stem.replace_extension();
    return split_file_name(stem.string(), static_cast<int64_t>(index) + 1,
                           static_cast<int64_t>(n_parts));
}

}  // namespace nemo
