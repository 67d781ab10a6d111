// The CPU backend with a given instruction tier, which the processor must support; for tests that
// compare tiers. Programs call make_cpu_backend(n_threads) of kernels/backend.h.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/cpu_tier.h"

#include <memory>

namespace nemo {

std::unique_ptr<Backend> make_cpu_backend(int n_threads, CpuTier tier);

}  // namespace nemo
