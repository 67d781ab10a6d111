// Importance matrices: what is written is read back, llama.cpp's two forms are understood, and no
// damaged file is believed.
#include "core/error.h"
#include "quant/importance.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace nemo {
namespace {

Importance sample() {
    Importance importance;
    importance.datasets = {"text.txt", "more.txt"};
    importance.n_chunks = 3;
    importance.chunk_size = 512;
    importance.tensors["blk.0.ssm_in.weight"] = {{0.5f, 2, 0, 1e-20f}, {1536}};
    importance.tensors["blk.1.ffn_up_exps.weight"] = {{1, 2, 1, 1, 5, 6}, {100, 0, 300}};
    importance.sensitivity = {{"blk.0.ssm_in.weight", 0.25}, {"token_embd.weight", 4}};
    return importance;
}

std::string bytes_of(const Importance& importance) {
    const TempFolder folder;
    write_importance(importance, folder / "file");
    return read_file(folder / "file");
}

Importance read_bytes(const std::string& bytes) {
    const TempFolder folder;
    write_file(folder / "file", bytes);
    return read_importance(folder / "file");
}

std::string problem_of(const std::string& bytes) {
    try {
        read_bytes(bytes);
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::bad_file);
        return error.what();
    }
    return "";
}

template <class T>
std::string raw(T value) {
    std::string text(sizeof value, '\0');
    std::memcpy(text.data(), &value, sizeof value);
    return text;
}

std::string legacy_entry(const std::string& name, int32_t n_calls, std::vector<float> values) {
    std::string text = raw(static_cast<int32_t>(name.size())) + name + raw(n_calls) +
                       raw(static_cast<int32_t>(values.size()));
    for (const float value : values) text += raw(value);
    return text;
}

std::string legacy_sample() {
    return raw(int32_t{2}) + legacy_entry("blk.0.attn_q.weight", 4, {8, 0, 2}) +
           legacy_entry("blk.1.ffn_up_exps.weight", 2, {2, 4, 6, 8}) + raw(int32_t{4}) +
           raw(int32_t{4}) + "wiki";
}

}  // namespace

TEST_CASE("an importance matrix survives its file") {
    const Importance read = read_bytes(bytes_of(sample()));
    CHECK(read.datasets == sample().datasets);
    CHECK(read.n_chunks == 3);
    CHECK(read.chunk_size == 512);
    REQUIRE(read.tensors.size() == 2);
    for (const auto& [name, expected] : sample().tensors) {
        const TensorImportance& entry = read.tensors.at(name);
        CHECK(entry.counts == expected.counts);
        REQUIRE(entry.mean_square.size() == expected.mean_square.size());
        for (size_t i = 0; i < entry.mean_square.size(); ++i)
            CHECK(entry.mean_square[i] == doctest::Approx(expected.mean_square[i]).epsilon(1e-6));
    }
    CHECK(read.find_sensitivity("token_embd.weight") == 4.0);
    CHECK(read.find_sensitivity("blk.0.ssm_in.weight") == 0.25);
    CHECK_FALSE(read.find_sensitivity("output.weight").has_value());
}

TEST_CASE("weights are found by name and fit the tensor") {
    const Importance read = read_bytes(bytes_of(sample()));
    CHECK(read.weights("blk.0.ssm_in.weight", 4, 1).size() == 4);
    const std::span<const float> experts = read.weights("blk.1.ffn_up_exps.weight", 2, 3);
    REQUIRE(experts.size() == 6);
    // The expert that saw nothing.
    CHECK(experts[2] == 1.0f);
    CHECK(experts[3] == 1.0f);
    CHECK(experts[5] == doctest::Approx(6));
    CHECK(read.weights("blk.9.ssm_in.weight", 4, 1).empty());
    CHECK_THROWS_WITH_AS(read.weights("blk.0.ssm_in.weight", 5, 1),
                         doctest::Contains("4 values, but 1 matrices of 5 columns"), Error);
    CHECK_THROWS_AS(read.weights("blk.0.ssm_in.weight", INT64_MAX, 4), Error);
    const TensorImportance& entry = read.tensors.at("blk.1.ffn_up_exps.weight");
    CHECK(entry.share(0) == 0.25);
    CHECK(entry.share(1) == 0);
    CHECK(entry.share(2) == 0.75);
    CHECK(read.tensors.at("blk.0.ssm_in.weight").share(0) == 1);
}

