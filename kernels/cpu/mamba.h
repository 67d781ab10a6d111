// Convolution and scan of a Mamba-2 layer: how they are cut into tasks.
//
// The scan is the recurrence itself, also for a prompt. Per token and head (64 x 128) it takes 1536
// vector operations of 16 lanes, at nearly nine tenths of the speed that they allow; the chunked
// matrix form (arXiv 2405.21060) would take about 1120 with blocks of 16 tokens, 1230 with 64. But
// its results depend on where blocks begin: to give the same bits from any token on, a state would
// have to carry the inputs of the block that it is in.
#pragma once

#include "core/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tier.h"

#include <cstdint>
#include <vector>

namespace nemo {

class Mamba {
public:
    explicit Mamba(int n_threads) : scratch_(static_cast<size_t>(n_threads)) {}

    // As Backend::conv_silu.
    void conv_silu(const TierOps& ops, ThreadPool& pool, const Mamba2Shape& shape, const float* xbc,
                   int64_t x_stride, const Weight& weight, const Weight& bias, float* state,
                   int64_t n_tokens, float* y, bool keep_state);

    // As Backend::ssm_scan.
    void scan(const TierOps& ops, ThreadPool& pool, const SsmScan& scan);

private:
    std::vector<ScratchBuffer<float>> scratch_;  // one per thread
};

}  // namespace nemo
