// UTF-8 by the table of well-formed byte sequences (Unicode standard, table 3-7): only the second
// byte's range depends on the first, which is how overlong forms, surrogates and values above
// U+10FFFF are excluded without decoding them.
#include "core/utf8.h"

#include "core/error.h"

#include <algorithm>

namespace nemo {
namespace {

struct Sequence {
    int n_wanted;  // bytes the lead byte asks for; 0: not a lead byte
    int n_good;    // bytes present that are a proper start of such a sequence
};

uint8_t byte_at(std::string_view text, size_t offset) {
    return static_cast<uint8_t>(text[offset]);
}

Sequence scan_sequence(std::string_view text, size_t offset) {
    const uint8_t lead = byte_at(text, offset);
    if (lead < 0x80) return {1, 1};
    int n_wanted = 0;
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) {
        n_wanted = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        n_wanted = 3;
        if (lead == 0xE0) low = 0xA0;
        if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        n_wanted = 4;
        if (lead == 0xF0) low = 0x90;
        if (lead == 0xF4) high = 0x8F;
    } else {
        return {0, 0};
    }
    int n_good = 1;
    while (n_good < n_wanted && offset + static_cast<size_t>(n_good) < text.size()) {
        const uint8_t next = byte_at(text, offset + static_cast<size_t>(n_good));
        if (next < low || next > high) break;
        low = 0x80;
        high = 0xBF;
        ++n_good;
    }
    return {n_wanted, n_good};
}

}  // namespace

CodePoint decode_utf8(std::string_view text, size_t offset) {
    const Sequence sequence = scan_sequence(text, offset);
    if (sequence.n_wanted == 0 || sequence.n_good < sequence.n_wanted) return {0xFFFD, 1, false};
    const uint8_t lead = byte_at(text, offset);
    if (sequence.n_wanted == 1) return {lead, 1, true};
    char32_t value = lead & (0xFFu >> (sequence.n_wanted + 1));
    for (int i = 1; i < sequence.n_wanted; ++i) {
        value = (value << 6) | (byte_at(text, offset + static_cast<size_t>(i)) & 0x3Fu);
    }
    return {value, sequence.n_wanted, true};
}

void append_utf8(std::string& text, char32_t code_point) {
    const auto put = [&text](char32_t byte) { text.push_back(static_cast<char>(byte)); };
    NEMO_ASSERT(code_point <= 0x10FFFF);
    if (code_point < 0x80) {
        put(code_point);
    } else if (code_point < 0x800) {
        put(0xC0 | (code_point >> 6));
        put(0x80 | (code_point & 0x3F));
    } else if (code_point < 0x10000) {
        put(0xE0 | (code_point >> 12));
        put(0x80 | ((code_point >> 6) & 0x3F));
        put(0x80 | (code_point & 0x3F));
    } else {
        put(0xF0 | (code_point >> 18));
        put(0x80 | ((code_point >> 12) & 0x3F));
        put(0x80 | ((code_point >> 6) & 0x3F));
        put(0x80 | (code_point & 0x3F));
    }
}

bool is_valid_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        if (static_cast<uint8_t>(text[i]) < 0x80) {
            ++i;
            continue;
        }
        const Sequence sequence = scan_sequence(text, i);
        if (sequence.n_wanted == 0 || sequence.n_good < sequence.n_wanted) return false;
        i += static_cast<size_t>(sequence.n_wanted);
    }
    return true;
}

std::string sanitize_utf8(std::string_view text) {
    std::string clean;
    clean.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
        const Sequence sequence = scan_sequence(text, i);
        if (sequence.n_wanted > 0 && sequence.n_good == sequence.n_wanted) {
            clean.append(text, i, static_cast<size_t>(sequence.n_wanted));
        } else {
            append_utf8(clean, 0xFFFD);
        }
        i += static_cast<size_t>(std::max(sequence.n_good, 1));
    }
    return clean;
}

size_t incomplete_utf8_tail(std::string_view text) {
    for (size_t n_tail = 1; n_tail <= std::min<size_t>(3, text.size()); ++n_tail) {
        const Sequence sequence = scan_sequence(text, text.size() - n_tail);
        if (sequence.n_wanted == 0) continue;
        const bool reaches_end = static_cast<size_t>(sequence.n_good) == n_tail;
        return reaches_end && sequence.n_good < sequence.n_wanted ? n_tail : 0;
    }
    return 0;
}

}  // namespace nemo
