// nemo-convert ended at random moments: the target is at each of them the old file or the complete
// new one, and --resume ends with the bytes that an undisturbed run writes.
//
// NEMO_TEST_KILLS=200 runs more than the default.
#include "tests/app/process.h"

#include <doctest/doctest.h>

#include <sys/mount.h>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <thread>

namespace nemo {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

void make_checkpoint(const std::filesystem::path& folder) {
    REQUIRE(run_process({program("tests/make_checkpoint"), "tiny-mlp", folder.string()}).status ==
            0);
}

// Runs nemo-convert and sends `signal` as soon as `is_due`. Its exit status, and what it printed.
ProcessResult run_until(const std::vector<std::string>& arguments, int signal,
                        const std::function<bool()>& is_due) {
    const TempFolder folder;
    const std::string err = (folder / "err").string();
    std::string tool = program("nemo-convert");
    std::vector<char*> pointers = {tool.data()};
    std::vector<std::string> copies = arguments;
    for (std::string& argument : copies) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const int file = ::open(err.c_str(), O_WRONLY | O_CREAT, 0600);
        ::dup2(file, STDERR_FILENO);
        ::execv(tool.c_str(), pointers.data());
        ::_exit(127);
    }
    int status = 0;
    while (!is_due()) {
        if (::waitpid(child, &status, WNOHANG) == child)
            return {decode_status(status), "", read_file(err)};
        std::this_thread::sleep_for(microseconds(200));
    }
    ::kill(child, signal);
    REQUIRE(::waitpid(child, &status, 0) == child);
    return {decode_status(status), "", read_file(err)};
}

ProcessResult run_until(const std::vector<std::string>& arguments, int signal, microseconds delay) {
    const auto end = Clock::now() + delay;
    return run_until(arguments, signal, [&] { return Clock::now() >= end; });
}

struct Rounds {
    int n_killed = 0;
    int n_resumed = 0;  // of the runs that completed
    int n_complete = 0;
};

// The files of a result, one or several.
class Targets {
public:
    explicit Targets(const std::filesystem::path& folder) : folder_(folder) {
        for (const std::string& name : names_in(folder)) whole_[name] = read_file(folder / name);
    }

    size_t size() const { return whole_.size(); }
    void make_old() const {
        for (const auto& [name, bytes] : whole_) write_file(folder_ / name, "old");
    }
    // Each is the old or the new one; how many are new.
    size_t n_new() const {
        size_t n = 0;
        for (const auto& [name, bytes] : whole_) {
            const std::string found = read_file(folder_ / name);
            CHECK((found == "old" || found == bytes));
            n += found == bytes;
        }
        return n;
    }
    bool has_nothing_beside_them() const { return names_in(folder_).size() == whole_.size(); }

private:
    std::filesystem::path folder_;
    std::map<std::string, std::string> whole_;  // by name: what an undisturbed run writes
};

