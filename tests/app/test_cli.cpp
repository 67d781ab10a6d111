// nemo-cli as a program: what goes to which stream, exit statuses, bad input.
#include "core/gguf_writer.h"
#include "core/json.h"
#include "core/model_file.h"
#include "tests/app/demo_model.h"
#include "tests/app/process.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

using namespace nemo;

namespace {

ProcessResult run_cli(std::vector<std::string> arguments, const std::string& input = "",
                      const std::vector<std::string>& environment = {}) {
    arguments.insert(arguments.begin(), program("nemo-cli"));
    return run_process(std::move(arguments), input, environment);
}

std::string demo() {
    return demo_model(DType::q8_0);
}

}  // namespace

TEST_CASE("a piped question is answered, and standard output carries the answer only") {
    const ProcessResult result = run_cli({"-m", demo()}, "Hello!\n");
    CHECK(result.status == 0);
    CHECK(result.err.empty());
    CHECK(result.out.size() > 3);
    CHECK(result.out.ends_with("\n"));
    CHECK_FALSE(contains(result.out, "\x1b"));
    CHECK_FALSE(contains(result.out, "<|im_"));
    // Greedy by the model's own advice: every way of giving the same prompt gives the same answer.
    const TempFolder folder;
    write_file(folder / "prompt", "Hello!\n");
    CHECK(run_cli({"-m", demo(), "-p", "Hello!"}).out == result.out);
    CHECK(run_cli({"-m", demo(), "-f", (folder / "prompt").string()}).out == result.out);
    CHECK(run_cli({"-m", demo(), "-f", "-"}, "Hello!").out == result.out);
    CHECK(run_cli({"-m", demo(), "-t", "1"}, "Hello!").out == result.out);
}

TEST_CASE("all instruction tiers give an answer") {
    const std::string best = run_cli({"-m", demo(), "-p", "Hello!"}).out;
    for (const char* tier :
         {"NEMO_CPU=scalar", "NEMO_CPU=avx2", "NEMO_CPU=avxvnni", "NEMO_CPU=avx512"}) {
        const ProcessResult result = run_cli({"-m", demo(), "-p", "Hello!"}, "", {tier});
        CAPTURE(result.err);
        if (result.status == 0)
            CHECK(result.out == best);
        else
            CHECK(contains(result.err, "NEMO_CPU"));
    }
    const ProcessResult unknown = run_cli({"-m", demo(), "-p", "x"}, "", {"NEMO_CPU=mmx"});
    CHECK(unknown.status == 2);
    CHECK(contains(unknown.err, "mmx"));
}

TEST_CASE("options of the answer") {
    const ProcessResult verbose = run_cli({"-m", demo(), "-p", "Hello!", "--verbose"});
    CHECK(contains(verbose.err, "tokens"));
    CHECK(run_cli({"-m", demo(), "-p", "Hello!", "--verbose", "--quiet"}).err.empty());
    CHECK(run_cli({"-m", demo(), "-p", "Hello!", "-n", "0"}).out == "\n");
    const auto sampled = [](const char* seed) {
        return run_cli({"-m", demo(), "-p", "Hello!", "--temp", "3", "--top-k", "0", "--top-p", "1",
                        "--min-p", "0", "--seed", seed, "-n", "30"})
            .out;
    };
    CHECK(sampled("1") == sampled("1"));
    CHECK(sampled("1") != sampled("2"));

    const Json json = parse_json(run_cli({"-m", demo(), "-p", "Hello!", "--json"}).out, "output");
    CHECK(json.find("text")->string() + "\n" == run_cli({"-m", demo(), "-p", "Hello!"}).out);
    CHECK(json.find("finish_reason")->string() == "stop");
    CHECK(json.find("timings")->find("predicted_n")->integer() > 0);

    const std::string answer = json.find("text")->string();
    const std::string stop = answer.substr(3, 2);
    CHECK(run_cli({"-m", demo(), "-p", "Hello!", "-r", stop}).out ==
          answer.substr(0, answer.find(stop)) + "\n");
    CHECK(run_cli({"-m", demo(), "--raw", "-p", "Hello", "-n", "3"}).status == 0);
    CHECK(run_cli({"-m", demo(), "-sys", "Be brief.", "-p", "Hello!"}).status == 0);
}

