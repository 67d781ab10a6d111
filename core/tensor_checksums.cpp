#include "core/tensor_checksums.h"

#include "core/error.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace nemo {

namespace {

constexpr size_t kDigits = 8;

}  // namespace

std::string tensor_checksum_entry(uint32_t checksum, DType dtype, const std::string& name) {
    return fmt::format("{:08x} {} {}", checksum, dtype_info(dtype).name, name);
}

TensorChecksums::TensorChecksums(const GgufMetadata& metadata) {
    if (!metadata.contains(kTensorChecksumsKey)) return;
    for (const std::string& text : metadata.get_strings(kTensorChecksumsKey)) {
        Entry entry;
        const char* const end = text.data() + std::min(text.size(), kDigits);
        const auto [stop, error] = std::from_chars(text.data(), end, entry.value, 16);
        const size_t space = text.find(' ', kDigits + 1);
        if (error != std::errc() || stop != text.data() + kDigits || space == std::string::npos ||
            text[kDigits] != ' ')
            fail(ErrorCode::bad_file, "{}: key {} has the entry \"{}\", which is no checksum",
                 metadata.source(), kTensorChecksumsKey, text.substr(0, 100));
        entry.type_name = text.substr(kDigits + 1, space - kDigits - 1);
        entries_.insert_or_assign(text.substr(space + 1), std::move(entry));
    }
}

const TensorChecksums::Entry* TensorChecksums::find(const std::string& tensor) const {
    const auto found = entries_.find(tensor);
    return found == entries_.end() ? nullptr : &found->second;
}

std::optional<uint32_t> TensorChecksums::of(const TensorView& tensor) const {
    const Entry* entry = find(tensor.name);
    if (entry == nullptr || entry->type_name != dtype_info(tensor.dtype).name) return std::nullopt;
    return entry->value;
}

}  // namespace nemo
