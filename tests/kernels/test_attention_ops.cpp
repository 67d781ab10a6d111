// Attention, norms, embedding, buffers and the small operations of the CPU backend.
#include "core/error.h"
#include "tests/kernels/helpers.h"

#include <unistd.h>
#include <algorithm>
#include <fstream>
#include <tuple>

using namespace nemo;

namespace {

double as_double(float value) {
    return static_cast<double>(value);
}

// A cache of one format, and the fp32 rows that it holds after rounding.
struct TestCache {
    KvLayout layout;
    int64_t offset = 0;  // bytes of each page that are not the cache's
    std::vector<std::vector<std::byte>> pages;
    std::vector<std::byte*> table;

    void make_pages(int64_t n_rows, std::byte value = {}) {
        pages.resize(static_cast<size_t>((n_rows + kKvPageRows - 1) / kKvPageRows));
        for (std::vector<std::byte>& page : pages) {
            page.assign(static_cast<size_t>(offset + layout.page_bytes()), value);
            table.push_back(page.data());
        }
    }
    KvCache cache() const { return {layout, table.data(), offset}; }
    // [n_rows, n_heads * head_dim].
    std::vector<float> decoded(int64_t n_rows) {
        std::vector<float> rows, padded(static_cast<size_t>(layout.padded_dim()));
        for (int64_t row = 0; row < n_rows; ++row)
            for (int64_t h = 0; h < layout.n_heads; ++h) {
                decode_row(layout.type, cache().row(row, h), padded.data(), layout.padded_dim());
                rows.insert(rows.end(), padded.begin(), padded.begin() + layout.head_dim);
            }
        return rows;
    }
};

TestCache filled_cache(const AttentionShape& shape, DType type, const std::vector<float>& rows) {
    TestCache test = {.layout = {type, shape.n_kv_heads, shape.head_dim}, .offset = 64};
    const int64_t n_rows = std::ssize(rows) / shape.kv_dim();
    test.make_pages(n_rows);
    make_cpu_backend(1, CpuTier::scalar)->kv_append(rows.data(), n_rows, 0, test.cache());
    return test;
}

struct AttentionCase {
    AttentionShape shape;
    int64_t position;
    int64_t n_tokens;
    std::vector<float> q;
    TestCache keys, values;