TEST_CASE("usage mistakes have status 2 and say what to do") {
    CHECK(run_cli({}).status == 2);
    CHECK(contains(run_cli({}).err, "-m"));
    CHECK(run_cli({"--no-such-option"}).status == 2);
    CHECK(run_cli({"-m", demo()}).status == 2);
    CHECK(contains(run_cli({"-m", demo()}).err, "prompt is empty"));
    CHECK(run_cli({"-m", demo(), "-p", ""}).status == 2);
    CHECK(run_cli({"-m", demo(), "-f", "/no/such/file"}).status == 2);
    CHECK(run_cli({"-m", demo(), "-f", "/"}).status == 2);
    CHECK(run_cli({"-m", demo(), "-p", "x", "--temp", "-1"}).status == 2);
    CHECK(run_cli({"-m", demo(), "-p", "x", "--top-p", "2"}).status == 2);
    // Not taken for the nearest number that fits.
    for (const char* seed : {"18446744073709551617", "9223372036854775808", "0x7", "7.5", ""})
        CHECK(run_cli({"-m", demo(), "-p", "x", "-n", "1", "--seed", seed}).status == 2);
    CHECK(contains(run_cli({"-m", demo(), "-p", "x", "-n", "99999999999999999999"}).err,
                   "\"99999999999999999999\" is not a whole number from -1 on"));
    for (const char* temperature : {"", "1x", "0,7"})
        CHECK(run_cli({"-m", demo(), "-p", "x", "--temp", temperature}).status == 2);
    CHECK(contains(run_cli({"render", "--messages", "/dev/null"}).err, "Give -m or --template"));
    CHECK(contains(run_cli({"perplexity", "-m", demo()}).err, "Give -f or --kl"));
    CHECK(run_cli({"tokenize", "-m", demo(), "-p", "x", "-f", "y"}).status == 2);
    CHECK(run_cli({"render", "--messages", "/dev/null"}).status == 2);
    CHECK(run_cli({"eval", "-m", demo(), "--tokens", "1,,2", "--logits", "/dev/null"}).status == 2);
    CHECK(run_cli({"eval", "-m", demo(), "--tokens", "99999", "--logits", "x"}).status == 2);
    for (const char* flag : {"--help", "--version"}) {
        const ProcessResult result = run_cli({flag});
        CHECK(result.status == 0);
        CHECK(result.err.empty());
        CHECK(contains(result.out, "nemo-cli"));
    }
}

TEST_CASE("bad models have status 3 and name the file") {
    const TempFolder folder;
    const std::string path = (folder / "bad.gguf").string();
    const auto check_bad = [&](const char* part) {
        for (const std::vector<std::string>& arguments :
             {std::vector<std::string>{"-m", path, "-p", "x"}, {"info", path}}) {
            const ProcessResult result = run_cli(arguments);
            CAPTURE(result.err);
            CHECK(result.status == 3);
            CHECK(result.out.empty());
            CHECK(contains(result.err, "bad.gguf"));
            CHECK(contains(result.err, part));
        }
    };
    check_bad("cannot open");
    write_file(path, "");
    check_bad("bytes");
    write_file(path, "not a model at all, but long enough");
    check_bad("not a GGUF file");
    write_file(path, read_file(demo()).substr(0, 3'000'000));
    check_bad("truncated");
    const std::string whole = read_file(demo());
    std::string other = whole;
    other.replace(other.find("nemotron_h"), 10, "llamaaaaaa");
    write_file(path, other);
    check_bad("architecture llamaaaaaa");
}

TEST_CASE("a model without its tokenizer or a tensor is refused") {
    const TempFolder folder;
    const ModelFile original = ModelFile::open(demo());
    const auto write_without = [&](std::string_view prefix, std::string_view tensor_name) {
        GgufMetadata metadata;
        for (const auto& [key, value] : original.metadata().entries())
            if (!key.starts_with(prefix)) metadata.set(key, value);
        std::vector<GgufTensorInfo> infos;
        std::vector<TensorView> kept;
        for (const TensorView& tensor : original.tensors()) {
            if (tensor.name == tensor_name) continue;
            infos.push_back({tensor.name, tensor.dtype, tensor.dims, 2});
            kept.push_back(tensor);
        }
        GgufWriter writer(folder / "m.gguf", metadata, infos);
        for (const TensorView& tensor : kept)
            writer.write({tensor.data, static_cast<size_t>(tensor.n_bytes())});
        writer.finish();
        return run_cli({"-m", (folder / "m.gguf").string(), "-p", "Hello!"});
    };
    CHECK(write_without("none", "none").status == 0);
    const ProcessResult no_tokenizer = write_without("tokenizer.ggml", "none");
    CHECK(no_tokenizer.status == 3);
    CHECK(contains(no_tokenizer.err, "tokenizer.ggml"));
    const ProcessResult no_template = write_without("tokenizer.chat_template", "none");
    CHECK(no_template.status == 3);
    CHECK(contains(no_template.err, "--raw"));
    const ProcessResult no_tensor = write_without("none", "blk.0.ssm_in.weight");
    CHECK(no_tensor.status == 3);
    CHECK(contains(no_tensor.err, "blk.0.ssm_in.weight is missing"));
}

