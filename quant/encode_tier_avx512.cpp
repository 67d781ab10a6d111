// AVX-512. Selected here and not by build flags: headers above stay free of it.
#include "quant/encode_tier.h"
#include "quant/half.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#pragma GCC diagnostic ignored "-Wpsabi"  // no vector crosses a file
#pragma GCC optimize("fp-contract=off")   // all tiers give the same bits
#define NEMO_LOOKUP_OF_32                 // one instruction permutes 32 floats
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")

namespace nemo {

namespace {

#include "quant/encode_tier.inl"

}  // namespace

const RowTier& avx512_tier() {
    return kTier;
}

}  // namespace nemo
