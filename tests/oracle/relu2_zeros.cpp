// How many of the inputs of ffn_down are exactly zero, per layer: what a kernel that skips zeros
// could save (tests/oracle/README.md).
//   relu2_zeros MODEL TEXT [N_TOKENS]
#include "app/engine.h"
#include "core/console.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

using namespace nemo;

namespace {

constexpr int64_t kBlock = 32;

struct Zeros {
    int64_t n_values = 0;
    int64_t n_zeros = 0;
    int64_t n_zero_blocks = 0;  // of 32 columns in a row

    double share() const { return static_cast<double>(n_zeros) / static_cast<double>(n_values); }
    double block_share() const {
        return static_cast<double>(n_zero_blocks * kBlock) / static_cast<double>(n_values);
    }
};

class ZeroCounter final : public MatmulObserver {
public:
    void observe(const Weight& weight, int64_t, const float* row) override {
        if (weight.view.name.find("ffn_down") == std::string::npos) return;
        Zeros& zeros = zeros_[weight.view.name];
        const int64_t n = weight.n_in();
        zeros.n_values += n;
        for (int64_t i = 0; i < n; i += kBlock) {
            const float* end = row + std::min(n, i + kBlock);
            const int64_t n_zeros = std::count(row + i, end, 0.0f);
            zeros.n_zeros += n_zeros;
            zeros.n_zero_blocks += n_zeros == kBlock;
        }
    }

    const std::map<std::string, Zeros>& zeros() const { return zeros_; }

private:
    std::map<std::string, Zeros> zeros_;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fputs("relu2_zeros MODEL TEXT [N_TOKENS]\n", stderr);
        return 2;
    }
    const Engine engine(argv[1], 0);
    std::vector<int32_t> tokens = engine.raw_prompt(read_text_file(argv[2]));
    if (argc > 3) tokens.resize(std::min(tokens.size(), static_cast<size_t>(std::atol(argv[3]))));
    ZeroCounter counter;
    engine.model().backend().set_observer(&counter);
    Session session(engine.model(), {});
    session.append(tokens);
    fmt::print("{} tokens\n{:32} {:>8} {:>18}\n", tokens.size(), "input of", "zeros",
               "blocks of 32 zeros");
    for (const auto& [name, zeros] : counter.zeros())
        fmt::print("{:32} {:7.2f}% {:17.2f}%\n", name, 100 * zeros.share(),
                   100 * zeros.block_share());
    return 0;
}
