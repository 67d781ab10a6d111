#include "convert/type_choice.h"

#include "convert/budget.h"
#include "convert/planning.h"
#include "convert/sensitivity.h"
#include "core/error.h"

#include <algorithm>
#include <map>
#include <set>

namespace nemo {

namespace {

// What llama.cpp loads and nemo encodes. Not NVFP4: its tensors come in pairs with their factors
// (convert/nvfp4_scale.h); where the plan already has it, it stays.
constexpr DType kCandidates[] = {
    DType::q2_k, DType::q3_k, DType::mxfp4, DType::iq4_xs, DType::q4_0, DType::q4_k, DType::iq4_nl,
    DType::q4_1, DType::q5_0, DType::q5_k,  DType::q5_1,   DType::q6_k, DType::q8_0};

std::vector<DType> candidates_for(int64_t row_length) {
    std::vector<DType> result;
    for (const DType dtype : kCandidates)
        if (row_length % dtype_info(dtype).block_size == 0) result.push_back(dtype);
    return result;
}

uint64_t n_padded_bytes(const TensorSpec& spec, DType dtype) {
    constexpr uint64_t kAlignment = 32;  // of tensors in a file
    const uint64_t n = GgufTensorInfo{spec.name, dtype, spec.dims, spec.n_dims}.n_bytes();
    return (n + kAlignment - 1) / kAlignment * kAlignment;
}

// Tensors whose type is open, with what each type would cost.
struct OpenTensors {
    std::vector<size_t> tensors;               // indices in the plan
    std::vector<std::vector<DType>> types;     // [tensor][candidate]
    std::vector<std::vector<Choice>> choices;  // the same
};

OpenTensors measure(const ConversionPlan& plan, std::vector<size_t> tensors,
                    const TypeRequest& request, const MeasureProgress& on_progress) {
    std::vector<TensorSpec> specs;
    for (const PlannedTensor& tensor : plan.tensors) specs.push_back(tensor.spec);
    const std::vector<double> weights = sensitivities(specs, plan.importance.get());
    std::vector<MeasuredTensor> measured;
    for (const size_t i : tensors)
        measured.push_back({&plan.tensors[i], candidates_for(specs[i].dims[0])});
    const auto errors = measure_errors(measured, request.n_threads, on_progress);
    OpenTensors open;
    for (size_t k = 0; k < tensors.size(); ++k) {
        std::vector<Choice> choices;
        for (size_t c = 0; c < measured[k].candidates.size(); ++c)
            choices.push_back({n_padded_bytes(specs[tensors[k]], measured[k].candidates[c]),
                               weights[tensors[k]] * errors[k][c]});
        open.types.push_back(std::move(measured[k].candidates));
        open.choices.push_back(std::move(choices));
    }
    open.tensors = std::move(tensors);
    return open;
}

struct Outcome {
    std::vector<size_t> chosen;  // [open tensor]
    uint64_t n_bytes = 0;
    double damage = 0;
};

Outcome spend(const OpenTensors& open, uint64_t n_bytes) {
    Outcome outcome = {allocate(open.choices, n_bytes)};
    for (size_t k = 0; k < outcome.chosen.size(); ++k) {
        const Choice& choice = open.choices[k][outcome.chosen[k]];
        outcome.n_bytes += choice.n_bytes;
        outcome.damage += choice.damage;
    }
    return outcome;
}

void apply(const OpenTensors& open, const Outcome& outcome, ConversionPlan& plan) {
    for (size_t k = 0; k < open.tensors.size(); ++k)
        plan.tensors[open.tensors[k]].dtype = open.types[k][outcome.chosen[k]];
}

// "blk.3.attn_v.weight", or "attn_v" for all of these.
bool is_meant(const std::string& name, const TensorSpec& spec) {
    return spec.name == name || (spec.name.ends_with(".weight") && tensor_stem(spec.name) == name);
}

// The tensors that a name stands for get their type; returns which.
std::set<size_t> apply_overrides(ConversionPlan& plan, const std::vector<TypeOverride>& overrides) {
    std::set<size_t> changed;
    for (const TypeOverride& wanted : overrides) {
        bool found = false;
        for (size_t i = 0; i < plan.tensors.size(); ++i) {
            PlannedTensor& tensor = plan.tensors[i];
            const TensorSpec& spec = tensor.spec;
            if (!is_meant(wanted.name, spec)) continue;
            if (spec.always_f32) fail(ErrorCode::usage, "tensor {} is always F32", spec.name);
            if (wanted.dtype == DType::nvfp4 || tensor.dtype == DType::nvfp4)
                fail(ErrorCode::usage, "tensor {}: NVFP4 is a type for whole files only",
                     spec.name);
            const DTypeInfo& info = dtype_info(wanted.dtype);
            if (spec.dims[0] % info.block_size != 0)
                fail(ErrorCode::usage, "tensor {}: rows of {} are no whole blocks of {} ({})",
                     spec.name, spec.dims[0], info.name, info.block_size);
            tensor.dtype = wanted.dtype;
            changed.insert(i);
            found = true;
        }
        if (!found) fail(ErrorCode::usage, "the model has no tensor {}", wanted.name);
    }
    return changed;
}

// ---------------------------------------------------------------- a given size

uint64_t bytes_for(double bits_per_weight, double n_weights) {
    constexpr double kMost = 0x1p62;  // more than any file has
    return static_cast<uint64_t>(std::min(bits_per_weight / 8 * n_weights, kMost));
}

// "4.497  0.042008" for some sizes below and above.
void note_frontier(const OpenTensors& open, uint64_t n_fixed_bytes, double n_weights,
                   ConversionPlan& plan) {
    constexpr double kBitsPerWeight[] = {2.75, 3.0, 3.5, 4.0, 4.25, 4.5,
                                         4.75, 5.0, 5.5, 6.0, 6.5,  8.0};
    plan.notes.push_back("what other sizes would cost:  bits per weight  predicted damage");
    uint64_t n_last_bytes = 0;
    for (const double bits : kBitsPerWeight) {
        const uint64_t limit = bytes_for(bits, n_weights);
        if (limit < n_fixed_bytes) continue;
        const Outcome outcome = spend(open, limit - n_fixed_bytes);
        if (outcome.n_bytes > limit - n_fixed_bytes || outcome.n_bytes == n_last_bytes) continue;
        n_last_bytes = outcome.n_bytes;
        const double reached = 8 * static_cast<double>(n_fixed_bytes + outcome.n_bytes) / n_weights;
        plan.notes.push_back(fmt::format("{:45.3f}  {:16.6f}", reached, outcome.damage));
    }
}

void fit_size(ConversionPlan& plan, const TypeRequest& request, const std::set<size_t>& overridden,
              const MeasureProgress& on_progress) {
    std::vector<size_t> tensors;
    uint64_t n_fixed_bytes = 0;
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
        const PlannedTensor& tensor = plan.tensors[i];
        const bool is_open = is_encoded(tensor.spec) && tensor.spec.n_dims > 1 &&
                             tensor.dtype != DType::nvfp4 && !overridden.contains(i) &&
                             !candidates_for(tensor.spec.dims[0]).empty();
        if (is_open)
            tensors.push_back(i);
        else
            n_fixed_bytes += n_padded_bytes(tensor.spec, tensor.dtype);
    }
    const OpenTensors open = measure(plan, std::move(tensors), request, on_progress);
    const auto n_weights = static_cast<double>(plan.n_weights());
    const bool by_bytes = request.n_file_bytes.has_value();
    const uint64_t limit =
        by_bytes ? *request.n_file_bytes : bytes_for(*request.bits_per_weight, n_weights);
    // What the file has beside tensors depends a little on the types: their names are in it.
    const auto size_with = [&](const Outcome& outcome) {
        apply(open, outcome, plan);
        return by_bytes ? gguf_file_bytes(plan.metadata, plan.tensor_infos())
                        : n_fixed_bytes + outcome.n_bytes;
    };
    const Outcome smallest = spend(open, 0);
    const uint64_t least = size_with(smallest);
    if (least > limit && by_bytes)
        fail(ErrorCode::usage, "{} bytes are too few: the smallest possible file has {}", limit,
             least);
    if (least > limit)
        fail(ErrorCode::usage, "{} bits per weight are too few: {:.3f} is the smallest possible",
             *request.bits_per_weight, 8 * static_cast<double>(least) / n_weights);
    uint64_t n_spend = smallest.n_bytes + (limit - least);
    Outcome outcome = spend(open, n_spend);
    for (uint64_t size = size_with(outcome); size > limit; size = size_with(outcome)) {
        n_spend -= size - limit;
        outcome = spend(open, n_spend);
    }
    plan.metadata.set_u32("general.file_type", dominant_file_type(plan));
    plan.notes.push_back(
        fmt::format("types by measured error: {:.3f} bits per weight, predicted damage {:.6f}",
                    plan.bits_per_weight(), outcome.damage));
    note_frontier(open, n_fixed_bytes, n_weights, plan);
}

// ---------------------------------------------------------------- rows that do not fit

double n_wanted_bytes(const PlannedTensor& tensor) {
    const DTypeInfo& info = dtype_info(*tensor.wanted);
    return static_cast<double>(tensor.spec.n_elements()) * static_cast<double>(info.block_bytes) /
           static_cast<double>(info.block_size);
}

// "12 IQ4_NL, 3 Q8_0".
std::string type_counts(const ConversionPlan& plan, const std::vector<size_t>& tensors) {
    std::map<DType, int> counts;
    for (const size_t i : tensors) ++counts[plan.tensors[i].dtype];
    std::string text;
    for (const auto& [dtype, count] : counts)
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, dtype_info(dtype).name);
    return text;
}

