// nemo-convert as a user runs it: streams, exit codes, interruption.
#include "core/json.h"
#include "core/model_file.h"
#include "tests/app/process.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

namespace nemo {
namespace {

const std::string kDense = std::string(NEMO_SOURCE_DIR) + "/tests/golden/models/dense";

ProcessResult run_convert(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program("nemo-convert"));
    return run_process(std::move(arguments));
}

size_t n_entries(const std::filesystem::path& folder) {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST_CASE("nemo-convert writes a file and says so on standard error only") {
    const TempFolder folder;
    const std::string out = (folder / "out.gguf").string();
    const ProcessResult result = run_convert({kDense, out, "--type", "q4_0", "--threads", "2"});
    CHECK(result.status == 0);
    CHECK(result.out.empty());
    CHECK(contains(result.err, "wrote " + out + ": 32 tensors, "));
    CHECK(result.err.find_first_of("\r\x1b") == std::string::npos);
    CHECK(ModelFile::open(out).metadata().get_integer("general.file_type") == 2);

    const ProcessResult again = run_convert({kDense, out, "F16"});
    CHECK(again.status == 1);
    CHECK(contains(again.err, "exists already; --force"));
    // Before anything is measured, which would find the size too small.
    CHECK(run_convert({kDense, out, "--fit", "1"}).status == 1);
    CHECK(run_convert({kDense, "--outfile", out, "--outtype", "F16", "--force"}).status == 0);
    CHECK(ModelFile::open(out).metadata().get_integer("general.file_type") == 1);
}

TEST_CASE("nemo-convert --dry-run prints the plan and writes nothing") {
    const TempFolder folder;
    const ProcessResult result = run_convert({kDense, (folder / "out.gguf").string(), "--dry-run"});
    CHECK(result.status == 0);
    CHECK(contains(result.out, "token_embd.weight"));
    CHECK(result.err.empty());
    CHECK(n_entries(folder / "") == 0);
    CHECK(run_convert({kDense, "--dry-run"}).out == result.out);
    for (const char* part : {"bits per weight", "memory to run it", "\n131072 "})
        CHECK(contains(result.out, part));
}

TEST_CASE("nemo-convert edits, splits, merges and requantizes GGUF files") {
    const TempFolder folder;
    const std::string whole = (folder / "whole.gguf").string();
    const std::string out = (folder / "out.gguf").string();
    REQUIRE(run_convert({kDense, whole, "F16"}).status == 0);
    const ProcessResult split = run_convert({whole, out, "--split-max-size", "100k"});
    CHECK(split.status == 0);
    CHECK(contains(split.err, "out-00001-of-00002.gguf to "));
    CHECK(run_convert({(folder / "out-00002-of-00002.gguf").string(), out}).status == 0);
    CHECK(read_file(out) == read_file(whole));

    CHECK(run_convert({whole, out, "--force", "--set", "general.name=Mine", "--set", "my.key:u8=5",
                       "--unset", "general.type"})
              .status == 0);
    const GgufMetadata edited = ModelFile::open(out).metadata();
    CHECK(edited.get_string("general.name") == "Mine");
    CHECK(edited.get_integer("my.key") == 5);
    CHECK_FALSE(edited.contains("general.type"));

    REQUIRE(run_convert({whole, out, "--force", "--type", "q8_0"}).status == 0);
    CHECK(contains(run_convert({"verify", out}).out, "sound; 32 tensors"));
    const ProcessResult twice = run_convert({out, "--dry-run", "--type", "q4_0"});
    CHECK(contains(twice.err, "quantized a second time, from Q8_0"));
    CHECK(contains(twice.out, "memory to run it"));
}

TEST_CASE("nemo-convert refuses what would harm a GGUF file") {
    const TempFolder folder;
    const std::string in = (folder / "in.gguf").string();
    const std::string out = (folder / "out.gguf").string();
    REQUIRE(run_convert({kDense, in}).status == 0);
    const std::string bytes = read_file(in);
    const ProcessResult same = run_convert({in, in, "--force"});
    CHECK(same.status == 1);
    CHECK(contains(same.err, "part of the input"));
    write_file(out, "{{ messages[0].content }}");
    for (const char* option : {"--chat-template", "--imatrix"}) {
        const ProcessResult read_too = run_convert({in, out, "--force", option, out});
        CHECK(read_too.status == 2);
        CHECK(contains(read_too.err, "out.gguf: is read, and so cannot be written"));
    }
    std::filesystem::remove(out);
    CHECK(run_convert({in, out, "--set", "general.name"}).status == 2);
    CHECK(run_convert({in, out, "--set", "new.key=1"}).status == 2);
    CHECK(run_convert({in, out, "--set", "split.count:u16=2"}).status == 2);
    CHECK(run_convert({in, out, "--split-max-size", "1k"}).status == 2);
    CHECK(run_convert({in, out, "--split-max-size", "much"}).status == 2);
    CHECK(run_convert({in, out, "--tokenizer", (folder / "none").string()}).status == 3);
    CHECK(run_convert({in, out, "--chat-template", (folder / "none").string()}).status == 3);
    write_file(folder / "cut.gguf", bytes.substr(0, bytes.size() - 100));
    CHECK(run_convert({(folder / "cut.gguf").string(), out}).status == 3);
    CHECK(read_file(in) == bytes);
    CHECK(n_entries(folder / "") == 2);
}

TEST_CASE("nemo-convert's mistakes have the documented exit codes") {
    const TempFolder folder;
    const std::string out = (folder / "out.gguf").string();
    CHECK(run_convert({}).status == 2);
    CHECK(run_convert({kDense}).status == 2);
    CHECK(run_convert({kDense, out, "--no-such-option"}).status == 2);
    CHECK(run_convert({kDense, out, "--threads", "0"}).status == 2);
    const ProcessResult unknown = run_convert({kDense, out, "--type", "Q9"});
    CHECK(unknown.status == 2);
    CHECK(contains(unknown.err, "F32, F16, BF16, Q8_0, Q4_0"));
    CHECK(run_convert({(folder / "nowhere").string(), out}).status == 3);
    const std::string too_long(300, 'n');
    const ProcessResult no_input = run_convert({too_long, out});
    CHECK(no_input.status == 3);
    CHECK(contains(no_input.err, too_long + ": cannot open: File name too long"));
    const ProcessResult no_output = run_convert({kDense, too_long});
    CHECK(no_output.status == 1);
    CHECK(no_output.err == "nemo-convert: " + too_long + ": File name too long\n");
    CHECK(run_convert({kDense, (folder / "no/such/folder.gguf").string()}).status == 1);
    CHECK(n_entries(folder / "") == 0);
    const ProcessResult help = run_convert({"--help"});
    CHECK(help.status == 0);
    CHECK(contains(help.out, "Examples:"));
    CHECK(run_convert({"--version"}).out.starts_with("nemo-convert "));
}

TEST_CASE("nemo-convert looks at tokenizer and chat template before it writes") {
    const TempFolder folder;
    const std::string in = (folder / "in").string();
    const std::string out = (folder / "out.gguf").string();
    std::filesystem::copy(kDense, in);
    write_file(folder / "in/chat_template.jinja", "{{ messages[0] ");
    const ProcessResult warned = run_convert({in, out});
    CHECK(warned.status == 0);
    CHECK(contains(warned.err, "warning: nemo cannot use the chat template:1:"));
    write_file(folder / "good.jinja", "{{ messages[0].content }}");
    const std::string good = (folder / "good.jinja").string();
    CHECK_FALSE(
        contains(run_convert({in, out, "--force", "--chat-template", good}).err, "warning"));

    std::string json = read_file(folder / "in/tokenizer.json");
    const size_t merges = json.find('[', json.find("\"merges\""));
    REQUIRE(merges != std::string::npos);
    write_file(folder / "in/tokenizer.json", json.insert(merges + 1, "[\"no\", \"such\"],"));
    const ProcessResult refused = run_convert({in, "--dry-run"});
    CHECK(refused.status == 3);
    CHECK(contains(refused.err, "/in: tokenizer: merge 0 'no such'"));
}

TEST_CASE("nemo-convert and pipes that close or disks that are full") {
    const std::string dry_run = program("nemo-convert") + " " + kDense + " --dry-run";
    CHECK(run_shell("(sleep 0.2; " + dry_run + ") | true; exit ${PIPESTATUS[0]}").status == 141);
    CHECK(run_shell(dry_run + " > /dev/full").status == 1);
    CHECK(run_shell(program("nemo-convert") + " --help > /dev/full").status == 1);
    const TempFolder folder;
    const std::string convert = program("nemo-convert") + " " + kDense + " '";
    CHECK(run_shell("ulimit -f 10; " + convert + (folder / "a").string() + "'").status == 1);
    CHECK(n_entries(folder / "") == 0);
    CHECK(run_shell(convert + (folder / "a").string() + "' <&- >&- 2>&-").status == 0);
    CHECK(run_shell(convert + (folder / "b").string() + "'").status == 0);
    CHECK(read_file(folder / "a") == read_file(folder / "b"));
}

// A checkpoint of zeros that takes a second to convert and no space on disk.
void write_sparse_checkpoint(const std::filesystem::path& folder) {
    constexpr int64_t kWidth = 1 << 21;
    std::filesystem::create_directory(folder);
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
        std::filesystem::copy_file(kDense + "/" + name, folder / name);
    }
    write_file(folder / "config.json",
               R"({"architectures": ["NemotronHForCausalLM"], "hybrid_override_pattern": "-",
                   "hidden_size": 64, "vocab_size": 264, "tie_word_embeddings": true,
                   "intermediate_size": )" +
                   std::to_string(kWidth) + "}");
    std::string header = "{";
    int64_t offset = 0;
    const auto add = [&](const std::string& name, const std::string& shape, int64_t n_elements) {
        header += (header.size() > 1 ? ",\"" : "\"") + name + R"(":{"dtype":"BF16","shape":[)" +
                  shape + R"(],"data_offsets":[)" + std::to_string(offset) + ",";
        offset += 2 * n_elements;
        header += std::to_string(offset) + "]}";
    };
    const std::string width = std::to_string(kWidth);
    add("backbone.embeddings.weight", "264,64", 264 * 64);
    add("backbone.layers.0.norm.weight", "64", 64);
    add("backbone.layers.0.mixer.up_proj.weight", width + ",64", 64 * kWidth);
    add("backbone.layers.0.mixer.down_proj.weight", "64," + width, 64 * kWidth);
    add("backbone.norm_f.weight", "64", 64);
    header += "}";
    std::string length(8, '\0');
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
    write_file(folder / "model.safetensors", length + header);
    std::filesystem::resize_file(folder / "model.safetensors",
                                 8 + header.size() + static_cast<uint64_t>(offset));
}

// Starts a conversion onto an existing file and sends `signal` once it has begun to write.
int interrupted_status(const TempFolder& folder, int signal) {
    const std::string in = (folder / "in").string();
    const std::string out = (folder / "out/model.gguf").string();
    const std::string tool = program("nemo-convert");
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::execl(tool.c_str(), tool.c_str(), in.c_str(), out.c_str(), "--force", nullptr);
        ::_exit(127);
    }
    int status = 0;
    while (n_entries(folder / "out") < 2) {
        if (::waitpid(child, &status, WNOHANG) == child) return decode_status(status);
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    ::kill(child, signal);
    REQUIRE(::waitpid(child, &status, 0) == child);
    return decode_status(status);
}

TEST_CASE("nemo-convert interrupted or killed leaves the old file whole") {
    const TempFolder folder;
    write_sparse_checkpoint(folder / "in");
    std::filesystem::create_directory(folder / "out");
    write_file(folder / "out/model.gguf", "old");
    CHECK(interrupted_status(folder, SIGINT) == 130);
    CHECK(n_entries(folder / "out") == 1);
    CHECK(read_file(folder / "out/model.gguf") == "old");
    CHECK(interrupted_status(folder, SIGKILL) == 128 + SIGKILL);
    CHECK(read_file(folder / "out/model.gguf") == "old");
    CHECK(n_entries(folder / "out") == 2);
    // The next run removes what the killed one could not.
    CHECK(run_convert({kDense, (folder / "out/model.gguf").string(), "--force"}).status == 0);
    CHECK(n_entries(folder / "out") == 1);
}

TEST_CASE("nemo-convert inspect prints metadata and tensors") {
    const TempFolder folder;
    const std::string file = (folder / "m.gguf").string();
    REQUIRE(run_convert({kDense, file}).status == 0);
    const ProcessResult text = run_convert({"inspect", file});
    CHECK(text.status == 0);
    CHECK(text.err.empty());
    for (const char* part : {"general.architecture", "\"nemotron_h\"", "token_embd.weight"})
        CHECK(contains(text.out, part));
    const ProcessResult json = run_convert({"inspect", "--json", file});
    CHECK(json.status == 0);
    CHECK(parse_json(json.out, "output").find("tensors")->array().size() == 32);
    CHECK(run_convert({"inspect"}).status == 2);
    CHECK(run_convert({"inspect", file, file}).status == 2);
    CHECK(run_convert({"inspect", (folder / "none").string()}).status == 3);
    CHECK(run_convert({"inspect", kDense}).status == 3);
    CHECK(contains(run_convert({"inspect", "--help"}).out, "--json"));
}

TEST_CASE("nemo-convert verify finds damage and says so with its exit status") {
    const TempFolder folder;
    const std::string file = (folder / "m.gguf").string();
    REQUIRE(run_convert({kDense, file}).status == 0);
    const ProcessResult sound = run_convert({"verify", file, "-t", "2"});
    CHECK(sound.status == 0);
    CHECK(sound.err.empty());
    CHECK(contains(sound.out, "sound; 32 tensors"));
    const ProcessResult table = run_convert({"verify", file, "--against", kDense});
    CHECK(table.status == 0);
    CHECK(contains(table.out, "blk.0.ssm_in.weight"));
    CHECK(contains(table.out, "rms error"));

    std::string bytes = read_file(file);
    bytes[bytes.size() - 1000] = static_cast<char>(bytes[bytes.size() - 1000] ^ 4);
    write_file(file, bytes);
    const ProcessResult damaged = run_convert({"verify", file});
    CHECK(damaged.status == 3);
    CHECK(contains(damaged.out, "problem: tensor "));
    write_file(file, bytes.substr(0, bytes.size() / 2));
    const ProcessResult truncated = run_convert({"verify", file});
    CHECK(truncated.status == 3);
    CHECK(contains(truncated.err, "truncated"));
    CHECK(run_convert({"verify"}).status == 2);
    CHECK(run_convert({"verify", (folder / "none").string()}).status == 3);
    CHECK(run_convert({"verify", file, "--threads", "0"}).status == 2);
}

}  // namespace
}  // namespace nemo
