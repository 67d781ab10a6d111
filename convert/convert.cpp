#include "convert/convert.h"

#include "convert/piece_loader.h"
#include "core/background_tasks.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/gguf_writer.h"
#include "core/model_file.h"
#include "core/thread_pool.h"
#include "core/version.h"
#include "quant/codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

namespace nemo {

namespace {

constexpr int64_t kEncodedBytes = int64_t{8} << 20;   // of a slab
constexpr int64_t kInputBytes = int64_t{16} << 20;    // of a slab
constexpr size_t kSlabs = 3;                          // one is being encoded, the others written
constexpr int64_t kGrainElements = int64_t{1} << 13;  // their floats stay in the L1 cache

// The largest magnitude that a type holds, of either sign. The block formats' limit is that of
// their F16 scale times the largest factors and codes; with a minimum, that of the minimum.
float largest_value(DType dtype) {
    constexpr float kF16Max = 65504.0f;
    switch (dtype) {
        case DType::f32:
            return std::numeric_limits<float>::max();
        case DType::bf16:
            return 0x1.FEp127f;
        case DType::f16:
        case DType::q4_1:
        case DType::q5_1:
            return kF16Max;
        case DType::q4_0:
            return kF16Max * 8.0f;
        case DType::q5_0:
            return kF16Max * 16.0f;
        case DType::q8_0:
        case DType::iq4_nl:
            return kF16Max * 127.0f;
        case DType::q2_k:
            return kF16Max * 15.0f;
        case DType::q3_k:
            return kF16Max * 32.0f * 4.0f;
        case DType::q4_k:
        case DType::q5_k:
            return kF16Max * 63.0f;
        case DType::q6_k:
            return kF16Max * 128.0f * 32.0f;
        case DType::iq4_xs:
            return kF16Max * 32.0f * 127.0f;
        case DType::mxfp4:
            return 0x1.8p127f;
        case DType::nvfp4:
            return 448.0f * 6.0f;
    }
    return 0.0f;
}

// Rows of a tensor that are encoded together.
struct Slab {
    const PlannedTensor* tensor;
    int64_t first_row;
    int64_t n_rows;

    std::vector<MappedRange> ranges() const {
        const int64_t row_length = tensor->spec.dims[0];
        return tensor->source->ranges(first_row * row_length, n_rows * row_length);
    }
    bool is_last() const {
        return (first_row + n_rows) * tensor->spec.dims[0] == tensor->spec.n_elements();
    }
};

// What is left to write of these tensors after the first `n_kept` and `n_kept_rows` of the next.
std::vector<Slab> slabs_of(std::span<const PlannedTensor> tensors, size_t n_kept,
                           int64_t n_kept_rows) {
    std::vector<Slab> slabs;
    for (size_t i = n_kept; i < tensors.size(); ++i) {
        const GgufTensorInfo info = tensors[i].info();
        const auto row_bytes = static_cast<int64_t>(info.n_row_bytes());
        const int64_t n_rows = static_cast<int64_t>(info.n_bytes()) / row_bytes;
        const int64_t input_row_bytes =
            static_cast<int64_t>(tensors[i].source->n_bytes()) / n_rows + 1;
        const int64_t n_slab_rows = std::max<int64_t>(
            1, std::min(kEncodedBytes / row_bytes, kInputBytes / input_row_bytes));
        for (int64_t row = i == n_kept ? n_kept_rows : 0; row < n_rows; row += n_slab_rows)
            slabs.push_back({&tensors[i], row, std::min(n_slab_rows, n_rows - row)});
    }
    return slabs;
}

class SlabEncoder {
public:
    explicit SlabEncoder(int n_threads)
        : pool_(n_threads), values_(static_cast<size_t>(pool_.n_threads())) {}

