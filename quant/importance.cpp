#include "quant/importance.h"

#include "core/byte_reader.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/gguf_writer.h"
#include "core/mapped_file.h"
#include "core/model_file.h"
#include "core/utf8.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nemo {

namespace {

constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";
constexpr const char* kSensitivityTensors = "nemo.sensitivity.tensors";
constexpr const char* kSensitivityValues = "nemo.sensitivity.values";
// Beyond what a float counts exactly there is no telling one more row.
constexpr float kMaxCount = 1e15f;

void check_value(double value, const std::string& source, std::string_view name) {
    if (!std::isfinite(value) || value < 0)
        fail(ErrorCode::bad_file, "{}: {} holds the value {}, but none below 0 is possible", source,
             name, value);
}

std::span<const float> floats(const TensorView& tensor, const std::string& source) {
    if (tensor.dtype != DType::f32)
        fail(ErrorCode::bad_file, "{}: tensor {} has type {}, but F32 is expected", source,
             tensor.name, dtype_info(tensor.dtype).name);
    const std::span<const float> values(reinterpret_cast<const float*>(tensor.data),
                                        static_cast<size_t>(tensor.n_elements()));
    for (const float value : values) check_value(value, source, tensor.name);
    return values;
}

// ---- GGUF ----

TensorImportance mean_of_sums(const TensorView& sums_view, const TensorView& counts_view,
                              const std::string& source) {
    const std::span<const float> sums = floats(sums_view, source);
    const std::span<const float> counts = floats(counts_view, source);
    if (sums.size() % counts.size() != 0)
        fail(ErrorCode::bad_file, "{}: tensor {} has {} values, no multiple of the {} of {}",
             source, sums_view.name, sums.size(), counts.size(), counts_view.name);
    const size_t n_columns = sums.size() / counts.size();
    TensorImportance entry;
    entry.mean_square.assign(sums.size(), 1.0f);
    for (size_t m = 0; m < counts.size(); ++m) {
        if (counts[m] > kMaxCount)
            fail(ErrorCode::bad_file, "{}: tensor {} counts {} rows, at most {} are possible",
                 source, counts_view.name, counts[m], kMaxCount);
        const int64_t count = std::llround(counts[m]);
        entry.counts.push_back(count);
        for (size_t i = m * n_columns; count > 0 && i < (m + 1) * n_columns; ++i)
            entry.mean_square[i] = static_cast<float>(double{sums[i]} / static_cast<double>(count));
    }
    return entry;
}

void read_sensitivity(const ModelFile& file, Importance& importance) {
    if (!file.metadata().contains(kSensitivityTensors)) return;
    const auto& names = file.metadata().get_strings(kSensitivityTensors);
    const auto& values = file.metadata().get_reals(kSensitivityValues);
    if (names.size() != values.size())
        fail(ErrorCode::bad_file, "{}: {} names {} tensors, but {} has {} values", file.path(),
             kSensitivityTensors, names.size(), kSensitivityValues, values.size());
    for (size_t i = 0; i < names.size(); ++i) {
        check_value(values[i], file.path(), kSensitivityValues);
        importance.sensitivity[names[i]] = values[i];
    }
}

Importance read_gguf(const std::filesystem::path& path) {
    const ModelFile file = ModelFile::open(path);
    const GgufMetadata& metadata = file.metadata();
    const std::string type = metadata.get_string("general.type", "imatrix");
    if (type != "imatrix")
        fail(ErrorCode::bad_file, "{}: this is a {}, not an importance matrix", file.path(), type);
    Importance importance;
    importance.source = file.path();
    if (metadata.contains("imatrix.datasets"))
        importance.datasets = metadata.get_strings("imatrix.datasets");
    importance.n_chunks = metadata.get_integer("imatrix.chunk_count", 0);
    importance.chunk_size = metadata.get_integer("imatrix.chunk_size", 0);
    for (const TensorView& tensor : file.tensors()) {
        const std::string_view full = tensor.name;
        const bool is_sums = full.ends_with(kSums);
        if (!is_sums && !full.ends_with(kCounts)) continue;
        const std::string name(
            full.substr(0, full.size() - (is_sums ? kSums.size() : kCounts.size())));
        const TensorView* other = file.find(name + std::string(is_sums ? kCounts : kSums));
        if (other == nullptr)
            fail(ErrorCode::bad_file, "{}: there is a tensor {}, but no {}{}", file.path(), full,
                 name, is_sums ? kCounts : kSums);
        if (is_sums) importance.tensors[name] = mean_of_sums(tensor, *other, file.path());
    }
    read_sensitivity(file, importance);
    return importance;
}

// ---- The legacy form ----

uint64_t read_size(ByteReader& reader, int32_t least, std::string_view what) {
    const auto size = reader.read<int32_t>(what);
    if (size < least)
        fail(ErrorCode::bad_file, "{}: {} is {}, at least {} is needed", reader.source(), what,
             size, least);
    return static_cast<uint64_t>(size);
}

std::string read_name(ByteReader& reader, int32_t least, const char* what) {
    const uint64_t n_bytes = read_size(reader, least, fmt::format("the length of {}", what));
    std::string name(reader.read_text(n_bytes, what));
    if (!is_valid_utf8(name))
        fail(ErrorCode::bad_file, "{}: {} is not UTF-8", reader.source(), what);
    return name;
}

TensorImportance read_legacy_entry(ByteReader& reader, const std::string& name) {
    const uint64_t n_calls = read_size(reader, 0, name + ", number of chunks");
    const uint64_t n_values = read_size(reader, 1, name + ", number of values");
    reader.require_items(n_values, sizeof(float), name);
    TensorImportance entry;
    entry.counts = {static_cast<int64_t>(n_calls)};
    entry.mean_square.reserve(static_cast<size_t>(n_values));
    const double divisor = n_calls > 0 ? static_cast<double>(n_calls) : 1;
    for (uint64_t i = 0; i < n_values; ++i) {
        const auto value = reader.read<float>(name);
        check_value(value, reader.source(), name);
        entry.mean_square.push_back(static_cast<float>(value / divisor));
    }
    return entry;
}

// A name of one byte, one value, and the four numbers beside them but the value's.
constexpr uint64_t kLeastEntryBytes = 3 * sizeof(int32_t) + 1 + sizeof(float);

Importance read_legacy(const MappedFile& file) {
    ByteReader reader(file.bytes(), file.path());
    Importance importance;
    importance.source = file.path();
    const uint64_t n_entries = read_size(reader, 1, "the number of entries");
    if (n_entries > reader.n_left() / kLeastEntryBytes)
        fail(
            ErrorCode::bad_file,
            "{}: not an importance matrix: neither a GGUF file, nor of the older form, which would "
            "have {} entries in these {} bytes",
            file.path(), n_entries, file.bytes().size());
    for (uint64_t i = 0; i < n_entries; ++i) {
        const std::string name = read_name(reader, 1, "a tensor's name");
        if (!importance.tensors.try_emplace(name, read_legacy_entry(reader, name)).second)
            fail(ErrorCode::bad_file, "{}: tensor {} occurs twice", file.path(), name);
    }
    // Old programs ended here.
    if (reader.n_left() == 0) return importance;
    importance.n_chunks = static_cast<int64_t>(read_size(reader, 0, "the number of chunks"));
    if (reader.n_left() == 0) return importance;
    importance.datasets.push_back(read_name(reader, 0, "the data set's name"));
    if (reader.n_left() != 0)
        fail(ErrorCode::bad_file, "{}: {} bytes follow the end of an importance matrix",
             file.path(), reader.n_left());
    return importance;
}

}  // namespace

