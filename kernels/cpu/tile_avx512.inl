// The register tile: 4 vectors of 16 rows x 3 tokens, twice. 12 int32 sums of a sub-block in
// zmm0-zmm11, what they are added to in zmm12-zmm23: nothing of the inner loops goes to memory. Per
// 4 columns: 4 loads of weights, 3 broadcasts from memory (load ports, not the shuffle port), 12
// vpdpbusd. A sub-block ends with two or three operations per sum on the same ports, which is what
// a scale for so few columns costs; with integer scales it is one, vpdpwssd, as long as the sums
// fit into 16 bits. Assembly because GCC 12 spills the same loop written with intrinsics.

constexpr int kPassTokens = 3;

// clang-format off
#define NEMO_DOT(op, x, s0, s1, s2, s3)                                                           \
    op " %%zmm" #x ", %%zmm24, %%zmm" #s0 "\n" op " %%zmm" #x ", %%zmm25, %%zmm" #s1 "\n"         \
    op " %%zmm" #x ", %%zmm26, %%zmm" #s2 "\n" op " %%zmm" #x ", %%zmm27, %%zmm" #s3 "\n"
#define NEMO_X(x, offset, to) "vpbroadcastd " #offset "(%[" #x "]), %%zmm" #to "\n"
#define NEMO_STEP(op, w, w0, w1, w2, w3, x, x0, x1, x2)                                           \
    "vmovdqa64 " #w0 "(%[" #w "]), %%zmm24\n vmovdqa64 " #w1 "(%[" #w "]), %%zmm25\n"             \
    "vmovdqa64 " #w2 "(%[" #w "]), %%zmm26\n vmovdqa64 " #w3 "(%[" #w "]), %%zmm27\n"             \
    NEMO_X(x, x0, 28) NEMO_DOT(op, 28, 0, 1, 2, 3) NEMO_X(x, x1, 29) NEMO_DOT(op, 29, 4, 5, 6, 7) \
    NEMO_X(x, x2, 30) NEMO_DOT(op, 30, 8, 9, 10, 11)
#define NEMO_ZERO4(a, b, c, d)                                                                    \
    "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n vpxord %%zmm" #b ", %%zmm" #b ", %%zmm" #b "\n" \
    "vpxord %%zmm" #c ", %%zmm" #c ", %%zmm" #c "\n vpxord %%zmm" #d ", %%zmm" #d ", %%zmm" #d "\n"
// Start values of the sub-block's sums: zeros, or broadcast once, copied three times.
#define NEMO_ZEROS NEMO_ZERO4(0, 1, 2, 3) NEMO_ZERO4(4, 5, 6, 7) NEMO_ZERO4(8, 9, 10, 11)
#define NEMO_START(offset, s0, s1, s2, s3)                                                        \
    "vpbroadcastd " #offset "(%[info]), %%zmm" #s0 "\n vmovdqa64 %%zmm" #s0 ", %%zmm" #s1 "\n"    \
    "vmovdqa64 %%zmm" #s0 ", %%zmm" #s2 "\n vmovdqa64 %%zmm" #s0 ", %%zmm" #s3 "\n"
#define NEMO_STARTS NEMO_START(0, 0, 1, 2, 3) NEMO_START(4, 4, 5, 6, 7) NEMO_START(8, 8, 9, 10, 11)
#define NEMO_ZERO_GROUP NEMO_ZERO4(12, 13, 14, 15) NEMO_ZERO4(16, 17, 18, 19) NEMO_ZERO4(20, 21, 22, 23)
// The integer sums of a sub-block, then the first row at `scales` in zmm24-zmm27. What the next
// passes read is fetched ahead.
#define NEMO_SUB_BLOCK(start)                                                                     \
    start "mov %[sub_columns], %[columns]\n"                                                      \
    ".p2align 5\n"                                                                                \
    "1:\n"                                                                                        \
    NEMO_STEP("vpdpbusd", w, 0, 64, 128, 192, x, 0, 4, 8)                                         \
    NEMO_STEP("vpdpbusd", w, 256, 320, 384, 448, x, 24, 28, 32)                                   \
    "prefetcht0 (%[ahead])\n"                                                                     \
    "add $512, %[w]\n add $48, %[x]\n add $64, %[ahead]\n sub $8, %[columns]\n jnz 1b\n"          \
    NEMO_LOAD_ROW(0)
#define NEMO_LOAD_ROW(at)                                                                         \
    "vmovaps " #at "(%[scales]), %%zmm24\n vmovaps 64+" #at "(%[scales]), %%zmm25\n"              \
    "vmovaps 128+" #at "(%[scales]), %%zmm26\n vmovaps 192+" #at "(%[scales]), %%zmm27\n"
