// Perplexity and divergence: the mathematics against values known by hand, the base file against
// damage, the command against a direct computation.
#include "app/logits_base.h"
#include "app/perplexity.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/tokenizer.h"
#include "tests/app/process.h"
#include "tests/models/golden_model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace nemo {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Reproducible, from -8 to 8.
std::vector<float> some_logits(size_t n, uint32_t seed) {
    std::vector<float> values;
    uint32_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; ++i) {
        state = state * 1664525u + 1013904223u;
        values.push_back(static_cast<float>(state >> 8) / 1048576.0f - 8.0f);
    }
    return values;
}

std::vector<double> log_softmax(const std::vector<float>& logits) {
    const double normaliser = log_sum_exp(logits);
    std::vector<double> result;
    for (const float logit : logits) result.push_back(logit - normaliser);
    return result;
}

TEST_CASE("log-sum-exp neither overflows nor hides what is not a number") {
    CHECK(log_sum_exp(std::vector<float>{0, 0, 0, 0}) == doctest::Approx(std::log(4.0)));
    CHECK(log_sum_exp(std::vector<float>{3e38f, 0}) == doctest::Approx(3e38));
    CHECK(log_sum_exp(std::vector<double>{-1e300, -1e300}) == doctest::Approx(-1e300));
    CHECK(std::isnan(log_sum_exp(std::vector<double>{1, kNan, 2})));
    CHECK(std::isnan(log_sum_exp(std::vector<double>{kNan, 1})));
    CHECK_FALSE(
        std::isfinite(log_sum_exp(std::vector<float>{1, std::numeric_limits<float>::infinity()})));
}

TEST_CASE("the divergence of two distributions") {
    // p = (3/4, 1/4), q = (1/2, 1/2).
    const std::vector<double> p = {std::log(0.75), std::log(0.25)};
    const std::vector<float> even = {5, 5};
    const double expected = 0.75 * std::log(1.5) + 0.25 * std::log(0.5);
    CHECK(kl_divergence(p, even, log_sum_exp(even)) == doctest::Approx(expected));
    // The base need not be normalised.
    const std::vector<double> shifted = {p[0] + 7, p[1] + 7};
    CHECK(kl_divergence(shifted, even, log_sum_exp(even)) == doctest::Approx(expected));
    const std::vector<float> logits = some_logits(1000, 1);
    CHECK(std::fabs(kl_divergence(log_softmax(logits), logits, log_sum_exp(logits))) < 1e-12);
    for (uint32_t seed = 2; seed < 20; ++seed) {
        const std::vector<float> others = some_logits(1000, seed);
        CHECK(kl_divergence(log_softmax(logits), others, log_sum_exp(others)) > 0);
    }
}

TEST_CASE("means, their errors, and what follows from them") {
    const std::vector<double> values = {1, 2, 3, 4};
    CHECK(mean(values).value == doctest::Approx(2.5));
    CHECK(mean(values).error == doctest::Approx(std::sqrt(1.25 / 3)));
    CHECK(mean(std::vector<double>{7}).error == 0);
    CHECK(perplexity(values).value == doctest::Approx(std::exp(2.5)));
    CHECK(perplexity(values).error == doctest::Approx(std::exp(2.5) * std::sqrt(1.25 / 3)));
    const std::vector<double> worse = {1.1, 2.1, 3.1, 4.1};
    CHECK(perplexity_ratio(worse, values).value == doctest::Approx(std::exp(0.1)));
    CHECK(perplexity_ratio(worse, values).error < 1e-9);
    CHECK(share(3, 4).value == doctest::Approx(0.75));
    CHECK(share(3, 4).error == doctest::Approx(std::sqrt(0.75 * 0.25 / 3)));
    CHECK(quantile({3, 1, 2}, 0.5) == doctest::Approx(2));
    CHECK(quantile({4, 1, 2, 3}, 0.5) == doctest::Approx(2.5));
    CHECK(quantile({1, 2}, 0.99) == doctest::Approx(1.99));
    CHECK(quantile({5}, 1) == doctest::Approx(5));
    CHECK(first_scored_position(512) == 257);
    CHECK(n_scored(512) == 255);
    CHECK(n_scored(9) == 4);
}

// Two chunks of 8 tokens, 40 tokens in the vocabulary.
const LogitsBaseHeader kHeader = {
    40, 2, 8, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 39}};

