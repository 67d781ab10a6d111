#include "convert/verify.h"

#include "convert/gguf_source.h"
#include "convert/hf_config.h"
#include "convert/piece_loader.h"
#include "convert/tensor_source.h"
#include "core/console.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/tensor_checksums.h"
#include "core/thread_pool.h"
#include "core/tokenizer.h"
#include "quant/codec.h"
#include "quant/importance.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

namespace nemo {

namespace {

constexpr int64_t kSlabElements = int64_t{1} << 23;
constexpr int64_t kGrainElements = int64_t{1} << 16;  // whole blocks of every type

// What no rounding to the type explains; a wrong tensor has an error of about 1.4.
double largest_expected_error(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return 1e-6;
        case DType::f16:
            return 2e-3;
        case DType::bf16:
            return 5e-3;
        case DType::q8_0:
            return 0.03;
        default:
            return 0.75;
    }
}

// ---- Directory ----

// A scale or a bias of another tensor, which the list of tensors leaves out.
bool is_companion(const std::string& name, const ModelFile& file) {
    for (const std::string_view suffix : {".input_scale", ".scale", ".bias"}) {
        if (!name.ends_with(suffix)) continue;
        const TensorView* owner =
            file.find(name.substr(0, name.size() - suffix.size()) + ".weight");
        if (owner != nullptr && (suffix == ".bias" || find_factors(*owner, file) != nullptr))
            return true;
    }
    return false;
}

void check_directory(const ModelFile& file, const ModelConfig& config, VerifyReport& report) {
    std::set<std::string> known;
    const auto problem = [&](std::string text) { report.problems.push_back(std::move(text)); };
    for (const TensorSpec& spec : tensor_inventory(config)) {
        const std::string fused = fused_name(spec);
        if (file.find(fused) != nullptr) {
            known.insert(fused);
            continue;
        }
        known.insert(spec.name);
        std::string text = tensor_problem(spec, file.find(spec.name));
        if (!text.empty()) problem(std::move(text));
    }
    for (const TensorView& tensor : file.tensors()) {
        if (known.contains(tensor.name) || is_companion(tensor.name, file)) continue;
        problem(fmt::format("tensor {} is not part of the model", tensor.name));
    }
}

// Runs a check that throws; its message becomes a problem.
template <class Check>
void note_problem(VerifyReport& report, const Check& check) {
    try {
        check();
    } catch (const Error& error) {
        if (error.code() != ErrorCode::bad_file) throw;
        report.problems.emplace_back(error.what());
    }
}

class ChecksumCheck {
public:
    ChecksumCheck(const ModelFile& file, VerifyReport& report)
        : present_(file.metadata().contains(kTensorChecksumsKey)) {
        note_problem(report, [&] { checksums_.emplace(file.metadata()); });
    }

    void compare(const TensorView& tensor, uint32_t checksum, VerifyReport& report) {
        const TensorChecksums::Entry* entry = checksums_ ? checksums_->find(tensor.name) : nullptr;
        if (entry == nullptr) {
            ++n_without_;
        } else if (entry->type_name != dtype_info(tensor.dtype).name) {
            ++n_other_type_;
        } else if (entry->value != checksum) {
            report.problems.push_back(
                fmt::format("tensor {}: its bytes have checksum {:08x}, but {:08x} was written",
                            tensor.name, checksum, entry->value));
        }
    }

    void add_notes(VerifyReport& report) const {
        if (!present_)
            report.notes.push_back(fmt::format("no checksums to compare with (key {} is missing)",
                                               kTensorChecksumsKey));
        else if (n_without_ > 0)
            report.notes.push_back(fmt::format("{} tensors have no checksum", n_without_));
        if (n_other_type_ > 0)
            report.notes.push_back(fmt::format(
                "{} tensors have a checksum of another type: requantized by another program",
                n_other_type_));
    }

private:
    bool present_;
    std::optional<TensorChecksums> checksums_;  // nullopt: they cannot be read
    int64_t n_without_ = 0;
    int64_t n_other_type_ = 0;
};

// ---- Weights ----

// What one thread, or all together, found in a tensor.
struct Findings {
    int64_t n_not_finite = 0;
    int64_t first_not_finite = -1;  // element
    RelativeError error;

