// The register tile: 4 vectors of 16 rows x 6 tokens, 24 int32 sums in zmm0-zmm23. Per 4 columns: 4
// loads of weights, 6 broadcasts from memory (load ports, not the shuffle port), 24 vpdpbusd. A
// sub-block ends with two or three operations per sum on the same ports, which is what a scale for
// so few columns costs; the sums of a group are in memory, which costs nothing. With integer scales
// it is one operation, vpdpwssd, as long as the sums fit into 16 bits.
// Assembly because GCC 12 spills the same loop written with intrinsics.

// clang-format off
#define NEMO_DOT(op, x, s0, s1, s2, s3)                                        \
    op " %%zmm" #x ", %%zmm24, %%zmm" #s0 "\n" op " %%zmm" #x ", %%zmm25, %%zmm" #s1 "\n" \
    op " %%zmm" #x ", %%zmm26, %%zmm" #s2 "\n" op " %%zmm" #x ", %%zmm27, %%zmm" #s3 "\n"
#define NEMO_X(from, offset, x) "vpbroadcastd " #offset "(%[" #from "]), %%zmm" #x "\n"
#define NEMO_STEP_OF(op, w, w0, w1, w2, w3, x, x0, x1, x2, x3, x4, x5)                              \
    "vmovdqa64 " #w0 "(%[" #w "]), %%zmm24\n vmovdqa64 " #w1 "(%[" #w "]), %%zmm25\n"             \
    "vmovdqa64 " #w2 "(%[" #w "]), %%zmm26\n vmovdqa64 " #w3 "(%[" #w "]), %%zmm27\n"             \
    NEMO_X(x, x0, 28) NEMO_DOT(op, 28, 0, 1, 2, 3)     NEMO_X(x, x1, 29) NEMO_DOT(op, 29, 4, 5, 6, 7)   \
    NEMO_X(x, x2, 30) NEMO_DOT(op, 30, 8, 9, 10, 11)   NEMO_X(x, x3, 31) NEMO_DOT(op, 31, 12, 13, 14, 15) \
    NEMO_X(x, x4, 28) NEMO_DOT(op, 28, 16, 17, 18, 19) NEMO_X(x, x5, 29) NEMO_DOT(op, 29, 20, 21, 22, 23)
#define NEMO_STEP(w0, w1, w2, w3, x0, x1, x2, x3, x4, x5) \
    NEMO_STEP_OF("vpdpbusd", w, w0, w1, w2, w3, x, x0, x1, x2, x3, x4, x5)
// Start values: broadcast once, copied three times.
#define NEMO_START(offset, s0, s1, s2, s3)                                                       \
    "vpbroadcastd " #offset "(%[info]), %%zmm" #s0 "\n vmovdqa64 %%zmm" #s0 ", %%zmm" #s1 "\n"  \
    "vmovdqa64 %%zmm" #s0 ", %%zmm" #s2 "\n vmovdqa64 %%zmm" #s0 ", %%zmm" #s3 "\n"
#define NEMO_STARTS                                                                             \
    NEMO_START(0, 0, 1, 2, 3)      NEMO_START(4, 4, 5, 6, 7)       NEMO_START(8, 8, 9, 10, 11)    \
    NEMO_START(12, 12, 13, 14, 15) NEMO_START(16, 16, 17, 18, 19) NEMO_START(20, 20, 21, 22, 23)
#define NEMO_ZERO(s) "vpxord %%zmm" #s ", %%zmm" #s ", %%zmm" #s "\n"
#define NEMO_ZEROS                                                                               \
    NEMO_ZERO(0) NEMO_ZERO(1) NEMO_ZERO(2) NEMO_ZERO(3) NEMO_ZERO(4) NEMO_ZERO(5) NEMO_ZERO(6)    \
    NEMO_ZERO(7) NEMO_ZERO(8) NEMO_ZERO(9) NEMO_ZERO(10) NEMO_ZERO(11) NEMO_ZERO(12)             \
    NEMO_ZERO(13) NEMO_ZERO(14) NEMO_ZERO(15) NEMO_ZERO(16) NEMO_ZERO(17) NEMO_ZERO(18)          \
    NEMO_ZERO(19) NEMO_ZERO(20) NEMO_ZERO(21) NEMO_ZERO(22) NEMO_ZERO(23)