std::vector<float> row_logits(int64_t chunk, int64_t row) {
    std::vector<float> logits = some_logits(40, static_cast<uint32_t>(10 * chunk + row));
    if (row == 1) logits[5] = -1e9f;
    if (row == 2) logits.assign(40, 1.0f);
    return logits;
}

void write_base(const std::filesystem::path& path) {
    LogitsBaseWriter writer(path, kHeader);
    for (int64_t chunk = 0; chunk < 2; ++chunk)
        for (int64_t row = 0; row < 3; ++row) {
            const std::vector<float> logits = row_logits(chunk, row);
            writer.write_row(logits, log_sum_exp(logits), 0.5 * static_cast<double>(row));
        }
    writer.finish();
}

TEST_CASE("a base file gives back what was written") {
    const TempFolder folder;
    write_base(folder / "base");
    const LogitsBase base = LogitsBase::open(folder / "base");
    CHECK(base.header().n_vocab == 40);
    CHECK(base.header().n_chunks == 2);
    CHECK(base.header().n_context == 8);
    CHECK(base.header().tokens == kHeader.tokens);
    std::vector<double> log_probs(40);
    for (int64_t chunk = 0; chunk < 2; ++chunk) {
        base.check_chunk(chunk);
        for (int64_t row = 0; row < 3; ++row) {
            const LogitsBase::Row read = base.read_row(chunk, row, log_probs);
            const std::vector<float> logits = row_logits(chunk, row);
            CHECK(read.nll == 0.5 * static_cast<double>(row));
            CHECK(read.top == top_index(logits));
            CHECK(std::fabs(kl_divergence(log_probs, logits, log_sum_exp(logits))) < 1e-7);
            const std::vector<double> expected = log_softmax(logits);
            for (size_t i = 0; i < 40; ++i)
                if (expected[i] > -60) CHECK(std::fabs(log_probs[i] - expected[i]) < 0.00051);
        }
    }
}

template <class Body>
std::string bad_file_message(const Body& body) {
    try {
        body();
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::bad_file);
        return error.what();
    }
    FAIL("no error");
    return "";
}

TEST_CASE("every damaged byte of a base file is noticed") {
    const TempFolder folder;
    write_base(folder / "base");
    const std::string good = read_file(folder / "base");
    const auto damaged = [&](const std::string& bytes) {
        write_file(folder / "bad", bytes);
        return bad_file_message([&] {
            const LogitsBase base = LogitsBase::open(folder / "bad");
            for (int64_t chunk = 0; chunk < base.header().n_chunks; ++chunk)
                base.check_chunk(chunk);
        });
    };
    for (size_t i = 0; i < good.size(); ++i)
        for (const int flip : {0x01, 0x80, 0xFF}) {
            std::string bytes = good;
            bytes[i] = static_cast<char>(bytes[i] ^ flip);
            CAPTURE(i);
            CHECK(damaged(bytes).find("/bad") != std::string::npos);
        }
    for (size_t n = 0; n < good.size(); ++n) damaged(good.substr(0, n));
    CHECK(damaged(good + "x").find("bytes, the file has") != std::string::npos);
}

TEST_CASE("a base file with sound checksums but impossible contents is refused") {
    const TempFolder folder;
    write_base(folder / "base");
    constexpr size_t kHeaderBytes = 24 + 4 * 16;
    constexpr size_t kChunkBytes = 3 * (16 + 2 * 40);
    const auto forge = [&](size_t offset, uint32_t value) {
        std::string bytes = read_file(folder / "base");
        std::memcpy(bytes.data() + offset, &value, sizeof value);
        const auto seal = [&](size_t begin, size_t n) {
            const uint32_t sum = crc32c(std::as_bytes(std::span(bytes)).subspan(begin, n));
            std::memcpy(bytes.data() + begin + n, &sum, sizeof sum);
        };
        seal(0, kHeaderBytes);
        seal(kHeaderBytes + 4, kChunkBytes);
        write_file(folder / "bad", bytes);
        return bad_file_message([&] {
            const LogitsBase base = LogitsBase::open(folder / "bad");
            base.check_chunk(0);
            std::vector<double> log_probs(40);
            base.read_row(0, 0, log_probs);
        });
    };
    const auto contains = [](const std::string& text, const char* part) {
        return text.find(part) != std::string::npos;
    };
    CHECK(contains(forge(24, 40), "token id 40 is outside the vocabulary of 40"));
    CHECK(contains(forge(24, 0xFFFFFFFF), "token id -1"));
    CHECK(contains(forge(12, 0), "vocabulary size is 0"));
    CHECK(contains(forge(12, 0xFFFFFFFF), "vocabulary size is 4294967295"));
    CHECK(contains(forge(16, 0xFFFFFFFF), "4294967295 chunks"));
    CHECK(contains(forge(20, 2), "chunk length is 2"));
    constexpr size_t kRow = kHeaderBytes + 4;
    CHECK(contains(forge(kRow, 0x7FC00000), "row 1 of chunk 1"));       // loss NaN
    CHECK(contains(forge(kRow + 4, 40), "row 1 of chunk 1"));           // best token
    CHECK(contains(forge(kRow + 8, 0x7F800000), "row 1 of chunk 1"));   // low infinite
    CHECK(contains(forge(kRow + 12, 0xBF800000), "row 1 of chunk 1"));  // step -1
}

