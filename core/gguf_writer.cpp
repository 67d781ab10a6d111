#include "core/gguf_writer.h"

#include "core/crc32c.h"
#include "core/error.h"

namespace nemo {

namespace {

constexpr uint64_t kAlignment = 32;

uint64_t padded(uint64_t n_bytes) {
    return (n_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The header is small next to the tensors, so it is built in memory.
class HeaderBuilder {
public:
    template <class T>
    void put(T value) {
        text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }

    void put_string(std::string_view text) {
        put(static_cast<uint64_t>(text.size()));
        text_.append(text);
    }

    void put_value(const GgufValue& value) {
        if (!value.is_array) {
            put(static_cast<int32_t>(value.type));
            put_scalar(value);
            return;
        }
        put(static_cast<int32_t>(GgufType::array));
        put(static_cast<int32_t>(value.type));
        if (const auto* integers = std::get_if<std::vector<int64_t>>(&value.value))
            put_items(*integers, [&](int64_t item) { put_integer(value.type, item); });
        else if (const auto* reals = std::get_if<std::vector<double>>(&value.value))
            put_items(*reals, [&](double item) { put_real(value.type, item); });
        else if (const auto* flags = std::get_if<std::vector<bool>>(&value.value))
            put_items(*flags, [&](bool item) { put(static_cast<uint8_t>(item)); });
        else
            put_items(std::get<std::vector<std::string>>(value.value),
                      [&](const std::string& item) { put_string(item); });
    }

    void pad() { text_.resize(padded(text_.size())); }
    const std::string& text() const { return text_; }

private:
    template <class Items, class PutOne>
    void put_items(const Items& items, const PutOne& put_one) {
        put(static_cast<uint64_t>(items.size()));
        for (const auto& item : items) put_one(item);
    }

    void put_scalar(const GgufValue& value) {
        if (const auto* integer = std::get_if<int64_t>(&value.value))
            put_integer(value.type, *integer);
        else if (const auto* real = std::get_if<double>(&value.value))
            put_real(value.type, *real);
        else if (const auto* flag = std::get_if<bool>(&value.value))
            put(static_cast<uint8_t>(*flag));
        else
            put_string(std::get<std::string>(value.value));
    }

    void put_integer(GgufType type, int64_t value) {
        switch (type) {
            case GgufType::u8:
            case GgufType::i8:
                put(static_cast<uint8_t>(value));
                return;
            case GgufType::u16:
            case GgufType::i16:
                put(static_cast<uint16_t>(value));
                return;
            case GgufType::u32:
            case GgufType::i32:
                put(static_cast<uint32_t>(value));
                return;
            default:
                put(value);
                return;
        }
    }

    void put_real(GgufType type, double value) {
        if (type == GgufType::f32)
            put(static_cast<float>(value));
        else
            put(value);
    }

    std::string text_;
};

struct Header {
    std::string text;
    std::vector<uint64_t> checksum_offsets;
};

std::string checksum_text(uint32_t checksum) {
    return fmt::format("{:08x}", checksum);
}

// The key with zeros for checksums; returns where those stand.
std::vector<uint64_t> put_checksums(HeaderBuilder& header,
                                    std::span<const GgufTensorInfo> tensors) {
    std::vector<uint64_t> offsets;
    header.put_string(kTensorChecksumsKey);
    header.put(static_cast<int32_t>(GgufType::array));
    header.put(static_cast<int32_t>(GgufType::string));
    header.put(static_cast<uint64_t>(tensors.size()));
    for (const GgufTensorInfo& tensor : tensors) {
        offsets.push_back(header.text().size() + sizeof(uint64_t));
        header.put_string(
            fmt::format("{} {} {}", checksum_text(0), dtype_info(tensor.dtype).name, tensor.name));
    }
    return offsets;
}

Header build_header(const GgufMetadata& metadata, std::span<const GgufTensorInfo> tensors) {
    HeaderBuilder header;
    const size_t n_keys = metadata.entries().size() -
                          (metadata.contains(kTensorChecksumsKey) ? 1 : 0) +
                          (tensors.empty() ? 0 : 1);
    for (const char c : {'G', 'G', 'U', 'F'}) header.put(c);
    header.put(uint32_t{3});
    header.put(static_cast<uint64_t>(tensors.size()));
    header.put(static_cast<uint64_t>(n_keys));
    for (const auto& [key, value] : metadata.entries()) {
        if (key == kTensorChecksumsKey) continue;
        header.put_string(key);
        header.put_value(value);
    }
    std::vector<uint64_t> checksum_offsets;
    if (!tensors.empty()) checksum_offsets = put_checksums(header, tensors);
    uint64_t offset = 0;
    for (const GgufTensorInfo& tensor : tensors) {
        NEMO_ASSERT(tensor.name.size() <= 63);
        header.put_string(tensor.name);
        header.put(static_cast<uint32_t>(tensor.n_dims));
        for (int i = 0; i < tensor.n_dims; ++i) header.put(tensor.dims[static_cast<size_t>(i)]);
        header.put(static_cast<uint32_t>(tensor.dtype));
        header.put(offset);
        offset += padded(tensor.n_bytes());
    }
    header.pad();
    return {header.text(), std::move(checksum_offsets)};
}

uint64_t data_bytes(std::span<const GgufTensorInfo> tensors) {
    uint64_t total = 0;
    for (const GgufTensorInfo& tensor : tensors) total += padded(tensor.n_bytes());
    return total;
}

}  // namespace

uint64_t GgufTensorInfo::n_bytes() const {
    const DTypeInfo& info = dtype_info(dtype);
    NEMO_ASSERT(dims[0] % info.block_size == 0);
    const int64_t n_rows = dims[1] * dims[2] * dims[3];
    return static_cast<uint64_t>(dims[0] / info.block_size * info.block_bytes * n_rows);
}

GgufWriter::GgufWriter(const std::filesystem::path& target, const GgufMetadata& metadata,
                       std::vector<GgufTensorInfo> tensors)
    : file_(target), tensors_(std::move(tensors)) {
    Header header = build_header(metadata, tensors_);
    checksum_offsets_ = std::move(header.checksum_offsets);
    n_file_bytes_ = header.text.size() + data_bytes(tensors_);
    file_.reserve(n_file_bytes_);
    file_.write(header.text);
}

void GgufWriter::write(std::span<const std::byte> bytes) {
    NEMO_ASSERT(current_ < tensors_.size());
    const uint64_t n_wanted = tensors_[current_].n_bytes();
    NEMO_ASSERT(bytes.size() <= n_wanted - n_current_bytes_);
    file_.write(bytes);
    n_current_bytes_ += bytes.size();
    current_checksum_ = crc32c(bytes, current_checksum_);
    if (n_current_bytes_ < n_wanted) return;
    pad();
    const std::string checksum = checksum_text(current_checksum_);
    file_.overwrite(checksum_offsets_[current_], std::as_bytes(std::span(checksum)));
    ++current_;
    n_current_bytes_ = 0;
    current_checksum_ = 0;
}

void GgufWriter::pad() {
    static constexpr std::byte kZeros[kAlignment] = {};
    file_.write(std::span(kZeros, padded(n_current_bytes_) - n_current_bytes_));
}

void GgufWriter::finish() {
    NEMO_ASSERT(current_ == tensors_.size());
    NEMO_ASSERT(file_.n_written() == n_file_bytes_);
    file_.commit();
}

uint64_t gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufTensorInfo> tensors) {
    return build_header(metadata, tensors).text.size() + data_bytes(tensors);
}

}  // namespace nemo