// f(vector of the row just loaded, its offset in a row, that in c, sum of the sub-block, group's)
#define NEMO_TOKEN(f, o0, o1, o2, o3, s0, s1, s2, s3, g0, g1, g2, g3)                             \
    f(24, 0, o0, s0, g0) f(25, 64, o1, s1, g1) f(26, 128, o2, s2, g2) f(27, 192, o3, s3, g3)
// begin(offset of the token in a row of the info)
#define NEMO_TOKENS(begin, f)                                                                     \
    begin(0) NEMO_TOKEN(f, 0, 64, 128, 192, 0, 1, 2, 3, 12, 13, 14, 15)                           \
    begin(4) NEMO_TOKEN(f, 256, 320, 384, 448, 4, 5, 6, 7, 16, 17, 18, 19)                        \
    begin(8) NEMO_TOKEN(f, 512, 576, 640, 704, 8, 9, 10, 11, 20, 21, 22, 23)
#define NEMO_BEGIN(t)
#define NEMO_LOAD_C(w, row, at, s, g) "vmovaps " #at "(%[c]), %%zmm" #g "\n"
#define NEMO_STORE_C(w, row, at, s, g) "vmovaps %%zmm" #g ", " #at "(%[c])\n"

// One scale per group: c += ((biased sum) * scale - bias * scale (+ min * sum)) * scale of x, c in
// registers
#define NEMO_BEGIN_SINGLE(t) "vbroadcastss 24+" #t "(%[info]), %%zmm28\n"
#define NEMO_SINGLE(w, row, at, s, g)                                                             \
    "vfmadd213ps 256+" #row "(%[scales]), %%zmm" #w ", %%zmm" #s "\n"                             \
    "vfmadd231ps %%zmm28, %%zmm" #s ", %%zmm" #g "\n"
#define NEMO_BEGIN_SINGLE_MIN(t)                                                                  \
    "vbroadcastss 24+" #t "(%[info]), %%zmm29\n vbroadcastss 48+" #t "(%[info]), %%zmm28\n"
#define NEMO_SINGLE_MIN(w, row, at, s, g)                                                         \
    "vfmadd213ps 256+" #row "(%[scales]), %%zmm" #w ", %%zmm" #s "\n"                             \
    "vfmadd231ps 512+" #row "(%[scales]), %%zmm29, %%zmm" #s "\n"                                 \
    "vfmadd231ps %%zmm28, %%zmm" #s ", %%zmm" #g "\n"
// Several: group += sum * scale
#define NEMO_FLOAT(w, row, at, s, g)                                                              \
    "vcvtdq2ps %%zmm" #s ", %%zmm" #s "\n vfmadd231ps %%zmm" #w ", %%zmm" #s ", %%zmm" #g "\n"
// The same of integers: scales of 16 bits, sums of 16 or (wide) 32 bits.
#define NEMO_NARROW(w, row, at, s, g) "vpdpwssd %%zmm" #w ", %%zmm" #s ", %%zmm" #g "\n"
#define NEMO_WIDEN(w) "vpslld $16, %%zmm" #w ", %%zmm" #w "\n vpsrad $16, %%zmm" #w ", %%zmm" #w "\n"
#define NEMO_WIDEN_ALL NEMO_WIDEN(24) NEMO_WIDEN(25) NEMO_WIDEN(26) NEMO_WIDEN(27)
#define NEMO_WIDE(w, row, at, s, g)                                                               \
    "vpmulld %%zmm" #w ", %%zmm" #s ", %%zmm" #s "\n vpaddd %%zmm" #s ", %%zmm" #g ", %%zmm" #g "\n"
// c += group * scale of x
#define NEMO_BEGIN_GROUP(t) "vbroadcastss " #t "(%[info]), %%zmm28\n"
#define NEMO_GROUP(w, row, at, s, g)                                                              \
    "vfmadd213ps " #at "(%[c]), %%zmm28, %%zmm" #g "\n vmovaps %%zmm" #g ", " #at "(%[c])\n"
// c += group * d * scale of x
#define NEMO_GROUP_INT(w, row, at, s, g)                                                          \
    "vcvtdq2ps %%zmm" #g ", %%zmm" #g "\n vmulps %%zmm" #w ", %%zmm" #g ", %%zmm" #g "\n"         \
    NEMO_GROUP(w, row, at, s, g)
// c += (group * d - (sum of minimums) * d_min) * scale of x
#define NEMO_GROUP_INT_MIN(w, row, at, s, g)                                                      \
    "vcvtdq2ps %%zmm" #s ", %%zmm" #s "\n vcvtdq2ps %%zmm" #g ", %%zmm" #g "\n"                   \
    "vmulps %%zmm" #w ", %%zmm" #s ", %%zmm" #s "\n"                                              \
    "vfmadd132ps " #row "(%[scales]), %%zmm" #s ", %%zmm" #g "\n"                                 \
    NEMO_GROUP(w, row, at, s, g)