double TensorImportance::share(int64_t matrix) const {
    if (counts.size() == 1) return 1;
    const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
    return total > 0 ? static_cast<double>(counts[static_cast<size_t>(matrix)]) / total : 1;
}

std::span<const float> Importance::weights(std::string_view name, int64_t n_columns,
                                           int64_t n_matrices) const {
    const auto found = tensors.find(name);
    if (found == tensors.end()) return {};
    const std::vector<float>& values = found->second.mean_square;
    if (std::ssize(values) != checked_mul(n_columns, n_matrices))
        fail(ErrorCode::bad_file,
             "{}: tensor {} has {} values, but {} matrices of {} columns are expected; it belongs "
             "to another model",
             source, name, values.size(), n_matrices, n_columns);
    return values;
}

std::optional<double> Importance::find_sensitivity(std::string_view name) const {
    const auto found = sensitivity.find(name);
    return found == sensitivity.end() ? std::nullopt : std::optional(found->second);
}

void RelativeError::add_row(const float* original, const float* decoded, const float* weights,
                            int64_t n, double share) {
    double error = 0;
    double signal = 0;
    for (int64_t i = 0; i < n; ++i) {
        const double weight = weights != nullptr ? weights[i] : 1.0;
        const double difference = double{original[i]} - decoded[i];
        error += weight * difference * difference;
        signal += weight * original[i] * original[i];
    }
    error_ += share * error;
    signal_ += share * signal;
}

