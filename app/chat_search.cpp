// Searching the chats. One index finds words of three characters and more, another one shorter
// words (app/chat_schema.cpp). Messages that both have to agree on are few numbers, compared here.
#include "app/chat_store.h"
#include "app/find_text.h"
#include "app/short_words.h"
#include "app/sqlite.h"
#include "core/utf8.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <utility>

namespace nemo {

namespace {

size_t n_characters(std::string_view text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_short(const std::string& word) {
    return n_characters(word) <= kShortWordCharacters;
}

std::vector<std::string> split_words(std::string_view text) {
    std::vector<std::string> words;
    std::string word;
    for (size_t offset = 0; offset < text.size();) {
        const CodePoint code_point = decode_utf8(text, offset);
        const bool is_space = is_word_space(code_point.value);
        if (!is_space) append_utf8(word, lower_case(code_point.value));
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

// The messages with all words of an expression, newest first.
Statement matches(Connection& connection, const char* index, const std::string& expression) {
    Statement rows = connection.prepare(
        fmt::format("SELECT rowid FROM {0} WHERE {0} MATCH ?1 ORDER BY rowid DESC", index));
    rows.bind(std::string_view(expression));
    return rows;
}

std::vector<int64_t> all_of(Statement rows) {
    std::vector<int64_t> messages;
    while (rows.step()) messages.push_back(rows.integer(0));
    return messages;
}

// What is looked for, and what was found so far.
struct Search {
    Connection& connection;
    std::vector<std::string> words;
    size_t limit;
    std::map<int64_t, std::string> live_chats = {};  // their titles
    std::vector<SearchHit> hits = {};

    bool is_full() const { return hits.size() >= limit; }

    void take(Statement& message_row, int64_t id) {
        message_row.reset();
        message_row.bind(id);
        if (!message_row.step()) return;
        const auto chat = live_chats.find(message_row.integer(0));
        if (chat == live_chats.end()) return;
        hits.push_back({.chat = chat->first,
                        .title = chat->second,
                        .message = id,
                        .role = message_row.text(1),
                        .created = message_row.integer(2),
                        .snippet = make_snippet(message_row.text(3), words)});
    }

    void find_in_messages() {
        std::vector<std::string> short_words, long_words;
        std::ranges::partition_copy(words, std::back_inserter(short_words),
                                    std::back_inserter(long_words), is_short);
        Statement row =
            connection.prepare("SELECT chat, role, created, content FROM messages WHERE id = ?1");
        if (short_words.empty() || long_words.empty()) {
            Statement found =
                long_words.empty()
                    ? matches(connection, "short_word_index", match_expression(short_words))
                    : matches(connection, "message_index", match_expression(long_words));
            while (!is_full() && found.step()) take(row, found.integer(0));
            return;
        }
        std::vector<int64_t> common;
        std::ranges::set_intersection(
            all_of(matches(connection, "short_word_index", match_expression(short_words))),
            all_of(matches(connection, "message_index", match_expression(long_words))),
            std::back_inserter(common), std::greater());
        for (size_t i = 0; i < common.size() && !is_full(); ++i) take(row, common[i]);
    }
};

}  // namespace

std::vector<SearchHit> ChatStore::search(std::string_view text, size_t limit) const {
    Search search = {*connection_, split_words(text), limit};
    if (search.words.empty()) return {};
    for (const Chat& chat : chats()) {
        search.live_chats.emplace(chat.id, chat.title);
        if (!search.is_full() && has_all(chat.title, search.words))
            search.hits.push_back({.chat = chat.id,
                                   .title = chat.title,
                                   .created = chat.updated,
                                   .snippet = make_snippet(chat.title, search.words)});
    }
    search.find_in_messages();
    return std::move(search.hits);
}

}  // namespace nemo
