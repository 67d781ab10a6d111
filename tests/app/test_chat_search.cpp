// Finding messages: what is found, what is not, and how long it takes with many.
#include "app/chat_store.h"
#include "core/utf8.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>

using namespace nemo;

namespace {

std::vector<int64_t> found(const ChatStore& store, std::string_view text, size_t limit = 50) {
    std::vector<int64_t> messages;
    for (const SearchHit& hit : store.search(text, limit)) messages.push_back(hit.message);
    return messages;
}

using Ids = std::vector<int64_t>;

// Some 1300 bytes, mostly Chinese or mostly English by turns.
std::string random_text(std::mt19937& random, int number) {
    std::exponential_distribution<double> letter(0.18);
    std::exponential_distribution<double> sign(0.002);
    std::string text;
    while (text.size() < 1300) {
        if (number % 2 == 0) {
            // Every 25th is the same one, as in Chinese.
            const auto offset = static_cast<char32_t>(sign(random));
            append_utf8(text,
                        random() % 25 == 0 ? U'的' : 0x4E00 + std::min<char32_t>(offset, 8000));
        } else {
            const size_t index = std::min<size_t>(25, static_cast<size_t>(letter(random)));
            text.push_back(" etaoinshrdlucmfwypvbgkjqx"[index]);
        }
    }
    return text;
}

double milliseconds(const auto& action) {
    const auto start = std::chrono::steady_clock::now();
    action();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

}  // namespace

TEST_CASE("words are found in any case, in parts, all of them, and are never syntax") {
    const TempFolder folder;
    ChatStore store = ChatStore::open(folder / "chats.db");
    const int64_t chat = store.create_chat({.title = "Untitled"});
    const auto add = [&](const char* text) {
        return store.add_message(chat, {.role = "user", .content = text, .reasoning = "secret"});
    };
    const int64_t rice = add("How do I cook RICE\nand beans?");
    const int64_t weather = add("今日の天気はどうですか");
    const int64_t sky = add("いい天気");
    const int64_t umlaut = add("Über die ÄPFEL im ДОМ, a\"b OR c* NEAR(d) -x");
    const int64_t vertical = add("C++ and 猫");

    CHECK(found(store, "rice") == Ids{rice});
    CHECK(found(store, "beans COOK") == Ids{rice});
    CHECK(found(store, "beans goats").empty());
    CHECK(found(store, "天気") == Ids{sky, weather});
    CHECK(found(store, "天気", 1) == Ids{sky});
    CHECK(found(store, "今日") == Ids{weather});
    CHECK(found(store, "天気 今日") == Ids{weather});
    CHECK(found(store, "天気は 今日") == Ids{weather});
    CHECK(found(store, "今日\u3000天気") == Ids{weather});
    CHECK(found(store, "beans 今日").empty());  // a message has the one, another the other
    CHECK(found(store, "日天").empty());
    CHECK(found(store, "猫") == Ids{vertical});
    CHECK(found(store, "c++") == Ids{vertical});
    CHECK(found(store, "+") == Ids{vertical});
    CHECK(found(store, "äpfel") == Ids{umlaut});
    CHECK(found(store, "äp") == Ids{umlaut});
    CHECK(found(store, "дом,") == Ids{umlaut});
    CHECK(found(store, "до") == Ids{umlaut});
    CHECK(found(store, "a\"b") == Ids{umlaut});
    CHECK(found(store, "rice OR 天気は").empty());
    CHECK(found(store, "near(d)") == Ids{umlaut});
    CHECK(found(store, "secret").empty());
    for (const char* odd : {"", " ", "\"", "\"\"\"", "*", "a*", "(", "AND", "NOT rice", "content:x",
                            "{content}", "^abc", "a^2", "'", "%", "_", "\\", "\xff\xff\xff"}) {
        CAPTURE(odd);
        CHECK_NOTHROW(store.search(odd));
    }
    CHECK(found(store, "_").empty());
    CHECK(found(store, "%ri").empty());
}

TEST_CASE("a hit shows where it is") {
    const TempFolder folder;
    ChatStore store = ChatStore::open(folder / "chats.db");
    const int64_t chat = store.create_chat({.title = "Cooking for nine"});
    std::string text;
    for (int i = 0; i < 40; ++i) text += "天気 ";
    text += "a\nNine ";
    for (int i = 0; i < 40; ++i) text += "天気 ";
    const int64_t message = store.add_message(chat, {.role = "assistant", .content = text});
    const std::vector<SearchHit> hits = store.search("nine");
    REQUIRE(hits.size() == 2);
    CHECK(hits[0].message == 0);
    CHECK(hits[0].chat == chat);
    CHECK(hits[0].snippet.text == "Cooking for nine");
    CHECK(hits[1].message == message);
    CHECK(hits[1].role == "assistant");
    CHECK(hits[1].title == "Cooking for nine");
    const Snippet& snippet = hits[1].snippet;
    CHECK(snippet.text.starts_with("…"));
    CHECK(snippet.text.ends_with("…"));
    CHECK(snippet.text.find('\n') == std::string::npos);
    CHECK(is_valid_utf8(snippet.text));
    CHECK(snippet.text.size() < 400);
    CHECK(snippet.text.substr(snippet.match.begin, snippet.match.end - snippet.match.begin) ==
          "Nine");
}

TEST_CASE("the index follows every change") {
    const TempFolder folder;
    ChatStore store = ChatStore::open(folder / "chats.db");
    const int64_t chat = store.create_chat({});
    const int64_t answer = store.add_message(
        chat, {.role = "assistant", .content = "first words", .state = MessageState::streaming});
    CHECK(found(store, "first").empty());
    CHECK(found(store, "wo").empty());
    store.update_answer(answer, {.content = "first words and more"});
    CHECK(found(store, "more").empty());
    store.update_answer(answer,
                        {.content = "other words altogether", .state = MessageState::complete});
    CHECK(found(store, "first").empty());
    CHECK(found(store, "other") == Ids{answer});
    CHECK(found(store, "wo") == Ids{answer});
    store.update_answer(answer, {.content = "continued", .state = MessageState::streaming});
    CHECK(found(store, "other").empty());
    store.update_answer(answer, {.content = "continued", .state = MessageState::interrupted});
    CHECK(found(store, "continued") == Ids{answer});
    store.delete_chat(chat);
    CHECK(found(store, "continued").empty());
    CHECK(found(store, "co").empty());
    store.undelete_chat(chat);
    CHECK(found(store, "continued") == Ids{answer});
    store.delete_chat(chat);
    store.purge_chat(chat);
    CHECK(found(store, "continued").empty());
    CHECK(store.problems().empty());
}

// By hand: NEMO_TEST_MESSAGES=20000 build/tests/test_app -tc="*found in time*" -s
TEST_CASE("messages are found in time") {
    const char* wanted = std::getenv("NEMO_TEST_MESSAGES");
    const int n_messages = wanted == nullptr ? 150 : std::atoi(wanted);
    const TempFolder folder;
    ChatStore store = ChatStore::open(folder / "chats.db");
    std::mt19937 random(1);
    double insert_ms = 0;
    for (int i = 0; i < n_messages;) {
        std::vector<Message> messages;
        for (int64_t id = 1; id <= 100 && i < n_messages; ++id, ++i) {
            messages.push_back({.id = id, .role = "user", .content = random_text(random, i)});
            if (i == n_messages / 2) messages.back().content += "the zyz word 龘龘";
        }
        const Chat chat = {.settings = Json::Object{}};
        insert_ms += milliseconds([&] { store.add_copy(chat, messages); });
    }
    const int64_t rare = n_messages / 2 + 1;
    if (wanted != nullptr)
        MESSAGE(n_messages << " messages stored, " << insert_ms / n_messages << " ms each");
    CHECK(found(store, "龘龘") == Ids{rare});
    CHECK(found(store, "zyz word") == Ids{rare});
    for (const char* text :
         {"龘龘",  "龘",    "一丁",     "一",     "th",           "e",        "zy",
          "qx",    "the",   "zyz word", "eta",    "the tea 一丁", "aa bb cc", "一丁七",
          "一 th", "的 th", "的 e",     "a 的 q", "the 一",       "the 的",   "none such"}) {
        std::vector<double> times;
        size_t n_hits = 0;
        for (int k = 0; k < 5; ++k)
            times.push_back(milliseconds([&] { n_hits = store.search(text).size(); }));
        std::ranges::sort(times);
        if (wanted != nullptr)
            MESSAGE(std::string(text) << ": " << n_hits << " hits, " << times[2] << " ms, at most "
                                      << times.back() << " ms");
        if (wanted != nullptr) CHECK(times[2] < 50);
    }
}
