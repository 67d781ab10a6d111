// Gathers an importance matrix while a model reads a text: per weight matrix and input column the
// sum of squares of what the matrix is multiplied with, as llama-imatrix does.
#pragma once

#include "kernels/backend.h"
#include "quant/importance.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace nemo {

class ImportanceCollector final : public MatmulObserver {
public:
    // Only tensors of the layers ("blk.") are collected, and output.weight if asked for.
    explicit ImportanceCollector(bool with_output) : with_output_(with_output) {}

    void observe(const Weight& weight, int64_t matrix, const float* row) override;

    // What was seen so far. Throws Error{bad_file} naming `source`, the model, and the weight if an
    // input was not finite.
    std::map<std::string, TensorImportance, std::less<>> tensors(const std::string& source) const;

private:
    struct Sums {
        std::vector<double> squares;  // [n_matrices, n_columns]
        std::vector<int64_t> counts;  // [n_matrices]
    };
    // nullptr: not wanted.
    Sums* sums_of(const Weight& weight);

    bool with_output_;
    std::map<std::string, Sums> sums_;
    std::unordered_map<const std::byte*, Sums*> by_data_;  // the same, without comparing names
};

}  // namespace nemo