// ---- The command ----

ProcessResult run_perplexity(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {program("nemo-cli"), "perplexity", "-t", "2"});
    return run_process(std::move(arguments), input);
}

// The number after `label`.
double number_after(const std::string& text, const std::string& label) {
    const size_t start = text.rfind(label + " ");
    REQUIRE(start != std::string::npos);
    return std::stod(text.substr(start + label.size()));
}

std::string some_text(int n_sentences) {
    std::string text;
    for (int i = 0; i < n_sentences; ++i)
        text += "Line " + std::to_string(i % 1000 * i) + " of a text, which is long enough.\n";
    return text;
}

TEST_CASE("perplexity of a golden model is that of its logits") {
    const GoldenModel golden("dense", DType::f32);
    const TempFolder folder;
    const std::string text = some_text(6);
    write_file(folder / "text", text);
    const std::string file = (folder / "text").string();
    const ProcessResult result =
        run_perplexity({"-m", golden.file()->path(), "-f", file, "-c", "33"});
    CHECK(result.err.empty());
    REQUIRE(result.status == 0);
    CHECK(result.out.starts_with("perplexity "));
    CHECK(std::ranges::count(result.out, '\n') == 1);

    const TokenizerData vocabulary = tokenizer_from_gguf(*golden.file());
    const auto tokenizer = Tokenizer::create(vocabulary, "golden");
    std::vector<int32_t> tokens = tokenizer->encode(text.substr(0, text.size() - 1), false);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    const auto n_vocab = static_cast<size_t>(model.config().n_vocab);
    double sum = 0;
    double squares = 0;
    int n = 0;
    for (size_t start = 0; start + 33 <= tokens.size(); start += 33) {
        std::vector<int32_t> chunk(tokens.begin() + static_cast<ptrdiff_t>(start),
                                   tokens.begin() + static_cast<ptrdiff_t>(start + 33));
        if (vocabulary.add_bos) chunk[0] = vocabulary.bos;
        Session session(model, {.n_context = 33});
        const std::vector<float> logits = all_logits(session, chunk);
        for (size_t i = 17; i < 33; ++i, ++n) {
            const float* row = logits.data() + (i - 1) * n_vocab;
            double total = 0;
            for (size_t k = 0; k < n_vocab; ++k) total += std::exp(double{row[k]});
            const double nll = std::log(total) - row[chunk[i]];
            sum += nll;
            squares += nll * nll;
        }
    }
    const double expected = std::exp(sum / n);
    const double error = std::sqrt((squares / n - sum / n * sum / n) / (n - 1)) * expected;
    CHECK(number_after(result.out, "perplexity") == doctest::Approx(expected).epsilon(1e-5));
    CHECK(number_after(result.out, "+-") == doctest::Approx(error).epsilon(1e-3));

    CHECK(run_perplexity({"-m", golden.file()->path(), "-f", "-", "-c", "33"}, text).out ==
          result.out);
    const auto n_chunks = std::to_string(tokens.size() / 33);
    CHECK(
        run_perplexity({"-m", golden.file()->path(), "-f", file, "-c", "33", "--chunks", n_chunks})
            .out == result.out);
    CHECK(run_perplexity({"-m", golden.file()->path(), "-f", file, "-c", "33", "--chunks", "1"})
              .out != result.out);
}