// Converts again and again with --resume over an old result of `n_files` files, until `n_kills`
// runs were ended.
Rounds kill_and_resume(const TempFolder& folder, size_t n_files, int n_kills, int signal,
                       const std::vector<std::string>& options) {
    std::filesystem::remove_all(folder / "out");
    std::filesystem::create_directory(folder / "out");
    std::vector<std::string> arguments = {(folder / "in").string(),
                                          (folder / "out/m.gguf").string(), "--force", "--resume"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const auto start = Clock::now();
    REQUIRE(run_until(arguments, 0, microseconds(0)).status == 0);
    const auto duration = std::chrono::duration_cast<microseconds>(Clock::now() - start);
    const Targets targets(folder / "out");
    REQUIRE(targets.size() == n_files);
    targets.make_old();

    Rounds rounds;
    std::mt19937 random(7);
    while (rounds.n_killed < n_kills) {
        const auto delay =
            microseconds(std::uniform_int_distribution<int64_t>(0, duration.count())(random));
        const ProcessResult result = run_until(arguments, signal, delay);
        const bool is_complete = targets.n_new() == targets.size();
        CHECK((result.status != 0 || is_complete));
        rounds.n_killed += result.status != 0;
        if (!is_complete) continue;
        ++rounds.n_complete;
        rounds.n_resumed += contains(result.err, "resumed: ");
        targets.make_old();
    }
    const ProcessResult last = run_until(arguments, 0, microseconds(0));
    CHECK(last.status == 0);
    ++rounds.n_complete;
    rounds.n_resumed += contains(last.err, "resumed: ");
    CHECK(targets.n_new() == targets.size());
    CHECK(targets.has_nothing_beside_them());
    return rounds;
}

TEST_CASE("nemo-convert killed at random moments loses nothing and resumes") {
    const TempFolder folder;
    make_checkpoint(folder / "in");
    const char* text = std::getenv("NEMO_TEST_KILLS");
    const int n_kills = text != nullptr ? std::stoi(text) : 24;
    const auto check = [&](size_t n_files, int n, int signal,
                           const std::vector<std::string>& options) {
        const Rounds rounds = kill_and_resume(folder, n_files, n, signal, options);
        MESSAGE(rounds.n_killed, " killed, ", rounds.n_complete, " completed, ", rounds.n_resumed,
                " of them resumed");
    };
    check(1, n_kills, SIGKILL, {"--type", "Q8_0"});
    check(2, n_kills / 2, SIGKILL, {"--type", "Q8_0", "--split-max-size", "12700000"});
    check(1, 3, SIGINT, {"--type", "Q4_K_M"});
}

TEST_CASE("nemo-convert --resume does not go on with another input or another type") {
    const TempFolder folder;
    make_checkpoint(folder / "in");
    std::filesystem::create_directory(folder / "out");
    const std::string out = (folder / "out/m.gguf").string();
    const std::string in = (folder / "in").string();
    // Ends when the temporary file holds something to resume.
    const auto has_partial = [&] {
        for (const std::string& name : names_in(folder / "out")) {
            std::error_code gone;
            const uintmax_t n_bytes = std::filesystem::file_size(folder / ("out/" + name), gone);
            if (name != "m.gguf" && !gone && n_bytes > 20'000'000) return true;
        }
        return false;
    };
    const auto leave_partial = [&] {
        run_until({in, out, "--resume", "--force", "--type", "F32"}, SIGKILL, has_partial);
        REQUIRE(has_partial());
    };
    leave_partial();
    const ProcessResult other_type =
        run_process({program("nemo-convert"), in, out, "--resume", "--force", "--type", "Q8_0"});
    CHECK(other_type.status == 0);
    CHECK_FALSE(contains(other_type.err, "resumed"));
    CHECK(names_in(folder / "out") == std::vector<std::string>{"m.gguf"});

    leave_partial();
    for (const auto& entry : std::filesystem::directory_iterator(in))
        std::filesystem::last_write_time(entry.path(),
                                         std::filesystem::file_time_type::clock::now());
    const ProcessResult other_input =
        run_process({program("nemo-convert"), in, out, "--resume", "--force", "--type", "F32"});
    CHECK(other_input.status == 0);
    CHECK_FALSE(contains(other_input.err, "resumed"));
}

// A file system of 24 MB, where we may mount one.
class SmallDisk {
public:
    explicit SmallDisk(const std::filesystem::path& path) : path_(path) {
        std::filesystem::create_directory(path);
        mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=24m") == 0;
    }
    ~SmallDisk() {
        if (mounted_) ::umount(path_.c_str());
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    bool mounted() const { return mounted_; }

private:
    std::filesystem::path path_;
    bool mounted_ = false;
};

TEST_CASE("nemo-convert refuses a disk that is too small before it starts") {
    const TempFolder folder;
    make_checkpoint(folder / "in");
    const SmallDisk disk(folder / "disk");
    if (!disk.mounted()) return;  // not root; files that may not grow are tested elsewhere
    write_file(folder / "disk/m.gguf", "old");
    const ProcessResult result = run_process({program("nemo-convert"), (folder / "in").string(),
                                              (folder / "disk/m.gguf").string(), "--force"});
    CHECK(result.status == 1);
    CHECK(contains(result.err, "bytes free, "));
    CHECK(contains(result.err, " are needed"));
    CHECK(read_file(folder / "disk/m.gguf") == "old");
    CHECK(names_in(folder / "disk") == std::vector<std::string>{"m.gguf"});
    CHECK(run_process({program("nemo-convert"), (folder / "in").string(),
                       (folder / "disk/m.gguf").string(), "--force", "--type", "Q4_0"})
              .status == 0);
}

}  // namespace
}  // namespace nemo
