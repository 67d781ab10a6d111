#include "models/state_file.h"

#include "core/error.h"
#include "core/mapped_file.h"
#include "core/thread_pool.h"
#include "models/state_directory.h"

#include <algorithm>
#include <atomic>
#include <unordered_map>

namespace nemo {

namespace {

// Starting threads takes as long as a small state.
int n_threads_for(uint64_t n_bytes) {
    constexpr uint64_t kSmall = uint64_t{1} << 20;
    return n_bytes < kSmall ? 1 : 0;
}

// ---- Writing ----

struct PackJob {
    BlockEntry* entry;
    std::function<PackedBlock()> pack;
};

class StateWriter {
public:
    StateWriter(const Model& model, const SequenceState& layout, StateCoding coding)
        : layout_(layout) {
        directory_.model = model.fingerprint();
        directory_.kv_types = layout.page_layout().types();
        directory_.n_recurrent = layout.n_recurrent();
        directory_.token_bytes = layout.page_layout().token_bytes();
        directory_.n_vocab = model.config().n_vocab;
        directory_.coding = coding;
    }

    void add(const StateView& view) {
        StateDirectory::State state = {.is_live = !view.kind.has_value(),
                                       .kind = view.kind.value_or(CheckpointKind::chat),
                                       .tokens = {view.tokens.begin(), view.tokens.end()}};
        for (size_t i = 0; i < layout_.page_layout().n_pages(std::ssize(view.tokens)); ++i) {
            const int64_t first = static_cast<int64_t>(i) * kKvPageRows;
            const int64_t n_rows = std::min(kKvPageRows, std::ssize(view.tokens) - first);
            state.pages.push_back(number_of(view.pages[i].get(), n_rows));
        }
        state.recurrent.resize(n_recurrent_blocks(layout_.n_recurrent()));
        directory_.states.push_back(std::move(state));
        recurrent_.push_back(view.recurrent);
    }

    void set_logits(std::span<const float> logits) {
        logits_ = logits;
        directory_.logits.resize(1);
    }

    // False if cancelled.
    bool write(AtomicFile& file, const StateFileOptions& options) {
        std::atomic<bool> is_cancelled = false;
        const auto cancelled = [&] {
            if (options.cancelled && options.cancelled()) is_cancelled = true;
            return is_cancelled.load();
        };
        file.write(directory_.encoded());  // to be replaced: only the length is right
        const std::vector<PackJob> jobs = pack_jobs();
        ThreadPool pool(options.n_threads > 0 ? options.n_threads : n_threads_for(n_raw_bytes()));
        // As much in memory at a time as keeps all threads busy.
        const size_t n_batch = 8 * static_cast<size_t>(pool.n_threads());
        for (size_t first = 0; first < jobs.size(); first += n_batch) {
            std::vector<PackedBlock> blocks(std::min(n_batch, jobs.size() - first));
            pool.parallel_for(std::ssize(blocks), 1, [&](int64_t i, int64_t, int) {
                if (cancelled()) return;
                const auto index = static_cast<size_t>(i);
                blocks[index] = jobs[first + index].pack();
                *jobs[first + index].entry = blocks[index].entry();
            });
            for (const PackedBlock& block : blocks) {
                if (cancelled()) return false;
                file.write(block.stored);
            }
        }
        file.overwrite(0, directory_.encoded());
        return true;
    }

private:
    uint32_t number_of(const KvPage* page, int64_t n_rows) {
        const auto [found, is_new] =
            numbers_.try_emplace(page, static_cast<uint32_t>(pages_.size()));
        if (is_new) {
            pages_.push_back(page);
            directory_.pages.push_back({});
        }
        int64_t& n_stored = directory_.pages[found->second].n_rows;
        n_stored = std::max(n_stored, n_rows);
        return found->second;
    }

    uint64_t n_raw_bytes() const {
        return pages_.size() * static_cast<uint64_t>(layout_.page_layout().page_bytes()) +
               recurrent_.size() * static_cast<uint64_t>(layout_.n_recurrent()) * sizeof(float);
    }

