// The house rules that a compiler does not check: who may include whom, and where libraries may
// show.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

// core <- quant <- kernels <- models <- app; convert needs the models' data-only parts, which
// includes the shapes of kernels/backend.h.
const std::map<std::string, std::set<std::string>> kAllowed = {
    {"core", {"core"}},
    {"quant", {"core", "quant"}},
    {"kernels", {"core", "quant", "kernels"}},
    {"models", {"core", "quant", "kernels", "models"}},
    {"convert", {"core", "quant", "models", "convert"}},
    {"app", {"core", "quant", "kernels", "models", "app"}},
};

std::vector<fs::path> sources(const std::string& folder) {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(NEMO_SOURCE_DIR) / folder)) {
        const std::string extension = entry.path().extension().string();
        if (extension == ".cpp" || extension == ".h" || extension == ".inl")
            paths.push_back(entry.path());
    }
    return paths;
}

std::vector<std::string> lines(const fs::path& path) {
    std::ifstream file(path);
    std::vector<std::string> result;
    for (std::string line; std::getline(file, line);) result.push_back(line);
    return result;
}

// Headers of other people's libraries (the standard library's have no slash or extension).
bool is_third_party(const std::string& header) {
    static const std::set<std::string> kSingle = {
        "pcre2.h", "utf8proc.h", "sqlite3.h", "zstd.h", "histedit.h", "sentencepiece_processor.h"};
    return kSingle.count(header) > 0 || header.starts_with("rapidjson/") ||
           header.starts_with("CLI/") || header.starts_with("fmt/");
}

}  // namespace

TEST_CASE("folders include only what lies below them") {
    const std::regex ours("#include \"([a-z]+)/.*");
    int n_includes = 0;
    for (const auto& [folder, allowed] : kAllowed) {
        for (const fs::path& path : sources(folder)) {
            for (const std::string& line : lines(path)) {
                std::smatch match;
                if (!std::regex_match(line, match, ours)) continue;
                ++n_includes;
                CAPTURE(path);
                CAPTURE(line);
                CHECK(allowed.count(match[1]) == 1);
            }
        }
    }
    CHECK(n_includes > 100);
}

TEST_CASE("libraries show in implementation files only") {
    const std::regex other("#include <([^>]+)>.*");
    int n_found = 0;
    for (const auto& [folder, allowed] : kAllowed) {
        for (const fs::path& path : sources(folder)) {
            for (const std::string& line : lines(path)) {
                std::smatch match;
                if (!std::regex_match(line, match, other) || !is_third_party(match[1])) continue;
                ++n_found;
                CAPTURE(path);
                CAPTURE(line);
                // The one exception: error.h formats messages.
                const bool is_error_header = match[1] == "fmt/core.h" && path.stem() == "error";
                CHECK((path.extension() == ".cpp" || is_error_header));
            }
        }
    }
    CHECK(n_found > 3);
}

TEST_CASE("no source file is longer than a reader's patience") {
    constexpr size_t kMaxLines = 500;
    for (const auto& [folder, allowed] : kAllowed) {
        for (const fs::path& path : sources(folder)) {
            CAPTURE(path);
            CHECK(lines(path).size() <= kMaxLines);
        }
    }
}
