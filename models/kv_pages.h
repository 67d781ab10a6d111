// Keys and values of a sequence in pages that sequences share.
//
// A page holds 256 positions of all attention layers. Sequences with the same beginning have the
// same pages; a page is only ever appended to, and by one sequence: another that would write where
// rows are already gets a copy of its own first. So branches cost only what differs, and a snapshot
// of the caches is a table of pointers.
#pragma once

#include "kernels/backend.h"
#include "models/config.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace nemo {

// Where the layers' caches lie in a page.
class KvPageLayout {
public:
    struct Part {
        KvLayout layout;     // no heads without attention
        int64_t offset = 0;  // bytes, from the start of the page
    };

    KvPageLayout(const ModelConfig& config, const KvTypes& types);

    size_t n_layers() const { return keys_.size(); }
    const Part& keys(size_t layer) const { return keys_[layer]; }
    const Part& values(size_t layer) const { return values_[layer]; }
    const KvTypes& types() const { return types_; }
    // Of one position, all layers.
    int64_t token_bytes() const { return token_bytes_; }
    // 0 without attention layers: then there are no pages.
    int64_t page_bytes() const { return kKvPageRows * token_bytes_; }
    // That hold positions [0, n).
    size_t n_pages(int64_t n_positions) const {
        return token_bytes_ == 0
                   ? 0
                   : static_cast<size_t>((n_positions + kKvPageRows - 1) / kKvPageRows);
    }

private:
    KvTypes types_;
    int64_t token_bytes_ = 0;
    std::vector<Part> keys_;  // per layer
    std::vector<Part> values_;
};

struct KvPage {
    FloatBuffer memory;
    int64_t n_rows = 0;       // written by whoever has it; what lies above belongs to nobody
    uint64_t n_rewrites = 0;  // how often its only owner went back and wrote over rows

    std::byte* data() const { return reinterpret_cast<std::byte*>(memory.get()); }
};

std::shared_ptr<KvPage> new_kv_page(const KvPageLayout& layout, Backend& backend);

using KvPages = std::vector<std::shared_ptr<KvPage>>;

// The pages of one sequence.
class KvPageTable {
public:
    KvPageTable(const KvPageLayout& layout, Backend& backend)
        : layout_(layout), backend_(backend) {}

    // For the kernels; valid until the table changes.
    std::byte* const* data() const { return data_.data(); }
    const KvPages& pages() const { return pages_; }
    // Becomes that of a sequence which shares these pages.
    void assign(KvPages pages);
    void clear() noexcept;
    // Makes positions [begin, end) writable; those before `begin` stay.
    void make_writable(int64_t begin, int64_t end);

private:
    const KvPageLayout& layout_;
    Backend& backend_;
    KvPages pages_;
    std::vector<std::byte*> data_;
};

}  // namespace nemo
