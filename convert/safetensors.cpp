#include "convert/safetensors.h"

#include "core/checked.h"
#include "core/error.h"
#include "core/json.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

namespace nemo {

namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int kMaxHeaderDepth = 4;  // header object, tensor object, array: 3
constexpr size_t kMaxDims = 8;
constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kHeadName = "mtp.safetensors";

struct TypeInfo {
    SafetensorsType type;
    std::string_view name;
    int64_t n_bytes;
};

constexpr TypeInfo kTypes[] = {
    {SafetensorsType::boolean, "BOOL", 1},    {SafetensorsType::u8, "U8", 1},
    {SafetensorsType::i8, "I8", 1},           {SafetensorsType::f8_e4m3, "F8_E4M3", 1},
    {SafetensorsType::f8_e5m2, "F8_E5M2", 1}, {SafetensorsType::f8_e8m0, "F8_E8M0", 1},
    {SafetensorsType::u16, "U16", 2},         {SafetensorsType::i16, "I16", 2},
    {SafetensorsType::f16, "F16", 2},         {SafetensorsType::bf16, "BF16", 2},
    {SafetensorsType::u32, "U32", 4},         {SafetensorsType::i32, "I32", 4},
    {SafetensorsType::f32, "F32", 4},         {SafetensorsType::u64, "U64", 8},
    {SafetensorsType::i64, "I64", 8},         {SafetensorsType::f64, "F64", 8},
};

// A header entry before its byte range is turned into a view.
struct Entry {
    SafetensorsView view;
    uint64_t begin = 0;
    uint64_t end = 0;
};

const Json& member(const Json& object, const char* key, const std::string& source,
                   const std::string& tensor) {
    const Json* value = object.find(key);
    if (value == nullptr) {
        fail(ErrorCode::bad_file, "{}: tensor {} has no {}", source, tensor, key);
    }
    return *value;
}

const TypeInfo& parse_type(const Json& value, const std::string& source,
                           const std::string& tensor) {
    for (const TypeInfo& info : kTypes) {
        if (value.is_string() && value.string() == info.name) return info;
    }
    fail(ErrorCode::bad_file, "{}: tensor {} has the unknown dtype {}", source, tensor,
         to_json_text(value));
}

std::vector<int64_t> parse_shape(const Json& value, const std::string& source,
                                 const std::string& tensor) {
    const bool valid = value.is_array() && value.array().size() <= kMaxDims &&
                       std::ranges::all_of(value.array(), [](const Json& dim) {
                           return dim.is_integer() && dim.integer() >= 0;
                       });
    if (!valid) {
        fail(ErrorCode::bad_file, "{}: tensor {}: shape must be a list of at most {} sizes", source,
             tensor, kMaxDims);
    }
    std::vector<int64_t> shape;
    for (const Json& dim : value.array()) shape.push_back(dim.integer());
    return shape;
}

uint64_t shape_bytes(const std::vector<int64_t>& shape, int64_t n_element_bytes,
                     const std::string& source, const std::string& tensor) {
    std::optional<int64_t> n_bytes = n_element_bytes;
    for (const int64_t dim : shape) {
        if (n_bytes) n_bytes = checked_mul(*n_bytes, dim);
    }
    if (!n_bytes) {
        fail(ErrorCode::bad_file, "{}: tensor {}: the size of shape {} overflows", source, tensor,
             shape_text(shape));
    }
    return static_cast<uint64_t>(*n_bytes);
}

Entry parse_entry(const std::string& name, const Json& value, uint64_t n_data_bytes,
                  const std::string& source) {
    const bool printable =
        std::ranges::all_of(name, [](unsigned char c) { return c >= 0x20 && c != 0x7F; });
    if (name.empty() || !printable) {
        fail(ErrorCode::bad_file, "{}: {} is not a tensor name", source, to_json_text(Json(name)));
    }
    if (!value.is_object()) {
        fail(ErrorCode::bad_file, "{}: the header entry of tensor {} is not an object", source,
             name);
    }
    Entry entry;
    entry.view.name = name;
    const TypeInfo& type = parse_type(member(value, "dtype", source, name), source, name);
    entry.view.type = type.type;
    entry.view.shape = parse_shape(member(value, "shape", source, name), source, name);

    const Json& offsets = member(value, "data_offsets", source, name);
    const bool is_pair = offsets.is_array() && offsets.array().size() == 2 &&
                         offsets.array()[0].is_integer() && offsets.array()[1].is_integer();
    if (!is_pair || offsets.array()[0].integer() < 0 ||
        offsets.array()[1].integer() < offsets.array()[0].integer()) {
        fail(ErrorCode::bad_file, "{}: tensor {}: data_offsets {} is not a byte range", source,
             name, to_json_text(offsets));
    }
    entry.begin = static_cast<uint64_t>(offsets.array()[0].integer());
    entry.end = static_cast<uint64_t>(offsets.array()[1].integer());
    if (entry.end > n_data_bytes) {
        fail(ErrorCode::bad_file, "{}: tensor {} ends at byte {} of the data, but the file has {}",
             source, name, entry.end, n_data_bytes);
    }
    const uint64_t n_bytes = shape_bytes(entry.view.shape, type.n_bytes, source, name);
    if (entry.end - entry.begin != n_bytes) {
        fail(ErrorCode::bad_file,
             "{}: tensor {} of shape {} and dtype {} needs {} bytes but has {}", source, name,
             shape_text(entry.view.shape), type.name, n_bytes, entry.end - entry.begin);
    }
    return entry;
}

// The header text; the data follows it.
std::string_view header_text(const MappedFile& file) {
    const std::string_view text = file.text();
    constexpr size_t kLengthBytes = 8;
    if (text.size() < kLengthBytes) {
        fail(ErrorCode::bad_file, "{}: {} bytes are too few for a safetensors file", file.path(),
             text.size());
    }
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < kLengthBytes; ++i) {
        n_bytes |= uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
    }
    if (n_bytes > kMaxHeaderBytes) {
        fail(ErrorCode::bad_file,
             "{}: the header length {} exceeds {} bytes: not a safetensors file", file.path(),
             n_bytes, kMaxHeaderBytes);
    }
    if (n_bytes > text.size() - kLengthBytes) {
        fail(ErrorCode::bad_file,
             "{}: the header needs {} bytes, but the file has only {} after its "
             "length: truncated?",
             file.path(), n_bytes, text.size() - kLengthBytes);
    }
    const std::string_view header = text.substr(kLengthBytes, n_bytes);
    if (header.empty() || header[0] != '{') {
        fail(ErrorCode::bad_file, "{}: the header does not start with '{{'", file.path());
    }
    return header;
}

