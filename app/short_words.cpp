#include "app/short_words.h"

#include "app/find_text.h"
#include "core/utf8.h"

#include <sqlite3.h>

#include <new>
#include <string>

namespace nemo {

namespace {

using OnTerm = int (*)(void* context, int flags, const char* term, int n_bytes, int begin, int end);

struct Place {
    std::string lower;  // empty: before the text or behind a space
    int begin = 0;
};

// Hands out the terms in the order of the text; nothing is allocated for short strings.
int hand_out_terms(std::string_view text, bool is_query, void* context, OnTerm on_term) {
    Place before;
    for (size_t offset = 0; offset < text.size();) {
        const CodePoint code_point = decode_utf8(text, offset);
        const int begin = static_cast<int>(offset);
        offset += static_cast<size_t>(code_point.n_bytes);
        const int end = static_cast<int>(offset);
        if (is_word_space(code_point.value)) {
            before.lower.clear();
            continue;
        }
        Place here = {"", begin};
        append_utf8(here.lower, lower_case(code_point.value));
        const auto hand_out = [&](const std::string& term, int from) {
            return on_term(context, 0, term.data(), static_cast<int>(term.size()), from, end);
        };
        int code = SQLITE_OK;
        // Of a query only the whole.
        if (!is_query || (offset == text.size() && before.lower.empty()))
            code = hand_out(here.lower, begin);
        if (code == SQLITE_OK && !before.lower.empty())
            code = hand_out(before.lower + here.lower, before.begin);
        if (code != SQLITE_OK) return code;
        before = std::move(here);
    }
    return SQLITE_OK;
}

// There is nothing to keep: one object stands for all tokenizers.
int create(void* context, const char**, int, Fts5Tokenizer** tokenizer) {
    *tokenizer = static_cast<Fts5Tokenizer*>(context);
    return SQLITE_OK;
}

void destroy(Fts5Tokenizer*) {}

int tokenize(Fts5Tokenizer*, void* context, int flags, const char* text, int n_bytes,
             OnTerm on_term) {
    try {
        return hand_out_terms({text, static_cast<size_t>(n_bytes)},
                              (flags & FTS5_TOKENIZE_QUERY) != 0, context, on_term);
    } catch (const std::bad_alloc&) {
        return SQLITE_NOMEM;
    }
}

fts5_api* fts5_of(sqlite3* database) {
    fts5_api* api = nullptr;
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(database, "SELECT fts5(?1)", -1, &statement, nullptr) == SQLITE_OK) {
        sqlite3_bind_pointer(statement, 1, &api, "fts5_api_ptr", nullptr);
        sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
    return api;
}

}  // namespace

int register_short_words(sqlite3* database) {
    fts5_api* api = fts5_of(database);
    if (api == nullptr) return SQLITE_OK;  // SQLite without FTS5: check_library() says so
    fts5_tokenizer functions = {create, destroy, tokenize};
    return api->xCreateTokenizer(api, "short_words", api, &functions, nullptr);
}

}  // namespace nemo
