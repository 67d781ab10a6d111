// nemo-cli chat, left and continued: the answers are those of a chat that was never left.
#include "tests/app/chat_models.h"
#include "tests/app/process.h"

#include <doctest/doctest.h>

#include <filesystem>

using namespace nemo;
namespace fs = std::filesystem;

namespace {

struct Home {
    TempFolder folder;

    ProcessResult chat(const std::string& lines, std::vector<std::string> more = {}) const {
        std::vector<std::string> arguments = {program("nemo-cli"),
                                              "chat",
                                              "-m",
                                              chat_model(ChatFormat::nano_v2),
                                              "-c",
                                              "16384",
                                              "-n",
                                              "12",
                                              "--temp",
                                              "0",
                                              "-v"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run_process(arguments, lines,
                           {"NEMO_DATA=" + (folder / "data").string(),
                            "XDG_STATE_HOME=" + (folder / "state").string(),
                            "XDG_CACHE_HOME=" + (folder / "cache").string()});
    }
    fs::path state() const { return folder / "cache" / "nemo" / "state" / "1.state"; }
};

// "reused 8203, read 40": of the last answer.
std::string last_counts(const std::string& statistics) {
    const size_t begin = statistics.rfind("reused ");
    REQUIRE(begin != std::string::npos);
    return statistics.substr(begin, statistics.find(" in ", begin) - begin);
}

}  // namespace

TEST_CASE("a long chat that is left and continued goes on with the same answers") {
    std::string first = "What is Mamba? ";
    for (int i = 0; i < 1450; ++i) first += "word " + std::to_string(i * 7919 % 1000) + ", ";
    const Home straight, left;
    const std::string second = "And what is a token?\n", third = "/regen\n";
    const ProcessResult whole = straight.chat(first + "\n" + second + third);
    REQUIRE(whole.status == 0);

    std::string out;
    ProcessResult part = left.chat(first + "\n");
    out += part.out;
    for (const std::string& line : {second, third}) {
        part = left.chat(line, {"--continue"});
        REQUIRE(part.status == 0);
        CHECK(part.err.find("read again") == std::string::npos);
        out += part.out;
    }
    CHECK(out == whole.out);
    CHECK(last_counts(part.err) == last_counts(whole.err));
    CHECK(std::stoi(last_counts(part.err).substr(7)) > 8192);

    // The other forms of the state's file are smaller, and nothing is read again.
    const uintmax_t n_exact = fs::file_size(left.state());
    part = left.chat(second, {"--continue", "--state-form", "int8"});
    CHECK(fs::file_size(left.state()) < n_exact);
    part = left.chat(second, {"--continue"});
    CHECK(std::stoi(last_counts(part.err).substr(7)) > 8192);
}
