// Finds added tokens (control, unknown and user-defined ones) in raw text, where their trust
// allows.
#pragma once

#include "core/tokenizer_data.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace nemo {

// Bytes [begin, end) of a text. Lists of them are sorted, disjoint and not adjacent.
struct ByteRange {
    size_t begin;
    size_t end;
};

// A stretch of text: an added token, or (id < 0) text between them.
struct TextSection {
    ByteRange range;
    int32_t id;
};

// True if text that is not trusted may not produce this token: control, unknown and unused tokens,
// and user-defined ones that look like markup.
bool needs_trust(const TokenizerData& data, int32_t id);

class AddedTokens {
public:
    explicit AddedTokens(const TokenizerData& data);

    // Cuts `text` as Hugging Face does: first at the tokens that match raw text, then, in what is
    // left, at those that match normalized text; the leftmost match wins, of those the longest. A
    // token that needs trust counts only inside one of the `trusted` ranges.
    std::vector<TextSection> split(std::string_view text, std::span<const ByteRange> trusted) const;

private:
    struct Entry {
        std::string_view text;  // into the TokenizerData, which must outlive this
        AddedTokenRule rule;
        bool needs_trust;
    };
    struct EntrySet {
        std::vector<Entry> entries;  // sorted by text
        bool starts[256] = {};       // by first byte
    };

    // The longest entry that text continues with at `offset`; `trusted_end`: the end of the trusted
    // range that holds `offset`, or 0.
    static const Entry* longest_match(const EntrySet& set, std::string_view text, size_t offset,
                                      size_t trusted_end);
    static void split_section(const EntrySet& set, std::string_view text, ByteRange section,
                              std::span<const ByteRange> trusted,
                              std::vector<TextSection>& sections);

    EntrySet raw_;
    EntrySet normalized_;
};

}  // namespace nemo
