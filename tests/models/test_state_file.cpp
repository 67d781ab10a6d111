// State files: a session that was saved goes on in another one as if nothing had happened, and a
// file that is damaged in any way is refused.
#include "core/crc32c.h"
#include "core/error.h"
#include "tests/models/sync_helpers.h"

#include <sys/stat.h>
#include <algorithm>
#include <filesystem>
#include <fstream>

using namespace nemo;

namespace {

const SessionOptions kOptions = {.n_context = 1000, .chunk = 32};

// The reason why `path` is refused; empty if it is not.
std::string refusal(Session& session, const std::filesystem::path& path) {
    try {
        session.restore(path);
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::bad_file);
        CHECK(std::string(error.what()).find(path.string()) != std::string::npos);
        return error.what();
    }
    return {};
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

// A model with everything, small enough to try every byte of its file.
struct Small {
    GoldenModel golden{"dense", DType::q8_0};
    std::unique_ptr<Backend> backend = make_cpu_backend(1);
    Model model{golden.file(), *backend};
    TempFolder folder;
    std::filesystem::path path = folder / "chat.state";
};

}  // namespace

TEST_CASE("a restored session goes on with the same bits, and reads nothing again") {
    for (const char* name : {"dense", "one_group", "nemotron", "puzzle"})
        for (const KvTypes types : {KvTypes{}, KvTypes{DType::q8_0, DType::f32}}) {
            CAPTURE(name);
            const GoldenModel golden(name, DType::q8_0);
            const auto backend = make_cpu_backend(2);
            const Model model(golden.file(), *backend);
            SessionOptions options = kOptions;
            options.kv_types = types;
            const Fresh fresh(model, options);
            const TempFolder folder;
            const auto path = folder / "chat.state";

            const std::vector<int32_t> first = random_ids(280, 1), answer = random_ids(30, 2),
                                       next = random_ids(20, 3);
            Session session(model, options);
            session.sync(first, std::vector<int64_t>{100, 270});
            session.append(answer);
            session.save(path);
            struct stat status = {};
            REQUIRE(::stat(path.c_str(), &status) == 0);
            CHECK((status.st_mode & 0777) == 0600);

            Session other(model, options);
            other.sync(random_ids(40, 9));
            other.restore(path);
            CHECK(other.tokens() == joined(first, answer));
            // The logits were saved as well.
            const SyncResult same = other.sync(joined(first, answer));
            CHECK(same.n_read == 0);
            CHECK(std::ranges::equal(same.logits, fresh.logits(joined(first, answer))));
            const auto check = [&](const std::vector<int32_t>& ids, int64_t n_reused) {
                const SyncResult result = other.sync(ids);
                CHECK(result.n_reused == n_reused);
                CHECK(std::ranges::equal(result.logits, fresh.logits(ids)));
            };
            const bool cuts = std::string(name) == "nemotron";
            check(joined(joined(first, answer), next), 310);
            check(joined(first_of(first, 270), next), 270);
            check(joined(first_of(first, 100), next), 100);
            check(first, cuts ? 279 : 270);
        }
}

TEST_CASE("kept states stay in the file until they are used, even if it is gone") {
    Small small;
    const Fresh fresh(small.model, kOptions);
    const std::vector<int32_t> ids = random_ids(60, 1), other_end = random_ids(9, 2);
    Session session(small.model, kOptions);
    session.sync(ids, std::vector<int64_t>{20, 40});
    session.save(small.path);

    Session other(small.model, kOptions);
    other.restore(small.path);
    CHECK(other.checkpoints().items().size() == 2);
    CHECK(other.checkpoints().n_bytes() == 0);
    std::filesystem::remove(small.path);
    for (const int64_t n : {20, 40}) {
        const std::vector<int32_t> text = joined(first_of(ids, n), other_end);
        const SyncResult result = other.sync(text);
        CHECK(result.n_reused == n);
        CHECK(std::ranges::equal(result.logits, fresh.logits(text)));
    }
    // In a quiet moment they come into memory, and so into the next file.
    other.prepare();
    for (const Checkpoint& item : other.checkpoints().items())
        CHECK((item.in_memory() || item.kind == CheckpointKind::left));
    other.save(small.path);
    Session third(small.model, kOptions);
    third.restore(small.path);
    CHECK(third.sync(joined(first_of(ids, 40), {5, 6})).n_reused == 40);
}