TEST_CASE("the legacy form") {
    const Importance read = read_bytes(legacy_sample());
    CHECK(read.n_chunks == 4);
    CHECK(read.datasets == std::vector<std::string>{"wiki"});
    CHECK(read.tensors.at("blk.0.attn_q.weight").mean_square == std::vector<float>{2, 0, 0.5f});
    CHECK(read.weights("blk.1.ffn_up_exps.weight", 2, 2)[3] == 4.0f);
    CHECK(read.tensors.at("blk.1.ffn_up_exps.weight").share(1) == 1);
    // Without what was added at the end later.
    const Importance old = read_bytes(legacy_sample().substr(0, legacy_sample().size() - 12));
    CHECK(old.tensors.size() == 2);
    CHECK(old.datasets.empty());
    CHECK(problem_of(legacy_sample() + "x").find("1 bytes follow") != std::string::npos);
}

TEST_CASE("hostile importance files are refused") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float value : {nan, infinity, -infinity, -1.0f}) {
        Importance bad = sample();
        bad.tensors["blk.0.ssm_in.weight"].mean_square[1] = value;
        CHECK(problem_of(bytes_of(bad)).find("blk.0.ssm_in.weight.in_sum2") != std::string::npos);
        bad = sample();
        bad.sensitivity["token_embd.weight"] = value;
        CHECK(problem_of(bytes_of(bad)).find("nemo.sensitivity.values") != std::string::npos);
        CHECK_FALSE(problem_of(raw(int32_t{1}) + legacy_entry("a", 1, {1, value})).empty());
    }
    Importance bad = sample();
    bad.tensors["blk.0.ssm_in.weight"].counts = {-3};
    CHECK(problem_of(bytes_of(bad)).find("none below 0") != std::string::npos);
    bad = sample();
    bad.tensors["blk.0.ssm_in.weight"].counts = {INT64_MAX};
    CHECK(problem_of(bytes_of(bad)).find("rows") != std::string::npos);

    const std::string good = bytes_of(sample());
    std::string renamed = good;
    const size_t at = renamed.rfind("blk.0.ssm_in.weight.counts");
    REQUIRE(at != std::string::npos);
    renamed.replace(at, 5, "blk.7");
    CHECK(problem_of(renamed).find("but no blk.0.ssm_in.weight.counts") != std::string::npos);
    std::string model = good;
    model.replace(model.find("imatrix"), 7, "matrixx");
    CHECK(problem_of(model).find("not an importance matrix") != std::string::npos);
    // The last of it is padding.
    for (size_t n = 0; n + 20 < good.size(); ++n)
        CHECK_FALSE(problem_of(good.substr(0, n)).empty());

    CHECK(problem_of("").find("number of entries") != std::string::npos);
    CHECK_FALSE(problem_of(raw(int32_t{0})).empty());
    CHECK_FALSE(problem_of(raw(int32_t{INT32_MAX})).empty());
    CHECK_FALSE(problem_of(raw(int32_t{1}) + legacy_entry("", 1, {1})).empty());
    CHECK_FALSE(problem_of(raw(int32_t{1}) + legacy_entry("a\xff", 1, {1})).empty());
    CHECK_FALSE(problem_of(raw(int32_t{1}) + legacy_entry("a", -1, {1})).empty());
    CHECK_FALSE(problem_of(raw(int32_t{1}) + legacy_entry("a", 1, {})).empty());
    CHECK(problem_of(raw(int32_t{2}) + legacy_entry("a", 1, {1}) + legacy_entry("a", 1, {1}))
              .find("twice") != std::string::npos);
    CHECK_FALSE(problem_of(raw(int32_t{1}) + raw(int32_t{1}) + "a" + raw(int32_t{1}) +
                           raw(int32_t{INT32_MAX}) + raw(1.0f))
                    .empty());
    // A legacy file is whole at three places only: after the entries and the two extras.
    const std::string legacy = legacy_sample();
    int n_whole = 0;
    for (size_t n = 0; n < legacy.size(); ++n) n_whole += problem_of(legacy.substr(0, n)).empty();
    CHECK(n_whole == 2);
}

TEST_CASE("the relative error weighs columns and matrices") {
    const float original[] = {1, 2};
    const float decoded[] = {1, 1};
    const float weights[] = {3, 0.5f};
    RelativeError plain;
    plain.add_row(original, decoded, nullptr, 2);
    CHECK(plain.value() == doctest::Approx(1.0 / 5));
    RelativeError weighted;
    weighted.add_row(original, decoded, weights, 2, 0.25);
    CHECK(weighted.value() == doctest::Approx(0.5 / 5));
    plain.add(weighted);
    CHECK(plain.value() == doctest::Approx((1 + 0.125) / (5 + 1.25)));
    CHECK(RelativeError().value() == 0);
    const float zeros[] = {0, 0};
    RelativeError of_zeros;
    of_zeros.add_row(zeros, zeros, nullptr, 2);
    CHECK(of_zeros.value() == 0);
    of_zeros.add_row(zeros, decoded, nullptr, 2);
    CHECK(std::isinf(of_zeros.value()));
}

}  // namespace nemo