// The integer sums of a sub-block. The next tiles' activations and sums are fetched ahead.
#define NEMO_SUB_BLOCK(start)                                                                    \
    start "mov %[sub_columns], %[columns]\n"                                                     \
    ".p2align 5\n"                                                                               \
    "1:\n"                                                                                       \
    NEMO_STEP(0, 64, 128, 192, 0, 4, 8, 12, 16, 20)                                              \
    NEMO_STEP(256, 320, 384, 448, 24, 28, 32, 36, 40, 44)                                        \
    "prefetcht0 3072(%[x])\n prefetcht0 (%[ahead])\n"                                            \
    "add $512, %[w]\n add $48, %[x]\n add $48, %[ahead]\n sub $8, %[columns]\n jnz 1b\n"         \
    "vmovaps (%[scales]), %%zmm24\n vmovaps 64(%[scales]), %%zmm25\n"                            \
    "vmovaps 128(%[scales]), %%zmm26\n vmovaps 192(%[scales]), %%zmm27\n"
// f(register of the weights' scales, offset in a row of 64 floats, offset in the tile, sum)
#define NEMO_TOKEN(f, o0, o1, o2, o3, s0, s1, s2, s3) \
    f(24, 0, o0, s0) f(25, 64, o1, s1) f(26, 128, o2, s2) f(27, 192, o3, s3)
// begin(offset of the token in a row of the info)
#define NEMO_TOKENS(begin, f)                                                        \
    begin(0)  NEMO_TOKEN(f, 0, 64, 128, 192, 0, 1, 2, 3)                             \
    begin(4)  NEMO_TOKEN(f, 256, 320, 384, 448, 4, 5, 6, 7)                          \
    begin(8)  NEMO_TOKEN(f, 512, 576, 640, 704, 8, 9, 10, 11)                        \
    begin(12) NEMO_TOKEN(f, 768, 832, 896, 960, 12, 13, 14, 15)                      \
    begin(16) NEMO_TOKEN(f, 1024, 1088, 1152, 1216, 16, 17, 18, 19)                  \
    begin(20) NEMO_TOKEN(f, 1280, 1344, 1408, 1472, 20, 21, 22, 23)

// One scale per group: c += ((biased sum) * scale - bias * scale (+ min * sum)) * scale of x
#define NEMO_BEGIN_SINGLE(t) "vbroadcastss 24+" #t "(%[info]), %%zmm28\n"
#define NEMO_SINGLE(w, row, at, s)                              \
    "vfmadd213ps 256+" #row "(%[scales]), %%zmm" #w ", %%zmm" #s "\n" \
    "vfmadd213ps " #at "(%[c]), %%zmm28, %%zmm" #s "\n"         \
    "vmovaps %%zmm" #s ", " #at "(%[c])\n"
#define NEMO_BEGIN_SINGLE_MIN(t) \
    "vbroadcastss 24+" #t "(%[info]), %%zmm29\n vbroadcastss 48+" #t "(%[info]), %%zmm28\n"
#define NEMO_SINGLE_MIN(w, row, at, s)                          \
    "vfmadd213ps 256+" #row "(%[scales]), %%zmm" #w ", %%zmm" #s "\n" \
    "vfmadd231ps 512+" #row "(%[scales]), %%zmm29, %%zmm" #s "\n"     \
    "vfmadd213ps " #at "(%[c]), %%zmm28, %%zmm" #s "\n"         \
    "vmovaps %%zmm" #s ", " #at "(%[c])\n"
