// An FTS5 tokenizer for words of one and two characters, which SQLite's trigrams cannot find: most
// Chinese and Japanese words, and the beginnings of any other. Every character of a text and every
// two neighbours are a term, in lower case; spaces are in none. A query of one or two characters is
// one term.
#pragma once

#include <string_view>

struct sqlite3;

namespace nemo {

// The longest words that the tokenizer finds.
constexpr int kShortWordCharacters = 2;

// Makes the tokenizer known to a connection as "short_words". Returns an SQLite error code.
int register_short_words(sqlite3* database);

}  // namespace nemo
