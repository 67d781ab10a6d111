// The choice of the instruction tier, and that tier code cannot leak into the rest of the program.
#include "core/error.h"
#include "tests/kernels/helpers.h"

#include <cstdio>
#include <memory>
#include <set>
#include <sstream>

using namespace nemo;

namespace {

std::string message_for(const std::string& forced) {
    try {
        choose_cpu_tier(forced);
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::usage);
        return error.what();
    }
    return "";
}

std::string output_of(const std::string& command) {
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
    REQUIRE(pipe != nullptr);
    std::string text;
    char buffer[4096];
    while (const size_t n = fread(buffer, 1, sizeof buffer, pipe.get())) text.append(buffer, n);
    return text;
}

}  // namespace

TEST_CASE("the forced tier is taken, nothing forced means the best") {
    for (const CpuTier tier : tiers_here()) CHECK(choose_cpu_tier(cpu_tier_name(tier)) == tier);
    CHECK(choose_cpu_tier("") == tiers_here().back());
}

TEST_CASE("an unknown tier is refused with the variable, the value and what is accepted") {
    for (const char* name : {"AVX2", "neon", "avx2 "}) {
        const std::string message = message_for(name);
        CHECK(message.find("NEMO_CPU=" + std::string(name)) != std::string::npos);
        CHECK(message.find("scalar, avx2, avxvnni, avx512") != std::string::npos);
    }
}

TEST_CASE("a tier the processor lacks is refused") {
    for (const CpuTier tier : {CpuTier::avx2, CpuTier::avxvnni, CpuTier::avx512})
        if (!cpu_tier_supported(tier))
            CHECK(message_for(name_of(tier)).find("cannot run it") != std::string::npos);
}

// A function with vague or global linkage in these objects could be chosen by the linker for
// everyone and crash on older processors. Code symbols only: sanitizers add data symbols of their
// own.
TEST_CASE("tier objects define no function that others could link to") {
    std::istringstream lines(
        output_of("nm -A --defined-only " NEMO_BINARY_DIR "/libnemo_kernels.a 2>/dev/null"));
    std::set<std::string> tables;
    for (std::string line; std::getline(lines, line);) {
        if (line.find("tier_avx") == std::string::npos) continue;
        std::istringstream fields(line.substr(line.rfind(':') + 1));
        std::string address, kind, name;
        fields >> address >> kind >> name;
        CAPTURE(line);
        CHECK(std::string("TWi").find(kind) == std::string::npos);
        if (name.find("Ops") != std::string::npos && std::isupper(kind[0])) tables.insert(name);
    }
    CHECK(tables.size() >= 3);
}
