#include "models/kv_pages.h"

#include <algorithm>

namespace nemo {

KvPageLayout::KvPageLayout(const ModelConfig& config, const KvTypes& types) : types_(types) {
    const auto place = [&](const AttentionShape& shape, DType type) {
        const KvLayout layout = {
            .type = type, .n_heads = shape.n_kv_heads, .head_dim = shape.head_dim};
        const Part part = {layout, kKvPageRows * token_bytes_};
        token_bytes_ += layout.token_bytes();
        return part;
    };
    for (const LayerConfig& layer : config.layers) {
        const bool has_cache = layer.kind == LayerKind::attention;
        keys_.push_back(has_cache ? place(layer.attention, types.keys) : Part{});
        values_.push_back(has_cache ? place(layer.attention, types.values) : Part{});
    }
}

std::shared_ptr<KvPage> new_kv_page(const KvPageLayout& layout, Backend& backend) {
    auto page = std::make_shared<KvPage>();
    page->memory = backend.alloc(layout.page_bytes() / static_cast<int64_t>(sizeof(float)));
    return page;
}

void KvPageTable::assign(KvPages pages) {
    pages_ = std::move(pages);
    data_.clear();
    for (const auto& page : pages_) data_.push_back(page->data());
}

void KvPageTable::clear() noexcept {
    pages_.clear();
    data_.clear();
}

void KvPageTable::make_writable(int64_t begin, int64_t end) {
    for (size_t i = layout_.n_pages(begin + 1) - 1; i < layout_.n_pages(end); ++i) {
        const int64_t first_row = static_cast<int64_t>(i) * kKvPageRows;
        const int64_t n_kept = std::max<int64_t>(0, begin - first_row);
        if (i == pages_.size()) {
            pages_.push_back(new_kv_page(layout_, backend_));
            data_.push_back(pages_.back()->data());
        }
        std::shared_ptr<KvPage>& page = pages_[i];
        if (page->n_rows > n_kept && page.use_count() == 1) {
            ++page->n_rewrites;
        } else if (page->n_rows > n_kept) {
            const std::shared_ptr<KvPage> copy = new_kv_page(layout_, backend_);
            if (n_kept > 0)
                backend_.copy(page->memory.get(),
                              layout_.page_bytes() / static_cast<int64_t>(sizeof(float)),
                              copy->memory.get());
            page = copy;
            data_[i] = page->data();
        }
        page->n_rows = std::min(kKvPageRows, end - first_row);
    }
}

}  // namespace nemo
