// Guesses how a text goes on from the text itself (prompt lookup decoding): where the last few
// tokens stood before, what followed them there may follow again. Copies, quotations, edited code
// and lists are full of such places; free prose has few.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace nemo {

class PromptLookup {
public:
    void add(int32_t token);
    void add(std::span<const int32_t> tokens) {
        for (const int32_t token : tokens) add(token);
    }

    // Up to n tokens that may follow; none if the last kShortMatch tokens stood nowhere before. The
    // newest place with the longest match counts. A place near the end repeats itself.
    std::vector<int32_t> guess(int64_t n) const;

private:
    // Tokens that have to match: the longer one decides if it was seen before.
    static constexpr size_t kLongMatch = 6, kShortMatch = 3;

    using Places = std::unordered_map<uint64_t, size_t>;  // hash -> index after the newest place
    struct Index {
        explicit Index(size_t length) : n_tokens(length) {}
        size_t n_tokens;
        Places places;
        size_t before = 0;  // the place before the newest one of the last tokens; 0: none
    };
    void note_end(Index& index);
    bool matches(size_t place, size_t n_tokens) const;

    std::vector<int32_t> tokens_;
    Index long_{kLongMatch}, short_{kShortMatch};
};

}  // namespace nemo
