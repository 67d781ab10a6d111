// The register tile: 4 vectors of 16 rows x 6 tokens, 24 int32 sums in zmm0-zmm23. Per 4 columns: 4
// loads of weights, 6 broadcasts from memory (load ports, not the shuffle port), 24 vpdpbusd.
// Assembly because GCC 12 spills the same loop written with intrinsics.

// clang-format off
#define NEMO_DOT(x, s0, s1, s2, s3)                                                              \
    "vpdpbusd %%zmm" #x ", %%zmm24, %%zmm" #s0 "\n vpdpbusd %%zmm" #x ", %%zmm25, %%zmm" #s1 "\n" \
    "vpdpbusd %%zmm" #x ", %%zmm26, %%zmm" #s2 "\n vpdpbusd %%zmm" #x ", %%zmm27, %%zmm" #s3 "\n"
#define NEMO_X(offset, x) "vpbroadcastd " #offset "(%[x]), %%zmm" #x "\n"
#define NEMO_STEP(w0, w1, w2, w3, x0, x1, x2, x3, x4, x5)                           \
    "vmovdqa64 " #w0 "(%[w]), %%zmm24\n vmovdqa64 " #w1 "(%[w]), %%zmm25\n"         \
    "vmovdqa64 " #w2 "(%[w]), %%zmm26\n vmovdqa64 " #w3 "(%[w]), %%zmm27\n"         \
    NEMO_X(x0, 28) NEMO_DOT(28, 0, 1, 2, 3)     NEMO_X(x1, 29) NEMO_DOT(29, 4, 5, 6, 7)   \
    NEMO_X(x2, 30) NEMO_DOT(30, 8, 9, 10, 11)   NEMO_X(x3, 31) NEMO_DOT(31, 12, 13, 14, 15) \
    NEMO_X(x4, 28) NEMO_DOT(28, 16, 17, 18, 19) NEMO_X(x5, 29) NEMO_DOT(29, 20, 21, 22, 23)
// Start values: broadcast once, copied three times.
#define NEMO_START(offset, s0, s1, s2, s3)                                                    \
    "vpbroadcastd " #offset "(%[g]), %%zmm" #s0 "\n vmovdqa64 %%zmm" #s0 ", %%zmm" #s1 "\n"  \
    "vmovdqa64 %%zmm" #s0 ", %%zmm" #s2 "\n vmovdqa64 %%zmm" #s0 ", %%zmm" #s3 "\n"
// c += float(sum) * (scale of the weights * scale of the activations)
#define NEMO_ADD(w, offset, s, t)                                                     \
    "vcvtdq2ps %%zmm" #s ", %%zmm" #s "\n vmulps %%zmm" #w ", %%zmm28, %%zmm" #t "\n" \
    "vfmadd213ps " #offset "(%[c]), %%zmm" #t ", %%zmm" #s "\n"                       \
    "vmovaps %%zmm" #s ", " #offset "(%[c])\n"
#define NEMO_OUT(scale, s0, o0, s1, o1, s2, o2, s3, o3)                           \
    "vbroadcastss " #scale "(%[g]), %%zmm28\n"                                    \
    NEMO_ADD(24, o0, s0, 29) NEMO_ADD(25, o1, s1, 30) NEMO_ADD(26, o2, s2, 31) NEMO_ADD(27, o3, s3, 29)

void multiply_tile(const TileJob& job) {
    const unsigned char* w = job.panel;
    const int8_t* x = job.x;
    const TileGroup* g = job.groups;
    const float* scales = job.scales;
    int64_t n_groups = job.n_groups, columns;
    asm volatile(
        "2:\n"
        NEMO_START(24, 0, 1, 2, 3)     NEMO_START(28, 4, 5, 6, 7)     NEMO_START(32, 8, 9, 10, 11)
        NEMO_START(36, 12, 13, 14, 15) NEMO_START(40, 16, 17, 18, 19) NEMO_START(44, 20, 21, 22, 23)
        "mov %[group_columns], %[columns]\n"
        ".p2align 5\n"
        "1:\n"
        NEMO_STEP(0, 64, 128, 192, 0, 4, 8, 12, 16, 20)
        NEMO_STEP(256, 320, 384, 448, 24, 28, 32, 36, 40, 44)
        "add $512, %[w]\n add $48, %[x]\n sub $8, %[columns]\n jnz 1b\n"
        "vmovaps (%[scales]), %%zmm24\n vmovaps 64(%[scales]), %%zmm25\n"
        "vmovaps 128(%[scales]), %%zmm26\n vmovaps 192(%[scales]), %%zmm27\n"
        NEMO_OUT(0, 0, 0, 1, 64, 2, 128, 3, 192)
        NEMO_OUT(4, 4, 256, 5, 320, 6, 384, 7, 448)
        NEMO_OUT(8, 8, 512, 9, 576, 10, 640, 11, 704)
        NEMO_OUT(12, 12, 768, 13, 832, 14, 896, 15, 960)
        NEMO_OUT(16, 16, 1024, 17, 1088, 18, 1152, 19, 1216)
        NEMO_OUT(20, 20, 1280, 21, 1344, 22, 1408, 23, 1472)
        "add $256, %[scales]\n add $64, %[g]\n dec %[n_groups]\n jnz 2b\n"
        : [w] "+r"(w), [x] "+r"(x), [g] "+r"(g), [scales] "+r"(scales),
          [n_groups] "+r"(n_groups), [columns] "=&r"(columns)
        : [c] "r"(job.c), [group_columns] "r"(job.group_columns)
        : "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10",
          "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20",
          "zmm21", "zmm22", "zmm23", "zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29", "zmm30",
          "zmm31", "memory", "cc");
}
// clang-format on

#undef NEMO_DOT
#undef NEMO_X
#undef NEMO_STEP
#undef NEMO_START
#undef NEMO_ADD
#undef NEMO_OUT
