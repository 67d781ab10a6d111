// Speed of a model: tests in llama-bench's terms, so that numbers compare.
//
// "pp512" reads a prompt of 512 tokens, "tg64" then writes 64 one by one; "@d4096" does it after
// 4096 tokens of context. The tokens are random: only their number counts.
#pragma once

#include "models/model.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace nemo {

struct BenchTest {
    bool generate = false;
    int64_t n_tokens = 0;
    int64_t depth = 0;

    std::string name() const;  // "pp512@d4096"
};

struct BenchOptions {
    int64_t chunk = 256;  // prompt tokens taken in at once
    int n_repetitions = 5;
    KvTypes kv_types;
};

struct BenchResult {
    BenchTest test;
    std::vector<double> speeds;  // tokens per second, of each repetition

    double mean() const;
    double deviation() const;  // of the sample; 0 for one repetition
    double best() const;
};

// All of them must be set.
struct BenchEvents {
    // Before anything that takes long: what it is.
    std::function<void(const std::string& what)> on_step;
    // Before (true) and after (false) what is timed.
    std::function<void(bool on)> on_timing;
    // Asked between chunks and tokens.
    std::function<bool()> cancelled;
};

// A warm-up, which is not counted, and the repetitions. For each a prompt is read anew, with the
// context before it, which is not timed; generation goes on where the repetition before ended.
// Throws Error{interrupted} if cancelled.
BenchResult measure_speed(const Model& model, const BenchTest& test, const BenchOptions& options,
                          const BenchEvents& events);

}  // namespace nemo
