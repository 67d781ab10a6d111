// Convolution, scan and norms.

NEMO_INLINE NativeF absolute(NativeF v) {
    return reinterpret_cast<NativeF>(reinterpret_cast<NativeU>(v) & 0x7fffffffu);
}

// ---- convolution

// The file keeps the taps of a channel together; the loop over channels needs each tap's channels
// so.
void transpose_taps(const ConvJob& job) {
    const int64_t width = job.end - job.begin;
    for (int64_t c = 0; c < width; ++c)
        for (int64_t k = 0; k < job.conv_kernel; ++k)
            job.taps[k * width + c] = job.weight[(job.begin + c) * job.conv_kernel + k];
}

// Input of time `token`, which is negative for what lies in the state.
NEMO_INLINE const float* conv_input(const ConvJob& job, int64_t token) {
    return token < 0 ? job.state + (job.conv_kernel - 1 + token) * job.conv_dim
                     : job.x + token * job.x_stride;
}

void conv_silu(const ConvJob& job) {
    const int64_t width = job.end - job.begin, n_past = job.conv_kernel - 1;
    transpose_taps(job);
    for (int64_t t = 0; t < job.n_tokens; ++t) {
        float* y = job.y + t * job.conv_dim + job.begin;
        for_each_16(width, [&](auto load_at, auto store_at) {
            Vec16 value = job.bias != nullptr ? load_at(job.bias + job.begin) : splat(0.0f);
            for (int64_t k = 0; k < job.conv_kernel; ++k)
                value = fma(load_at(job.taps + k * width),
                            load_at(conv_input(job, t - n_past + k) + job.begin), value);
            store_at(y, silu(value));
        });
    }
    // Oldest first: a row is overwritten only after the later rows that move up were read.
    for (int64_t k = 0; k < n_past; ++k) {
        const int64_t token = job.n_tokens - n_past + k;
        __builtin_memmove(job.state + k * job.conv_dim + job.begin,
                          conv_input(job, token) + job.begin,
                          static_cast<uint64_t>(width) * sizeof(float));
    }
}

// ---- scan

// Columns p ... p + 16*kVectors of one head over all tokens. The columns of the state are
// independent of each other, so B and C are broadcast and nothing is summed across lanes; the state
// of these columns stays in the first-level cache over the tokens.
template <int kVectors>
NEMO_INLINE void scan_columns(const ScanJob& job, int64_t p) {
    for (int64_t t = 0; t < job.n_tokens; ++t) {
        const float* x = job.x + t * job.xbc_stride + p;
        const float* b = job.b + t * job.xbc_stride;
        const float* c = job.c + t * job.xbc_stride;
        const Vec16 decay = splat(job.decay[t]);
        Vec16 scaled[kVectors], sums[kVectors];
        for (int v = 0; v < kVectors; ++v) {
            scaled[v] = load(x + 16 * v) * splat(job.dt[t]);
            sums[v] = splat(0.0f);
        }
        float* state = job.state + p;
        for (int64_t n = 0; n < job.state_size; ++n, state += job.head_dim) {
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                const Vec16 s = fma(splat(b[n]), scaled[v], load(state + 16 * v) * decay);
                store(state + 16 * v, s);
                sums[v] = fma(splat(c[n]), s, sums[v]);
            }
        }
        float* y = job.y + t * job.y_stride + p;
        for (int v = 0; v < kVectors; ++v)
            store(y + 16 * v, fma(splat(job.d), load(x + 16 * v), sums[v]));
    }
}