TEST_CASE("a restored state that is left at once stays in the file, and its memory is used again") {
    Small small;
    const Fresh fresh(small.model, kOptions);
    const std::vector<int32_t> ids = random_ids(60, 1);
    Session session(small.model, kOptions);
    session.sync(ids, std::vector<int64_t>{20});
    session.save(small.path);

    Session other(small.model, kOptions);
    other.restore(small.path);
    const float* memory = other.state().recurrent();
    const auto check = [&](const std::vector<int32_t>& text, int64_t n_reused) {
        const SyncResult result = other.sync(text);
        CHECK(result.n_reused == n_reused);
        CHECK(std::ranges::equal(result.logits, fresh.logits(text)));
    };
    check(joined(first_of(ids, 20), {5, 6}), 20);
    CHECK(other.state().recurrent() == memory);
    for (const Checkpoint& item : other.checkpoints().items()) CHECK(!item.in_memory());
    check(joined(ids, {7}), 60);
    // Once it has moved on, what is left is the file's no longer.
    other.restore(small.path);
    check(joined(ids, {7}), 60);
    check(joined(first_of(ids, 20), {5, 6}), 20);
    check(joined(ids, {7, 8}), 61);
    other.restore(small.path);
    other.look_at(std::vector<int32_t>{7, 8, 9});
    other.take_in(2);
    check(joined(first_of(ids, 20), {5, 6}), 20);
    check(joined(ids, {7, 8, 9}), 62);
}

TEST_CASE("a kept state that is damaged after the file was opened is lost, with the reason") {
    Small small;
    const std::vector<int32_t> ids = random_ids(60, 1);
    Session session(small.model, kOptions);
    session.sync(ids, std::vector<int64_t>{20});
    session.save(small.path);
    Session other(small.model, kOptions);
    other.restore(small.path);
    // In place, as a failing disk would.
    std::fstream file(small.path, std::ios::in | std::ios::out | std::ios::binary);
    const auto n_bytes = static_cast<std::streamoff>(std::filesystem::file_size(small.path));
    file.seekp(n_bytes / 2);
    file << std::string(static_cast<size_t>(n_bytes / 2), 'x');
    file.close();
    const std::vector<int32_t> text = joined(first_of(ids, 20), {5, 6});
    const SyncResult result = other.sync(text);
    CHECK(result.n_reused == 0);
    CHECK(std::ranges::equal(result.logits, Fresh(small.model, kOptions).logits(text)));
    CHECK(contains(other.checkpoints().spill_problem(), "a recurrent state: checksum"));
}

TEST_CASE("a session without a live state is saved too, and an empty one") {
    Small small;
    Session session(small.model, kOptions);
    session.save(small.path);
    Session other(small.model, kOptions);
    other.sync(random_ids(5, 1));
    other.restore(small.path);
    CHECK(other.tokens().empty());
    CHECK(other.checkpoints().items().empty());
}

TEST_CASE("as many checkpoints are restored as fit into the budget") {
    Small small;
    Session session(small.model, kOptions);
    session.sync(random_ids(60, 1), std::vector<int64_t>{10, 20, 30, 40, 50});
    session.save(small.path, {.n_checkpoints = 4});
    for (const int64_t n : {0, 1, 3}) {
        SessionOptions options = kOptions;
        options.state_budget = n * recurrent_state_bytes(small.model.config()) + 1;
        Session other(small.model, options);
        other.restore(small.path);
        CHECK(other.tokens().size() == 60);
        std::vector<int64_t> positions;
        for (const Checkpoint& item : other.checkpoints().items())
            positions.push_back(item.state.position);
        const std::vector<int64_t> newest = {30, 40, 50};
        CHECK(positions == std::vector<int64_t>(newest.end() - n, newest.end()));
    }
}

TEST_CASE("rounded states are smaller and nearly right") {
    Small small;
    const std::vector<int32_t> ids = random_ids(100, 1);
    Session session(small.model, kOptions);
    session.sync(ids);
    const std::vector<float> expected = Fresh(small.model, kOptions).logits(joined(ids, {7}));
    uintmax_t n_bytes_before = UINTMAX_MAX;
    for (const auto& [coding, tolerance] : {std::pair{StateCoding::exact, 0.0},
                                            {StateCoding::int16, 2e-4},
                                            {StateCoding::int8, 3e-2}}) {
        session.save(small.path, {.coding = coding});
        Session other(small.model, kOptions);
        other.restore(small.path);
        const SyncResult result = other.sync(joined(ids, {7}));
        CHECK(result.n_read == 1);
        CHECK(relative_error(result.logits.data(), expected.data(), expected.size()) <= tolerance);
        CHECK(std::filesystem::file_size(small.path) < n_bytes_before);
        n_bytes_before = std::filesystem::file_size(small.path);
    }
}

