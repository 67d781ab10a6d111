// The parts of a sequence's state as blocks for a disk: pages of keys and values, pieces of the
// recurrent state. Sizes follow from the model and the position alone, never from what was stored.
#pragma once

#include "core/packed_block.h"
#include "models/kv_pages.h"

#include <cstdint>
#include <span>
#include <string_view>

namespace nemo {

// How numbers of the recurrent state are kept. The rounded forms have one fp32 factor for 64
// values, the largest of which it maps to the largest code.
enum class StateCoding : uint8_t { exact = 0, int16 = 1, int8 = 2 };

// Memory that unpacking one block after the other needs.
struct UnpackScratch {
    BlockBuffer planes, rows;
};

size_t n_recurrent_blocks(int64_t n_floats);
// Block `index` of the recurrent state of all layers.
PackedBlock pack_recurrent(std::span<const float> recurrent, size_t index, StateCoding coding);
void unpack_recurrent(std::span<const std::byte> stored, const BlockEntry& entry,
                      StateCoding coding, size_t index, std::span<float> recurrent,
                      std::string_view what, UnpackScratch& scratch);

// The first n_rows rows of a page: what lies above them is left out.
PackedBlock pack_page(const KvPageLayout& layout, const KvPage& page, int64_t n_rows);
void unpack_page(std::span<const std::byte> stored, const BlockEntry& entry,
                 const KvPageLayout& layout, int64_t n_rows, KvPage& page, std::string_view what,
                 UnpackScratch& scratch);

}  // namespace nemo
