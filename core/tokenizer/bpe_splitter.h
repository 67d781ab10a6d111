// Cuts text into pre-tokens with a tokenizer.json's regular expression, as Hugging Face's Split
// with the Isolated behaviour: every match is a piece, and so is every gap between matches.
//
// The patterns are written for Oniguruma (Ruby syntax) and run in PCRE2. Where the two disagree the
// pattern is rewritten or refused, and characters that PCRE2's older Unicode tables do not know yet
// are replaced by older ones of the same category, so that the pieces are those Hugging Face makes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

class RegexSplitter {
public:
    // Throws Error{bad_file} if the pattern does not compile or uses what cannot be translated.
    RegexSplitter(std::string_view pattern, std::string_view source);
    ~RegexSplitter();
    RegexSplitter(RegexSplitter&&) noexcept;

    // Appends the pieces of `text` (valid UTF-8), in order and without empty ones. Throws
    // Error{bad_file} if the pattern takes too many steps or too much memory.
    void split(std::string_view text, std::vector<std::string_view>& pieces) const;

    // Whether the pattern occurs in `text` (valid UTF-8).
    bool matches(std::string_view text) const;

private:
    struct Compiled;
    std::unique_ptr<const Compiled> compiled_;
};

// Exposed for tests: the PCRE2 spelling of an Oniguruma pattern. Throws Error{bad_file}.
std::string pcre2_pattern(std::string_view pattern, std::string_view source);

}  // namespace nemo