TEST_CASE("a full context has status 5") {
    const ProcessResult prompt = run_cli({"-m", demo(), "-p", "Hello!", "-c", "3"});
    CHECK(prompt.status == 5);
    CHECK(prompt.out.empty());
    const ProcessResult answer = run_cli({"-m", demo(), "-p", "Hello!", "-c", "16"});
    CHECK(answer.status == 5);
    CHECK(contains(answer.err, "context"));
}

TEST_CASE("a closed pipe is quiet, a full disk is not") {
    const std::string cli = program("nemo-cli");
    const ProcessResult closed = run_shell("set -o pipefail; (sleep 0.3; exec '" + cli + "' -m '" +
                                           demo() + "' -p Hello) | true");
    CHECK(closed.status == 141);
    CHECK(closed.err.empty());
    const ProcessResult full = run_shell("'" + cli + "' -m '" + demo() + "' -p Hello > /dev/full");
    CHECK(full.status == 1);
    CHECK(contains(full.err, "standard output"));
}

TEST_CASE("closed standard streams: no file gets their place") {
    const TempFolder folder;
    const std::string cli = "'" + program("nemo-cli") + "' ";
    const std::string question = cli + "-m '" + demo() + "' -p Hello!";
    const std::string eval = cli + "eval -m '" + demo() + "' --tokens 1,2 --logits ";
    CHECK(run_shell(question + " >&-").status == 1);
    CHECK(run_shell(question + " 2>&- </dev/null").out == run_shell(question).out);
    CHECK(run_shell(cli + " --help >&-").status == 1);
    CHECK(run_shell(eval + (folder / "a").string() + " && " + eval + (folder / "b").string() +
                    " <&- >&- 2>&-")
              .status == 0);
    CHECK(read_file(folder / "a") == read_file(folder / "b"));
    // Nothing comes from there; that is no reason to do nothing.
    CHECK(run_shell(question + " <&-").out == run_shell(question).out);
    CHECK(contains(run_shell(cli + "-m '" + demo() + "' <&-").err, "the prompt is empty"));
    // The report must not land in the file that was just written.
    std::string text;
    for (int i = 0; i < 40; ++i) text += "The cat sat on the mat. ";
    write_file(folder / "text", text);
    const std::string measure = cli + "perplexity -m '" + demo() + "' -c 16 --chunks 2 -f '" +
                                (folder / "text").string() + "' --kl-base ";
    CHECK(run_shell(measure + (folder / "c").string()).status == 0);
    CHECK(run_shell(measure + (folder / "d").string() + " >&-").status == 1);
    CHECK(read_file(folder / "c") == read_file(folder / "d"));
}

TEST_CASE("mistakes are one line, harmless to a terminal") {
    const TempFolder folder;
    write_file(folder / "t.jinja", R"({{ raise_exception("no\nnemo-cli: all is well\x1b[2J") }})");
    const std::string jinja = (folder / "t.jinja").string();
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"tokenize"},
          {"--no\nsuch\x1b[2J"},
          {"-m", demo(), "-p", "x", "-t", "-1"},
          {"-m", demo(), "-p", "x", "--chat-template-file", jinja},
          {"-m", "no\nsuch\x1b[2J", "-p", "x"}}) {
        const ProcessResult result = run_cli(arguments);
        CAPTURE(result.err);
        CHECK(result.err.starts_with("nemo-cli: "));
        CHECK(std::ranges::count(result.err, '\n') == 1);
        CHECK_FALSE(contains(result.err, "\x1b"));
    }
}

TEST_CASE("files that are no prompts are refused by name") {
    const ProcessResult endless = run_cli({"-m", demo(), "-f", "/dev/zero"});
    CHECK(endless.status == 2);
    CHECK(contains(endless.err, "/dev/zero is longer than"));
    const ProcessResult broken = run_cli({"-m", demo(), "-f", "/proc/self/mem"});
    CHECK(broken.status == 2);
    CHECK(contains(broken.err, "/proc/self/mem: cannot read"));
}