void check_metadata(const Json& value, const std::string& source) {
    const bool valid =
        value.is_object() && std::ranges::all_of(value.object(), [](const auto& pair) {
            return pair.second.is_string();
        });
    if (!valid) fail(ErrorCode::bad_file, "{}: __metadata__ must map names to strings", source);
}

// Entries are sorted by their place; they must tile the data.
void check_tiling(const std::vector<Entry>& entries, uint64_t n_data_bytes,
                  const std::string& source) {
    uint64_t position = 0;
    for (const Entry& entry : entries) {
        if (entry.begin != position) {
            fail(ErrorCode::bad_file,
                 "{}: tensor {} starts at byte {}, but the previous one ends at "
                 "{}: {}",
                 source, entry.view.name, entry.begin, position,
                 entry.begin < position ? "they overlap" : "there is a hole");
        }
        position = entry.end;
    }
    if (position != n_data_bytes) {
        fail(ErrorCode::bad_file,
             "{}: the tensors take {} bytes, but the file has {} bytes of data", source, position,
             n_data_bytes);
    }
}

bool is_plain_file_name(const std::string& name) {
    return !name.empty() && name != "." && name != ".." &&
           name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

}  // namespace

std::string_view safetensors_type_name(SafetensorsType type) {
    for (const TypeInfo& info : kTypes) {
        if (info.type == type) return info.name;
    }
    return "?";
}

int64_t SafetensorsView::n_elements() const {
    int64_t n = 1;
    for (const int64_t dim : shape) n *= dim;
    return n;
}