TEST_CASE("divergence of a model from itself and from its 4-bit file") {
    const GoldenModel f32("dense", DType::f32);
    const GoldenModel q4("dense", DType::q4_0);
    const TempFolder folder;
    write_file(folder / "text", some_text(12));
    const std::string text = (folder / "text").string();
    const std::string base = (folder / "base").string();
    const ProcessResult written =
        run_perplexity({"-m", f32.file()->path(), "-f", text, "-c", "32", "--kl-base", base});
    REQUIRE(written.status == 0);

    const ProcessResult same = run_perplexity({"-m", f32.file()->path(), "--kl", base});
    CHECK(same.status == 0);
    CHECK(same.out.ends_with(written.out));
    CHECK(number_after(same.out, "KL divergence mean") == 0);
    CHECK(number_after(same.out, "KL divergence 99%") == 0);
    CHECK(number_after(same.out, "perplexity ratio") == 1);
    CHECK(number_after(same.out, "same top token") == 100);

    const ProcessResult coarse =
        run_perplexity({"-m", q4.file()->path(), "--kl", base, "-f", text, "-c", "32"});
    CHECK(coarse.status == 0);
    const double divergence = number_after(coarse.out, "KL divergence mean");
    CHECK(divergence > 1e-5);
    CHECK(divergence < 0.5);
    CHECK(number_after(coarse.out, "KL divergence median") <=
          number_after(coarse.out, "KL divergence 99%"));
    CHECK(number_after(coarse.out, "base perplexity") ==
          doctest::Approx(number_after(written.out, "perplexity")));
    CHECK(number_after(coarse.out, "perplexity ratio") ==
          doctest::Approx(number_after(coarse.out, "\nperplexity") /
                          number_after(written.out, "perplexity"))
              .epsilon(1e-4));
}

TEST_CASE("perplexity's mistakes have the documented exit codes") {
    const GoldenModel golden("dense", DType::q8_0);
    const std::string model = golden.file()->path();
    const TempFolder folder;
    write_file(folder / "text", some_text(12));
    write_file(folder / "other", "Something else. " + some_text(12));
    const std::string text = (folder / "text").string();
    const std::string base = (folder / "base").string();
    CHECK(run_perplexity({"-m", model}).status == 2);
    CHECK(run_perplexity({"-f", text}).status == 2);
    CHECK(run_perplexity({"-m", model, "-f", text, "--kl", "a", "--kl-base", "b"}).status == 2);
    CHECK(run_perplexity({"-m", model, "-f", text, "-c", "4"}).status == 2);
    CHECK(run_perplexity({"-m", model, "-f", (folder / "none").string()}).status == 2);
    const ProcessResult too_short =
        run_perplexity({"-m", model, "-f", text, "-c", "4000", "--kl-base", base});
    CHECK(too_short.status == 2);
    CHECK(too_short.err.find("need at least 8000") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(base));
    CHECK(run_perplexity({"-m", (folder / "none").string(), "-f", text}).status == 3);
    CHECK(run_perplexity({"-m", model, "--kl", text}).status == 3);

    REQUIRE(run_perplexity({"-m", model, "-f", text, "-c", "32", "--kl-base", base}).status == 0);
    CHECK(run_perplexity({"-m", model, "-f", text, "-c", "32", "--kl-base", base}).status == 0);
    std::filesystem::copy_file(model, folder / "f32.gguf");
    const ProcessResult confused = run_perplexity(
        {"-m", model, "-f", text, "-c", "32", "--kl-base", (folder / "f32.gguf").string()});
    CHECK(confused.status == 1);
    CHECK(confused.err.find("f32.gguf: exists and holds no predictions") != std::string::npos);
    CHECK(read_file(folder / "f32.gguf") == read_file(model));
    const std::string other = (folder / "other").string();
    CHECK(run_perplexity({"-m", model, "--kl", base, "-f", other}).status == 3);
    CHECK(run_perplexity({"-m", model, "--kl", base, "-c", "64"}).status == 2);
    write_base(base);
    const ProcessResult foreign = run_perplexity({"-m", model, "--kl", base});
    CHECK(foreign.status == 3);
    CHECK(foreign.err.find("predictions over 40 tokens") != std::string::npos);
}

TEST_CASE("perplexity can be interrupted, and leaves no half file") {
    const GoldenModel golden("dense", DType::f32);
    const TempFolder folder;
    write_file(folder / "text", some_text(40000));
    const ProcessResult result =
        run_shell("timeout --preserve-status --foreground -s INT 1 '" + program("nemo-cli") +
                  "' perplexity -m '" + golden.file()->path() + "' -f '" +
                  (folder / "text").string() + "' --kl-base '" + (folder / "base").string() + "'");
    CHECK(result.status == 130);
    CHECK(std::distance(std::filesystem::directory_iterator(folder / ""), {}) == 1);
}

}  // namespace
}  // namespace nemo