    void add(const Findings& other) {
        n_not_finite += other.n_not_finite;
        if (first_not_finite < 0 ||
            (other.first_not_finite >= 0 && other.first_not_finite < first_not_finite))
            first_not_finite = other.first_not_finite;
        error.add(other.error);
    }
};

struct TensorToCheck {
    const TensorView& tensor;
    std::vector<float> factors;    // may be empty
    const WeightSource* original;  // may be null
};

// Elements of a tensor that are looked at together.
struct Slab {
    const TensorToCheck* task;
    int64_t first;
    int64_t n;
};

std::vector<Slab> slabs_of(const TensorToCheck& task) {
    std::vector<Slab> slabs;
    const int64_t n_elements = task.tensor.n_elements();
    for (int64_t first = 0; first < n_elements; first += kSlabElements)
        slabs.push_back({&task, first, std::min(kSlabElements, n_elements - first)});
    return slabs;
}

// Rows are whole blocks, so a tensor is one long row.
std::span<const std::byte> encoded(const TensorView& tensor, int64_t first, int64_t n) {
    const DTypeInfo& info = dtype_info(tensor.dtype);
    return {tensor.data + first / info.block_size * info.block_bytes,
            static_cast<size_t>(n / info.block_size * info.block_bytes)};
}

// In the file, and in the checkpoint that it is compared with.
std::vector<MappedRange> ranges_of(const Slab& slab, const ModelFile& file) {
    const TensorToCheck& task = *slab.task;
    std::vector<MappedRange> ranges;
    if (task.original != nullptr) ranges = task.original->ranges(slab.first, slab.n);
    ranges.push_back(file.range_of(encoded(task.tensor, slab.first, slab.n)));
    return ranges;
}

class TensorChecker {
public:
    TensorChecker(int n_threads, const ProgressCallback& on_progress, uint64_t n_total_bytes)
        : pool_(n_threads),
          on_progress_(on_progress),
          progress_{0, n_total_bytes},
          buffers_(static_cast<size_t>(pool_.n_threads())) {}

    // The pieces are those of slabs_of() this task.
    Findings check(const TensorToCheck& task, PieceLoader& pieces, uint32_t& checksum) {
        Findings findings;
        checksum = 0;
        for (const Slab& slab : slabs_of(task)) {
            on_progress_(progress_);
            const LoadedBytes& loaded = pieces.next();
            const std::span<const std::byte> bytes = encoded(task.tensor, slab.first, slab.n);
            checksum = crc32c({loaded.find(bytes), bytes.size()}, checksum);
            check_slab(task, slab.first, slab.n, loaded, findings);
            progress_.n_done_bytes += bytes.size();
        }
        return findings;
    }

private:
    struct Buffer {
        std::vector<float> values;
        std::vector<float> expected;
    };

    void check_slab(const TensorToCheck& task, int64_t first, int64_t n, const LoadedBytes& loaded,
                    Findings& findings) {
        const TensorView& tensor = task.tensor;
        // One per range, so that sums do not depend on the threads.
        std::vector<Findings> parts(static_cast<size_t>((n + kGrainElements - 1) / kGrainElements));
        pool_.parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end, int thread) {
            Buffer& buffer = buffers_[static_cast<size_t>(thread)];
            buffer.values.resize(static_cast<size_t>(end - begin));
            decode_row(tensor.dtype, loaded.find(encoded(tensor, first + begin, end - begin)),
                       buffer.values.data(), end - begin);
            apply_factors(task.factors, tensor, first + begin, buffer.values);
            Findings& part = parts[static_cast<size_t>(begin / kGrainElements)];
            for (size_t i = 0; i < buffer.values.size(); ++i) {
                if (std::isfinite(buffer.values[i])) continue;
                if (part.n_not_finite++ == 0)
                    part.first_not_finite = first + begin + static_cast<int64_t>(i);
            }
            if (task.original == nullptr) return;
            buffer.expected.resize(buffer.values.size());
            task.original->read(first + begin, end - begin, buffer.expected.data(), loaded);
            part.error.add_row(buffer.expected.data(), buffer.values.data(), nullptr, end - begin);
        });
        for (const Findings& part : parts) findings.add(part);
    }

    ThreadPool pool_;
    const ProgressCallback& on_progress_;
    ConvertProgress progress_;
    std::vector<Buffer> buffers_;  // one per thread
};

// The checkpoint's weights under the file's names.
class Originals {
public:
    // `prediction_head`: whether the file has one; it may have been left out.
    Originals(const std::filesystem::path& directory, bool prediction_head)
        : weights_(SafetensorsSet::open(directory)) {
        const std::filesystem::path path = directory / "config.json";
        const ModelConfig config =
            config_from_hf(read_json_file(path), path.string(), prediction_head);
        CheckpointTensors tensors(weights_, read_quantization_config(directory),
                                  directory.string());
        for (const TensorSpec& spec : tensor_inventory(config))
            entries_.emplace(spec.name, Entry{spec.dims, tensors.bind(spec)});
    }

    // nullptr if the checkpoint has no such tensor of that shape; a problem unless `optional`.
    const WeightSource* find(const TensorView& tensor, bool optional, VerifyReport& report) const {
        const auto found = entries_.find(tensor.name);
        if (found == entries_.end()) {
            if (optional) return nullptr;
            report.problems.push_back(
                fmt::format("tensor {} is not in the checkpoint", tensor.name));
            return nullptr;
        }
        if (found->second.dims == tensor.dims) return found->second.source.get();
        report.problems.push_back(fmt::format("tensor {} has dims {}, but the checkpoint has {}",
                                              tensor.name, dims_text(tensor.dims),
                                              dims_text(found->second.dims)));
        return nullptr;
    }