TEST_CASE("a state file is refused with the reason, and the session stays as it was") {
    Small small;
    Session session(small.model, kOptions);
    const std::vector<int32_t> ids = random_ids(40, 1);
    session.sync(ids, std::vector<int64_t>{20});
    session.save(small.path);
    const std::string good = read_file(small.path);

    const auto refused = [&](std::string_view reason, const std::string& bytes) {
        write_file(small.path, bytes);
        const std::string message = refusal(session, small.path);
        CAPTURE(message);
        CHECK(contains(message, reason));
        CHECK(session.tokens() == ids);
        CHECK(session.sync(ids).n_read == 0);
    };
    refused("not a state file", "");
    refused("not a state file", "GGUF" + good.substr(4));
    std::string changed = good;
    changed[8] = 2;
    refused("version 2, but this program reads version 1", changed);
    changed = good;
    changed[12] = static_cast<char>(changed[12] + 1);
    refused("directory's checksum", changed);
    refused("blocks end at", good + "x");
    refused("blocks end at", good.substr(0, good.size() - 1));
    CHECK(contains(refusal(session, small.folder / "missing"), "cannot open"));
    write_file(small.path, good);

    const GoldenModel other_golden("dense", DType::f32);
    const Model other_model(other_golden.file(), *small.backend);
    Session other(other_model, kOptions);
    CHECK(contains(refusal(other, small.path), "another model"));
    Session other_types(small.model, {.n_context = 1000, .kv_types = {DType::f16, DType::q8_0}});
    CHECK(contains(refusal(other_types, small.path), "the type of cached values"));
    Session short_context(small.model, {.n_context = 39});
    CHECK(contains(refusal(short_context, small.path), "1 to 39 fit into the context"));
}

TEST_CASE("every truncation and every changed byte of a state file is noticed") {
    Small small;
    Session session(small.model, kOptions);
    session.sync(random_ids(5, 1), std::vector<int64_t>{3});
    session.save(small.path, {.coding = StateCoding::int8});
    const std::string good = read_file(small.path);
    // All of them by hand: NEMO_TEST_ALL=1.
    const size_t step = std::getenv("NEMO_TEST_ALL") != nullptr ? 1 : 23;
    Session other(small.model, kOptions);
    for (size_t i = 0; i < good.size(); i += i < 200 ? 1 : step) {
        CAPTURE(i);
        write_file(small.path, good.substr(0, i));
        CHECK(!refusal(other, small.path).empty());
        for (const int bit : {1, 128}) {
            std::string changed = good;
            changed[i] = static_cast<char>(changed[i] ^ bit);
            write_file(small.path, changed);
            CHECK(!refusal(other, small.path).empty());
        }
    }
    write_file(small.path, good);
    CHECK(refusal(other, small.path).empty());
}

// As an attacker would: the checksum is right, so every field has to be looked at.
TEST_CASE("a directory with a right checksum and any contents is refused or used, never a crash") {
    Small small;
    Session session(small.model, kOptions);
    session.sync(random_ids(300, 1), std::vector<int64_t>{3, 270});
    session.save(small.path);
    const std::string good = read_file(small.path);
    uint64_t n_directory;
    std::memcpy(&n_directory, good.data() + 12, sizeof n_directory);
    const size_t end = 20 + static_cast<size_t>(n_directory);
    const int n_rounds = std::getenv("NEMO_TEST_ALL") != nullptr ? 100000 : 500;
    std::mt19937 random(5);
    int n_refused = 0;
    for (int round = 0; round < n_rounds; ++round) {
        CAPTURE(round);
        std::string changed = good;
        for (uint32_t i = 0; i <= random() % 3; ++i) {
            const auto value = random() % 2 == 0 ? random() % 4 : random();
            const size_t place = 20 + random() % (end - 20 - sizeof value);
            std::memcpy(changed.data() + place, &value, 1 + random() % sizeof value);
        }
        const uint32_t crc = crc32c(std::as_bytes(std::span(changed.data(), end)));
        std::memcpy(changed.data() + end, &crc, sizeof crc);
        write_file(small.path, changed);
        Session other(small.model, kOptions);
        if (refusal(other, small.path).empty())
            other.sync(other.tokens().empty() ? std::vector<int32_t>{1} : other.tokens());
        else
            ++n_refused;
    }
    CHECK(n_refused > n_rounds / 4);
}
