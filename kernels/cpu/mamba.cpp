#include "kernels/cpu/mamba.h"

#include <algorithm>
#include <cstring>

namespace nemo {

namespace {

// Pieces of the convolution. A prompt's rows lie far apart in memory: long pieces of few rows keep
// the processor's own prefetching busy. One token is divided over as many cores as there may be.
constexpr int64_t kConvTokens = 32, kConvChannels = 2560, kConvChannelsOfFew = 256;

// Heads of a scan task, at most: neighbours share cache lines of dt and, of many tokens, the B and
// C that the task gathers. Fewer if threads would run out of work.
constexpr int64_t kScanHeads = 16, kScanHeadsOfOneToken = 4;
constexpr int64_t kTasksPerThread = 4;
// Tokens whose B, C and dt a task gathers at a time: they stay in the second-level cache while the
// heads follow one another, and the state of one head stays in the first level.
constexpr int64_t kScanTile = 64;

// The last K-1 inputs of channels [begin, end). Oldest first: a row is overwritten only after the
// later rows that move up were read.
void update_conv_state(const Mamba2Shape& shape, const float* xbc, int64_t x_stride,
                       int64_t n_tokens, int64_t begin, int64_t end, float* state) {
    const int64_t n_past = shape.conv_kernel - 1, n_channels = shape.conv_dim();
    for (int64_t k = 0; k < n_past; ++k) {
        const int64_t token = n_tokens - n_past + k;
        const float* from =
            token < 0 ? state + (n_past + token) * n_channels : xbc + token * x_stride;
        std::memmove(state + k * n_channels + begin, from + begin,
                     static_cast<size_t>(end - begin) * sizeof(float));
    }
}

// A divisor of the heads of a group.
int64_t heads_per_task(const Mamba2Shape& shape, int64_t n_tokens, int n_threads) {
    const int64_t per_group = shape.n_heads / shape.n_groups;
    const int64_t most = n_tokens == 1 ? kScanHeadsOfOneToken : kScanHeads;
    int64_t n = std::clamp<int64_t>(shape.n_heads / (kTasksPerThread * n_threads), 1,
                                    std::min(most, per_group));
    while (per_group % n != 0) --n;
    return n;
}

// One task of a scan: heads [first, first + n_heads) of one group.
class ScanTask {
public:
    ScanTask(const TierOps& ops, const SsmScan& scan, int64_t first, int64_t n_heads,
             ScratchBuffer<float>& scratch)
        : ops_(ops), scan_(scan), first_(first), n_heads_(n_heads) {
        const int64_t bc_size = kScanTile * 2 * scan.shape.state_size;
        const int64_t steps_size = n_heads * 2 * kScanTile;
        const int64_t states_size = scan.keep_state ? 0 : n_heads * state_size();
        bc_ = scratch.get(bc_size + steps_size + states_size);
        steps_ = bc_ + bc_size;
        states_ = scan.state + first * state_size();
        if (!scan.keep_state) {
            std::memcpy(steps_ + steps_size, states_,
                        static_cast<size_t>(states_size) * sizeof(float));
            states_ = steps_ + steps_size;
        }
    }

    void run() {
        for (int64_t t = 0; t < scan_.n_tokens; t += kScanTile) {
            const int64_t n_tokens = std::min(kScanTile, scan_.n_tokens - t);
            gather(t, n_tokens);
            for (int64_t i = 0; i < n_heads_; ++i) run_head(i, t, n_tokens);
        }
    }

private:
    // The rows of many tokens lie a multiple of a page apart and would displace each other from the
    // cache.
    void gather(int64_t t, int64_t n_tokens) {
        const Mamba2Shape& shape = scan_.shape;
        const int64_t n_states = shape.state_size;
        const int64_t group = first_ / (shape.n_heads / shape.n_groups);
        const auto n_bytes = static_cast<size_t>(n_states) * sizeof(float);
        for (int64_t i = 0; i < n_tokens; ++i) {
            const float* b =
                scan_.xbc + (t + i) * shape.conv_dim() + shape.d_inner() + group * n_states;
            std::memcpy(bc_ + i * 2 * n_states, b, n_bytes);
            std::memcpy(bc_ + (i * 2 + 1) * n_states, b + shape.n_groups * n_states, n_bytes);
            for (int64_t h = 0; h < n_heads_; ++h)
                dt(h)[i] = scan_.dt[(t + i) * scan_.dt_stride + first_ + h];
        }
    }

