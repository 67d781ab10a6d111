#include "core/gguf_writer.h"

#include "core/crc32c.h"
#include "core/error.h"
#include "core/tensor_checksums.h"

#include <algorithm>

namespace nemo {

namespace {

constexpr uint64_t kAlignment = 32;
constexpr size_t kWriteBytes = size_t{64} << 10;  // still cached when its checksums are computed

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

void put_checksums(HeaderBuilder& header, std::span<const GgufTensorInfo> tensors,
                   std::span<const uint32_t> checksums) {
    header.put_string(kTensorChecksumsKey);
    header.put(static_cast<int32_t>(GgufType::array));
    header.put(static_cast<int32_t>(GgufType::string));
    header.put(static_cast<uint64_t>(tensors.size()));
    for (size_t i = 0; i < tensors.size(); ++i)
        header.put_string(tensor_checksum_entry(checksums[i], tensors[i].dtype, tensors[i].name));
}

std::string build_header(const GgufMetadata& metadata, std::span<const GgufTensorInfo> tensors,
                         std::span<const uint32_t> checksums) {
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
    if (!tensors.empty()) put_checksums(header, tensors, checksums);
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
    return header.text();
}

uint64_t data_bytes(std::span<const GgufTensorInfo> tensors) {
    uint64_t total = 0;
    for (const GgufTensorInfo& tensor : tensors) total += padded(tensor.n_bytes());
    return total;
}

// The header before the checksums are known.
std::string blank_header(const GgufMetadata& metadata, std::span<const GgufTensorInfo> tensors) {
    return build_header(metadata, tensors, std::vector<uint32_t>(tensors.size()));
}

// FNV-1a, 64 bits.
uint64_t identity_of(std::string_view header, uint64_t input_identity) {
    uint64_t hash = 0xcbf29ce484222325u ^ input_identity;
    for (const char c : header) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return hash;
}

ResumableFile::Layout layout_of(const GgufMetadata& metadata,
                                std::span<const GgufTensorInfo> tensors, uint64_t input_identity) {
    const std::string header = blank_header(metadata, tensors);
    return {header.size(), header.size() + data_bytes(tensors),
            identity_of(header, input_identity)};
}

}  // namespace

uint64_t GgufTensorInfo::n_row_bytes() const {
    const DTypeInfo& info = dtype_info(dtype);
    NEMO_ASSERT(dims[0] % info.block_size == 0);
    return static_cast<uint64_t>(dims[0] / info.block_size * info.block_bytes);
}

uint64_t GgufTensorInfo::n_bytes() const {
    return n_row_bytes() * static_cast<uint64_t>(dims[1] * dims[2] * dims[3]);
}

GgufWriter::GgufWriter(const std::filesystem::path& target, const GgufMetadata& metadata,
                       std::vector<GgufTensorInfo> tensors)
    : GgufWriter(target, metadata, std::move(tensors), OnRestart::start_over, 0) {}

GgufWriter::GgufWriter(const std::filesystem::path& target, const GgufMetadata& metadata,
                       std::vector<GgufTensorInfo> tensors, OnRestart on_restart,
                       uint64_t input_identity)
    : metadata_(metadata),
      tensors_(std::move(tensors)),
      checksums_(tensors_.size()),
      layout_(layout_of(metadata_, tensors_, input_identity)),
      file_(target, layout_, on_restart) {
    if (file_.n_kept() > 0) resume();
}

// Goes on at the last row that is kept whole.
void GgufWriter::resume() {
    uint64_t n_used = layout_.n_head_bytes;
    for (const GgufTensorInfo& tensor : tensors_) {
        const uint64_t n_left = file_.n_kept() - n_used;
        if (n_left < padded(tensor.n_bytes())) {
            // At least one row is left to do, so that the padding is not forgotten.
            const uint64_t n_data = std::min(n_left, tensor.n_bytes() - 1);
            n_used += n_data - n_data % tensor.n_row_bytes();
            break;
        }
        n_used += padded(tensor.n_bytes());
    }
    // A piece may hold the ends of many small tensors, with their padding.
    const auto visit = [&](std::span<const std::byte> piece) {
        while (!piece.empty()) {
            const GgufTensorInfo& tensor = tensors_[current_];
            const uint64_t n_here =
                std::min<uint64_t>(piece.size(), padded(tensor.n_bytes()) - n_current_bytes_);
            add(piece.first(static_cast<size_t>(n_here)));
            piece = piece.subspan(static_cast<size_t>(n_here));
        }
    };
    if (file_.go_on_after(n_used, visit)) return;
    current_ = 0;
    n_current_bytes_ = 0;
    checksums_.assign(tensors_.size(), 0);
}

// Counts what has been written: of the current tensor, or of its padding.
void GgufWriter::add(std::span<const std::byte> bytes) {
    const uint64_t n_tensor = tensors_[current_].n_bytes();
    const uint64_t n_data =
        std::min<uint64_t>(bytes.size(), n_tensor - std::min<uint64_t>(n_tensor, n_current_bytes_));
    checksums_[current_] = crc32c(bytes.first(static_cast<size_t>(n_data)), checksums_[current_]);
    n_current_bytes_ += bytes.size();
    if (n_current_bytes_ < padded(n_tensor)) return;
    ++current_;
    n_current_bytes_ = 0;
}

int64_t GgufWriter::next_row() const {
    if (current_ == tensors_.size()) return 0;
    return static_cast<int64_t>(n_current_bytes_ / tensors_[current_].n_row_bytes());
}

void GgufWriter::write(std::span<const std::byte> bytes) {
    static constexpr std::byte kZeros[kAlignment] = {};
    NEMO_ASSERT(current_ < tensors_.size());
    const uint64_t n_wanted = tensors_[current_].n_bytes();
    NEMO_ASSERT(bytes.size() <= n_wanted - n_current_bytes_);
    const bool ends = n_current_bytes_ + bytes.size() == n_wanted;
    const std::span padding(kZeros, ends ? padded(n_wanted) - n_wanted : 0);
    while (!bytes.empty()) {
        const std::span piece = bytes.first(std::min(bytes.size(), kWriteBytes));
        file_.write(piece);
        add(piece);
        bytes = bytes.subspan(piece.size());
    }
    file_.write(padding);
    if (!padding.empty()) add(padding);
}

void GgufWriter::complete() {
    NEMO_ASSERT(current_ == tensors_.size());
    file_.seal(build_header(metadata_, tensors_, checksums_));
}

void GgufWriter::publish_all(std::span<const std::unique_ptr<GgufWriter>> writers) {
    for (const auto& writer : writers) writer->file_.trim();
    for (const auto& writer : writers) writer->file_.publish();
}

void GgufWriter::finish() {
    complete();
    file_.trim();
    file_.publish();
}

uint64_t gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufTensorInfo> tensors) {
    return blank_header(metadata, tensors).size() + data_bytes(tensors);
}

}  // namespace nemo