// Several: group = sum * scale, or += ...
#define NEMO_BEGIN(t)
#define NEMO_FIRST(w, row, at, s)                                                     \
    "vcvtdq2ps %%zmm" #s ", %%zmm" #s "\n vmulps %%zmm" #w ", %%zmm" #s ", %%zmm" #s "\n" \
    "vmovaps %%zmm" #s ", " #at "(%[group])\n"
#define NEMO_NEXT(w, row, at, s)                                                      \
    "vcvtdq2ps %%zmm" #s ", %%zmm" #s "\n"                                            \
    "vfmadd213ps " #at "(%[group]), %%zmm" #w ", %%zmm" #s "\n"                       \
    "vmovaps %%zmm" #s ", " #at "(%[group])\n"
// The same of integers: scales of 16 bits, sums of 16 or (wide) 32 bits.
#define NEMO_FIRST_NARROW(w, row, at, s)                                              \
    "vpmaddwd %%zmm" #w ", %%zmm" #s ", %%zmm" #s "\n vmovdqa64 %%zmm" #s ", " #at "(%[group])\n"
#define NEMO_NEXT_NARROW(w, row, at, s)                                               \
    "vmovdqa64 " #at "(%[group]), %%zmm28\n vpdpwssd %%zmm" #w ", %%zmm" #s ", %%zmm28\n" \
    "vmovdqa64 %%zmm28, " #at "(%[group])\n"
#define NEMO_WIDEN                                                                    \
    "vpslld $16, %%zmm24, %%zmm24\n vpslld $16, %%zmm25, %%zmm25\n"                   \
    "vpslld $16, %%zmm26, %%zmm26\n vpslld $16, %%zmm27, %%zmm27\n"                   \
    "vpsrad $16, %%zmm24, %%zmm24\n vpsrad $16, %%zmm25, %%zmm25\n"                   \
    "vpsrad $16, %%zmm26, %%zmm26\n vpsrad $16, %%zmm27, %%zmm27\n"
#define NEMO_FIRST_WIDE(w, row, at, s)                                                \
    "vpmulld %%zmm" #w ", %%zmm" #s ", %%zmm" #s "\n vmovdqa64 %%zmm" #s ", " #at "(%[group])\n"
#define NEMO_NEXT_WIDE(w, row, at, s)                                                 \
    "vpmulld %%zmm" #w ", %%zmm" #s ", %%zmm" #s "\n"                                 \
    "vpaddd " #at "(%[group]), %%zmm" #s ", %%zmm" #s "\n"                            \
    "vmovdqa64 %%zmm" #s ", " #at "(%[group])\n"
// c += group * scale of x
#define NEMO_BEGIN_GROUP(t) "vbroadcastss " #t "(%[info]), %%zmm28\n"
#define NEMO_GROUP(w, row, at, s)                                                     \
    "vmovaps " #at "(%[group]), %%zmm" #s "\n"                                        \
    "vfmadd213ps " #at "(%[c]), %%zmm28, %%zmm" #s "\n"                               \
    "vmovaps %%zmm" #s ", " #at "(%[c])\n"

// c += group * d * scale of x
#define NEMO_GROUP_INT(w, row, at, s)                                                 \
    "vcvtdq2ps " #at "(%[group]), %%zmm" #s "\n vmulps %%zmm" #w ", %%zmm" #s ", %%zmm" #s "\n" \
    "vfmadd213ps " #at "(%[c]), %%zmm28, %%zmm" #s "\n"                               \
    "vmovaps %%zmm" #s ", " #at "(%[c])\n"