void replace_misfits(ConversionPlan& plan, const TypeRequest& request,
                     const std::set<size_t>& overridden, const MeasureProgress& on_progress) {
    std::vector<size_t> tensors;
    double n_promised_bytes = 0;  // of the whole file
    double n_misfit_bytes = 0;
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
        const PlannedTensor& tensor = plan.tensors[i];
        const bool is_open = tensor.wanted && !overridden.contains(i) &&
                             !candidates_for(tensor.spec.dims[0]).empty();
        n_promised_bytes +=
            is_open ? n_wanted_bytes(tensor) : static_cast<double>(tensor.info().n_bytes());
        if (!is_open) continue;
        tensors.push_back(i);
        n_misfit_bytes += n_wanted_bytes(tensor);
    }
    if (tensors.empty()) return;
    const PlannedTensor& first = plan.tensors[tensors[0]];
    const std::string example =
        fmt::format("{} (rows of {} are no whole blocks of {})", first.spec.name,
                    first.spec.dims[0], dtype_info(*first.wanted).name);
    const OpenTensors open = measure(plan, tensors, request, on_progress);
    apply(open, spend(open, static_cast<uint64_t>(n_misfit_bytes)), plan);
    const double promised = 8 * n_promised_bytes / static_cast<double>(plan.n_weights());
    const double reached = plan.bits_per_weight();
    plan.notes.push_back(fmt::format(
        "{} tensors cannot have the type's format, such as {}; by measured error they become {}",
        tensors.size(), example, type_counts(plan, tensors)));
    plan.notes.push_back(
        fmt::format("{:.3f} bits per weight; the type promises {:.3f}{}", reached, promised,
                    reached > 1.03 * promised ? ", but no smaller format fits these rows" : ""));
}

}  // namespace

void choose_measured_types(ConversionPlan& plan, const TypeRequest& request,
                           const MeasureProgress& on_progress) {
    NEMO_ASSERT(!request.n_file_bytes || !request.bits_per_weight);
    const std::set<size_t> overridden = apply_overrides(plan, request.overrides);
    if (request.n_file_bytes || request.bits_per_weight)
        fit_size(plan, request, overridden, on_progress);
    else
        replace_misfits(plan, request, overridden, on_progress);
}

}  // namespace nemo