    // In the order of the file.
    std::vector<PackJob> pack_jobs() {
        std::vector<PackJob> jobs;
        for (size_t i = 0; i < pages_.size(); ++i)
            jobs.push_back({&directory_.pages[i].block, [this, i] {
                                return pack_page(layout_.page_layout(), *pages_[i],
                                                 directory_.pages[i].n_rows);
                            }});
        for (size_t s = 0; s < recurrent_.size(); ++s)
            for (size_t i = 0; i < directory_.states[s].recurrent.size(); ++i)
                jobs.push_back({&directory_.states[s].recurrent[i], [this, s, i] {
                                    return pack_recurrent(recurrent_[s], i, directory_.coding);
                                }});
        for (BlockEntry& entry : directory_.logits)
            jobs.push_back(
                {&entry, [this] { return pack_block(std::as_bytes(logits_), sizeof(float)); }});
        return jobs;
    }

    const SequenceState& layout_;
    StateDirectory directory_;
    std::unordered_map<const KvPage*, uint32_t> numbers_;
    std::vector<const KvPage*> pages_;               // as in the directory
    std::vector<std::span<const float>> recurrent_;  // of its states
    std::span<const float> logits_;
};

// ---- Reading ----

// A recurrent state that stays where it is until somebody needs it.
class RecurrentInFile {
public:
    struct Block {
        std::span<const std::byte> stored;
        BlockEntry entry;
    };

    RecurrentInFile(std::shared_ptr<const MappedFile> file, StateCoding coding)
        : file_(std::move(file)), coding_(coding) {}

    void add(const Block& block) { blocks_.push_back(block); }
    size_t n_blocks() const { return blocks_.size(); }
    void check(size_t index) const {
        check_block(blocks_[index].stored, blocks_[index].entry, what());
    }
    void read(size_t index, std::span<float> recurrent, UnpackScratch& scratch) const {
        unpack_recurrent(blocks_[index].stored, blocks_[index].entry, coding_, index, recurrent,
                         what(), scratch);
    }
    void read(std::span<float> recurrent) const {
        ThreadPool pool(n_threads_for(recurrent.size_bytes()));
        std::vector<UnpackScratch> scratch(static_cast<size_t>(pool.n_threads()));
        pool.parallel_for(std::ssize(blocks_), 1, [&](int64_t i, int64_t, int thread) {
            read(static_cast<size_t>(i), recurrent, scratch[static_cast<size_t>(thread)]);
        });
    }

private:
    std::string what() const { return file_->path() + ": a recurrent state"; }

    std::shared_ptr<const MappedFile> file_;  // the one that was opened, even if it was replaced
    StateCoding coding_;
    std::vector<Block> blocks_;
};

class StateReader {
public:
    StateReader(std::shared_ptr<const MappedFile> file, const Model& model,
                const SequenceState& layout, int64_t n_context)
        : file_(std::move(file)),
          layout_(layout),
          directory_(read_state_directory(file_->bytes(), file_->path(),
                                          {.model = model.fingerprint(),
                                           .live = layout,
                                           .n_vocab = model.config().n_vocab,
                                           .n_context = n_context})),
          pages_(directory_.pages.size()) {
        uint64_t offset = directory_.n_front_bytes;
        directory_.for_blocks([&](const BlockEntry& block) {
            offsets_.emplace(&block, offset);
            offset += block.n_stored;
        });
    }

    StoredStates read(int64_t budget) {
        StoredStates stored;
        int64_t n_bytes = 0;
        for (StateDirectory::State& state : directory_.states) {
            if (!state.is_live && (n_bytes += new_bytes(state)) > budget) break;
            Checkpoint checkpoint = begin(state);
            if (state.is_live)
                stored.live = std::move(checkpoint);
            else
                stored.kept.push_back(std::move(checkpoint));
        }
        if (!directory_.logits.empty()) {
            stored.logits.resize(static_cast<size_t>(directory_.n_vocab));
            jobs_.push_back([this, bytes = std::as_writable_bytes(std::span(stored.logits))](
                                UnpackScratch& scratch) {
                const BlockEntry& entry = directory_.logits.front();
                unpack_block(stored_bytes(entry), entry, sizeof(float), bytes,
                             file_->path() + ": the logits", scratch.planes);
            });
        }
        ThreadPool pool(n_threads_for(file_->bytes().size()));
        std::vector<UnpackScratch> scratch(static_cast<size_t>(pool.n_threads()));
        pool.parallel_for(std::ssize(jobs_), 1, [&](int64_t i, int64_t, int thread) {
            jobs_[static_cast<size_t>(i)](scratch[static_cast<size_t>(thread)]);
        });
        return stored;
    }

private:
    std::span<const std::byte> stored_bytes(const BlockEntry& entry) const {
        return file_->bytes().subspan(static_cast<size_t>(offsets_.at(&entry)),
                                      static_cast<size_t>(entry.n_stored));
    }

