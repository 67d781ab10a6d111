// What a killed run leaves is used by the next one, but only if it is what that run would write.
#include "core/resumable_file.h"

#include "core/error.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

using namespace nemo;

namespace {

constexpr uint64_t kHead = 1000;
constexpr uint64_t kFile = (uint64_t{9} << 20) + 77;  // more than two buffers
const ResumableFile::Layout kLayout = {kHead, kFile, 42};

// All that follows the head.
std::string body() {
    std::string text;
    for (uint64_t i = 0; text.size() < kFile - kHead; ++i) text += std::to_string(i * i) + " ";
    return text.substr(0, kFile - kHead);
}

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

std::filesystem::path only_file_in(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        paths.push_back(entry.path());
    REQUIRE(paths.size() == 1);
    return paths[0];
}

// A program that is killed when it has written `n` bytes behind the head, or all and sealed them.
void write_and_die(const std::filesystem::path& target, size_t n) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ResumableFile file(target, kLayout, OnRestart::resume);
        const std::string text = body();
        for (size_t i = 0; i < n; i += 100'000)
            file.write(bytes_of(text.substr(i, std::min<size_t>(100'000, n - i))));
        if (n == text.size()) file.seal(std::string(kHead, 'h'));
        ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
}

// Resumes `n_back` bytes before the end of what is kept, if something is kept and is sound, and
// completes the file. How much was kept.
uint64_t resume_and_finish(const std::filesystem::path& target, uint64_t n_back,
                           const ResumableFile::Layout& layout = kLayout) {
    ResumableFile file(target, layout, OnRestart::resume);
    const uint64_t n_kept = file.n_kept();
    const std::string text = body();
    std::string seen;
    if (n_kept > 0) {
        const uint64_t n_used = std::max(kHead, n_kept - std::min(n_kept, n_back));
        const bool sound = file.go_on_after(n_used, [&](std::span<const std::byte> piece) {
            seen.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        });
        CHECK(sound == (file.n_written() > 0));
        if (sound) CHECK(seen == text.substr(0, n_used - kHead));
    }
    const size_t done = file.n_written() > 0 ? file.n_written() - kHead : 0;
    file.write(bytes_of(text.substr(done)));
    file.seal(std::string(kHead, 'H'));
    file.trim();
    file.publish();
    CHECK(read_file(target) == std::string(kHead, 'H') + text);
    CHECK(only_file_in(target.parent_path()) == target);
    return done;
}

void flip_byte(const std::filesystem::path& path, uint64_t offset) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ 1));
}

// Resumes in a process whose files may not grow beyond `n_limit_bytes` from then on: how it failed.
int exit_code_of_limited_run(const std::filesystem::path& target, rlim_t n_limit_bytes) {
    ResumableFile file(target, kLayout, OnRestart::resume);
    file.go_on_after(file.n_kept(), [](std::span<const std::byte>) {});
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {n_limit_bytes, n_limit_bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string rest = body().substr(file.n_written() - kHead);
    try {
        file.write(bytes_of(rest));
        file.seal(std::string(kHead, 'h'));
    } catch (const Error& error) {
        const bool is_named = std::string(error.what()).find("cannot write") != std::string::npos;
        return is_named ? static_cast<int>(error.code()) : 101;
    }
    return 100;
}

}  // namespace

TEST_CASE("a run goes on where a killed one stopped") {
    for (const uint64_t n_back : {uint64_t{0}, uint64_t{1}, uint64_t{5000}, kFile}) {
        const TempFolder folder;
        write_and_die(folder / "out", 8'600'000);
        CHECK_FALSE(std::filesystem::exists(folder / "out"));
        const uint64_t n_kept = (uint64_t{4} << 20) - kHead;  // at least the first buffer
        CHECK(resume_and_finish(folder / "out", n_back) + n_back >= n_kept);
    }
}

TEST_CASE("a sealed file that was not published only needs that") {
    const TempFolder folder;
    write_and_die(folder / "out", body().size());
    CHECK(resume_and_finish(folder / "out", 0) == body().size());
}

TEST_CASE("what is kept is used only if it is whole and belongs to this file") {
    const TempFolder folder;
    const auto begin = [&] { write_and_die(folder / "out", 8'600'000); };
    const uint64_t records = (kFile + 4095) / 4096 * 4096;

    SUBCASE("a damaged byte") {
        begin();
        flip_byte(only_file_in(folder / ""), 2'000'000);
        CHECK(resume_and_finish(folder / "out", 0) == 0);
    }
    SUBCASE("damaged records") {
        begin();
        for (const uint64_t offset : {0, 4096})
            flip_byte(only_file_in(folder / ""), records + offset + 32);
        CHECK(resume_and_finish(folder / "out", 0) == 0);
    }
    SUBCASE("another identity") {
        begin();
        ResumableFile::Layout other = kLayout;
        other.identity = 43;
        CHECK(resume_and_finish(folder / "out", 0, other) == 0);
    }
    SUBCASE("a run that does not resume") {
        begin();
        { const ResumableFile file(folder / "out", kLayout, OnRestart::start_over); }
        CHECK(std::filesystem::is_empty(folder / ""));
    }
    SUBCASE("one of two records is damaged") {
        begin();
        flip_byte(only_file_in(folder / ""), records + 4096 + 32);
        resume_and_finish(folder / "out", 0);
    }
    SUBCASE("of several leftovers the furthest") {
        write_and_die(folder / "out", 4'500'000);
        const auto first = only_file_in(folder / "");
        std::filesystem::rename(first, folder / "aside");
        write_and_die(folder / "out", body().size());
        std::filesystem::rename(folder / "aside", first);
        CHECK(resume_and_finish(folder / "out", 0) == body().size());
    }
}

TEST_CASE("a failure keeps what can be resumed, and only then") {
    const TempFolder folder;
    { ResumableFile file(folder / "out", kLayout, OnRestart::start_over); }
    CHECK(std::filesystem::is_empty(folder / ""));
    {
        ResumableFile file(folder / "out", kLayout, OnRestart::resume);
        file.write(bytes_of(body().substr(0, 5'000'000)));
    }
    CHECK(resume_and_finish(folder / "out", 0) == (uint64_t{4} << 20) - kHead);
}

// The space was reserved, but the disk takes no more all the same.
TEST_CASE("a piece that the disk refuses ends the writing, and what came before is kept") {
    const TempFolder folder;
    {
        ResumableFile file(folder / "out", kLayout, OnRestart::resume);
        file.write(bytes_of(body().substr(0, 5'000'000)));
    }
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) ::_exit(exit_code_of_limited_run(folder / "out", 6'000'000));
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == static_cast<int>(ErrorCode::runtime));
    CHECK(resume_and_finish(folder / "out", 0) == (uint64_t{4} << 20) - kHead);
}