#define NEMO_OPERANDS                                                                             \
    [w] "+r"(w), [x] "+r"(x), [info] "+r"(info), [scales] "+r"(scales), [ahead] "+r"(ahead),      \
        [n_groups] "+r"(n_groups), [columns] "=&r"(columns), [subs] "=&r"(subs)                   \
        : [c] "r"(c), [sub_columns] "i"(kTraits.sub_columns),                                     \
          [n_subs] "i"(kTraits.subs_per_group()), [n_pairs] "i"(kTraits.subs_per_group() / 2)     \
        : "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9",         \
          "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18",        \
          "zmm19", "zmm20", "zmm21", "zmm22", "zmm23", "zmm24", "zmm25", "zmm26", "zmm27",        \
          "zmm28", "zmm29", "zmm30", "zmm31", "memory", "cc"
#define NEMO_TILE_SINGLE(begin, f, info_bytes, scale_bytes)                                       \
    asm volatile(                                                                                 \
        NEMO_TOKENS(NEMO_BEGIN, NEMO_LOAD_C)                                                      \
        "2:\n" NEMO_SUB_BLOCK(NEMO_STARTS) NEMO_TOKENS(begin, f)                                  \
        "add $" #scale_bytes ", %[scales]\n add $" #info_bytes ", %[info]\n"                      \
        "dec %[n_groups]\n jnz 2b\n" NEMO_TOKENS(NEMO_BEGIN, NEMO_STORE_C) : NEMO_OPERANDS)
#define NEMO_SUB_BLOCKS(start, prepare, f, info_bytes)                                            \
    "2:\n mov %[n_subs], %[subs]\n" NEMO_ZERO_GROUP                                               \
    "3:\n" NEMO_SUB_BLOCK(start) prepare NEMO_TOKENS(NEMO_BEGIN, f)                               \
    "add $256, %[scales]\n add $" #info_bytes ", %[info]\n dec %[subs]\n jnz 3b\n"
#define NEMO_TILE_GROUPS                                                                          \
    asm volatile(                                                                                 \
        NEMO_SUB_BLOCKS(NEMO_STARTS, "", NEMO_FLOAT, 24)                                          \
        NEMO_TOKENS(NEMO_BEGIN_GROUP, NEMO_GROUP)                                                 \
        "add $24, %[info]\n dec %[n_groups]\n jnz 2b\n" : NEMO_OPERANDS)
#define NEMO_TILE_INT(prepare, f)                                                                 \
    asm volatile(                                                                                 \
        NEMO_SUB_BLOCKS(NEMO_STARTS, prepare, f, 24)                                              \
        NEMO_LOAD_ROW(0) NEMO_TOKENS(NEMO_BEGIN_GROUP, NEMO_GROUP_INT)                            \
        "add $256, %[scales]\n add $24, %[info]\n dec %[n_groups]\n jnz 2b\n" : NEMO_OPERANDS)
#define NEMO_TILE_INT_MIN(prepare, f)                                                             \
    asm volatile(                                                                                 \
        NEMO_SUB_BLOCKS(NEMO_ZEROS, prepare, f, 0)                                                \
        NEMO_ZEROS "mov %[n_pairs], %[subs]\n"                                                    \
        "4:\n"                                                                                    \
        NEMO_STEP("vpdpwssd", scales, 0, 64, 128, 192, info, 0, 4, 8)                             \
        "add $256, %[scales]\n add $24, %[info]\n dec %[subs]\n jnz 4b\n"                         \
        NEMO_LOAD_ROW(256) NEMO_TOKENS(NEMO_BEGIN_GROUP, NEMO_GROUP_INT_MIN)                      \
        "add $512, %[scales]\n add $24, %[info]\n dec %[n_groups]\n jnz 2b\n" : NEMO_OPERANDS)