// c += (group * d - (sum of minimums) * d_min) * scale of x
#define NEMO_GROUP_INT_MIN(w, row, at, s)                                             \
    "vcvtdq2ps %%zmm" #s ", %%zmm" #s "\n vcvtdq2ps " #at "(%[group]), %%zmm29\n"     \
    "vmulps %%zmm" #w ", %%zmm" #s ", %%zmm" #s "\n"                                  \
    "vfmadd231ps " #row "(%[scales]), %%zmm29, %%zmm" #s "\n"                         \
    "vfmadd213ps " #at "(%[c]), %%zmm28, %%zmm" #s "\n"                               \
    "vmovaps %%zmm" #s ", " #at "(%[c])\n"
#define NEMO_LOAD_ROW(at)                                                             \
    "vmovaps " #at "(%[scales]), %%zmm24\n vmovaps 64+" #at "(%[scales]), %%zmm25\n"  \
    "vmovaps 128+" #at "(%[scales]), %%zmm26\n vmovaps 192+" #at "(%[scales]), %%zmm27\n"

#define NEMO_OPERANDS                                                                             \
    [w] "+r"(w), [x] "+r"(x), [info] "+r"(info), [scales] "+r"(scales), [ahead] "+r"(ahead),      \
        [n_groups] "+r"(n_groups), [columns] "=&r"(columns), [subs] "=&r"(subs)                   \
        : [c] "r"(job.c), [group] "r"(group), [sub_columns] "i"(kTraits.sub_columns),             \
          [n_subs] "i"(kTraits.subs_per_group()), [n_pairs] "i"(kTraits.subs_per_group() / 2)     \
        : "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9",         \
          "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18",        \
          "zmm19", "zmm20", "zmm21", "zmm22", "zmm23", "zmm24", "zmm25", "zmm26", "zmm27",        \
          "zmm28", "zmm29", "zmm30", "zmm31", "memory", "cc"
#define NEMO_TILE_SINGLE(begin, f, info_bytes, scale_bytes)                                       \
    asm volatile(                                                                                 \
        "2:\n" NEMO_SUB_BLOCK(NEMO_STARTS) NEMO_TOKENS(begin, f)                                               \
        "add $" #scale_bytes ", %[scales]\n add $" #info_bytes ", %[info]\n"                      \
        "dec %[n_groups]\n jnz 2b\n" : NEMO_OPERANDS)
#define NEMO_SUB_BLOCKS(start, prepare, begin, first, next, info_bytes)                           \
    "2:\n mov %[n_subs], %[subs]\n"                                                              \
    "3:\n" NEMO_SUB_BLOCK(start) prepare                                                         \
    "cmp %[n_subs], %[subs]\n je 4f\n"                                                           \
    NEMO_TOKENS(begin, next) "jmp 5f\n"                                                          \
    "4:\n" NEMO_TOKENS(begin, first)                                                             \
    "5:\n add $256, %[scales]\n add $" #info_bytes ", %[info]\n"                                 \
    "dec %[subs]\n jnz 3b\n"
#define NEMO_TILE_GROUPS                                                                          \
    asm volatile(                                                                                 \
        NEMO_SUB_BLOCKS(NEMO_STARTS, "", NEMO_BEGIN, NEMO_FIRST, NEMO_NEXT, 24)                   \
        NEMO_TOKENS(NEMO_BEGIN_GROUP, NEMO_GROUP)                                                 \
        "add $24, %[info]\n dec %[n_groups]\n jnz 2b\n" : NEMO_OPERANDS)
#define NEMO_TILE_INT(prepare, first, next)                                                       \
    asm volatile(                                                                                 \
        NEMO_SUB_BLOCKS(NEMO_STARTS, prepare, NEMO_BEGIN, first, next, 24)                        \
        NEMO_LOAD_ROW(0) NEMO_TOKENS(NEMO_BEGIN_GROUP, NEMO_GROUP_INT)                            \
        "add $256, %[scales]\n add $24, %[info]\n dec %[n_groups]\n jnz 2b\n" : NEMO_OPERANDS)
