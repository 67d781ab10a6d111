// Searching the chats. SQLite's trigram index finds every word of three characters and more. A
// shorter word, most Chinese and Japanese ones, is the beginning of some trigrams of the index,
// which are read like a dictionary; the index has two newlines behind each text (chat_schema.cpp),
// so that its last characters begin trigrams as well.
#include "app/chat_store.h"
#include "app/find_text.h"
#include "app/sqlite.h"
#include "core/utf8.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

namespace nemo {

namespace {

constexpr size_t kTrigram = 3;
// A short word with more places than this is in so many messages that a look through the newest
// ones is faster. Reading 50000 places takes 10 ms.
constexpr int64_t kMaxPlaces = 50'000;

size_t n_characters(std::string_view text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<std::string> split_words(std::string_view text) {
    std::vector<std::string> words;
    std::string word;
    for (size_t offset = 0; offset < text.size();) {
        const CodePoint code_point = decode_utf8(text, offset);
        const bool is_space = code_point.value <= ' ' || code_point.value == U'\u3000';
        if (!is_space) append_utf8(word, code_point.value);
        if (is_space && !word.empty()) words.push_back(std::exchange(word, {}));
        offset += static_cast<size_t>(code_point.n_bytes);
    }
    if (!word.empty()) words.push_back(word);
    return words;
}

// "a" AND "b": whatever the words contain, to FTS5 they are text.
std::string match_expression(const std::vector<std::string>& words) {
    std::string expression;
    for (const std::string& word : words) {
        if (n_characters(word) < kTrigram) continue;
        expression += expression.empty() ? "\"" : " AND \"";
        for (const char c : word) {
            if (c == '"') expression.push_back('"');
            expression.push_back(c);
        }
        expression.push_back('"');
    }
    return expression;
}

bool has_all(std::string_view text, const std::vector<std::string>& words) {
    return std::ranges::all_of(
        words, [&](const std::string& word) { return find_word(text, word).has_value(); });
}

constexpr const char* kHitQuery =
    "SELECT m.id, m.chat, m.role, m.content, m.created, c.title FROM {} JOIN chats c ON c.id = "
    "m.chat WHERE c.deleted IS NULL AND m.state <> 'streaming' AND {} ORDER BY {} DESC";

// Appends those of the rows that have all words of `filter`.
void append_hits(Statement& rows, const std::vector<std::string>& filter,
                 const std::vector<std::string>& words, size_t limit,
                 std::vector<SearchHit>& hits) {
    while (hits.size() < limit && rows.step()) {
        const std::string content = rows.text(3);
        if (!has_all(content, filter)) continue;
        hits.push_back({.chat = rows.integer(1),
                        .title = rows.text(5),
                        .message = rows.integer(0),
                        .role = rows.text(2),
                        .created = rows.integer(4),
                        .snippet = make_snippet(content, words)});
    }
}

// The messages with a short word, newest first; nullopt: in more than kMaxPlaces places.
std::optional<std::vector<int64_t>> messages_with(Connection& connection, const std::string& word) {
    std::string behind = word;
    append_utf8(behind, 0x10FFFF);
    Statement places = connection.prepare(
        "SELECT doc FROM temp.message_terms WHERE term >= ?1 AND term < ?2 LIMIT ?3");
    places.bind(word).bind(behind).bind(kMaxPlaces + 1);
    std::vector<int64_t> messages;
    while (places.step()) messages.push_back(places.integer(0));
    if (std::ssize(messages) > kMaxPlaces) return std::nullopt;
    std::ranges::sort(messages, std::greater());
    const auto repeated = std::ranges::unique(messages);
    messages.erase(repeated.begin(), repeated.end());
    return messages;
}

std::vector<int64_t> common_to(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
    std::vector<int64_t> common;
    std::ranges::set_intersection(a, b, std::back_inserter(common), std::greater());
    return common;
}

// The messages, newest first, that can have all these words, as far as that is quickly known.
std::optional<std::vector<int64_t>> candidates_for(Connection& connection,
                                                   const std::vector<std::string>& short_words,
                                                   const std::string& expression) {
    std::optional<std::vector<int64_t>> candidates;
    for (const std::string& word : short_words) {
        std::optional<std::vector<int64_t>> messages = messages_with(connection, word);
        if (messages && candidates)
            candidates = common_to(*candidates, *messages);
        else if (messages)
            candidates = std::move(messages);
    }
    if (!candidates || expression.empty()) return candidates;
    Statement rows = connection.prepare(
        "SELECT rowid FROM message_index WHERE message_index MATCH ?1 ORDER BY rowid DESC");
    rows.bind(expression);
    std::vector<int64_t> matches;
    while (rows.step()) matches.push_back(rows.integer(0));
    return common_to(*candidates, matches);
}

}  // namespace

std::vector<SearchHit> ChatStore::search(std::string_view text, size_t limit) const {
    std::vector<std::string> words;
    for (const std::string& word : split_words(text)) words.push_back(lower_case(word));
    std::vector<SearchHit> hits;
    if (words.empty()) return hits;
    for (const Chat& chat : chats()) {
        if (hits.size() == limit) return hits;
        if (has_all(chat.title, words))
            hits.push_back({.chat = chat.id,
                            .title = chat.title,
                            .created = chat.updated,
                            .snippet = make_snippet(chat.title, words)});
    }
    std::vector<std::string> short_words;
    std::ranges::copy_if(words, std::back_inserter(short_words),
                         [](const std::string& word) { return n_characters(word) < kTrigram; });
    const std::string expression = match_expression(words);
    connection_->run(
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.message_terms USING fts5vocab (main, "
        "message_index, instance)");
    if (const auto candidates = candidates_for(*connection_, short_words, expression)) {
        Statement row =
            connection_->prepare(fmt::format(kHitQuery, "messages m", "m.id = ?1", "m.id"));
        for (const int64_t message : *candidates) {
            row.reset();
            row.bind(message);
            append_hits(row, short_words, words, limit, hits);
            if (hits.size() == limit) break;
        }
    } else if (expression.empty()) {
        Statement rows = connection_->prepare(fmt::format(kHitQuery, "messages m", "1", "m.id"));
        append_hits(rows, short_words, words, limit, hits);
    } else {
        Statement rows = connection_->prepare(
            fmt::format(kHitQuery, "message_index JOIN messages m ON m.id = message_index.rowid",
                        "message_index MATCH ?1", "message_index.rowid"));
        rows.bind(expression);
        append_hits(rows, short_words, words, limit, hits);
    }
    return hits;
}

}  // namespace nemo
