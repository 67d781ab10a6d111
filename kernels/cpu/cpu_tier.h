// Which instruction set the CPU kernels use. Chosen once, at run time.
#pragma once

#include "kernels/cpu/tier.h"

#include <string_view>

namespace nemo {

enum class CpuTier {
    scalar,   // any x86-64
    avx2,     // with FMA and F16C
    avxvnni,  // avx2 with AVX-VNNI
    avx512,   // F, BW, VL, DQ and VNNI
};

std::string_view cpu_tier_name(CpuTier tier);

// Whether the processor (and the operating system) can run it.
bool cpu_tier_supported(CpuTier tier);

// The best supported tier, or the one that `forced` names. Throws Error{usage}, in words about the
// variable NEMO_CPU, for an unknown or unsupported name.
CpuTier choose_cpu_tier(std::string_view forced);

const TierOps& tier_ops(CpuTier tier);

// Whether the processor's prefetchers follow as many streams as a strip has rows (StripJob). Intel
// Xeons do; on a Zen 5, reading and fetching in the order of addresses made strips twice as fast.
bool cpu_follows_streams();

}  // namespace nemo
