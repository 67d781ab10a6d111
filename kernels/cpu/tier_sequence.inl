// Norms, and what is done with the results of products.

// ---- norms

NEMO_INLINE float inverse_rms(float sum_of_squares, int64_t n, float eps) {
    return 1.0f / __builtin_sqrtf(sum_of_squares / static_cast<float>(n) + eps);
}

NEMO_INLINE void scale_by_weight(const float* x, const float* weight, float factor, int64_t n,
                                 float* y) {
    const Vec16 factors = splat(factor);
    for_each_16(n, [&](auto load_at, auto store_at) {
        store_at(y, load_at(x) * factors * load_at(weight));
    });
}

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
    Vec16 squares = splat(0.0f);
    for_each_16(n, [&](auto load_at, auto) {
        const Vec16 v = load_at(x);
        squares = fma(v, v, squares);
    });
    scale_by_weight(x, weight, inverse_rms(sum(squares), n, eps), n, y);
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

void gated_norm(const float* x, const float* z, const float* weight, int64_t n, float eps,
                float* y) {
    Vec16 squares = splat(0.0f);
    // A page ahead, as hardware does not look beyond one.
    const float *ahead_x = x + 1024, *ahead_z = z + 1024;
    for_each_16(n, [&](auto load_at, auto store_at) {
        __builtin_prefetch(ahead_x);
        __builtin_prefetch(ahead_z);
        ahead_x += 16;
        ahead_z += 16;
        const Vec16 v = load_at(x) * silu(load_at(z));
        store_at(y, v);
        squares = fma(v, v, squares);
    });
    scale_by_weight(y, weight, inverse_rms(sum(squares), n, eps), n, y);
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
