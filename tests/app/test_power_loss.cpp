// The power fails at any moment: what was acknowledged is on the disk, and the file is sound.
//
// SQLite's writes are noted on their way to the system, and disks are made from the notes as they
// may be after a power cut: what was synced is there; of what was not, any sectors or none. A new
// file's first sync also syncs its folder, as SQLite does it for its journals and logs.
#include "app/chat_store.h"
#include "tests/app/process.h"

#include <doctest/doctest.h>
#include <sqlite3.h>

#include <algorithm>
#include <map>
#include <random>
#include <span>

using namespace nemo;
namespace fs = std::filesystem;

namespace {

struct Operation {
    enum class Kind { write, truncate, sync, remove } kind;
    std::string file;     // without the folder
    int64_t offset = 0;   // truncate: the new size
    std::string content;  // write
};
using Kind = Operation::Kind;

// SQLite's usual functions with ours in front, while this lives.
class Recorder {
public:
    Recorder() {
        current = this;
        vfs_.zName = "recorder";
        vfs_.xOpen = [](sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
            return current->open(name, file, flags, out);
        };
        vfs_.xDelete = [](sqlite3_vfs*, const char* name, int sync_folder) {
            current->operations.push_back({Kind::remove, fs::path(name).filename(), 0, ""});
            return current->real_->xDelete(current->real_, name, sync_folder);
        };
        sqlite3_vfs_register(&vfs_, 1);
    }
    ~Recorder() {
        sqlite3_vfs_unregister(&vfs_);
        sqlite3_vfs_register(real_, 1);
    }
    Recorder(const Recorder&) = delete;
    Recorder& operator=(const Recorder&) = delete;

    std::vector<Operation> operations;

private:
    struct File {
        std::string name;
        const sqlite3_io_methods* real;
        sqlite3_io_methods methods;
    };

    int open(const char* name, sqlite3_file* file, int flags, int* out) {
        const int code = real_->xOpen(real_, name, file, flags, out);
        if (code != SQLITE_OK || name == nullptr) return code;
        File& noted = files_[file];
        noted = {fs::path(name).filename(), file->pMethods, *file->pMethods};
        noted.methods.xWrite = [](sqlite3_file* f, const void* bytes, int n, sqlite3_int64 at) {
            const std::string content(static_cast<const char*>(bytes), static_cast<size_t>(n));
            return note(f, Kind::write, at, content).xWrite(f, bytes, n, at);
        };
        noted.methods.xTruncate = [](sqlite3_file* f, sqlite3_int64 size) {
            return note(f, Kind::truncate, size).xTruncate(f, size);
        };
        noted.methods.xSync = [](sqlite3_file* f, int how) {
            return note(f, Kind::sync).xSync(f, how);
        };
        file->pMethods = &noted.methods;
        return code;
    }
    static const sqlite3_io_methods& note(sqlite3_file* file, Kind kind, int64_t offset = 0,
                                          const std::string& content = "") {
        const File& noted = current->files_.at(file);
        current->operations.push_back({kind, noted.name, offset, content});
        return *noted.real;
    }

    static inline Recorder* current = nullptr;
    sqlite3_vfs* real_ = sqlite3_vfs_find(nullptr);
    sqlite3_vfs vfs_ = *real_;
    std::map<sqlite3_file*, File> files_;
};

using Files = std::map<std::string, std::string>;

void apply(Files& files, const Operation& one) {
    if (one.kind == Kind::remove) {
        files.erase(one.file);
        return;
    }
    std::string& file = files[one.file];
    const auto offset = static_cast<size_t>(one.offset);
    if (one.kind == Kind::truncate) file.resize(offset);
    if (one.kind != Kind::write) return;
    file.resize(std::max(file.size(), offset + one.content.size()));
    file.replace(offset, one.content.size(), one.content);
}

// What is there if the power fails then; unsynced sectors with probability `share`.
Files after_power_cut(std::span<const Operation> operations, double share, std::mt19937& random) {
    Files files;
    std::vector<Operation> unsynced;
    for (const Operation& next : operations) {
        unsynced.push_back(next);
        if (next.kind != Kind::sync) continue;
        const bool syncs_folder = !files.contains(next.file);
        std::vector<Operation> rest;
        for (const Operation& one : unsynced) {
            const bool is_done =
                one.file == next.file || (syncs_folder && one.kind == Kind::remove);
            if (is_done) apply(files, one);
            if (is_done && one.kind == Kind::remove)
                std::erase_if(rest, [&](const Operation& o) { return o.file == one.file; });
            if (!is_done) rest.push_back(one);
        }
        unsynced = std::move(rest);
    }
    constexpr size_t kSector = 512;
    std::bernoulli_distribution survives(share);
    for (const Operation& one : unsynced)
        for (size_t at = 0; at == 0 || at < one.content.size(); at += kSector)
            if (survives(random))
                apply(files, {one.kind, one.file, one.offset + static_cast<int64_t>(at),
                              one.content.substr(at, kSector)});
    return files;
}

// What the store had acknowledged after so many operations: contents by message.
struct Promise {
    size_t n_operations = 0;
    std::map<int64_t, std::string> contents;
};

std::vector<Promise> talk(const fs::path& file, const Recorder& recorder) {
    std::vector<Promise> promises(1);
    const auto promise = [&](int64_t message, const std::string& content) {
        promises.push_back(promises.back());
        promises.back().contents[message] = content;
        promises.back().n_operations = recorder.operations.size();
    };
    for (int part = 0; part < 3; ++part) {
        ChatStore store = ChatStore::open(file);
        const int64_t chat = store.create_chat({});
        for (int i = 0; i < 4; ++i) {
            const std::string text(static_cast<size_t>(i * 3000), static_cast<char>('a' + i));
            promise(store.add_message(chat, {.role = "user", .content = text}), text);
            const int64_t answer =
                store.add_message(chat, {.role = "assistant", .state = MessageState::streaming});
            promise(answer, "");
            store.update_answer(answer, {.content = "so far"});
            promise(answer, "so far");
        }
    }
    return promises;
}

}  // namespace

// By hand, at every moment: NEMO_TEST_POWER_CUTS=100000
TEST_CASE("no acknowledged message is lost when the power fails") {
    const char* wanted = std::getenv("NEMO_TEST_POWER_CUTS");
    const size_t n_wanted = wanted == nullptr ? 40 : static_cast<size_t>(std::atoi(wanted));
    const TempFolder written;
    std::vector<Promise> promises;
    std::vector<Operation> operations;
    {
        const Recorder recorder;
        promises = talk(written / "chats.db", recorder);
        operations = recorder.operations;
    }
    std::mt19937 random(1);
    size_t n_kept = 0;
    for (size_t n = 0; n <= operations.size(); n += operations.size() / n_wanted + 1)
        for (const double share : {0.0, 0.5, 0.95}) {
            CAPTURE(n);
            CAPTURE(share);
            const TempFolder folder;
            for (const auto& [name, content] :
                 after_power_cut(std::span(operations).first(n), share, random))
                write_file(folder / name, content);
            const ChatStore store = ChatStore::open(folder / "chats.db");
            for (const std::string& notice : store.notices())
                CHECK(contains(notice, "cut off when the program ended"));
            CHECK(store.problems().empty());
            const auto next = std::ranges::upper_bound(promises, n, {}, &Promise::n_operations);
            for (const auto& [message, content] : std::prev(next)->contents) {
                const std::string kept = store.message(message).content;
                CHECK((kept == content || (content.empty() && kept == "so far")));
                ++n_kept;
            }
        }
    CHECK(n_kept > 500);
}