void RelativeError::add(const RelativeError& other) {
    error_ += other.error_;
    signal_ += other.signal_;
}

Importance read_importance(const std::filesystem::path& path) {
    const MappedFile file = MappedFile::open(path);
    Importance importance = file.text().starts_with("GGUF") ? read_gguf(path) : read_legacy(file);
    if (importance.tensors.empty())
        fail(ErrorCode::bad_file, "{}: holds no tensor {}: not an importance matrix", file.path(),
             kSums);
    return importance;
}

void write_importance(const Importance& importance, const std::filesystem::path& path) {
    GgufMetadata metadata;
    metadata.set_string("general.type", "imatrix");
    metadata.set_string_array("imatrix.datasets", importance.datasets);
    metadata.set_u32("imatrix.chunk_count", static_cast<uint32_t>(importance.n_chunks));
    metadata.set_u32("imatrix.chunk_size", static_cast<uint32_t>(importance.chunk_size));
    if (!importance.sensitivity.empty()) {
        std::vector<std::string> names;
        std::vector<float> values;
        for (const auto& [name, value] : importance.sensitivity) {
            names.push_back(name);
            values.push_back(static_cast<float>(value));
        }
        metadata.set_string_array(kSensitivityTensors, std::move(names));
        metadata.set_f32_array(kSensitivityValues, values);
    }
    std::vector<GgufTensorInfo> infos;
    for (const auto& [name, entry] : importance.tensors) {
        const auto n_matrices = std::ssize(entry.counts);
        const auto n_columns = std::ssize(entry.mean_square) / n_matrices;
        infos.push_back({name + std::string(kSums), DType::f32, {n_columns, n_matrices, 1, 1}, 2});
        infos.push_back({name + std::string(kCounts), DType::f32, {1, n_matrices, 1, 1}, 2});
    }
    GgufWriter writer(path, metadata, std::move(infos));
    for (const auto& [name, entry] : importance.tensors) {
        std::vector<float> sums = entry.mean_square;
        const size_t n_columns = sums.size() / entry.counts.size();
        for (size_t i = 0; i < sums.size(); ++i)
            sums[i] = static_cast<float>(double{sums[i]} *
                                         static_cast<double>(entry.counts[i / n_columns]));
        const std::vector<float> counts(entry.counts.begin(), entry.counts.end());
        writer.write(std::as_bytes(std::span(sums)));
        writer.write(std::as_bytes(std::span(counts)));
    }
    writer.finish();
}

}  // namespace nemo