    // The encoded rows; valid for the next kSlabs - 1 calls.
    std::span<const std::byte> encode(const Slab& slab, const LoadedBytes& loaded) {
        const PlannedTensor& tensor = *slab.tensor;
        const auto row_bytes = static_cast<int64_t>(tensor.info().n_row_bytes());
        std::vector<std::byte>& encoded = slabs_[n_encoded_++ % kSlabs];
        encoded.resize(static_cast<size_t>(slab.n_rows * row_bytes));
        const int64_t first = slab.first_row, row_length = tensor.spec.dims[0];
        const int64_t grain = std::max<int64_t>(1, kGrainElements / row_length);
        if (tensor.source->encoded_type() == tensor.dtype) {
            pool_.parallel_for(slab.n_rows, grain, [&](int64_t begin, int64_t end, int) {
                tensor.source->read_encoded(first + begin, end - begin,
                                            encoded.data() + begin * row_bytes, loaded);
            });
            return encoded;
        }
        pool_.parallel_for(slab.n_rows, grain, [&](int64_t begin, int64_t end, int thread) {
            std::vector<float>& values = values_[static_cast<size_t>(thread)];
            const int64_t n_values = (end - begin) * row_length;
            values.resize(static_cast<size_t>(n_values));
            tensor.source->read((first + begin) * row_length, n_values, values.data(), loaded);
            check_range(tensor, values);
            std::byte* target = encoded.data() + begin * row_bytes;
            if (tensor.importance == nullptr) {
                // Rows are whole blocks, so several rows encode like one long row.
                encode_row(tensor.dtype, values.data(), target, n_values);
                return;
            }
            for (int64_t row = 0; row < end - begin; ++row)
                encode_row(tensor.dtype, values.data() + row * row_length, target + row * row_bytes,
                           row_length, tensor.importance_of_row(first + begin + row));
        });
        return encoded;
    }

private:
    static void check_range(const PlannedTensor& tensor, const std::vector<float>& values) {
        const float limit = largest_value(tensor.dtype);
        if (largest_magnitude(values.data(), std::ssize(values)) <= limit) return;
        for (const float value : values) {
            if (std::fabs(value) <= limit) continue;
            fail(ErrorCode::bad_file, "tensor {} holds {}, but {} ends at {}: choose another type",
                 tensor.source->name(), value, dtype_info(tensor.dtype).name, limit);
        }
    }

    ThreadPool pool_;
    std::vector<std::vector<float>> values_;  // one per thread
    std::array<std::vector<std::byte>, kSlabs> slabs_;
    size_t n_encoded_ = 0;
};

// Compares what is read with the checksums that the input carries: copied or encoded anew, damage
// would get a checksum that calls it sound.
class InputCheck {
public:
    // Slabs in their order.
    void add(const Slab& slab, const LoadedBytes& loaded) {
        const WeightSource& source = *slab.tensor->source;
        const std::optional<uint32_t> expected = source.checksum();
        if (!expected) return;
        if (tensor_ != slab.tensor) {
            tensor_ = slab.tensor;
            checksum_ = 0;
            // What an earlier run did of it.
            add(source.ranges(0, slab.first_row * tensor_->spec.dims[0]), {});
        }
        add(slab.ranges(), loaded);
        if (!slab.is_last() || checksum_ == *expected) return;
        fail(ErrorCode::bad_file,
             "{}: tensor {}: its bytes have checksum {:08x}, but {:08x} was written: the file is "
             "damaged",
             slab.ranges().front().file->path(), source.name(), checksum_, *expected);
    }

private:
    void add(const std::vector<MappedRange>& ranges, const LoadedBytes& loaded) {
        for (const MappedRange& range : ranges)
            checksum_ = crc32c({loaded.find(range.bytes), range.bytes.size()}, checksum_);
    }