    int64_t n_rows() const { return position + n_tokens; }
};

AttentionCase attention_case(AttentionShape shape, int64_t position, int64_t n_tokens,
                             KvTypes types = {DType::f32, DType::f32}) {
    const int64_t n = (position + n_tokens) * shape.kv_dim();
    return {.shape = shape,
            .position = position,
            .n_tokens = n_tokens,
            .q = random_values(n_tokens * shape.q_dim(), 31, 2.0f),
            .keys = filled_cache(shape, types.keys, random_values(n, 32)),
            .values = filled_cache(shape, types.values, random_values(n, 33))};
}

// Queries `first` ... of the case, with what comes after them in the cache already written.
std::vector<float> run_attention(Backend& backend, AttentionCase& c, int64_t first, int64_t n) {
    std::vector<float> y(static_cast<size_t>(n * c.shape.q_dim()), 7.0f);
    backend.attention(c.shape, c.q.data() + first * c.shape.q_dim(), c.keys.cache(),
                      c.values.cache(), c.position + first, n, y.data());
    return y;
}

// A query, divided by sqrt(dim), as the kernels compare it with keys: keys in Q8_0 meet integers of
// 16 bits.
std::vector<double> scaled_query(const float* q, int64_t dim, DType keys) {
    const float inverse = 1.0f / std::sqrt(static_cast<float>(dim));
    std::vector<double> scaled;
    float largest = 0.0f;
    for (int64_t i = 0; i < dim; ++i) largest = std::max(largest, std::fabs(q[i] * inverse));
    for (int64_t i = 0; i < dim; ++i) {
        const float value = q[i] * inverse;
        if (keys == DType::q8_0)
            scaled.push_back(as_double(std::nearbyint(value * (32767.0f / largest))) *
                             as_double(largest) / 32767.0);
        else
            scaled.push_back(as_double(q[i]) / std::sqrt(static_cast<double>(dim)));
    }
    return scaled;
}

std::vector<double> expected_attention(AttentionCase& c) {
    const int64_t dim = c.shape.head_dim, kv_dim = c.shape.kv_dim();
    const std::vector<float> k = c.keys.decoded(c.n_rows()), v = c.values.decoded(c.n_rows());
    std::vector<double> y;
    for (int64_t t = 0; t < c.n_tokens; ++t)
        for (int64_t h = 0; h < c.shape.n_heads; ++h) {
            const int64_t kv = h / (c.shape.n_heads / c.shape.n_kv_heads);
            std::vector<double> scores, out(static_cast<size_t>(dim), 0.0);
            const std::vector<double> q =
                scaled_query(c.q.data() + t * c.shape.q_dim() + h * dim, dim, c.keys.layout.type);
            for (int64_t row = 0; row <= c.position + t; ++row) {
                double dot = 0.0;
                for (int64_t i = 0; i < dim; ++i)
                    dot += q[static_cast<size_t>(i)] *
                           as_double(k[static_cast<size_t>(row * kv_dim + kv * dim + i)]);
                scores.push_back(dot);
            }
            const double largest = *std::ranges::max_element(scores);
            double sum = 0.0;
            for (double& score : scores) sum += score = std::exp(score - largest);
            for (size_t row = 0; row < scores.size(); ++row)
                for (size_t i = 0; i < out.size(); ++i)
                    out[i] += scores[row] / sum *
                              as_double(v[row * static_cast<size_t>(kv_dim) +
                                          static_cast<size_t>(kv * dim) + i]);
            y.insert(y.end(), out.begin(), out.end());
        }
    return y;
}

constexpr DType kCacheTypes[] = {DType::f32, DType::f16, DType::q8_0};

}  // namespace

TEST_CASE("attention: shared K/V heads, odd head dims, first token and several pages") {
    const AttentionShape shapes[] = {{.n_heads = 1, .n_kv_heads = 1, .head_dim = 16},
                                     {.n_heads = 6, .n_kv_heads = 2, .head_dim = 24},
                                     {.n_heads = 5, .n_kv_heads = 5, .head_dim = 7},
                                     {.n_heads = 40, .n_kv_heads = 8, .head_dim = 40},
                                     {.n_heads = 8, .n_kv_heads = 1, .head_dim = 128}};
    for (const AttentionShape& shape : shapes)
        for (const auto& [position, n_tokens] : {std::pair{0, 1},
                                                 {0, 3},
                                                 {14, 3},
                                                 {31, 2},
                                                 {255, 1},
                                                 {255, 2},
                                                 {241, 70},
                                                 {700, 1},
                                                 {2040, 12},
                                                 {4200, 2}}) {
            CAPTURE(shape.head_dim);
            CAPTURE(position);
            CAPTURE(n_tokens);
            AttentionCase c = attention_case(shape, position, n_tokens);
            const std::vector<double> expected = expected_attention(c);
            for (const CpuTier tier : tiers_here()) {
                CAPTURE(name_of(tier));
                check_close(run_attention(*make_cpu_backend(1, tier), c, 0, n_tokens), expected,
                            3e-6);
            }
        }
}

TEST_CASE("attention: caches of any format, keys and values apart, many queries and one token") {
    const AttentionShape shapes[] = {{.n_heads = 6, .n_kv_heads = 2, .head_dim = 72},
                                     {.n_heads = 5, .n_kv_heads = 1, .head_dim = 128}};
    for (const AttentionShape& shape : shapes)
        for (const DType keys : kCacheTypes)
            for (const DType values : kCacheTypes) {
                AttentionCase c = attention_case(shape, 270, 20, {keys, values});
                const std::vector<double> expected = expected_attention(c);
                for (const CpuTier tier : tiers_here()) {
                    CAPTURE(name_of(tier));
                    CAPTURE(shape.head_dim);
                    CAPTURE(static_cast<int>(keys));
                    CAPTURE(static_cast<int>(values));
                    const auto backend = make_cpu_backend(2, tier);
                    const std::vector<float> y = run_attention(*backend, c, 0, 20);
                    check_close(y, expected, 3e-6);
                    const std::vector<float> last = run_attention(*backend, c, 19, 1);
                    CHECK(std::equal(last.begin(), last.end(), y.end() - shape.q_dim()));
                }
            }
}

