#include "core/tokenizer/bpe_alphabet.h"

#include "core/utf8.h"

#include <array>
#include <cstdint>

namespace nemo {
namespace {

constexpr char32_t kFirstStandIn = 0x100;
constexpr int kNumStandIns = 68;

bool stands_for_itself(char32_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
           (byte >= 0xAE && byte <= 0xFF);
}

// Index: code point - U+0100.
const std::array<char, kNumStandIns>& stand_in_bytes() {
    static const auto table = [] {
        std::array<char, kNumStandIns> bytes{};
        size_t n = 0;
        for (int byte = 0; byte < 256; ++byte) {
            if (!stands_for_itself(static_cast<char32_t>(byte))) {
                bytes[n++] = static_cast<char>(byte);
            }
        }
        return bytes;
    }();
    return table;
}

}  // namespace

std::optional<std::string> bytes_from_alphabet(std::string_view token) {
    std::string bytes;
    for (size_t offset = 0; offset < token.size();) {
        const CodePoint code_point = decode_utf8(token, offset);
        offset += static_cast<size_t>(code_point.n_bytes);
        if (stands_for_itself(code_point.value)) {
            bytes += static_cast<char>(code_point.value);
        } else if (code_point.value >= kFirstStandIn &&
                   code_point.value < kFirstStandIn + kNumStandIns) {
            bytes += stand_in_bytes()[code_point.value - kFirstStandIn];
        } else {
            return std::nullopt;
        }
    }
    return bytes;
}

std::string alphabet_from_bytes(std::string_view bytes) {
    static const auto spellings = [] {
        std::array<std::string, 256> table;
        char32_t stand_in = kFirstStandIn;
        for (char32_t byte = 0; byte < 256; ++byte)
            append_utf8(table[byte], stands_for_itself(byte) ? byte : stand_in++);
        return table;
    }();
    std::string text;
    for (const char byte : bytes) text += spellings[static_cast<uint8_t>(byte)];
    return text;
}

}  // namespace nemo