    int64_t new_bytes(const StateDirectory::State& state) const {
        const auto n_pages = std::ranges::count_if(
            state.pages, [&](uint32_t number) { return pages_[number] == nullptr; });
        return layout_.recurrent_bytes() + n_pages * layout_.page_layout().page_bytes();
    }

    // What the live state needs is filled by jobs_; of the others only the pages, which are mostly
    // the same.
    Checkpoint begin(StateDirectory::State& state) {
        Checkpoint checkpoint = {std::move(state.tokens), state.kind, {}};
        checkpoint.state.position = std::ssize(checkpoint.tokens);
        for (const uint32_t number : state.pages) checkpoint.state.pages.push_back(page(number));
        const auto in_file = std::make_shared<RecurrentInFile>(file_, directory_.coding);
        for (const BlockEntry& entry : state.recurrent) in_file->add({stored_bytes(entry), entry});
        checkpoint.read_recurrent = [in_file](std::span<float> recurrent) {
            in_file->read(recurrent);
        };
        if (state.is_live) {
            checkpoint.state.recurrent = layout_.new_recurrent();
            const std::span recurrent(checkpoint.state.recurrent.get(),
                                      static_cast<size_t>(layout_.n_recurrent()));
            for (size_t i = 0; i < in_file->n_blocks(); ++i)
                jobs_.push_back([in_file, recurrent, i](UnpackScratch& scratch) {
                    in_file->read(i, recurrent, scratch);
                });
            return checkpoint;
        }
        for (size_t i = 0; i < in_file->n_blocks(); ++i)
            jobs_.push_back([in_file, i](UnpackScratch&) { in_file->check(i); });
        checkpoint.pages_on_disk.resize(checkpoint.state.pages.size());
        return checkpoint;
    }

    std::shared_ptr<KvPage> page(uint32_t number) {
        std::shared_ptr<KvPage>& page = pages_[number];
        if (page != nullptr) return page;
        page = layout_.new_page();
        jobs_.push_back([this, number, target = page.get()](UnpackScratch& scratch) {
            const StateDirectory::Page& stored = directory_.pages[number];
            unpack_page(stored_bytes(stored.block), stored.block, layout_.page_layout(),
                        stored.n_rows, *target, file_->path() + ": a page of the caches", scratch);
        });
        return page;
    }

    std::shared_ptr<const MappedFile> file_;
    const SequenceState& layout_;
    StateDirectory directory_;
    std::unordered_map<const BlockEntry*, uint64_t> offsets_;
    std::vector<std::shared_ptr<KvPage>> pages_;  // as in the directory; null: not needed so far
    std::vector<std::function<void(UnpackScratch&)>> jobs_;
};

}  // namespace

std::optional<AtomicFile> write_state_file(const std::filesystem::path& path, const Model& model,
                                           const SequenceState& layout,
                                           std::span<const StateView> states,
                                           std::span<const float> logits,
                                           const StateFileOptions& options) {
    StateWriter writer(model, layout, options.coding);
    for (const StateView& state : states) writer.add(state);
    if (!logits.empty()) writer.set_logits(logits);
    std::optional<AtomicFile> file(std::in_place, path, FileAccess::owner_only);
    if (!writer.write(*file, options)) file.reset();
    return file;
}

StoredStates read_state_file(const std::filesystem::path& path, const Model& model,
                             const SequenceState& layout, int64_t n_context, int64_t budget) {
    return StateReader(std::make_shared<const MappedFile>(MappedFile::open(path)), model, layout,
                       n_context)
        .read(budget);
}

}  // namespace nemo