TEST_CASE("attention: same bits for any split of the queries and any number of threads") {
    for (const auto& [position, keys, values] : {std::tuple{30, DType::f16, DType::q8_0},
                                                 {230, DType::q8_0, DType::q8_0},
                                                 {900, DType::q8_0, DType::f32},
                                                 {2000, DType::f16, DType::q8_0},
                                                 {2000, DType::q8_0, DType::f16}})
        for (const CpuTier tier : tiers_here()) {
            CAPTURE(name_of(tier));
            CAPTURE(position);
            AttentionCase c = attention_case({.n_heads = 6, .n_kv_heads = 2, .head_dim = 24},
                                             position, 65, {keys, values});
            const std::vector<float> whole = run_attention(*make_cpu_backend(1, tier), c, 0, 65);
            for (const std::vector<int64_t>& split : kSplits) {
                const std::vector<float> y = same_for_all_threads(tier, [&](Backend& backend) {
                    std::vector<float> all;
                    int64_t first = 0;
                    for (const int64_t n : split) {
                        const std::vector<float> part = run_attention(backend, c, first, n);
                        all.insert(all.end(), part.begin(), part.end());
                        first += n;
                    }
                    return all;
                });
                CHECK(y == whole);
            }
        }
}

TEST_CASE("attention: scores far apart neither overflow nor lose the largest") {
    for (const int position : {40, 600}) {
        AttentionCase c =
            attention_case({.n_heads = 1, .n_kv_heads = 1, .head_dim = 16}, position, 1);
        for (float& q : c.q) q *= 100.0f;
        const std::vector<double> expected = expected_attention(c);
        for (const CpuTier tier : tiers_here())
            // The scores are several hundreds, so their own rounding shows.
            check_close(run_attention(*make_cpu_backend(2, tier), c, 0, 1), expected, 1e-4);
    }
}

TEST_CASE("attention: what is not a number stays so in every format, but not for earlier tokens") {
    const AttentionShape shape = {.n_heads = 2, .n_kv_heads = 1, .head_dim = 8};
    for (const DType type : kCacheTypes)
        for (const bool in_keys : {false, true}) {
            CAPTURE(static_cast<int>(type));
            CAPTURE(in_keys);
            AttentionCase c = attention_case(shape, 0, 5, {type, type});
            std::vector<float> row(8, 1.0f);
            row[3] = std::nanf("");
            const auto backend = make_cpu_backend(1);
            backend->kv_append(row.data(), 1, 3, in_keys ? c.keys.cache() : c.values.cache());
            const std::vector<float> y = run_attention(*backend, c, 0, 5);
            for (size_t i = 0; i < 48; ++i) CHECK(std::isfinite(y[i]));
            for (const size_t i : {48 + 3, 64 + 3}) CHECK(std::isnan(y[i]));
        }
    for (const DType type : kCacheTypes)
        for (const float bad : {std::nanf(""), INFINITY}) {
            CAPTURE(static_cast<int>(type));
            AttentionCase c = attention_case(shape, 0, 5, {type, type});
            c.q[3 * 16 + 5] = bad;
            const std::vector<float> y = run_attention(*make_cpu_backend(1), c, 0, 5);
            for (size_t i = 0; i < 80; ++i) CHECK(std::isfinite(y[i]) == (i / 8 != 6));
        }
}