    void run_head(int64_t i, int64_t t, int64_t n_tokens) {
        const Mamba2Shape& shape = scan_.shape;
        const int64_t head = first_ + i, n_states = shape.state_size;
        ops_.scan_steps({.dt = dt(i),
                         .decay = decay(i),
                         .n_tokens = n_tokens,
                         .dt_bias = scan_.dt_bias[head],
                         .a = scan_.a[head]});
        ops_.scan({.x = scan_.xbc + t * shape.conv_dim() + head * shape.head_dim,
                   .x_stride = shape.conv_dim(),
                   .b = bc_,
                   .c = bc_ + n_states,
                   .bc_stride = 2 * n_states,
                   .dt = dt(i),
                   .decay = decay(i),
                   .d = scan_.d[head],
                   .state = states_ + i * state_size(),
                   .y = scan_.y + t * shape.d_inner() + head * shape.head_dim,
                   .y_stride = shape.d_inner(),
                   .state_size = n_states,
                   .head_dim = shape.head_dim,
                   .n_tokens = n_tokens});
    }

    // Of one head.
    int64_t state_size() const { return scan_.shape.state_size * scan_.shape.head_dim; }
    float* dt(int64_t i) { return steps_ + i * 2 * kScanTile; }
    float* decay(int64_t i) { return dt(i) + kScanTile; }

    const TierOps& ops_;
    const SsmScan& scan_;
    int64_t first_, n_heads_;
    float* bc_;      // [kScanTile][2][N]: B, C
    float* steps_;   // [n_heads][2][kScanTile]: dt, decay
    float* states_;  // [n_heads][N][P]: the state itself, or a copy that nobody keeps
};

}  // namespace

void Mamba::conv_silu(const TierOps& ops, ThreadPool& pool, const Mamba2Shape& shape,
                      const float* xbc, int64_t x_stride, const Weight& weight, const Weight& bias,
                      float* state, int64_t n_tokens, float* y, bool keep_state) {
    const int64_t n_channels = shape.conv_dim();
    const int64_t n_blocks = (n_tokens + kConvTokens - 1) / kConvTokens;
    const int64_t width = n_blocks == 1 ? kConvChannelsOfFew : kConvChannels;
    const int64_t n_columns = (n_channels + width - 1) / width;
    pool.parallel_for(n_blocks * n_columns, 1, [&](int64_t task, int64_t, int thread) {
        const int64_t first = task / n_columns * kConvTokens, begin = task % n_columns * width;
        const int64_t end = std::min(begin + width, n_channels);
        ops.conv_silu({.x = xbc,
                       .x_stride = x_stride,
                       .weight = weight.f32(),
                       .bias = bias.present() ? bias.f32() : nullptr,
                       .state = state,
                       .y = y,
                       .taps = scratch_[static_cast<size_t>(thread)].get(16 * shape.conv_kernel),
                       .conv_dim = n_channels,
                       .conv_kernel = shape.conv_kernel,
                       .first_token = first,
                       .n_tokens = std::min(kConvTokens, n_tokens - first),
                       .begin = begin,
                       .end = end});
        if (keep_state && n_blocks == 1)
            update_conv_state(shape, xbc, x_stride, n_tokens, begin, end, state);
    });
    // The first tokens of a longer prompt look at the state for as long as the loop runs.
    if (keep_state && n_blocks > 1)
        update_conv_state(shape, xbc, x_stride, n_tokens, 0, n_channels, state);
}

void Mamba::scan(const TierOps& ops, ThreadPool& pool, const SsmScan& scan) {
    const int64_t n_heads = heads_per_task(scan.shape, scan.n_tokens, pool.n_threads());
    pool.parallel_for(scan.shape.n_heads, n_heads, [&](int64_t first, int64_t, int thread) {
        ScanTask(ops, scan, first, n_heads, scratch_[static_cast<size_t>(thread)]).run();
    });
}

}  // namespace nemo