    const PlannedTensor* tensor_ = nullptr;
    uint32_t checksum_ = 0;
};

void check_file(const ConversionPlan& plan, const std::filesystem::path& target, bool force) {
    const std::filesystem::file_status status = std::filesystem::status(target);
    if (!std::filesystem::exists(status)) return;
    if (!std::filesystem::is_regular_file(status))
        fail(ErrorCode::runtime, "{}: exists and is not a regular file", target.string());
    for (const std::filesystem::path& input : plan.input_files)
        if (std::filesystem::equivalent(input, target))
            fail(ErrorCode::runtime, "{}: is part of the input that is to be converted",
                 target.string());
    if (!force)
        fail(ErrorCode::runtime, "{}: exists already; --force replaces it", target.string());
}

// Of everything outside the plan that decides the encoded bytes.
uint64_t input_identity(const ConversionPlan& plan) {
    std::string text = kVersion;
    std::vector<std::filesystem::path> paths = plan.input_files;
    std::ranges::sort(paths);
    for (const std::filesystem::path& path : paths) {
        // The others decide only what stands in the header; our temporary file may be among them.
        if (path.extension() != ".safetensors" && path.extension() != ".gguf") continue;
        text +=
            fmt::format("\n{} {} {}", path.filename().string(), std::filesystem::file_size(path),
                        std::filesystem::last_write_time(path).time_since_epoch().count());
    }
    for (const PlannedTensor& tensor : plan.tensors)
        if (tensor.importance != nullptr)
            text += fmt::format("\n{:x}",
                                crc32c(std::as_bytes(std::span(tensor.importance->mean_square))));
    const uint64_t low = crc32c(std::as_bytes(std::span(text)));
    std::ranges::reverse(text);
    return low | uint64_t{crc32c(std::as_bytes(std::span(text)))} << 32;
}

// Encodes on all threads while others read what is encoded next and write what has been.
class ModelWriter {
public:
    ModelWriter(const ConversionPlan& plan, int n_threads, const ProgressCallback& on_progress)
        : plan_(plan), on_progress_(on_progress), encoder_(n_threads), tasks_(kSlabs - 1) {
        for (const PlannedTensor& tensor : plan.tensors)
            progress_.n_total_bytes += tensor.info().n_bytes();
    }

    // All files are complete before the first one appears.
    void write(const std::filesystem::path& target, OnRestart on_restart) {
        const std::vector<PlannedPart> parts = planned_parts(plan_);
        const uint64_t identity = input_identity(plan_);
        for (size_t i = 0; i < parts.size(); ++i) {
            writers_.push_back(
                std::make_unique<GgufWriter>(part_path(target, i, parts.size()), parts[i].metadata,
                                             plan_.tensor_infos(parts[i]), on_restart, identity));
        }
        for (size_t i = 0; i < parts.size(); ++i)
            write_part(std::span(plan_.tensors).subspan(parts[i].first_tensor, parts[i].n_tensors),
                       *writers_[i]);
        tasks_.wait();
        on_progress_(progress_);
        GgufWriter::publish_all(writers_);
    }

private:
    void write_part(std::span<const PlannedTensor> tensors, GgufWriter& writer) {
        const size_t n_kept = writer.next_tensor();
        const int64_t n_kept_rows = writer.next_row();
        for (const PlannedTensor& tensor : tensors.first(n_kept))
            count_kept(tensor.info().n_bytes());
        if (n_kept_rows > 0)
            count_kept(static_cast<uint64_t>(n_kept_rows) * tensors[n_kept].info().n_row_bytes());
        const std::vector<Slab> slabs = slabs_of(tensors, n_kept, n_kept_rows);
        PieceLoader pieces(slabs.size(), [&](size_t i) { return slabs[i].ranges(); });
        for (const Slab& slab : slabs) {
            on_progress_(progress_);
            const LoadedBytes& loaded = pieces.next();
            input_check_.add(slab, loaded);
            const std::span<const std::byte> bytes = encoder_.encode(slab, loaded);
            tasks_.run([&writer, bytes] { writer.write(bytes); });
            progress_.n_done_bytes += bytes.size();
        }
        tasks_.run([&writer] { writer.complete(); });
    }

    void count_kept(uint64_t n_bytes) {
        progress_.n_done_bytes += n_bytes;
        progress_.n_kept_bytes += n_bytes;
    }

    const ConversionPlan& plan_;
    const ProgressCallback& on_progress_;
    ConvertProgress progress_;
    InputCheck input_check_;
    SlabEncoder encoder_;
    std::vector<std::unique_ptr<GgufWriter>> writers_;
    BackgroundTasks tasks_;  // of the writers: ends before they do
};

}  // namespace

void check_target(const ConversionPlan& plan, const std::filesystem::path& target, bool force) {
    if (is_split_file_name(target.string()))
        fail(ErrorCode::usage, "{}: names a part of a split model; give NAME.gguf",
             target.string());
    const size_t n_parts = planned_parts(plan).size();
    for (size_t i = 0; i < n_parts; ++i) check_file(plan, part_path(target, i, n_parts), force);
}

void write_model(const ConversionPlan& plan, const std::filesystem::path& target, int n_threads,
                 const ProgressCallback& on_progress, OnRestart on_restart) {
    ModelWriter(plan, n_threads, on_progress).write(target, on_restart);
}

}  // namespace nemo