TEST_CASE("attention: Q8_0 keys meet a query's codes in exact sums, the same in every tier") {
    const int64_t n_blocks = 3, dim = 32 * n_blocks;
    const size_t n_rows = 32, row_bytes = 34 * n_blocks;
    std::vector<float> q = random_values(dim, 71);
    // The largest sums, where every code is.
    std::fill_n(q.begin() + 64, 32, 5.0f);
    std::vector<unsigned char> rows(n_rows * row_bytes);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<unsigned char>(i * 113 + i / 97);
    for (size_t r = 0; r < n_rows; ++r) {
        std::fill_n(rows.begin() + static_cast<int64_t>(r * row_bytes + 70), 32,
                    r % 2 == 0 ? 0x80 : 0x7f);
        for (size_t b = 0; b < 3; ++b) {  // 1, 2, 4: factors that round nothing
            rows[r * row_bytes + 34 * b] = 0;
            rows[r * row_bytes + 34 * b + 1] = static_cast<unsigned char>(0x3c + 4 * b);
        }
    }
    for (const CpuTier tier : tiers_here()) {
        CAPTURE(name_of(tier));
        const AttentionOps& ops = tier_ops(tier).attention;
        std::vector<int32_t> pairs(static_cast<size_t>(2 * dim / 2));
        std::vector<float> factors(2), scores(2 * n_rows), scratch(static_cast<size_t>(32 * dim));
        for (int64_t i = 0; i < 2; ++i)
            ops.quantize_query(q.data(), dim, pairs.data() + i * dim / 2, factors.data() + i);
        CHECK(factors[0] == 5.0f * (1.0f / 32767.0f));
        ops.score_codes({.from = {rows.data(), static_cast<int64_t>(row_bytes), n_rows, dim},
                         .next = nullptr,
                         .pairs = pairs.data(),
                         .factors = factors.data(),
                         .n_queries = 2,
                         .scores = scores.data(),
                         .scores_stride = n_rows,
                         .scratch = scratch.data()});
        for (size_t r = 0; r < n_rows; ++r) {
            float sum = 0.0f;
            for (size_t b = 0; b < 3; ++b) {
                int32_t dot = 0;
                for (size_t i = 0; i < 32; ++i)
                    dot += static_cast<int8_t>(rows[r * row_bytes + 34 * b + 2 + i]) *
                           static_cast<int32_t>(std::nearbyint(q[32 * b + i] * (32767.0f / 5.0f)));
                sum = std::fma(static_cast<float>(dot), static_cast<float>(1 << b), sum);
            }
            CHECK(scores[r] == sum * factors[0]);
            CHECK(scores[n_rows + r] == scores[r]);
        }
    }
}

TEST_CASE("rms_norm: odd sizes, in place, tiny and large values") {
    for (const int64_t n : {1, 7, 15, 16, 17, 100, 4480})
        for (const float scale : {1.0f, 1e-6f, 1e4f}) {
            const int64_t n_tokens = 6;
            const std::vector<float> x = random_values(n_tokens * n, 41, scale),
                                     w = random_values(n, 42);
            const TestTensor weight = f32_tensor({n, 1, 1, 1}, w);
            const float eps = 1e-5f;
            std::vector<double> expected;
            for (size_t t = 0; t < x.size(); t += static_cast<size_t>(n)) {
                double squares = 0.0;
                for (size_t i = 0; i < w.size(); ++i)
                    squares += as_double(x[t + i]) * as_double(x[t + i]);
                const double rms = std::sqrt(squares / static_cast<double>(n) + as_double(eps));
                for (size_t i = 0; i < w.size(); ++i)
                    expected.push_back(as_double(x[t + i]) / rms * as_double(w[i]));
            }
            for (const CpuTier tier : tiers_here()) {
                CAPTURE(name_of(tier));
                CAPTURE(n);
                const std::vector<float> y = same_for_all_threads(tier, [&](Backend& backend) {
                    std::vector<float> values = x;
                    backend.rms_norm(values.data(), weight.weight(), eps, n_tokens, n,
                                     values.data());
                    return values;
                });
                check_close(y, expected, 2e-6);
            }
        }
}

