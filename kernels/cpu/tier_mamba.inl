// Convolution and scan of a Mamba-2 layer.

// ---- convolution

// Input of time `token`, which is negative for what lies in the state.
NEMO_INLINE const float* conv_input(const ConvJob& job, int64_t token) {
    return token < 0 ? job.state + (job.conv_kernel - 1 + token) * job.conv_dim
                     : job.x + token * job.x_stride;
}

// The file keeps the taps of a channel together; here each tap's channels are needed together.
// taps[k][i] = weight[i][k] of 16 channels.
NEMO_INLINE void transpose_taps(const float* weight, int64_t n_taps, int64_t n_channels,
                                float* taps) {
    for (int64_t c = 0; c < n_channels; ++c)
        for (int64_t k = 0; k < n_taps; ++k) taps[k * 16 + c] = weight[c * n_taps + k];
}

// The same for the four taps that every model has: lanes k, k + 4, ... of the parts of four
// vectors.
template <int kTap>
NEMO_INLINE NativeF every_fourth(const NativeF* part) {
    NativeU from_pair, join;
    for (int i = 0; i < kNativeLanes; ++i) {
        from_pair[i] = static_cast<uint32_t>(kTap + 4 * i % (2 * kNativeLanes));
        join[i] = static_cast<uint32_t>(i < kNativeLanes / 2 ? i : i + kNativeLanes / 2);
    }
    return __builtin_shuffle(__builtin_shuffle(part[0], part[1], from_pair),
                             __builtin_shuffle(part[2], part[3], from_pair), join);
}
NEMO_INLINE void transpose_four_taps(const float* weight, float* taps) {
    for (int lane = 0; lane < 16; lane += kNativeLanes) {
        NativeF part[4];
        __builtin_memcpy(part, weight + 4 * lane, sizeof part);
        const NativeF tap[4] = {every_fourth<0>(part), every_fourth<1>(part), every_fourth<2>(part),
                                every_fourth<3>(part)};
        for (int k = 0; k < 4; ++k) __builtin_memcpy(taps + k * 16 + lane, &tap[k], sizeof tap[k]);
    }
}

// kTokens tokens from `token` on, all channels of the job: the tokens share the taps, and every
// row is read and written front to back.
template <int kTokens>
NEMO_INLINE void conv_tokens(const ConvJob& job, int64_t token) {
    const int64_t n_taps = job.conv_kernel;
    const auto channels = [&](int64_t first, int64_t count, auto load_at, auto store_at) {
        const float* weight = job.weight + first * n_taps;
        if (n_taps == 4 && count == 16)
            transpose_four_taps(weight, job.taps);
        else
            transpose_taps(weight, n_taps, count, job.taps);
        Vec16 values[kTokens];
        for (int i = 0; i < kTokens; ++i)
            values[i] = job.bias != nullptr ? load_at(job.bias + first) : splat(0.0f);
        for (int64_t k = 0; k < n_taps; ++k) {
            const Vec16 tap = load(job.taps + k * 16);
#pragma GCC unroll 4
            for (int i = 0; i < kTokens; ++i)
                values[i] = fma(tap, load_at(conv_input(job, token + i - (n_taps - 1) + k) + first),
                                values[i]);
        }
        for (int i = 0; i < kTokens; ++i)
            store_at(job.y + (token + i) * job.conv_dim + first, silu(values[i]));
    };
    int64_t c = job.begin;
    for (; c + 16 <= job.end; c += 16)
        channels(
            c, 16, [](const float* p) { return load(p); },
            [](float* p, const Vec16& v) { store(p, v); });
    const int64_t count = job.end - c;
    if (count > 0)
        channels(
            c, count, [count](const float* p) { return load_part(p, count); },
            [count](float* p, const Vec16& v) { store_part(p, v, count); });
}

void conv_silu(const ConvJob& job) {
    int64_t t = job.first_token;
    const int64_t end = t + job.n_tokens;
    for (; t + 4 <= end; t += 4) conv_tokens<4>(job, t);
    for (; t < end; ++t) conv_tokens<1>(job, t);
}

// ---- scan

// log(1 + u) for 0 <= u <= 1, which is 2 artanh(u / (2 + u)); the series is good to 1e-9 there.
NEMO_INLINE NativeF log1p_native(NativeF u) {
    const NativeF zero = {};
    const NativeF s = u / (u + 2.0f), square = s * s;
    NativeF p = zero + 2.0f / 15.0f;
    p = fma_native(p, square, zero + 2.0f / 13.0f);
    p = fma_native(p, square, zero + 2.0f / 11.0f);
    p = fma_native(p, square, zero + 2.0f / 9.0f);
    p = fma_native(p, square, zero + 2.0f / 7.0f);
    p = fma_native(p, square, zero + 2.0f / 5.0f);
    p = fma_native(p, square, zero + 2.0f / 3.0f);
    p = fma_native(p, square, zero + 2.0f);
    return p * s;
}

