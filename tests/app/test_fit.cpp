// Files of a given size against the fixed mixes of the same size, by what counts: how far their
// predictions are from those of the unquantized model.
#include "tests/app/process.h"

#include <doctest/doctest.h>

namespace nemo {
namespace {

const std::string kDemo = std::string(NEMO_SOURCE_DIR) + "/assets/demo";

double mean_divergence(const std::string& model, const std::string& base) {
    const ProcessResult result =
        run_process({program("nemo-cli"), "perplexity", "-m", model, "--kl", base});
    REQUIRE(result.status == 0);
    const std::string label = "KL divergence mean ";
    return std::stod(result.out.substr(result.out.find(label) + label.size()));
}

TEST_CASE("nemo-convert --fit beats the fixed mix of the same size") {
    const TempFolder folder;
    const auto path = [&](const char* name) { return (folder / name).string(); };
    const auto convert = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {program("nemo-convert"), kDemo});
        const ProcessResult result = run_process(std::move(arguments));
        REQUIRE_MESSAGE(result.status == 0, result.err);
        return result;
    };
    convert({path("f32.gguf"), "--type", "F32"});
    REQUIRE(run_process({program("nemo-cli"), "perplexity", "-m", path("f32.gguf"), "-f",
                         kDemo + "/questions.tsv", "-c", "64", "--kl-base", path("base")})
                .status == 0);
    for (const char* mix : {"Q3_K_M", "Q4_K_M", "Q5_K_M"}) {
        CAPTURE(mix);
        convert({path("mix.gguf"), "--type", mix, "--force"});
        const auto n_bytes = std::filesystem::file_size(folder / "mix.gguf");
        const ProcessResult result =
            convert({path("fit.gguf"), "--fit", std::to_string(n_bytes), "--force"});
        CHECK(contains(result.err, "predicted damage"));
        const auto n_fitted = std::filesystem::file_size(folder / "fit.gguf");
        CHECK(n_fitted <= n_bytes);
        CHECK(n_fitted > n_bytes / 100 * 99);
        CHECK(mean_divergence(path("fit.gguf"), path("base")) <
              0.8 * mean_divergence(path("mix.gguf"), path("base")));
    }
}

TEST_CASE("nemo-convert refuses sizes that make no sense") {
    const auto run = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {program("nemo-convert"), kDemo, "--dry-run"});
        return run_process(std::move(arguments));
    };
    CHECK(run({"--fit", "1MB"}).status == 2);
    CHECK(run({"--fit", "big"}).status == 2);
    for (const char* bits : {"0", "-1", "nan", "few"})
        CHECK(contains(run({"--bpw", bits}).err, "is no number above 0"));
    CHECK(contains(run({"--bpw", "2"}).err, "2 bits per weight are too few: 2.7"));
    CHECK(contains(run({"--bpw", "4", "--fit", "3MB"}).err, "exclude each other"));
    CHECK(run({"--bpw", "4", "--type", "Q4_K_M"}).status == 2);
    CHECK(run({"--tensor-type", "attn_v"}).status == 2);
    CHECK(run({"--tensor-type", "attn_v=Q9"}).status == 2);
    CHECK(contains(run({"--tensor-type", "attn_v=Q4_K_M"}).err, "Q4_K_M is a mix"));
    CHECK(contains(run({"--imatrix", kDemo + "/config.json"}).err, "not an importance matrix"));
    CHECK(run({"--imatrix", kDemo + "/config.json"}).status == 3);
    const ProcessResult plan = run({"--fit", "3MB"});
    CHECK(plan.status == 0);
    CHECK(contains(plan.out, "what other sizes would cost"));
}

}  // namespace
}  // namespace nemo