TEST_CASE("layer_norm: odd sizes, in place, off center, constant rows") {
    for (const int64_t n : {1, 7, 15, 16, 17, 100, 4480})
        for (const float center : {0.0f, 3.0f, -40.0f}) {
            const int64_t n_tokens = 6;
            std::vector<float> x = random_values(n_tokens * n, 43);
            for (float& value : x) value += center;
            std::fill_n(x.begin(), n, center);
            const std::vector<float> w = random_values(n, 44), b = random_values(n, 45);
            const TestTensor weight = f32_tensor({n, 1, 1, 1}, w),
                             bias = f32_tensor({n, 1, 1, 1}, b);
            const float eps = 1e-5f;
            std::vector<double> expected;
            for (size_t t = 0; t < x.size(); t += static_cast<size_t>(n)) {
                double sum = 0.0, squares = 0.0;
                for (size_t i = 0; i < w.size(); ++i) sum += as_double(x[t + i]);
                const double mean = sum / static_cast<double>(n);
                for (size_t i = 0; i < w.size(); ++i)
                    squares += (as_double(x[t + i]) - mean) * (as_double(x[t + i]) - mean);
                const double deviation =
                    std::sqrt(squares / static_cast<double>(n) + as_double(eps));
                for (size_t i = 0; i < w.size(); ++i)
                    expected.push_back((as_double(x[t + i]) - mean) / deviation * as_double(w[i]) +
                                       as_double(b[i]));
            }
            for (const CpuTier tier : tiers_here()) {
                CAPTURE(name_of(tier));
                CAPTURE(n);
                CAPTURE(center);
                const std::vector<float> y = same_for_all_threads(tier, [&](Backend& backend) {
                    std::vector<float> values = x;
                    backend.layer_norm(values.data(), weight.weight(), bias.weight(), eps, n_tokens,
                                       n, values.data());
                    return values;
                });
                // A mean of 40 has its last bit at 4e-6.
                check_close(y, expected, center == 0.0f ? 2e-6 : 2e-5);
            }
        }
}

TEST_CASE("rope: half-split pairs turn with the position, the rest stays") {
    const RotaryShape rotary = {.n_dims = 10, .theta = 500.0f, .position_scale = 0.25f};
    const int64_t n_heads = 3, head_dim = 13, n_tokens = 65;
    const std::vector<float> x = random_values(n_tokens * n_heads * head_dim, 46);
    for (const int64_t position : {0, 1, 1000003}) {
        CAPTURE(position);
        std::vector<double> expected(x.begin(), x.end());
        for (int64_t row = 0; row < n_tokens * n_heads; ++row)
            for (int64_t i = 0; i < 5; ++i) {
                const double angle = static_cast<double>(position + row / n_heads) * 0.25 *
                                     std::pow(500.0, -static_cast<double>(i) / 5.0);
                const auto first = static_cast<size_t>(row * head_dim + i), second = first + 5;
                expected[first] =
                    as_double(x[first]) * std::cos(angle) - as_double(x[second]) * std::sin(angle);
                expected[second] =
                    as_double(x[second]) * std::cos(angle) + as_double(x[first]) * std::sin(angle);
            }
        const std::vector<float> y = same_for_all_threads(CpuTier::scalar, [&](Backend& backend) {
            std::vector<float> values = x;
            backend.rope(rotary, n_heads, head_dim, position, n_tokens, values.data());
            return values;
        });
        check_close(y, expected, 1e-6);
        CHECK(y[10] == x[10]);
        const auto backend = make_cpu_backend(2, CpuTier::scalar);
        for (const auto& split : kSplits) {
            std::vector<float> values = x;
            int64_t done = 0;
            for (const int64_t n : split) {
                backend->rope(rotary, n_heads, head_dim, position + done, n,
                              values.data() + done * n_heads * head_dim);
                done += n;
            }
            CHECK(values == y);
        }
    }
}