#define NEMO_TILE_INT_MIN(prepare, first, next)                                                   \
    asm volatile(                                                                                 \
        NEMO_SUB_BLOCKS(NEMO_ZEROS, prepare, NEMO_BEGIN, first, next, 0)                          \
        NEMO_ZEROS "mov %[n_pairs], %[subs]\n"                                                \
        "6:\n"                                                                                   \
        NEMO_STEP_OF("vpdpwssd", scales, 0, 64, 128, 192, info, 0, 4, 8, 12, 16, 20)              \
        "add $256, %[scales]\n add $24, %[info]\n dec %[subs]\n jnz 6b\n"                        \
        NEMO_LOAD_ROW(256) NEMO_TOKENS(NEMO_BEGIN_GROUP, NEMO_GROUP_INT_MIN)                      \
        "add $512, %[scales]\n add $24, %[info]\n dec %[n_groups]\n jnz 2b\n" : NEMO_OPERANDS)

template <QuantFormat kFormat>
void multiply_tile(const TileJob& job) {
    constexpr QuantTraits kTraits = quant_traits(kFormat);
    alignas(64) float group[kTileWidth * kPanelRows];
    const unsigned char* w = job.panel;
    const int8_t* x = job.x;
    const float *info = job.info, *scales = job.scales, *ahead = job.c + kTileWidth * kPanelRows;
    int64_t n_groups = job.n_groups, columns, subs;
    if constexpr (kTraits.has_integer_scales() && kTraits.has_min) {
        if (job.narrow)
            NEMO_TILE_INT_MIN("", NEMO_FIRST_NARROW, NEMO_NEXT_NARROW);
        else
            NEMO_TILE_INT_MIN(NEMO_WIDEN, NEMO_FIRST_WIDE, NEMO_NEXT_WIDE);
    } else if constexpr (kTraits.has_integer_scales()) {
        if (job.narrow)
            NEMO_TILE_INT("", NEMO_FIRST_NARROW, NEMO_NEXT_NARROW);
        else
            NEMO_TILE_INT(NEMO_WIDEN, NEMO_FIRST_WIDE, NEMO_NEXT_WIDE);
    } else if constexpr (kTraits.single() && kTraits.has_min) {
        NEMO_TILE_SINGLE(NEMO_BEGIN_SINGLE_MIN, NEMO_SINGLE_MIN, 72, 768);
    } else if constexpr (kTraits.single()) {
        NEMO_TILE_SINGLE(NEMO_BEGIN_SINGLE, NEMO_SINGLE, 48, 512);
    } else {
        NEMO_TILE_GROUPS;
    }
}
// clang-format on

#undef NEMO_DOT
#undef NEMO_X
#undef NEMO_STEP_OF
#undef NEMO_STEP
#undef NEMO_START
#undef NEMO_STARTS
#undef NEMO_ZERO
#undef NEMO_ZEROS
#undef NEMO_SUB_BLOCK
#undef NEMO_TOKEN
#undef NEMO_TOKENS
#undef NEMO_BEGIN
#undef NEMO_BEGIN_SINGLE
#undef NEMO_SINGLE
#undef NEMO_BEGIN_SINGLE_MIN
#undef NEMO_SINGLE_MIN
#undef NEMO_FIRST
#undef NEMO_NEXT
#undef NEMO_FIRST_NARROW
#undef NEMO_NEXT_NARROW
#undef NEMO_WIDEN
#undef NEMO_FIRST_WIDE
#undef NEMO_NEXT_WIDE
#undef NEMO_BEGIN_GROUP
#undef NEMO_GROUP
#undef NEMO_GROUP_INT
#undef NEMO_GROUP_INT_MIN
#undef NEMO_LOAD_ROW
#undef NEMO_OPERANDS
#undef NEMO_TILE_SINGLE
#undef NEMO_SUB_BLOCKS
#undef NEMO_TILE_GROUPS
#undef NEMO_TILE_INT
#undef NEMO_TILE_INT_MIN
