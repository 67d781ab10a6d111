// States written while the session waits, and a program that is killed long before it ends in
// order.
#include "app/background_save.h"

#include "app/conversation.h"
#include "app/state_folder.h"
#include "tests/app/chat_models.h"
#include "tests/models/golden_model.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

using namespace nemo;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

std::vector<float> copy_of(std::span<const float> values) {
    return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("a state written in the background is the one there was, or there is none") {
    const GoldenModel golden("dense", DType::q8_0);
    const auto backend = make_cpu_backend(1);
    const Model model(golden.file(), *backend);
    const TempFolder folder;
    const fs::path file = folder / "state";
    const SessionOptions options = {.n_context = 10000};
    Session session(model, options), plain(model, options);
    BackgroundSave saver(session);
    std::mt19937 random(1);
    std::vector<int32_t> at_start;
    std::atomic<int> n_written = 0;
    for (int round = 0; round < 40; ++round) {
        CAPTURE(round);
        std::vector<int32_t> ids(1 + random() % 80);
        for (int32_t& id : ids) id = static_cast<int32_t>(random() % 264);
        const std::vector<float> expected = copy_of(plain.append(ids));
        CHECK(copy_of(session.append(ids)) == expected);
        at_start = session.tokens();
        saver.start(file, {}, [&] { ++n_written; });
        if (round % 4 == 0) {
            CHECK(saver.finish());
            Session other(model, options);
            other.restore(file);
            CHECK(other.tokens() == at_start);
            CHECK(copy_of(other.sync(at_start).logits) == expected);
            CHECK(saver.stop());
        } else {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
            CHECK(!saver.stop());  // still waiting for quiet
            CHECK(!saver.finish());
        }
        CHECK(!saver.stop());  // said once
    }
    CHECK(n_written == 10);
    // What is stopped in the middle leaves the older file.
    const std::string before = read_file(file);
    for (int n_asked = 0; n_asked < 4; ++n_asked) {
        int n_left = n_asked;
        CHECK(!session.write_states(file, {}, [&] { return n_left-- == 0; }).has_value());
    }
    CHECK(read_file(file) == before);
    CHECK(std::ranges::distance(fs::directory_iterator(folder / ".")) == 1);
}

TEST_CASE("a state that is being written is given up when the session is wanted") {
    const auto backend = make_cpu_backend(2);
    const auto file =
        std::make_shared<const ModelFile>(ModelFile::open(chat_model(ChatFormat::demo)));
    const Model model(file, *backend);
    Session session(model, {.n_context = 8192, .kv_types = {DType::f32, DType::f32}});
    std::mt19937 random(1);
    std::vector<int32_t> ids(8000);  // some ten milliseconds to write
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 4096);
    session.append(ids);
    const TempFolder folder;
    BackgroundSave saver(session);
    bool given_up = false;
    // The moment may be missed on a busy machine.
    for (int n_tries = 0; n_tries < 10 && !given_up; ++n_tries) {
        saver.start(folder / "state", {}, [] {});
        for (int i = 0; i < 50'000 && names_in(folder / "").empty(); ++i)
            std::this_thread::sleep_for(100us);
        given_up = !saver.stop();
        saver.finish();
        if (given_up) CHECK(names_in(folder / "").empty());
        fs::remove(folder / "state");
    }
    CHECK(given_up);
}

TEST_CASE("after a kill in a quiet moment a long chat is not read again") {
    constexpr std::chrono::seconds kPatience(300);  // sanitizers make reading slow
    const TempFolder folder;
    const fs::path states = folder / "state";
    const std::string model = chat_model(ChatFormat::nemotron_3);
    AnswerSettings settings;
    settings.max_tokens = 8;
    const auto with_chat = [&](const auto& use) {
        const Engine engine(model, 2);
        Session session(engine.model(), {.n_context = 16384});
        ChatStore store = ChatStore::open(folder / "chats.db");
        const std::vector<Chat> chats = store.chats();
        const int64_t id = chats.empty()
                               ? store.create_chat({.settings = settings_to_json(settings)})
                               : chats.front().id;
        Conversation chat(engine, session, store, id, states);
        return use(chat);
    };
    const auto ignore = [](TextPart, std::string_view) {};
    std::string text;
    for (int i = 0; i < 1500; ++i) text += "word " + std::to_string(i * 7919 % 1000) + ", ";
    const pid_t child = ::fork();
    if (child == 0)
        with_chat([&](Conversation& chat) {
            chat.send(text, ignore, {});
            std::this_thread::sleep_for(kPatience);
            ::_exit(1);
        });
    const auto start = std::chrono::steady_clock::now();
    while (!fs::exists(states / "1.state") && std::chrono::steady_clock::now() - start < kPatience)
        std::this_thread::sleep_for(5ms);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status));
    const AnswerReport report = with_chat([&](Conversation& chat) {
        CHECK(chat.state_notice().empty());
        return chat.send("And now?", ignore, {});
    });
    CHECK(report.n_reused > 8192);
    CHECK(report.n_read < 100);
}
