// What this machine can do at most: what measured times are held against.
#pragma once

#include "core/thread_pool.h"

#include <cstddef>
#include <span>

namespace nemo {

// Per second, all threads together. 0: there are no instructions for it.
struct CpuCeilings {
    double n_read_bytes = 0;       // a plain read of the given blocks
    double n_int8_operations = 0;  // multiplications and additions, VNNI or AVX2
    double n_fp32_operations = 0;  // fused multiply-adds, two operations each
};

// Bytes per second of one pass over the first 4 GiB of the blocks, with all threads of the pool.
// What else happens on the machine changes it, so take it right before what is compared with it.
double measure_read_rate(std::span<const std::span<const std::byte>> blocks, ThreadPool& pool);

// The best read rate of a few passes and, in about half a second, the rest.
CpuCeilings measure_cpu_ceilings(std::span<const std::span<const std::byte>> blocks,
                                 ThreadPool& pool);

}  // namespace nemo
