// Any x86-64 or other CPU: vectors become what the compiler's default set offers.
#include "quant/encode_tier.h"
#include "quant/half.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#pragma GCC diagnostic ignored "-Wpsabi"  // no vector crosses a file
#pragma GCC optimize("fp-contract=off")   // all tiers give the same bits

namespace nemo {

namespace {

#include "quant/encode_tier.inl"

}  // namespace

const RowTier& baseline_tier() {
    return kTier;
}

}  // namespace nemo
