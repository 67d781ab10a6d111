// Types chosen by measured error: sizes that are promised or asked for, and importance matrices.
#include "convert/type_choice.h"

#include "checkpoint_fixture.h"
#include "convert/convert.h"
#include "convert/sensitivity.h"
#include "core/model_file.h"
#include "quant/codec.h"

#include <memory>

namespace nemo {
namespace {

const auto kDemo = std::filesystem::path(NEMO_SOURCE_DIR) / "assets/demo";

void choose(ConversionPlan& plan, const TypeRequest& request) {
    choose_measured_types(plan, request, [](size_t, size_t) {});
}

ConversionPlan plan_of(const std::filesystem::path& checkpoint, const char* type,
                       const TypeRequest& request = {}) {
    ConversionPlan plan = make_plan(checkpoint, output_type_from_name(type).value());
    choose(plan, request);
    return plan;
}

uint64_t file_bytes(const ConversionPlan& plan) {
    return gguf_file_bytes(plan.metadata, plan.tensor_infos());
}

// What choose_measured_types() minimises.
double predicted_damage(const ConversionPlan& plan) {
    std::vector<TensorSpec> specs;
    std::vector<MeasuredTensor> measured;
    for (const PlannedTensor& tensor : plan.tensors) {
        specs.push_back(tensor.spec);
        measured.push_back({&tensor, {tensor.dtype}});
    }
    const auto errors = measure_errors(measured, 2, [](size_t, size_t) {});
    const std::vector<double> weights = sensitivities(specs, plan.importance.get());
    double damage = 0;
    for (size_t i = 0; i < specs.size(); ++i) damage += weights[i] * errors[i][0];
    return damage;
}

bool has_note(const ConversionPlan& plan, const std::string& part) {
    return std::ranges::any_of(plan.notes,
                               [&](const std::string& note) { return contains(note, part); });
}

// Mean squares that grow along the columns, for every matrix of the demo model but the embeddings.
Importance test_importance(const ConversionPlan& plan) {
    Importance importance;
    importance.source = "test.imatrix";
    importance.datasets = {"text.txt"};
    importance.n_chunks = 7;
    for (const PlannedTensor& tensor : plan.tensors) {
        if (tensor.spec.always_f32 || tensor.spec.name == "token_embd.weight") continue;
        TensorImportance entry = {{}, std::vector<int64_t>(size_t(tensor.spec.dims[2]), 5)};
        for (int64_t i = 0; i < tensor.spec.dims[0] * tensor.spec.dims[2]; ++i)
            entry.mean_square.push_back(1e-3f + static_cast<float>(i * i % 1009));
        importance.tensors[tensor.spec.name] = std::move(entry);
    }
    return importance;
}

TEST_CASE("a file of the size asked for, with less damage than the mix of that size") {
    // Of Q6_K there is less to gain: its sizes allow only Q8_0 above it.
    for (const auto& [name, most] :
         {std::pair("Q3_K_M", 0.9), std::pair("Q4_K_M", 0.9), std::pair("Q6_K", 0.95)}) {
        CAPTURE(name);
        const ConversionPlan mix = plan_of(kDemo, name);
        TypeRequest request;
        request.n_file_bytes = file_bytes(mix);
        const ConversionPlan fitted = plan_of(kDemo, "Q8_0", request);
        CHECK(file_bytes(fitted) <= file_bytes(mix));
        CHECK(static_cast<double>(file_bytes(fitted)) >
              0.99 * static_cast<double>(file_bytes(mix)));
        CHECK(predicted_damage(fitted) < most * predicted_damage(mix));
        CHECK(has_note(fitted, "bits per weight, predicted damage"));
        for (const PlannedTensor& tensor : fitted.tensors)
            CHECK((tensor.dtype == DType::f32) == tensor.spec.always_f32);
    }
}

TEST_CASE("bits per weight count the tensors alone") {
    for (const double bits : {2.8, 4.6, 6.0}) {
        TypeRequest request;
        request.bits_per_weight = bits;
        const ConversionPlan plan = plan_of(kDemo, "Q8_0", request);
        CHECK(plan.bits_per_weight() <= bits);
        CHECK(plan.bits_per_weight() > 0.99 * bits);
    }
    TypeRequest request;
    request.bits_per_weight = 4.6;
    CHECK(plan_of(kDemo, "Q8_0", request).metadata.get_integer("general.file_type") == 30);
    request.bits_per_weight = 2.0;
    check_contains(error_message([&] { plan_of(kDemo, "Q8_0", request); }, ErrorCode::usage),
                   "2 bits per weight are too few: 2.");
    for (const double more_than_enough : {30.0, 1e300}) {
        request.bits_per_weight = more_than_enough;
        CHECK(plan_of(kDemo, "Q8_0", request).bits_per_weight() < 8.6);
    }
}

TEST_CASE("rows that do not fit get types that keep the size that the name promises") {
    const TempFolder folder;
    mlp_checkpoint(96).write(folder / "in");
    for (const char* name : {"Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS"}) {
        CAPTURE(name);
        const ConversionPlan plan = plan_of(folder / "in", name);
        double n_promised = 0;
        double n_written = 0;
        for (const PlannedTensor& tensor : plan.tensors) {
            const DTypeInfo& info = dtype_info(tensor.wanted.value_or(tensor.dtype));
            n_promised += static_cast<double>(tensor.spec.dims[0] * tensor.spec.dims[1]) *
                          static_cast<double>(info.block_bytes) /
                          static_cast<double>(info.block_size);
            n_written += static_cast<double>(tensor.info().n_bytes());
            CHECK(tensor.dtype != DType::f16);
        }
        CHECK(n_written <= n_promised);
        CHECK(n_written > 0.94 * n_promised);  // four tensors leave few sizes to choose from
        CHECK(has_note(plan, "token_embd.weight (rows of 96 are no whole blocks of"));
    }
    const ConversionPlan small = plan_of(folder / "in", "Q3_K");
    CHECK(has_note(small, "no smaller format fits these rows"));
    CHECK(plan_of(folder / "in", "Q8_0").notes.empty());
}

TEST_CASE("types for single tensors and for kinds of them") {
    TypeRequest request;
    request.overrides = {{"attn_v", DType::q8_0}, {"blk.1.ffn_up.weight", DType::q5_1}};
    for (const bool fit : {false, true}) {
        if (fit) request.bits_per_weight = 5;
        const ConversionPlan plan = plan_of(kDemo, "Q4_K_M", request);
        for (const PlannedTensor& tensor : plan.tensors) {
            if (tensor.spec.name == "blk.3.attn_v.weight") CHECK(tensor.dtype == DType::q8_0);
            if (tensor.spec.name == "blk.1.ffn_up.weight") CHECK(tensor.dtype == DType::q5_1);
            if (tensor.spec.name == "blk.4.ffn_up.weight") CHECK(tensor.dtype != DType::q5_1);
        }
    }
    const auto message = [&](const char* name, DType dtype) {
        TypeRequest wrong;
        wrong.overrides = {{name, dtype}};
        return error_message([&] { plan_of(kGoldenModels / "dense", "Q8_0", wrong); },
                             ErrorCode::usage);
    };
    check_contains(message("attn_x", DType::q8_0), "no tensor attn_x");
    check_contains(message("output_norm", DType::q8_0), "always F32");
    check_contains(message("token_embd", DType::nvfp4), "for whole files only");
    check_contains(message("token_embd", DType::q4_k), "rows of 32 are no whole blocks of Q4_K");
}

TEST_CASE("measured errors do not depend on the number of threads") {
    const ConversionPlan plan = make_plan(kDemo, DType::q8_0);
    const std::vector<MeasuredTensor> tensors = {
        {&plan.tensors[0], {DType::q2_k, DType::q4_0, DType::q4_k, DType::q8_0, DType::bf16}}};
    const auto one = measure_errors(tensors, 1, [](size_t, size_t) {});
    CHECK(one == measure_errors(tensors, 3, [](size_t, size_t) {}));
    REQUIRE(one[0].size() == 5);
    for (size_t i = 1; i < one[0].size(); ++i) CHECK(one[0][i] < one[0][i - 1]);
    CHECK(one[0][4] == 0);
    CHECK(one[0][3] == doctest::Approx(3e-5).epsilon(0.5));
}

TEST_CASE("an importance matrix lowers the weighted error of what is written") {
    const TempFolder folder;
    ConversionPlan plan = make_plan(kDemo, DType::q4_k);
    write_model(plan, folder / "without.gguf", 2, [](const ConvertProgress&) {});
    const auto importance = std::make_shared<const Importance>(test_importance(plan));
    use_importance(plan, importance);
    CHECK(has_note(plan, "importance of 17 tensors from test.imatrix, none for 1"));
    write_model(plan, folder / "with.gguf", 2, [](const ConvertProgress&) {});

    const ModelFile with = ModelFile::open(folder / "with.gguf");
    CHECK(with.metadata().get_string("quantize.imatrix.file") == "test.imatrix");
    CHECK(with.metadata().get_string("quantize.imatrix.dataset") == "text.txt");
    CHECK(with.metadata().get_integer("quantize.imatrix.entries_count") == 17);
    CHECK(with.metadata().get_integer("quantize.imatrix.chunks_count") == 7);
    const ModelFile without = ModelFile::open(folder / "without.gguf");
    const auto weighted_error = [&](const ModelFile& file, const PlannedTensor& tensor) {
        const TensorView& view = *file.find(tensor.spec.name);
        const auto n = static_cast<size_t>(view.row_length());
        std::vector<float> original(n);
        std::vector<float> decoded(n);
        RelativeError error;
        for (int64_t row = 0; row < view.n_rows(); ++row) {
            tensor.source->read(row * view.row_length(), view.row_length(), original.data());
            decode_row(view.dtype, view.row(row), decoded.data(), view.row_length());
            error.add_row(original.data(), decoded.data(), tensor.importance_of_row(row),
                          view.row_length());
        }
        return error.value();
    };
    for (const PlannedTensor& tensor : plan.tensors) {
        if (tensor.importance == nullptr) continue;
        CAPTURE(tensor.spec.name);
        CHECK(weighted_error(with, tensor) < 0.97 * weighted_error(without, tensor));
    }
}

TEST_CASE("importance of experts belongs to their matrices; of other models it is refused") {
    ConversionPlan plan = make_plan(kGoldenModels / "moe", DType::q4_0);
    use_importance(plan, std::make_shared<const Importance>(test_importance(plan)));
    for (const PlannedTensor& tensor : plan.tensors) {
        if (tensor.spec.role != TensorRole::experts_up) continue;
        const float* first = tensor.importance->mean_square.data();
        CHECK(tensor.importance_of_row(0) == first);
        CHECK(tensor.importance_of_row(tensor.spec.dims[1] - 1) == first);
        CHECK(tensor.importance_of_row(tensor.spec.dims[1]) == first + tensor.spec.dims[0]);
    }
    const auto other = std::make_shared<const Importance>(test_importance(plan));
    ConversionPlan demo = make_plan(kDemo, DType::q4_0);
    check_contains(error_message([&] { use_importance(demo, other); }), "belongs to another model");
    auto nothing = std::make_shared<Importance>();
    nothing->source = "empty.imatrix";
    nothing->tensors["blk.99.x.weight"] = {{1}, {1}};
    check_contains(error_message([&] { use_importance(demo, nothing); }),
                   "empty.imatrix: has none of the model's tensors");
}

TEST_CASE("measured sensitivities replace the defaults and set their level") {
    const std::vector<TensorSpec> specs = {
        {TensorRole::token_embedding, -1, -1, "token_embd.weight", {32, 8, 1, 1}, 2, false},
        {TensorRole::ffn_up, 0, 0, "blk.0.ffn_up.weight", {32, 8, 1, 1}, 2, false},
        {TensorRole::ffn_down, 0, 0, "blk.0.ffn_down.weight", {32, 8, 1, 1}, 2, false}};
    const std::vector<double> defaults = sensitivities(specs, nullptr);
    CHECK(defaults[1] > defaults[2]);
    Importance importance;
    importance.sensitivity = {{"blk.0.ffn_up.weight", 10 * defaults[1]}};
    const std::vector<double> measured = sensitivities(specs, &importance);
    for (size_t i = 0; i < specs.size(); ++i)
        CHECK(measured[i] == doctest::Approx(10 * defaults[i]));
}

TEST_CASE("a sensitivity measured for a kind of tensors is the mean of its layers") {
    std::vector<TensorSpec> specs;
    for (int i = 0; i < 4; ++i)
        specs.push_back({TensorRole::ffn_up,
                         i,
                         i,
                         "blk." + std::to_string(i) + ".ffn_up.weight",
                         {32, 8, 1, 1},
                         2,
                         false});
    const std::vector<double> defaults = sensitivities(specs, nullptr);
    REQUIRE(defaults[0] > defaults[3]);
    Importance importance;
    for (const TensorSpec& spec : specs) importance.sensitivity[spec.name] = 3;
    const std::vector<double> shared = sensitivities(specs, &importance);
    CHECK(shared[0] + shared[1] + shared[2] + shared[3] == doctest::Approx(4 * 3));
    CHECK(shared[0] / shared[3] == doctest::Approx(defaults[0] / defaults[3]));
    importance.sensitivity[specs[1].name] = 7;
    CHECK(sensitivities(specs, &importance)[1] == doctest::Approx(7));
}

}  // namespace
}  // namespace nemo
