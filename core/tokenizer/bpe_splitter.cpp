#include "core/tokenizer/bpe_splitter.h"

#include "core/error.h"
#include "core/tokenizer/bpe_unicode.h"
#include "core/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <optional>

namespace nemo {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
// Enough for one pre-token of hundreds of megabytes; a pattern that backtracks without end stops
// here after some seconds.
constexpr uint32_t kMatchLimit = 200'000'000;
constexpr uint32_t kHeapLimitKibibytes = 512 << 10;

// Oniguruma's \s, the Unicode property White_Space. PCRE2's \s has U+180E in addition.
constexpr std::string_view kWhiteSpace = "\\t-\\r\\x{85}\\p{Z}";

[[noreturn]] void refuse(std::string_view source, std::string_view pattern, size_t offset,
                         std::string_view what) {
    fail(ErrorCode::bad_file, "{}: split pattern '{}': {} at byte {} cannot be used", source,
         sanitize_utf8(pattern.substr(0, 200)), what, offset);
}

struct FreeCode {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatchContext {
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct FreeMatchData {
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

using MatchData = std::unique_ptr<pcre2_match_data, FreeMatchData>;

MatchData new_match_data() {
    MatchData data(pcre2_match_data_create(1, nullptr));
    if (!data) throw std::bad_alloc();
    return data;
}

std::string pcre2_message(int code) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(code, text, sizeof text);
    return reinterpret_cast<const char*>(text);
}

}  // namespace

std::string pcre2_pattern(std::string_view pattern, std::string_view source) {
    std::string translated;
    bool in_class = false;
    for (size_t i = 0; i < pattern.size(); ++i) {
        const char c = pattern[i];
        const std::string_view rest = pattern.substr(i);
        if (c == '\\' && i + 1 < pattern.size()) {
            const char escaped = pattern[++i];
            if (escaped == 's' && in_class) {
                translated += kWhiteSpace;
            } else if (escaped == 's' || (escaped == 'S' && !in_class)) {
                translated += escaped == 's' ? "[" : "[^";
                translated += kWhiteSpace;
                translated += ']';
            } else if (escaped == 'S') {
                refuse(source, pattern, i - 1, "\\S inside a class");
            } else if (escaped == 'h' || escaped == 'H') {
                refuse(source, pattern, i - 1, "\\h (a hexadecimal digit in Ruby)");
            } else {
                translated += c;
                translated += escaped;
            }
        } else if (in_class && c == '[') {
            refuse(source, pattern, i, "a class inside a class");
        } else if (in_class && rest.starts_with("&&")) {
            refuse(source, pattern, i, "an intersection of classes");
        } else if (rest.starts_with("(?m") || rest.starts_with("(?s") || rest.starts_with("(*")) {
            refuse(source, pattern, i, "an option that means something else here");
        } else {
            if (c == '[') in_class = true;
            if (c == ']') in_class = false;
            translated += c;
        }
    }
    return translated;
}

struct RegexSplitter::Compiled {
    std::string source;
    std::unique_ptr<pcre2_code, FreeCode> code;
    std::unique_ptr<pcre2_match_context, FreeMatchContext> context;
    bool has_jit = false;

    // The match at or after `offset`, as byte offsets.
    std::optional<std::pair<size_t, size_t>> find(std::string_view text, size_t offset,
                                                  pcre2_match_data* data) const;
};

std::optional<std::pair<size_t, size_t>> RegexSplitter::Compiled::find(
    std::string_view text, size_t offset, pcre2_match_data* data) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int result = PCRE2_ERROR_JIT_STACKLIMIT;
    if (has_jit) {
        result = pcre2_jit_match(code.get(), subject, text.size(), offset, PCRE2_NO_UTF_CHECK, data,
                                 context.get());
    }
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
        // The interpreter keeps its stack on the heap, within kHeapLimitKibibytes.
        result = pcre2_match(code.get(), subject, text.size(), offset,
                             PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context.get());
    }
    if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (result < 0) {
        fail(ErrorCode::bad_file, "{}: split pattern failed on a text of {} bytes at byte {}: {}",
             source, text.size(), offset, pcre2_message(result));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data);
    return std::pair<size_t, size_t>{bounds[0], bounds[1]};
}

RegexSplitter::RegexSplitter(std::string_view pattern, std::string_view source) {
    if (pattern.size() > kMaxPatternBytes) {
        fail(ErrorCode::bad_file, "{}: split pattern has {} bytes, the limit is {}", source,
             pattern.size(), kMaxPatternBytes);
    }
    const std::string translated = pcre2_pattern(pattern, source);
    auto compiled = std::make_unique<Compiled>();
    compiled->source = source;
    int error = 0;
    PCRE2_SIZE error_offset = 0;
    // In Ruby's syntax ^ and $ always mean lines.
    compiled->code.reset(
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                      &error_offset, nullptr));
    if (!compiled->code) {
        fail(ErrorCode::bad_file,
             "{}: split pattern '{}' does not compile: {} (at byte {} of '{}')", source,
             sanitize_utf8(pattern.substr(0, 200)), pcre2_message(error), error_offset,
             sanitize_utf8(translated.substr(0, 400)));
    }
    // Fails where the system forbids writable code or PCRE2 was built without; matching then is
    // slow.
    compiled->has_jit = pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE) == 0;
    compiled->context.reset(pcre2_match_context_create(nullptr));
    if (!compiled->context) throw std::bad_alloc();
    pcre2_set_match_limit(compiled->context.get(), kMatchLimit);
    pcre2_set_heap_limit(compiled->context.get(), kHeapLimitKibibytes);
    compiled_ = std::move(compiled);
}

RegexSplitter::~RegexSplitter() = default;
RegexSplitter::RegexSplitter(RegexSplitter&&) noexcept = default;

bool RegexSplitter::matches(std::string_view text) const {
    const std::optional<std::string> replaced = with_older_characters(text);
    return compiled_->find(replaced ? *replaced : text, 0, new_match_data().get()).has_value();
}

void RegexSplitter::split(std::string_view text, std::vector<std::string_view>& pieces) const {
    const std::optional<std::string> replaced = with_older_characters(text);
    const std::string_view subject = replaced ? *replaced : text;
    const MatchData data = new_match_data();

    const auto append = [&](size_t begin, size_t end) {
        if (begin < end) pieces.push_back(text.substr(begin, end - begin));
    };
    size_t done = 0;
    for (size_t offset = 0; offset < text.size();) {
        const auto match = compiled_->find(subject, offset, data.get());
        if (!match) break;
        const auto [begin, end] = *match;
        // \K or a lookbehind may report bounds that would make no progress.
        if (begin < offset || end < begin) {
            fail(ErrorCode::bad_file, "{}: split pattern matches backwards, from byte {} to {}",
                 compiled_->source, begin, end);
        }
        append(done, begin);
        append(begin, end);
        done = end;
        offset = end;
        if (begin == end && offset < text.size()) {
            offset += static_cast<size_t>(decode_utf8(text, offset).n_bytes);
        }
    }
    append(done, text.size());
}

}  // namespace nemo
