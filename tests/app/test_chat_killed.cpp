// A program that writes chats is killed at any moment: nothing that was acknowledged is lost.
#include "app/chat_store.h"
#include "core/error.h"
#include "tests/app/process.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <csignal>
#include <cstdio>
#include <map>
#include <random>

using namespace nemo;

namespace {

// What the child says once a call has returned: the message has at least this many words.
struct Acknowledgement {
    int64_t message;
    int64_t n_words;
    int64_t is_complete;
};

std::string words(int64_t message_seed, int64_t n_words) {
    std::string text;
    for (int64_t i = 0; i < n_words; ++i)
        text += "word" + std::to_string(message_seed * 31 + i) + " 天気 ";
    return text;
}

void acknowledge(int pipe, const Acknowledgement& what) {
    if (::write(pipe, &what, sizeof what) != sizeof what) ::_exit(1);
}

// Questions and streamed answers, until it is killed. A text depends on its parent and length only.
[[noreturn]] void write_for_ever(const std::filesystem::path& file, int pipe) {
    try {
        ChatStore store = ChatStore::open(file);
        const int64_t chat = store.create_chat({});
        const std::optional<ChatLock> lock = store.lock_chat(chat);
        int64_t parent = 0;
        for (int64_t i = 1;; ++i) {
            const int64_t question = store.add_message(
                chat, {.parent = parent, .role = "user", .content = words(parent, i % 7 + 1)});
            acknowledge(pipe, {question, i % 7 + 1, 1});
            const int64_t answer = store.add_message(
                chat, {.parent = question, .role = "assistant", .state = MessageState::streaming});
            acknowledge(pipe, {answer, 0, 0});
            for (int64_t n = 1; n <= i % 3 + 1; ++n) {
                store.update_answer(answer, {.content = words(question, n * 20)});
                acknowledge(pipe, {answer, n * 20, 0});
            }
            store.update_answer(answer,
                                {.content = words(question, 100), .state = MessageState::complete});
            acknowledge(pipe, {answer, 100, 1});
            parent = answer;
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
    }
    ::_exit(1);
}

// The last acknowledgement of each message, from a child that is killed some time after its n-th.
std::map<int64_t, Acknowledgement> run_and_kill(const std::filesystem::path& file,
                                                unsigned n_acknowledgements,
                                                std::chrono::microseconds patience) {
    int pipe[2] = {};
    REQUIRE(::pipe(pipe) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        ::close(pipe[0]);
        write_for_ever(file, pipe[1]);
    }
    ::close(pipe[1]);
    std::map<int64_t, Acknowledgement> acknowledged;
    Acknowledgement next = {};
    const auto read_next = [&] {
        if (::read(pipe[0], &next, sizeof next) != sizeof next) return false;
        acknowledged[next.message] = next;
        return true;
    };
    for (unsigned i = 0; i < n_acknowledgements && read_next(); ++i) {
    }
    ::usleep(static_cast<useconds_t>(patience.count()));
    ::kill(child, SIGKILL);
    while (read_next()) {
    }
    ::close(pipe[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(decode_status(status) == 128 + SIGKILL);
    return acknowledged;
}

void check_kept(const ChatStore& store, const Acknowledgement& expected) {
    const Message message = store.message(expected.message);
    int64_t n_words = expected.n_words;
    while (n_words < 200 && message.content != words(message.parent, n_words)) ++n_words;
    CHECK(n_words < 200);
    CHECK(message.state != MessageState::streaming);
    if (expected.is_complete != 0) CHECK(message.state == MessageState::complete);
}

}  // namespace

// By hand: NEMO_TEST_KILLS=10000, with TMPDIR=/dev/shm if the disk is slow: what a kill can lose,
// it loses there as well.
TEST_CASE("no acknowledged message is lost when the writer is killed") {
    const char* wanted = std::getenv("NEMO_TEST_KILLS");
    const int n_kills = wanted == nullptr ? 40 : std::atoi(wanted);
    constexpr int kKillsPerFile = 50;
    std::mt19937 random(wanted == nullptr ? 3 : std::random_device()());
    std::uniform_int_distribution<unsigned> n_acknowledgements(0, 12);  // 0: while it opens
    std::uniform_int_distribution<int> microseconds(0, 5000);
    size_t n_acknowledged = 0;
    int n_interrupted = 0;
    for (int done = 0; done < n_kills;) {
        const TempFolder folder;
        const std::filesystem::path file = folder / "chats.db";
        std::map<int64_t, Acknowledgement> all;
        for (int i = 0; i < kKillsPerFile && done < n_kills; ++i, ++done) {
            CAPTURE(done);
            const auto acknowledged = run_and_kill(file, n_acknowledgements(random),
                                                   std::chrono::microseconds(microseconds(random)));
            const ChatStore store = ChatStore::open(file);
            for (const auto& [message, last] : acknowledged) {
                check_kept(store, last);
                all[message] = last;
            }
            n_acknowledged += acknowledged.size();
            n_interrupted += !store.notices().empty();
            for (const std::string& notice : store.notices())
                CHECK(contains(notice, "cut off when the program ended"));
            CHECK(store.problems().empty());
        }
        const ChatStore store = ChatStore::open(file);
        for (const auto& [message, last] : all) check_kept(store, last);
    }
    if (wanted != nullptr)
        MESSAGE(n_kills << " kills, " << n_acknowledged << " acknowledged messages, "
                        << n_interrupted << " times an answer was interrupted");
    CHECK(n_acknowledged > static_cast<size_t>(n_kills));
    CHECK(n_interrupted > 0);
}