std::string shape_text(std::span<const int64_t> shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) {
        text += (i ? ", " : "") + std::to_string(shape[i]);
    }
    return text + "]";
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
    SafetensorsFile result;
    result.file_ = std::make_unique<const MappedFile>(MappedFile::open(path));
    const std::string& source = result.path();
    const std::string_view text = header_text(*result.file_);
    const std::span<const std::byte> data = result.file_->bytes().subspan(8 + text.size());

    const Json header =
        parse_json(text, source, {.max_bytes = kMaxHeaderBytes, .max_depth = kMaxHeaderDepth});
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.object()) {
        if (name == "__metadata__") {
            check_metadata(value, source);
        } else {
            entries.push_back(parse_entry(name, value, data.size(), source));
        }
    }
    std::ranges::stable_sort(entries, {},
                             [](const Entry& entry) { return std::pair(entry.begin, entry.end); });
    check_tiling(entries, data.size(), source);
    for (Entry& entry : entries) {
        entry.view.file = result.file_.get();
        entry.view.bytes = data.subspan(entry.begin, entry.end - entry.begin);
        result.tensors_.push_back(std::move(entry.view));
    }
    return result;
}

void SafetensorsSet::add_file(const std::filesystem::path& path) {
    files_.push_back(SafetensorsFile::open(path));
    const SafetensorsFile& file = files_.back();
    for (size_t i = 0; i < file.tensors().size(); ++i) {
        const std::string& name = file.tensors()[i].name;
        const auto [place, is_new] = index_.emplace(name, Location{files_.size() - 1, i});
        if (!is_new) {
            fail(ErrorCode::bad_file, "tensor {} is in {} and in {}", name,
                 files_[place->second.file].path(), file.path());
        }
    }
}

const SafetensorsView* SafetensorsSet::find(std::string_view name) const {
    const auto place = index_.find(std::string(name));
    if (place == index_.end()) return nullptr;
    return &files_[place->second.file].tensors()[place->second.tensor];
}

SafetensorsSet SafetensorsSet::open(const std::filesystem::path& directory) {
    SafetensorsSet set;
    // Some checkpoints have their prediction head in a file that the index does not know.
    const bool has_head_file = std::filesystem::exists(directory / kHeadName);
    if (std::filesystem::exists(directory / kSingleName)) {
        set.add_file(directory / kSingleName);
        if (has_head_file) set.add_file(directory / kHeadName);
        return set;
    }
    const std::filesystem::path index_path = directory / kIndexName;
    if (!std::filesystem::exists(index_path)) {
        fail(ErrorCode::bad_file, "{}: neither {} nor {} is there: not a safetensors checkpoint",
             directory.string(), kSingleName, kIndexName);
    }
    const Json index = read_json_file(index_path);
    const Json* weight_map = index.find("weight_map");
    if (weight_map == nullptr || !weight_map->is_object()) {
        fail(ErrorCode::bad_file, "{}: weight_map is missing or not an object",
             index_path.string());
    }
    std::set<std::string> shard_names;
    for (const auto& [tensor, shard] : weight_map->object()) {
        if (!shard.is_string() || !is_plain_file_name(shard.string())) {
            fail(ErrorCode::bad_file, "{}: {} is said to be in {}, which is not a plain file name",
                 index_path.string(), to_json_text(Json(tensor)), to_json_text(shard));
        }
        shard_names.insert(shard.string());
    }
    if (has_head_file) shard_names.insert(kHeadName);
    for (const std::string& name : shard_names) {
        std::error_code error;
        if (!std::filesystem::exists(directory / name, error)) {
            fail(ErrorCode::bad_file, "{}: the shard {} {}", index_path.string(),
                 to_json_text(Json(name)), error ? "is no file: " + error.message() : "is missing");
        }
        set.add_file(directory / name);
    }
    for (const auto& [tensor, shard] : weight_map->object()) {
        const auto place = set.index_.find(tensor);
        const std::filesystem::path path = directory / shard.string();
        if (place == set.index_.end() || set.files_[place->second.file].path() != path) {
            fail(ErrorCode::bad_file, "{}: tensor {} should be in {} but is not",
                 index_path.string(), to_json_text(Json(tensor)), path.string());
        }
    }
    return set;
}

}  // namespace nemo