// Three tokens; `ahead`: what will be read later, 64 bytes of it per 8 columns.
template <QuantFormat kFormat>
NEMO_INLINE void multiply_pass(const TileJob& job, const int8_t* x, const float* info, float* c,
                               const void* ahead) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    const unsigned char* w = job.panel;
    const float* scales = job.scales;
    int64_t n_groups = job.n_groups, columns, subs;
    if constexpr (kTraits.has_integer_scales() && kTraits.has_min) {
        if (job.narrow)
            NEMO_TILE_INT_MIN("", NEMO_NARROW);
        else
            NEMO_TILE_INT_MIN(NEMO_WIDEN_ALL, NEMO_WIDE);
    } else if constexpr (kTraits.has_integer_scales()) {
        if (job.narrow)
            NEMO_TILE_INT("", NEMO_NARROW);
        else
            NEMO_TILE_INT(NEMO_WIDEN_ALL, NEMO_WIDE);
    } else if constexpr (kTraits.is_biased() && kTraits.has_min) {
        NEMO_TILE_SINGLE(NEMO_BEGIN_SINGLE_MIN, NEMO_SINGLE_MIN, 72, 768);
    } else if constexpr (kTraits.is_biased()) {
        NEMO_TILE_SINGLE(NEMO_BEGIN_SINGLE, NEMO_SINGLE, 48, 512);
    } else {
        NEMO_TILE_GROUPS;
    }
}
// clang-format on

template <QuantFormat kFormat>
void multiply_tile(const TileJob& job) {
    static_assert(kTileWidth == 2 * kPassTokens);
    multiply_pass<kFormat>(job, job.x, job.info, job.c, job.ahead);
    if (job.n_tokens > kPassTokens)
        multiply_pass<kFormat>(job, job.x + 4 * kPassTokens, job.info + kPassTokens,
                               job.c + kPassTokens * kPanelRows, job.c + kTileWidth * kPanelRows);
}

// Lane l of vector j of a woven tile of 16 dwords per token: dword f / kTileWidth of token
// f % kTileWidth, f = 16 j + l. Tokens come in pairs.
struct WeaveTables {
    alignas(64) int32_t index[kTileWidth][16];  // in the two vectors of a pair
    __mmask16 lanes[kTileWidth][kTileWidth / 2];  // of each pair

    constexpr WeaveTables() : index{}, lanes{} {
        for (int f = 0; f < 16 * kTileWidth; ++f) {
            const int token = f % kTileWidth;
            index[f / 16][f % 16] = f / kTileWidth + token % 2 * 16;
            lanes[f / 16][token / 2] =
                static_cast<__mmask16>(lanes[f / 16][token / 2] | 1 << f % 16);
        }
    }
};

void weave_codes(const WeaveJob& job) {
    static constexpr WeaveTables kTables;
    static_assert(kTileWidth == 6);
    int64_t i = 0;
    for (; i + 64 <= job.n_columns; i += 64) {
        __m512i x[kTileWidth];
#pragma GCC unroll 6
        for (int t = 0; t < kTileWidth; ++t)
            x[t] = _mm512_loadu_si512(job.codes + t * kSliceColumns + i);
#pragma GCC unroll 6
        for (int j = 0; j < kTileWidth; ++j) {
            const __m512i index = _mm512_load_si512(kTables.index[j]);
            __m512i out = _mm512_permutex2var_epi32(x[0], index, x[1]);
            for (int pair = 1; pair < 3; ++pair)
                out = _mm512_mask_mov_epi32(
                    out, kTables.lanes[j][pair],
                    _mm512_permutex2var_epi32(x[2 * pair], index, x[2 * pair + 1]));
            _mm512_storeu_si512(job.tile + i * kTileWidth + 64 * j, out);
        }
    }
    for (; i < job.n_columns; i += 4)
        for (int t = 0; t < kTileWidth; ++t)
            __builtin_memcpy(job.tile + i * kTileWidth + 4 * t, job.codes + t * kSliceColumns + i,
                             4);
}

#undef NEMO_DOT
#undef NEMO_X
#undef NEMO_STEP
#undef NEMO_ZERO4
#undef NEMO_ZEROS
#undef NEMO_START
#undef NEMO_STARTS
#undef NEMO_ZERO_GROUP
#undef NEMO_SUB_BLOCK
#undef NEMO_LOAD_ROW
#undef NEMO_TOKEN
#undef NEMO_TOKENS
#undef NEMO_BEGIN
#undef NEMO_LOAD_C
#undef NEMO_STORE_C
#undef NEMO_BEGIN_SINGLE
#undef NEMO_SINGLE
#undef NEMO_BEGIN_SINGLE_MIN
#undef NEMO_SINGLE_MIN
#undef NEMO_FLOAT
#undef NEMO_NARROW
#undef NEMO_WIDEN
#undef NEMO_WIDEN_ALL
#undef NEMO_WIDE
#undef NEMO_BEGIN_GROUP
#undef NEMO_GROUP
#undef NEMO_GROUP_INT
#undef NEMO_GROUP_INT_MIN
#undef NEMO_OPERANDS
#undef NEMO_TILE_SINGLE
#undef NEMO_SUB_BLOCKS
#undef NEMO_TILE_GROUPS
#undef NEMO_TILE_INT
#undef NEMO_TILE_INT_MIN
