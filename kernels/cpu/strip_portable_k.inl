// The formats with blocks of 256 for strip_portable.inl.

// Factors: d and, with minimums, -d_min.
NEMO_INLINE void read_six_bit_scales(const unsigned char* p, int32_t* scale, int32_t* min,
                                     float* factors) {
    factors[0] = load_half(p);
    factors[1] = -load_half(p + 2);
    // Bytes, four in a word: the low six bits of scales 0-3 and of minimums 0-3, whose high two
    // bits continue scales and minimums 4-7, the low four bits of which are in the last word.
    uint32_t words[3];
    __builtin_memcpy(words, p + 4, sizeof words);
    const auto joined = [](uint32_t low, uint32_t high) {
        return (low & 0x0f0f0f0f) | (high >> 2 & 0x30303030);
    };
    const uint32_t scales[2] = {words[0] & 0x3f3f3f3f, joined(words[2], words[0])};
    const uint32_t mins[2] = {words[1] & 0x3f3f3f3f, joined(words[2] >> 4, words[1])};
    unsigned char bytes[16];
    __builtin_memcpy(bytes, scales, 8);
    __builtin_memcpy(bytes + 8, mins, 8);
    for (int j = 0; j < 8; ++j) scale[j] = bytes[j];
    for (int j = 0; j < 8; ++j) min[j] = bytes[8 + j];
}

template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q4_k>(const unsigned char* p, unsigned char* q,
                                                          int32_t* scale, int32_t* min,
                                                          float* factors) {
    read_six_bit_scales(p, scale, min, factors);
    for (int pair = 0; pair < 4; ++pair) read_nibbles(p + 16 + 32 * pair, 32, q + 64 * pair);
}

template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q5_k>(const unsigned char* p, unsigned char* q,
                                                          int32_t* scale, int32_t* min,
                                                          float* factors) {
    read_six_bit_scales(p, scale, min, factors);
    for (int pair = 0; pair < 4; ++pair) read_nibbles(p + 48 + 32 * pair, 32, q + 64 * pair);
    for (int sub = 0; sub < 8; ++sub)
        for (int i = 0; i < 32; ++i)
            q[32 * sub + i] =
                static_cast<unsigned char>(q[32 * sub + i] | (p[16 + i] >> sub & 1) << 4);
}

template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q6_k>(const unsigned char* p, unsigned char* q,
                                                          int32_t* scale, int32_t*,
                                                          float* factors) {
    factors[0] = load_half(p + 208);
    for (int j = 0; j < 16; ++j) scale[j] = static_cast<int8_t>(p[192 + j]);
    for (int half = 0; half < 2; ++half) {
        const unsigned char *low = p + 64 * half, *high = p + 128 + 32 * half;
        read_nibbles(low, 64, q + 128 * half);
        for (int quarter = 0; quarter < 4; ++quarter)
            for (int i = 0; i < 32; ++i) {
                unsigned char& code = q[128 * half + 32 * quarter + i];
                code = static_cast<unsigned char>(code | (high[i] >> 2 * quarter & 3) << 4);
            }
    }
}

// Two-bit codes: 32 columns in each bit pair of 32 bytes.
NEMO_INLINE void read_bit_pairs(const unsigned char* p, unsigned char* q) {
    for (int group = 0; group < 8; ++group)
        for (int i = 0; i < 32; ++i)
            q[32 * group + i] = p[32 * (group / 4) + i] >> 2 * (group % 4) & 3;
}

template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q2_k>(const unsigned char* p, unsigned char* q,
                                                          int32_t* scale, int32_t* min,
                                                          float* factors) {
    factors[0] = load_half(p + 80);
    factors[1] = -load_half(p + 82);
    for (int j = 0; j < 16; ++j) {
        scale[j] = p[j] & 15;
        min[j] = p[j] >> 4;
    }
    read_bit_pairs(p + 16, q);
}

template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::q3_k>(const unsigned char* p, unsigned char* q,
                                                          int32_t* scale, int32_t*,
                                                          float* factors) {
    factors[0] = load_half(p + 108);
    const unsigned char* packed = p + 96;
    for (int j = 0; j < 16; ++j) {
        const int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
        const int high = packed[8 + j % 4] >> 2 * (j / 4) & 3;
        scale[j] = (low | high << 4) - 32;
    }
    read_bit_pairs(p + 32, q);
    for (int group = 0; group < 8; ++group)
        for (int i = 0; i < 32; ++i) {
            unsigned char& code = q[32 * group + i];
            code = static_cast<unsigned char>(code + (p[i] >> group & 1) * 4);
        }
}

template <>
NEMO_INLINE_MEMBER void read_row_block<QuantFormat::iq4_xs>(const unsigned char* p,
                                                            unsigned char* q, float* scale, float*,
                                                            float*) {
    const float d = load_half(p);
    const int high = p[2] | p[3] << 8;
    for (int j = 0; j < 8; ++j) {
        const int low = p[4 + j / 2] >> 4 * (j % 2) & 15;
        scale[j] = d * static_cast<float>((low | (high >> 2 * j & 3) << 4) - 32);
        read_nibbles(p + 8 + 16 * j, 16, q + 32 * j);
    }
    look_up(kIq4Codes, 256, q);
}
