#include "core/model_file.h"

#include "core/byte_reader.h"
#include "core/checked.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/tensor_checksums.h"
#include "core/utf8.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <limits>

namespace nemo {

namespace {

constexpr uint64_t kMaxTensors = 1'000'000;
constexpr uint64_t kMaxKeys = 1'000'000;
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxNameBytes = 63;
constexpr uint32_t kMaxAlignment = 1u << 20;

// ---- Metadata ----

std::string read_string(ByteReader& reader, std::string_view what, uint64_t max_bytes) {
    const auto n_bytes = reader.read<uint64_t>(what);
    if (n_bytes > max_bytes)
        fail(ErrorCode::bad_file, "{}: {} is {} bytes long, at most {} are allowed",
             reader.source(), what, n_bytes, max_bytes);
    return std::string(reader.read_text(n_bytes, what));
}

GgufType read_type(ByteReader& reader, std::string_view key) {
    const auto id = reader.read<int32_t>(key);
    if (id < 0 || id > static_cast<int32_t>(GgufType::f64))
        fail(ErrorCode::bad_file, "{}: key {} has unknown value type {}", reader.source(), key, id);
    return static_cast<GgufType>(id);
}

bool is_integer(GgufType type) {
    return type != GgufType::f32 && type != GgufType::f64 && type != GgufType::boolean &&
           type != GgufType::string && type != GgufType::array;
}

uint64_t min_bytes(GgufType type) {
    switch (type) {
        case GgufType::u8:
        case GgufType::i8:
        case GgufType::boolean:
            return 1;
        case GgufType::u16:
        case GgufType::i16:
            return 2;
        case GgufType::u32:
        case GgufType::i32:
        case GgufType::f32:
            return 4;
        default:
            return 8;
    }
}

int64_t read_integer(ByteReader& reader, GgufType type, std::string_view key) {
    switch (type) {
        case GgufType::u8:
            return reader.read<uint8_t>(key);
        case GgufType::i8:
            return reader.read<int8_t>(key);
        case GgufType::u16:
            return reader.read<uint16_t>(key);
        case GgufType::i16:
            return reader.read<int16_t>(key);
        case GgufType::u32:
            return reader.read<uint32_t>(key);
        case GgufType::i32:
            return reader.read<int32_t>(key);
        case GgufType::i64:
            return reader.read<int64_t>(key);
        default:
            break;
    }
    const auto wide = reader.read<uint64_t>(key);
    const auto value = narrow<int64_t>(wide);
    if (!value)
        fail(ErrorCode::bad_file, "{}: key {} has value {}, above {}", reader.source(), key, wide,
             std::numeric_limits<int64_t>::max());
    return *value;
}

double read_real(ByteReader& reader, GgufType type, std::string_view key) {
    return type == GgufType::f32 ? double{reader.read<float>(key)} : reader.read<double>(key);
}

template <class T, class ReadOne>
std::vector<T> read_items(uint64_t count, const ReadOne& read_one) {
    std::vector<T> items;
    items.reserve(static_cast<size_t>(count));
    for (uint64_t i = 0; i < count; ++i) items.push_back(read_one());
    return items;
}

GgufValue read_array(ByteReader& reader, std::string_view key) {
    const GgufType type = read_type(reader, key);
    if (type == GgufType::array)
        fail(ErrorCode::bad_file, "{}: key {} is an array of arrays, which is not supported",
             reader.source(), key);
    const auto count = reader.read<uint64_t>(key);
    reader.require_items(count, min_bytes(type), key);
    GgufValue value = {type, true, {}};
    if (is_integer(type))
        value.value = read_items<int64_t>(count, [&] { return read_integer(reader, type, key); });
    else if (type == GgufType::string)
        value.value = read_items<std::string>(
            count, [&] { return read_string(reader, key, reader.n_left()); });
    else if (type == GgufType::boolean)
        value.value = read_items<bool>(count, [&] { return reader.read<uint8_t>(key) != 0; });
    else
        value.value = read_items<double>(count, [&] { return read_real(reader, type, key); });
    return value;
}

GgufValue read_value(ByteReader& reader, std::string_view key) {
    const GgufType type = read_type(reader, key);
    switch (type) {
        case GgufType::array:
            return read_array(reader, key);
        case GgufType::string:
            return {type, false, read_string(reader, key, reader.n_left())};
        case GgufType::boolean:
            return {type, false, reader.read<uint8_t>(key) != 0};
        case GgufType::f32:
        case GgufType::f64:
            return {type, false, read_real(reader, type, key)};
        default:
            return {type, false, read_integer(reader, type, key)};
    }
}

// ---- Header ----

struct Header {
    uint64_t n_tensors;
    uint64_t n_keys;
};

Header read_header(ByteReader& reader) {
    if (reader.read_text(4, "the magic number") != "GGUF")
        fail(ErrorCode::bad_file, "{}: not a GGUF file (it does not start with \"GGUF\")",
             reader.source());
    const auto version = reader.read<uint32_t>("the version");
    if ((version & 0xFFFFu) == 0)
        fail(ErrorCode::bad_file, "{}: a big-endian GGUF file, only little-endian is supported",
             reader.source());
    if (version != 2 && version != 3)
        fail(ErrorCode::bad_file, "{}: GGUF version {}, but only 2 and 3 are supported",
             reader.source(), version);
    Header header = {};
    header.n_tensors = reader.read<uint64_t>("the tensor count");
    header.n_keys = reader.read<uint64_t>("the key count");
    if (header.n_tensors > kMaxTensors)
        fail(ErrorCode::bad_file, "{}: {} tensors, at most {} are allowed", reader.source(),
             header.n_tensors, kMaxTensors);
    if (header.n_keys > kMaxKeys)
        fail(ErrorCode::bad_file, "{}: {} keys, at most {} are allowed", reader.source(),
             header.n_keys, kMaxKeys);
    return header;
}

GgufMetadata read_metadata(ByteReader& reader, uint64_t n_keys) {
    GgufMetadata metadata(reader.source());
    for (uint64_t i = 0; i < n_keys; ++i) {
        const std::string key = read_string(reader, fmt::format("key {}", i), kMaxKeyBytes);
        if (key.empty()) fail(ErrorCode::bad_file, "{}: key {} is empty", reader.source(), i);
        if (!is_valid_utf8(key))
            fail(ErrorCode::bad_file, "{}: key {} is not UTF-8", reader.source(), i);
        if (metadata.contains(key))
            fail(ErrorCode::bad_file, "{}: key {} occurs twice", reader.source(), key);
        metadata.set(key, read_value(reader, key));
    }
    return metadata;
}

uint64_t read_alignment(const GgufMetadata& metadata) {
    const int64_t alignment = metadata.get_integer("general.alignment", 32);
    if (alignment < 8 || alignment > kMaxAlignment ||
        !std::has_single_bit(static_cast<uint64_t>(alignment)))
        fail(ErrorCode::bad_file,
             "{}: key general.alignment is {}, but a power of two from 8 to {} is needed",
             metadata.source(), alignment, kMaxAlignment);
    return static_cast<uint64_t>(alignment);
}

// ---- Tensor directory ----

// The one place where a tensor's size is computed from a file's numbers.
uint64_t checked_n_bytes(const TensorView& tensor, const std::string& source) {
    const DTypeInfo& info = dtype_info(tensor.dtype);
    std::optional<int64_t> n_elements = 1;
    for (const int64_t dim : tensor.dims) {
        if (dim < 1)
            fail(ErrorCode::bad_file, "{}: tensor {} has dims {}, each must be at least 1", source,
                 tensor.name, dims_text(tensor.dims));
        if (n_elements) n_elements = checked_mul(*n_elements, dim);
    }
    if (tensor.dims[0] % info.block_size != 0)
        fail(ErrorCode::bad_file,
             "{}: tensor {} has rows of {} elements, but {} needs a multiple of {}", source,
             tensor.name, tensor.dims[0], info.name, info.block_size);
    std::optional<int64_t> n_bytes;
    if (n_elements) n_bytes = checked_mul(*n_elements / info.block_size, info.block_bytes);
    if (!n_bytes)
        fail(ErrorCode::bad_file, "{}: tensor {} with dims {} is too large", source, tensor.name,
             dims_text(tensor.dims));
    return static_cast<uint64_t>(*n_bytes);
}

struct DirectoryEntry {
    TensorView tensor;
    uint64_t offset;
};

DirectoryEntry read_entry(ByteReader& reader, uint64_t index) {
    DirectoryEntry entry = {};
    TensorView& tensor = entry.tensor;
    tensor.name = read_string(reader, fmt::format("the name of tensor {}", index), kMaxNameBytes);
    if (tensor.name.empty() || !is_valid_utf8(tensor.name))
        fail(ErrorCode::bad_file, "{}: the name of tensor {} is empty or not UTF-8",
             reader.source(), index);
    const auto n_dims = reader.read<uint32_t>(tensor.name);
    if (n_dims < 1 || n_dims > tensor.dims.size())
        fail(ErrorCode::bad_file, "{}: tensor {} has {} dimensions, 1 to {} are allowed",
             reader.source(), tensor.name, n_dims, tensor.dims.size());
    for (uint32_t i = 0; i < n_dims; ++i) tensor.dims[i] = reader.read<int64_t>(tensor.name);
    const auto type = reader.read<uint32_t>(tensor.name);
    const DTypeInfo* info = find_dtype(type);
    if (info == nullptr)
        fail(ErrorCode::bad_file, "{}: tensor {} has type id {}, which nemo does not read",
             reader.source(), tensor.name, type);
    tensor.dtype = info->dtype;
    entry.offset = reader.read<uint64_t>(tensor.name);
    return entry;
}

// Offsets must be the running padded sum: no gaps, no overlap, no reordering. Returns where the
// last tensor's padding ends.
uint64_t place_tensors(std::vector<DirectoryEntry>& entries, const ByteReader& reader,
                       std::span<const std::byte> file, uint64_t alignment) {
    const uint64_t start = (reader.offset() + alignment - 1) / alignment * alignment;
    if (!entries.empty() && start > file.size())
        fail(ErrorCode::bad_file, "{}: tensor data should start at byte {}, the file has {}",
             reader.source(), start, file.size());
    uint64_t expected = 0;
    for (DirectoryEntry& entry : entries) {
        const uint64_t n_bytes = checked_n_bytes(entry.tensor, reader.source());
        if (entry.offset != expected)
            fail(ErrorCode::bad_file, "{}: tensor {} has offset {}, but {} is expected",
                 reader.source(), entry.tensor.name, entry.offset, expected);
        const uint64_t n_available = file.size() - start;
        if (expected > n_available || n_bytes > n_available - expected)
            fail(ErrorCode::bad_file,
                 "{}: tensor {} needs {} bytes at {}, but the file has {} bytes of tensor data "
                 "(is it truncated?)",
                 reader.source(), entry.tensor.name, n_bytes, expected, n_available);
        entry.tensor.data = file.data() + start + expected;
        expected += (n_bytes + alignment - 1) / alignment * alignment;
    }
    return start + expected;
}

// ---- Split files ----

struct SplitName {
    std::string stem;
    int64_t number;
    int64_t count;
};

// "STEM-00001-of-00003.gguf"
std::optional<SplitName> parse_split_name(const std::string& path) {
    constexpr size_t kSuffixBytes = std::string_view("-00001-of-00003.gguf").size();
    if (path.size() <= kSuffixBytes) return std::nullopt;
    const std::string_view suffix = std::string_view(path).substr(path.size() - kSuffixBytes);
    if (suffix[0] != '-' || suffix.substr(6, 4) != "-of-" || suffix.substr(15) != ".gguf")
        return std::nullopt;
    SplitName name = {path.substr(0, path.size() - kSuffixBytes), 0, 0};
    const auto read_number = [&](size_t offset, int64_t& number) {
        const char* end = suffix.data() + offset + 5;
        const auto [stop, error] = std::from_chars(suffix.data() + offset, end, number);
        return error == std::errc() && stop == end && number > 0;
    };
    if (!read_number(1, name.number) || !read_number(10, name.count)) return std::nullopt;
    return name;
}

// Each part has those of its own tensors.
void append_checksums(const GgufMetadata& part, GgufMetadata& whole) {
    if (!part.contains(kTensorChecksumsKey) || !whole.contains(kTensorChecksumsKey)) return;
    std::vector<std::string> checksums = whole.get_strings(kTensorChecksumsKey);
    const std::vector<std::string>& more = part.get_strings(kTensorChecksumsKey);
    checksums.insert(checksums.end(), more.begin(), more.end());
    whole.set_string_array(kTensorChecksumsKey, std::move(checksums));
}

}  // namespace

std::string split_file_name(const std::string& stem, int64_t number, int64_t count) {
    return fmt::format("{}-{:05}-of-{:05}.gguf", stem, number, count);
}

bool is_split_file_name(const std::string& path) {
    return parse_split_name(path).has_value();
}

void ModelFile::append_part(const std::filesystem::path& path) {
    MappedFile file = MappedFile::open(path);
    ByteReader reader(file.bytes(), file.path());
    const Header header = read_header(reader);
    reader.require_items(header.n_keys, 13, "the key list");
    GgufMetadata metadata = read_metadata(reader, header.n_keys);
    reader.require_items(header.n_tensors, 33, "the tensor directory");
    std::vector<DirectoryEntry> entries;
    entries.reserve(static_cast<size_t>(header.n_tensors));
    for (uint64_t i = 0; i < header.n_tensors; ++i) entries.push_back(read_entry(reader, i));
    const uint64_t end = place_tensors(entries, reader, file.bytes(), read_alignment(metadata));
    n_extra_bytes_ += file.bytes().size() - std::min<uint64_t>(end, file.bytes().size());
    for (DirectoryEntry& entry : entries) {
        if (!index_.try_emplace(entry.tensor.name, tensors_.size()).second)
            fail(ErrorCode::bad_file, "{}: tensor {} occurs twice", file.path(), entry.tensor.name);
        tensors_.push_back(std::move(entry.tensor));
    }
    if (parts_.empty()) {
        metadata_ = std::move(metadata);
    } else {
        if (metadata.get_integer("split.no", -1) != static_cast<int64_t>(parts_.size()))
            fail(ErrorCode::bad_file, "{}: key split.no is {}, but the file name says {}",
                 file.path(), metadata.get_integer("split.no", -1), parts_.size());
        append_checksums(metadata, metadata_);
    }
    header_sizes_.push_back(reader.offset());
    parts_.push_back(std::move(file));
}

ModelFile ModelFile::open(const std::filesystem::path& path) {
    ModelFile model;
    model.path_ = path.string();
    const std::optional<SplitName> split = parse_split_name(model.path_);
    if (!split) {
        model.append_part(path);
        const int64_t count = model.metadata_.get_integer("split.count", 1);
        if (count > 1)
            fail(ErrorCode::bad_file,
                 "{}: this is one of {} parts, but it is not named NAME-00001-of-{:05}.gguf",
                 model.path_, count, count);
        return model;
    }
    for (int64_t i = 1; i <= split->count; ++i)
        model.append_part(split_file_name(split->stem, i, split->count));
    const int64_t count = model.metadata_.get_integer("split.count", split->count);
    if (count != split->count)
        fail(ErrorCode::bad_file, "{}: key split.count is {}, but the file name says {}",
             model.path_, count, split->count);
    const int64_t n_tensors =
        model.metadata_.get_integer("split.tensors.count", std::ssize(model.tensors_));
    if (n_tensors != std::ssize(model.tensors_))
        fail(ErrorCode::bad_file, "{}: key split.tensors.count is {}, but the parts hold {}",
             model.path_, n_tensors, model.tensors_.size());
    return model;
}

const TensorView* ModelFile::find(std::string_view name) const {
    const auto found = index_.find(std::string(name));
    return found == index_.end() ? nullptr : &tensors_[found->second];
}

std::vector<std::filesystem::path> ModelFile::part_paths() const {
    std::vector<std::filesystem::path> paths;
    for (const MappedFile& part : parts_) paths.emplace_back(part.path());
    return paths;
}

std::vector<std::span<const std::byte>> ModelFile::part_bytes() const {
    std::vector<std::span<const std::byte>> parts;
    for (const MappedFile& part : parts_) parts.push_back(part.bytes());
    return parts;
}

ModelFingerprint ModelFile::fingerprint() const {
    constexpr size_t kSamples = 16, kSampleBytes = 4096;
    ModelFingerprint print = {.n_file_bytes = n_file_bytes()};
    for (size_t i = 0; i < parts_.size(); ++i)
        print.header_crc = crc32c(parts_[i].bytes().first(header_sizes_[i]), print.header_crc);
    // From the middle of tensors that lie evenly over the file.
    for (size_t i = 0; i < std::min(kSamples, tensors_.size()); ++i) {
        const TensorView& tensor =
            tensors_[i * tensors_.size() / std::min(kSamples, tensors_.size())];
        const auto n_bytes = static_cast<size_t>(tensor.n_bytes());
        const size_t n = std::min(kSampleBytes, n_bytes);
        print.sample_crc = crc32c({tensor.data + (n_bytes - n) / 2, n}, print.sample_crc);
    }
    return print;
}

uint64_t ModelFile::n_file_bytes() const {
    uint64_t total = 0;
    for (const MappedFile& part : parts_) total += part.bytes().size();
    return total;
}

MappedRange ModelFile::range_of(std::span<const std::byte> bytes) const {
    const std::less_equal<const std::byte*> before;  // also of unrelated objects
    for (const MappedFile& part : parts_) {
        const std::span<const std::byte> all = part.bytes();
        if (before(all.data(), bytes.data()) &&
            before(bytes.data() + bytes.size(), all.data() + all.size()))
            return {&part, bytes};
    }
    NEMO_ASSERT(!"bytes of this file");
}

}  // namespace nemo