// log(1 + e^x) as max(x, 0) + log(1 + e^-|x|), which is x itself, to the last bit, above 20.
NEMO_INLINE NativeF softplus_native(NativeF x) {
    const NativeF zero = {};
    const NativeF positive = x > zero ? x : zero, negative = x > zero ? -x : x;
    return positive + log1p_native(exp_native(negative));
}

void scan_steps(const ScanStepsJob& job) {
    const Vec16 bias = splat(job.dt_bias), a = splat(job.a);
    for_each_16(job.n_tokens, [&](auto load_at, auto store_at) {
        const Vec16 dt =
            map<16>([](NativeF v) { return softplus_native(v); }, load_at(job.dt) + bias);
        store_at(job.dt, dt);
        store_at(job.decay, map<16>([](NativeF v) { return exp_native(v); }, dt * a));
    });
}

// kTokens tokens of the columns p ... p + 16 kVectors of a head. The columns are independent of
// each other, so B and C are broadcast and nothing is summed across lanes. An element of the state
// goes through all the tokens in a register.
template <int kTokens, int kVectors>
NEMO_INLINE void scan_columns(const ScanJob& job, int64_t t, int64_t p) {
    const int64_t state_size = job.state_size, head_dim = job.head_dim;
    const float *x[kTokens], *b[kTokens], *c[kTokens];
    Vec16 decay[kTokens], scaled[kTokens][kVectors], sums[kTokens][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kTokens; ++i) {
        x[i] = job.x + (t + i) * job.x_stride + p;
        b[i] = job.b + (t + i) * job.bc_stride;
        c[i] = job.c + (t + i) * job.bc_stride;
        decay[i] = splat(job.decay[t + i]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            scaled[i][v] = load(x[i] + 16 * v) * splat(job.dt[t + i]);
            sums[i][v] = splat(0.0f);
        }
    }
    float* state = job.state + p;
    for (int64_t n = 0; n < state_size; ++n, state += head_dim) {
        Vec16 s[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) s[v] = load(state + 16 * v);
#pragma GCC unroll 8
        for (int i = 0; i < kTokens; ++i) {
            const Vec16 in = splat(b[i][n]), out = splat(c[i][n]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                s[v] = fma(s[v], decay[i], in * scaled[i][v]);
                sums[i][v] = fma(out, s[v], sums[i][v]);
            }
        }
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) store(state + 16 * v, s[v]);
    }
    const Vec16 d = splat(job.d);
#pragma GCC unroll 8
    for (int i = 0; i < kTokens; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
            store(job.y + (t + i) * job.y_stride + p + 16 * v,
                  fma(d, load(x[i] + 16 * v), sums[i][v]));
}

// The last columns, fewer than 16, of one token.
void scan_last_columns(const ScanJob& job, int64_t t, int64_t p) {
    const int64_t count = job.head_dim - p;
    const Vec16 x = load_part(job.x + t * job.x_stride + p, count);
    const float* b = job.b + t * job.bc_stride;
    const float* c = job.c + t * job.bc_stride;
    const Vec16 decay = splat(job.decay[t]), scaled = x * splat(job.dt[t]);
    Vec16 sums = splat(0.0f);
    float* state = job.state + p;
    for (int64_t n = 0; n < job.state_size; ++n, state += job.head_dim) {
        const Vec16 s = fma(load_part(state, count), decay, splat(b[n]) * scaled);
        store_part(state, s, count);
        sums = fma(splat(c[n]), s, sums);
    }
    store_part(job.y + t * job.y_stride + p, fma(splat(job.d), x, sums), count);
}

template <int kTokens, int kVectors>
NEMO_INLINE void scan_tokens(const ScanJob& job, int64_t t) {
    int64_t p = 0;
    for (; p + 16 * kVectors <= job.head_dim; p += 16 * kVectors)
        scan_columns<kTokens, kVectors>(job, t, p);
    for (; p + 16 <= job.head_dim; p += 16) scan_columns<kTokens, 1>(job, t, p);
    if (p < job.head_dim)
        for (int i = 0; i < kTokens; ++i) scan_last_columns(job, t + i, p);
}

// The rows of a head are short and far apart: hardware does not see them coming.
NEMO_INLINE void fetch_rows(const ScanJob& job, int64_t t) {
    const int64_t end = t + kScanTokens < job.n_tokens ? t + kScanTokens : job.n_tokens;
    for (; t < end; ++t)
        for (int64_t p = 0; p < job.head_dim; p += 16) {
            __builtin_prefetch(job.x + t * job.x_stride + p);
            __builtin_prefetch(job.y + t * job.y_stride + p, 1);
        }
}

void scan(const ScanJob& job) {
    int64_t t = 0;
    for (; t + kScanTokens <= job.n_tokens; t += kScanTokens) {
        fetch_rows(job, t + 2 * kScanTokens);
        scan_tokens<kScanTokens, kScanVectors>(job, t);
    }
    for (; t < job.n_tokens; ++t) scan_tokens<1, kOneScanVectors>(job, t);
}