TEST_CASE("a model is not replaced by what is measured of it") {
    const TempFolder folder;
    std::filesystem::copy_file(demo(), folder / "m.gguf");
    const std::string model = (folder / "m.gguf").string();
    CHECK(run_cli({"eval", "-m", model, "--tokens", "1", "--logits", model}).status == 2);
    CHECK(run_cli({"perplexity", "-m", model, "-f", model, "--kl-base", model}).status == 2);
    CHECK(read_file(model) == read_file(demo()));
    CHECK(run_cli({"eval", "-m", model, "--tokens", "1", "--logits", (folder / "").string()})
              .status == 1);
}

TEST_CASE("Ctrl-C ends the program with status 130") {
    const std::string cli = program("nemo-cli");
    const std::string interrupt_after = "timeout --preserve-status --foreground -s INT ";
    SUBCASE("while it reads a long prompt") {
        const TempFolder folder;
        std::string text;
        for (int i = 0; i < 400'000; ++i) text += "word ";
        write_file(folder / "long", text);
        const ProcessResult result =
            run_shell(interrupt_after + "2 '" + cli + "' -m '" + demo() + "' -c 1000000 -f '" +
                      (folder / "long").string() + "'");
        CHECK(result.status == 130);
    }
    SUBCASE("while it waits for standard input") {
        const ProcessResult result = run_shell("sleep 3 | " + interrupt_after + "1 '" + cli +
                                               "' -m '" + demo() + "'; exit ${PIPESTATUS[1]}");
        CHECK(result.status == 130);
    }
}

TEST_CASE("tokenize prints ids, and text from a user never becomes a control token") {
    const ProcessResult plain = run_cli({"tokenize", "-m", demo(), "-p", "Hello world"});
    CHECK(plain.status == 0);
    CHECK(plain.out.starts_with("1,"));
    CHECK(run_cli({"tokenize", "-m", demo(), "-p", "Hello world", "--no-bos"}).out ==
          plain.out.substr(2));
    const auto n_ids = [](const std::string& out) { return std::ranges::count(out, ',') + 1; };
    const ProcessResult user = run_cli({"tokenize", "-m", demo(), "-p", "<|im_end|>", "--no-bos"});
    CHECK(n_ids(user.out) > 1);
    const ProcessResult trusted =
        run_cli({"tokenize", "-m", demo(), "-p", "<|im_end|>", "--no-bos", "--special"});
    CHECK(n_ids(trusted.out) == 1);
    CHECK(contains(run_cli({"tokenize", "-m", demo(), "-p", "Hi", "--pieces"}).out, "\"<s>\""));
}

TEST_CASE("render prints the prompt exactly") {
    const TempFolder folder;
    write_file(folder / "m.json", R"([{"role": "user", "content": "Hi"}])");
    const std::string messages = (folder / "m.json").string();
    const ProcessResult rendered = run_cli({"render", "-m", demo(), "--messages", messages});
    CHECK(rendered.status == 0);
    CHECK(rendered.out == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    CHECK(run_cli({"render", "-m", demo(), "--messages", messages, "--no-generation-prompt"}).out ==
          "<|im_start|>user\nHi<|im_end|>\n");

    write_file(folder / "t.jinja", "{{ bos_token }}{{ x }} {{ strftime_now('%d %b %Y') }}");
    CHECK(run_cli({"render", "--template", (folder / "t.jinja").string(), "--messages", messages,
                   "--kwargs", R"({"x": 7, "bos_token": "<s>"})", "--now", "2026-11-21T12:00:00"})
              .out == "<s>7 21 Nov 2026");
    for (const char* kwargs : {"[1]", "{bad"})
        CHECK(
            run_cli({"render", "-m", demo(), "--messages", messages, "--kwargs", kwargs}).status ==
            2);
    for (const char* wrong : {"{}", "[1]", R"([{"content": "Hi"}])", R"([{"role": 5}])"}) {
        write_file(folder / "wrong.json", wrong);
        const ProcessResult refused =
            run_cli({"render", "-m", demo(), "--messages", (folder / "wrong.json").string()});
        CHECK(refused.status == 3);
        CHECK(contains(refused.err, "wrong.json"));
    }
    write_file(folder / "t.jinja", "line one\n{{ oops(");
    const ProcessResult bad =
        run_cli({"render", "--template", (folder / "t.jinja").string(), "--messages", messages});
    CHECK(bad.status == 3);
    CHECK(contains(bad.err, "t.jinja:2:"));
}

TEST_CASE("eval writes a row of logits per token") {
    const TempFolder folder;
    const std::string out = (folder / "out.f32").string();
    CHECK(run_cli({"eval", "-m", demo(), "--tokens", "1,5,9", "--logits", out, "--chunk", "2"})
              .status == 0);
    const std::string chunked = read_file(out);
    CHECK(chunked.size() == 3 * 4 * static_cast<size_t>(4096));
    write_file(out, "somebody's");
    std::vector<std::string> again = {"eval", "-m", demo(), "--tokens", "1,5,9", "--logits", out};
    CHECK(contains(run_cli(again).err, "exists already; --force replaces it"));
    CHECK(read_file(out) == "somebody's");
    again.insert(again.end(), {"--force", "-t", "1"});
    CHECK(run_cli(again).status == 0);
    CHECK(read_file(out) == chunked);
}

TEST_CASE("info names what the file holds") {
    const ProcessResult info = run_cli({"info", demo(), "-c", "1000"});
    CHECK(info.status == 0);
    for (const char* part : {"nemotron_h", "mamba2", "Q8_0", "recurrent state", "memory at 1000"})
        CHECK(contains(info.out, part));
    CHECK(run_cli({"info", "-m", demo(), "-c", "1000"}).out == info.out);
}

TEST_CASE("sampling advice that nobody can follow is a fault of the file") {
    const TempFolder folder;
    ConversionPlan plan = make_plan(NEMO_SOURCE_DIR "/assets/demo", DType::q8_0);
    plan.metadata.set_f32("nemo.sampling.top_p", std::nanf(""));
    write_model(plan, folder / "m.gguf", 2, [](const ConvertProgress&) {});
    const ProcessResult result = run_cli({"-m", (folder / "m.gguf").string(), "-p", "Hello!"});
    CHECK(result.status == 3);
    CHECK(contains(result.err, "m.gguf: keys nemo.sampling.*: top-p is nan"));
}

TEST_CASE("the help of each command speaks of that command") {
    const std::string all = run_cli({"--help"}).out;
    CHECK(contains(all, "Exit status"));
    for (const char* command :
         {"tokenize", "render", "eval", "perplexity", "imatrix", "bench", "info", "chats"}) {
        CAPTURE(command);
        const ProcessResult help = run_cli({command, "--help"});
        CHECK(help.status == 0);
        CHECK_FALSE(contains(help.out, "nemo-cli -m model.gguf"));
        CHECK(contains(all, std::string("  ") + command + " "));
    }
}

TEST_CASE("a model can be read in first, and the answer is the same") {
    const std::string usual = run_cli({"-m", demo(), "-p", "Hello!"}).out;
    for (const char* flag : {"--preload", "--mlock"}) {
        const ProcessResult result = run_cli({"-m", demo(), "-p", "Hello!", flag});
        CAPTURE(result.err);
        // A limit on locked memory may forbid the latter.
        if (result.status == 0)
            CHECK(result.out == usual);
        else
            CHECK(contains(result.err, "cannot lock"));
    }
}

TEST_CASE("the format of the key-value cache can be chosen") {
    const TempFolder folder;
    const auto logits_with = [&](std::vector<std::string> types) {
        const std::string out = (folder / "out.f32").string();
        types.insert(types.begin(),
                     {"eval", "-m", demo(), "--tokens", "1,5,9", "--logits", out, "--force"});
        CHECK(run_cli(types).status == 0);
        return read_file(out);
    };
    const std::string usual = logits_with({});
    CHECK(logits_with({"-ctk", "f16", "-ctv", "f16"}) == usual);
    CHECK(logits_with({"-ctk", "f32"}) != usual);
    CHECK(logits_with({"--cache-type-v", "q8_0"}) != usual);
    CHECK(run_cli({"-m", demo(), "-p", "x", "-ctk", "q4_0"}).status == 2);

    // One attention layer, 2 x 2 heads of 64 values.
    CHECK(contains(run_cli({"info", demo()}).out, "512 bytes per token (F16 keys, F16 values)"));
    CHECK(contains(run_cli({"info", demo(), "-ctk", "q8_0", "-ctv", "f32"}).out,
                   "(Q8_0 keys, F32 values)"));
}
