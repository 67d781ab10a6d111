#include "models/state_spill.h"

#include "core/crc32c.h"
#include "core/error.h"

namespace nemo {

namespace {

std::span<std::byte> page_bytes(const KvPage& page, const KvPageLayout& layout) {
    return {page.data(), static_cast<size_t>(layout.page_bytes())};
}

}  // namespace

SpilledBytes::SpilledBytes(std::shared_ptr<SpillFile> file, std::span<const std::byte> bytes)
    : file_(std::move(file)),
      offset_(file_->write(bytes)),
      n_bytes_(bytes.size()),
      crc_(crc32c(bytes)) {}

SpilledBytes::~SpilledBytes() {
    file_->discard(offset_, n_bytes_);
}

void SpilledBytes::read(std::span<std::byte> bytes) const {
    NEMO_ASSERT(bytes.size() == n_bytes_);
    file_->read(offset_, bytes);
    if (const uint32_t crc = crc32c(bytes); crc != crc_)
        fail(ErrorCode::bad_file,
             "a state kept on disk: checksum {:08x}, but its bytes have {:08x}", crc_, crc);
}

std::shared_ptr<KvPage> SpilledPage::in_memory() const {
    const std::shared_ptr<KvPage> page = origin.lock();
    return page != nullptr && page->n_rewrites == n_rewrites ? page : nullptr;
}

void StateSpill::open() {
    if (file_ != nullptr) return;
    file_ = std::make_shared<SpillFile>(folder_);
    if (limit_ == 0) limit_ = static_cast<int64_t>(file_->n_free_bytes() / 4);
}

int64_t StateSpill::n_bytes() const {
    return file_ == nullptr ? 0 : static_cast<int64_t>(file_->n_bytes());
}

std::shared_ptr<const SpilledBytes> StateSpill::spill_recurrent(const FloatBuffer& recurrent) {
    open();
    return std::make_shared<SpilledBytes>(
        file_,
        std::as_bytes(std::span(recurrent.get(), static_cast<size_t>(layout_.n_recurrent()))));
}

std::shared_ptr<SpilledPage> StateSpill::spill_page(const std::shared_ptr<KvPage>& page) {
    open();
    std::erase_if(spilled_pages_, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<SpilledPage>& known = spilled_pages_[page.get()];
    if (const auto spilled = known.lock();
        spilled != nullptr && spilled->in_memory() == page && spilled->n_rows == page->n_rows)
        return spilled;
    // Bytes that are written cannot move: made in their place.
    const std::shared_ptr<SpilledPage> spilled(new SpilledPage{
        {file_, page_bytes(*page, layout_.page_layout())}, page->n_rows, page, page->n_rewrites});
    known = spilled;
    return spilled;
}

std::shared_ptr<KvPage> StateSpill::load_page(const std::shared_ptr<SpilledPage>& spilled) {
    std::shared_ptr<KvPage> page = spilled->in_memory();
    if (page != nullptr) return page;
    page = layout_.new_page();
    spilled->bytes.read(page_bytes(*page, layout_.page_layout()));
    page->n_rows = spilled->n_rows;
    spilled->origin = page;
    spilled->n_rewrites = page->n_rewrites;
    spilled_pages_[page.get()] = spilled;
    return page;
}

}  // namespace nemo