TEST_CASE("embed: rows of the table in any format") {
    const std::vector<int32_t> tokens = {3, 0, 6, 3, 1, 2, 5, 4, 6};
    for (const DType dtype : {DType::f32, DType::bf16, DType::q4_0, DType::q6_k}) {
        const int64_t n = std::max<int64_t>(dtype_info(dtype).block_size, 32);
        const TestTensor table = random_tensor(dtype, {n, 7, 1, 1}, 51);
        const std::vector<float> decoded = table.decoded();
        const auto backend = make_cpu_backend(2, CpuTier::scalar);
        std::vector<float> y(tokens.size() * static_cast<size_t>(n));
        backend->embed(table.weight(), tokens, y.data());
        for (size_t t = 0; t < tokens.size(); ++t)
            CHECK(std::equal(decoded.begin() + tokens[t] * n, decoded.begin() + (tokens[t] + 1) * n,
                             y.begin() + static_cast<std::ptrdiff_t>(t) * n));
    }
}

TEST_CASE("kv_append writes the codes of the format, and nothing else") {
    const auto backend = make_cpu_backend(2, CpuTier::scalar);
    const int64_t head_dim = 40;
    const std::vector<float> rows = random_values(30 * 3 * head_dim, 61);
    for (const DType type : kCacheTypes) {
        CAPTURE(static_cast<int>(type));
        TestCache test = {.layout = {type, 3, head_dim}, .offset = 32};
        test.make_pages(290, std::byte{1});
        backend->kv_append(rows.data(), 30, 250, test.cache());
        const auto n_row_bytes = static_cast<size_t>(test.layout.row_bytes());
        for (int64_t row = 240; row < 290; ++row)
            for (int64_t h = 0; h < 3; ++h) {
                std::vector<std::byte> expected(n_row_bytes, std::byte{1});
                if (row >= 250 && row < 280) {
                    std::vector<float> padded(64, 0.0f);
                    std::copy_n(rows.data() + ((row - 250) * 3 + h) * head_dim, head_dim,
                                padded.begin());
                    encode_row(type, padded.data(), expected.data(), 64);
                }
                CHECK(std::memcmp(test.cache().row(row, h), expected.data(), n_row_bytes) == 0);
            }
    }
}

TEST_CASE("add and copy") {
    const auto backend = make_cpu_backend(2, CpuTier::scalar);
    const std::vector<float> x = random_values(40000, 62);
    std::vector<float> y(x.size());
    backend->copy(x.data(), std::ssize(x), y.data());
    CHECK(y == x);
    backend->add(x.data(), std::ssize(x), y.data());
    for (size_t i = 0; i < x.size(); ++i) REQUIRE(y[i] == 2.0f * x[i]);
    backend->sync();
}

TEST_CASE("alloc gives aligned zeros and refuses what no machine has") {
    const auto backend = make_cpu_backend(1, CpuTier::scalar);
    for (const int64_t n : {0, 1, 1000, 1 << 20}) {
        const FloatBuffer buffer = backend->alloc(n);
        CHECK(reinterpret_cast<uintptr_t>(buffer.get()) % 64 == 0);
        CHECK(std::all_of(buffer.get(), buffer.get() + n, [](float v) { return v == 0.0f; }));
    }
    for (const int64_t n : {int64_t{1} << 60, int64_t{-1}}) {
        try {
            backend->alloc(n);
            FAIL("allocated");
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::out_of_memory);
        }
    }
}

TEST_CASE("alloc: large blocks begin where large pages may and take no more room than they need") {
    constexpr int64_t kHugePage = 2 << 20, kBytes = kHugePage + 100'000, kBlocks = 20;
    const auto address_space = [] {
        int64_t n_pages = 0;
        std::ifstream("/proc/self/statm") >> n_pages;
        return n_pages * ::sysconf(_SC_PAGESIZE);
    };
    const auto backend = make_cpu_backend(1, CpuTier::scalar);
    std::vector<FloatBuffer> blocks(kBlocks);
    const int64_t before = address_space();
    for (FloatBuffer& block : blocks) {
        block = backend->alloc(kBytes / 4);
        CHECK(reinterpret_cast<uintptr_t>(block.get()) % kHugePage == 0);
        block[kBytes / 4 - 1] = 1.0f;
    }
    CHECK(address_space() - before < kBlocks * kBytes + kHugePage);
    blocks.clear();
    CHECK(address_space() - before < kHugePage);
}
