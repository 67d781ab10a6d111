#include "kernels/cpu/cpu_tier.h"

#include "core/error.h"

#include <algorithm>

namespace nemo {

namespace {

constexpr CpuTier kBestFirst[] = {CpuTier::avx512, CpuTier::avxvnni, CpuTier::avx2,
                                  CpuTier::scalar};

// kAvx2Ops with the products of AVX-VNNI.
const TierOps& avxvnni_ops() {
    static const TierOps ops = [] {
        TierOps result = kAvx2Ops;
        std::ranges::copy(kAvxVnniOps.dot_strips, result.dot_strips);
        std::ranges::copy(kAvxVnniOps.multiply_tile, result.multiply_tile);
        return result;
    }();
    return ops;
}

}  // namespace

std::string_view cpu_tier_name(CpuTier tier) {
    switch (tier) {
        case CpuTier::scalar:
            return "scalar";
        case CpuTier::avx2:
            return "avx2";
        case CpuTier::avxvnni:
            return "avxvnni";
        case CpuTier::avx512:
            return "avx512";
    }
    return "";
}

bool cpu_tier_supported(CpuTier tier) {
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    switch (tier) {
        case CpuTier::scalar:
            return true;
        case CpuTier::avx2:
            return avx2;
        case CpuTier::avxvnni:
            return avx2 && __builtin_cpu_supports("avxvnni");
        case CpuTier::avx512:
            return avx2 && __builtin_cpu_supports("avx512f") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
    }
    return false;
}

CpuTier choose_cpu_tier(std::string_view forced) {
    for (const CpuTier tier : kBestFirst) {
        if (!forced.empty() && forced != cpu_tier_name(tier)) continue;
        if (cpu_tier_supported(tier)) return tier;
        if (!forced.empty())
            fail(ErrorCode::usage,
                 "NEMO_CPU={}: this processor cannot run it (accepted: scalar, avx2, avxvnni, "
                 "avx512; the best one here is {})",
                 forced, cpu_tier_name(choose_cpu_tier("")));
    }
    fail(ErrorCode::usage,
         "NEMO_CPU={}: unknown instruction tier (accepted: scalar, avx2, avxvnni, avx512)", forced);
}

const TierOps& tier_ops(CpuTier tier) {
    switch (tier) {
        case CpuTier::avx512:
            return kAvx512Ops;
        case CpuTier::avxvnni:
            return avxvnni_ops();
        case CpuTier::avx2:
            return kAvx2Ops;
        case CpuTier::scalar:
            break;
    }
    return kScalarOps;
}

bool cpu_follows_streams() {
    return __builtin_cpu_is("intel");
}

}  // namespace nemo