// The same for the last columns, fewer than 16.
void scan_last_columns(const ScanJob& job, int64_t p) {
    const int64_t count = job.head_dim - p;
    for (int64_t t = 0; t < job.n_tokens; ++t) {
        const Vec16 x = load_part(job.x + t * job.xbc_stride + p, count);
        const float* b = job.b + t * job.xbc_stride;
        const float* c = job.c + t * job.xbc_stride;
        const Vec16 decay = splat(job.decay[t]), scaled = x * splat(job.dt[t]);
        Vec16 sums = splat(0.0f);
        float* state = job.state + p;
        for (int64_t n = 0; n < job.state_size; ++n, state += job.head_dim) {
            const Vec16 s = fma(splat(b[n]), scaled, load_part(state, count) * decay);
            store_part(state, s, count);
            sums = fma(splat(c[n]), s, sums);
        }
        store_part(job.y + t * job.y_stride + p, fma(splat(job.d), x, sums), count);
    }
}

void scan(const ScanJob& job) {
    int64_t p = 0;
    for (; p + 16 * kScanVectors <= job.head_dim; p += 16 * kScanVectors)
        scan_columns<kScanVectors>(job, p);
    for (; p + 16 <= job.head_dim; p += 16) scan_columns<1>(job, p);
    if (p < job.head_dim) scan_last_columns(job, p);
}

// ---- norms

NEMO_INLINE float inverse_rms(float sum_of_squares, int64_t n, float eps) {
    return 1.0f / __builtin_sqrtf(sum_of_squares / static_cast<float>(n) + eps);
}

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
    Vec16 squares = splat(0.0f);
    for_each_16(n, [&](auto load_at, auto) {
        const Vec16 v = load_at(x);
        squares = fma(v, v, squares);
    });
    const Vec16 inverse = splat(inverse_rms(sum(squares), n, eps));
    for_each_16(n, [&](auto load_at, auto store_at) {
        store_at(y, load_at(x) * inverse * load_at(weight));
    });
}

void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps,
                float* y) {
    Vec16 sums = splat(0.0f);
    for_each_16(n, [&](auto load_at, auto) { sums = sums + load_at(x); });
    const Vec16 shift = splat(-sum(sums) / static_cast<float>(n));
    // The lanes past the end must add 0 to the squares, not mean^2: they are 0 only once reloaded.
    Vec16 squares = splat(0.0f);
    for_each_16(n, [&](auto load_at, auto store_at) {
        store_at(y, load_at(x) + shift);
        const Vec16 v = load_at(y);
        squares = fma(v, v, squares);
    });
    const Vec16 inverse = splat(inverse_rms(sum(squares), n, eps));
    for_each_16(n, [&](auto load_at, auto store_at) {
        store_at(y, fma(load_at(y) * inverse, load_at(weight), load_at(bias)));
    });
}

void gated_norm(float* y, const float* z, const float* weight, int64_t n, float eps) {
    for_each_16(n,
                [&](auto load_at, auto store_at) { store_at(y, load_at(y) * silu(load_at(z))); });
    rms_norm(y, weight, n, eps, y);
}

// ---- results of products

template <StoreKind kKind>
NEMO_INLINE void store_rows(const StoreJob& job) {
    const Vec16 factor = splat(job.factor);
    for (int64_t t = 0; t < job.n_tokens; ++t) {
        const float* tile = job.tile + t * job.tile_stride;
        float* y = job.y + t * job.y_stride;
        const float* bias = job.bias;
        for_each_16(job.n_rows, [&](auto load_at, auto store_at) {
            Vec16 value = load_at(tile) * factor;
            if (bias != nullptr) value = value + load_at(bias);
            if constexpr (kKind == StoreKind::add) value = load_at(y) + value;
            if constexpr (kKind == StoreKind::relu2)
                // NaN stays NaN: a broken model must not look healthy.
                value = map<16>(
                    [](NativeF v) {
                        const NativeF positive = v < 0.0f ? NativeF{} : v;
                        return positive * positive;
                    },
                    value);
            store_at(y, value);
        });
    }
}

void store_tile(const StoreJob& job) {
    switch (job.kind) {
        case StoreKind::store:
            return store_rows<StoreKind::store>(job);
        case StoreKind::add:
            return store_rows<StoreKind::add>(job);
        case StoreKind::relu2:
            return store_rows<StoreKind::relu2>(job);
    }
}