    void note_missing(const ModelFile& file, VerifyReport& report) const {
        for (const auto& [name, entry] : entries_)
            if (file.find(name) == nullptr)
                report.problems.push_back(
                    fmt::format("tensor {} of the checkpoint is not in the file", name));
    }

private:
    struct Entry {
        std::array<int64_t, 4> dims;
        WeightSourcePtr source;
    };
    SafetensorsSet weights_;
    std::map<std::string, Entry> entries_;
};

void add_error(const TensorView& tensor, const Findings& findings, VerifyReport& report) {
    const double relative = std::sqrt(findings.error.value());
    report.errors.push_back({tensor.name, tensor.dtype, relative});
    const double limit = largest_expected_error(tensor.dtype);
    // Also true for NaN.
    if (!(relative <= limit))
        report.problems.push_back(fmt::format(
            "tensor {} differs from the checkpoint by {:.3g} of its size, {} explains {} at most",
            tensor.name, relative, dtype_info(tensor.dtype).name, limit));
}

void check_tensors(const ModelFile& file, const Originals* originals, int n_threads,
                   const ProgressCallback& on_progress, VerifyReport& report) {
    ChecksumCheck checksums(file, report);
    uint64_t n_total = 0;
    std::vector<TensorToCheck> tasks;
    for (const TensorView& tensor : file.tensors()) {
        const WeightSource* original =
            originals ? originals->find(tensor, is_companion(tensor.name, file), report) : nullptr;
        tasks.push_back({tensor, read_factors(tensor, file), original});
        n_total += static_cast<uint64_t>(tensor.n_bytes());
    }
    std::vector<Slab> slabs;
    for (const TensorToCheck& task : tasks)
        std::ranges::copy(slabs_of(task), std::back_inserter(slabs));
    PieceLoader pieces(slabs.size(), [&](size_t i) { return ranges_of(slabs[i], file); });
    TensorChecker checker(n_threads, on_progress, n_total);
    for (const TensorToCheck& task : tasks) {
        const TensorView& tensor = task.tensor;
        uint32_t checksum = 0;
        const Findings findings = checker.check(task, pieces, checksum);
        checksums.compare(tensor, checksum, report);
        if (findings.n_not_finite > 0)
            report.problems.push_back(fmt::format(
                "tensor {}: {} of {} weights are not finite, the first is element {}", tensor.name,
                findings.n_not_finite, tensor.n_elements(), findings.first_not_finite));
        if (task.original != nullptr) add_error(tensor, findings, report);
    }
    checksums.add_notes(report);
}

}  // namespace

VerifyReport verify_model(const ModelFile& file, const std::filesystem::path& checkpoint,
                          int n_threads, const ProgressCallback& on_progress) {
    VerifyReport report;
    report.n_tensors = std::ssize(file.tensors());
    report.n_bytes = file.n_file_bytes();
    if (file.n_extra_bytes() > 0)
        report.problems.push_back(
            fmt::format("{} bytes follow the last tensor", file.n_extra_bytes()));
    bool prediction_head = false;
    note_problem(report, [&] {
        const ModelConfig config = config_from_gguf(file);
        prediction_head = !config.prediction_blocks.empty();
        check_directory(file, config, report);
    });
    note_problem(report, [&] { Tokenizer::create(tokenizer_from_gguf(file), file.path()); });
    std::optional<Originals> originals;
    if (!checkpoint.empty()) {
        originals.emplace(checkpoint, prediction_head);
        originals->note_missing(file, report);
    }
    check_tensors(file, originals ? &*originals : nullptr, n_threads, on_progress, report);
    return report;
}

std::string verify_text(const ModelFile& file, const VerifyReport& report) {
    std::string text;
    if (!report.errors.empty())
        text += fmt::format("{:<32} {:<8} {:>12}\n", "tensor", "type", "rms error");
    const auto add_line = [&](const std::string& line) { text += terminal_safe_line(line) + "\n"; };
    for (const TensorError& error : report.errors)
        add_line(fmt::format("{:<32} {:<8} {:>12.3e}", error.name, dtype_info(error.dtype).name,
                             error.relative_rms));
    for (const std::string& note : report.notes) add_line("note: " + note);
    for (const std::string& problem : report.problems) add_line("problem: " + problem);
    const std::string verdict = report.problems.empty()
                                    ? std::string("sound")
                                    : fmt::format("{} problem(s)", report.problems.size());
    add_line(fmt::format("{}: {}; {} tensors, {} bytes", file.path(), verdict, report.n_tensors,
                         report.n_bytes));
    return text;
}

}  // namespace nemo
