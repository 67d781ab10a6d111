// Results split into several files.
#include "checkpoint_fixture.h"
#include "convert/convert.h"
#include "core/model_file.h"

#include <cstring>

namespace nemo {
namespace {

const ProgressCallback kSilent = [](const ConvertProgress&) {};

void check_same_tensors(const ModelFile& a, const ModelFile& b) {
    REQUIRE(a.tensors().size() == b.tensors().size());
    for (size_t i = 0; i < a.tensors().size(); ++i) {
        const TensorView& left = a.tensors()[i];
        const TensorView& right = b.tensors()[i];
        CHECK(left.name == right.name);
        REQUIRE(left.dtype == right.dtype);
        REQUIRE(left.dims == right.dims);
        CHECK(std::memcmp(left.data, right.data, static_cast<size_t>(left.n_bytes())) == 0);
    }
}

TEST_CASE("a split result has the same tensors in files below the limit") {
    const TempFolder folder;
    ConversionPlan plan = make_plan(kGoldenModels / "moe", DType::q8_0);
    write_model(plan, folder / "whole.gguf", 1, kSilent);
    CHECK(planned_parts(plan).size() == 1);
    plan.max_part_bytes = uint64_t{1} << 40;
    CHECK(planned_parts(plan).size() == 1);
    CHECK_FALSE(planned_parts(plan)[0].metadata.contains("split.count"));

    const uint64_t n_bytes = std::filesystem::file_size(folder / "whole.gguf");
    plan.max_part_bytes = n_bytes * 2 / 3;
    const size_t n_parts = planned_parts(plan).size();
    REQUIRE(n_parts >= 2);
    write_model(plan, folder / "m.gguf", 1, kSilent);
    CHECK_FALSE(std::filesystem::exists(folder / "m.gguf"));
    for (size_t i = 0; i < n_parts; ++i)
        CHECK(std::filesystem::file_size(part_path(folder / "m.gguf", i, n_parts)) <=
              plan.max_part_bytes);
    const ModelFile whole = ModelFile::open(folder / "whole.gguf");
    const ModelFile split = ModelFile::open(part_path(folder / "m.gguf", 1, n_parts));
    check_same_tensors(whole, split);
    for (const auto& [key, value] : whole.metadata().entries())
        CHECK(split.metadata().contains(key));
    CHECK(split.metadata().find("split.no")->type == GgufType::u16);
    CHECK(split.metadata().find("split.count")->type == GgufType::u16);
    CHECK(split.metadata().find("split.tensors.count")->type == GgufType::i32);
}

TEST_CASE("a limit that one tensor exceeds is refused") {
    ConversionPlan plan = make_plan(kGoldenModels / "dense", DType::f32);
    plan.max_part_bytes = 20000;
    check_contains(error_message([&] { planned_parts(plan); }, ErrorCode::usage),
                   "cannot be split into files of 20000 bytes: the one with tensor token_embd");
}

TEST_CASE("parts are named as llama.cpp names them") {
    CHECK(part_path("a/m.gguf", 0, 1) == "a/m.gguf");
    CHECK(part_path("a/m.gguf", 1, 3) == "a/m-00002-of-00003.gguf");
    CHECK(part_path("a/m.Q8_0", 0, 2) == "a/m.Q8_0-00001-of-00002.gguf");
}

}  // namespace
}  // namespace nemo
