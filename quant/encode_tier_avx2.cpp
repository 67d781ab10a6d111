// AVX2. Selected here and not by build flags: headers above stay free of it.
#include "quant/encode_tier.h"
#include "quant/half.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#pragma GCC diagnostic ignored "-Wpsabi"  // no vector crosses a file
#pragma GCC optimize("fp-contract=off")   // all tiers give the same bits
#pragma GCC target("avx2")

namespace nemo {

namespace {

#include "quant/encode_tier.inl"

}  // namespace

const RowTier& avx2_tier() {
    return kTier;
}

}  // namespace nemo
