// Importance matrices: how strongly each input column of a weight matrix is used, measured on a
// text (nemo-cli imatrix, llama-imatrix), and how much the model's predictions suffer from an error
// in each tensor.
//
// Files are read in both forms that llama.cpp has, and written in the newer one:
// - GGUF: general.type "imatrix", imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size; per
//   weight W the F32 tensors W.in_sum2 [n_columns, n_matrices], sums of squares, and W.counts
//   [1, n_matrices], the number of input rows they were summed over.
// - legacy (.dat): per weight the mean squares times the number of chunks; nothing tells how many
//   matrices the values belong to.
// Our own addition, over which llama.cpp passes: nemo.sensitivity.tensors and .values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

// Of one weight: 2-D (one matrix) or the stacked experts of a layer. Finite and >= 0.
struct TensorImportance {
    // Mean of x^2 over the input rows, [n_matrices, n_columns]: the weights of a least-squares
    // encoding. All 1 for a matrix that saw no rows, an expert that was never chosen.
    std::vector<float> mean_square;
    // Input rows seen, [n_matrices]; a file that does not tell matrices apart has one entry.
    std::vector<int64_t> counts;

    // The share of input rows that a matrix saw: its part in the error of the whole tensor. 1 if
    // the file does not tell matrices apart.
    double share(int64_t matrix) const;
};

struct Importance {
    std::string source;  // the file, for messages
    std::vector<std::string> datasets;
    int64_t n_chunks = 0;
    int64_t chunk_size = 0;  // tokens; 0: not known
    // By GGUF name, "blk.0.ffn_up.weight".
    std::map<std::string, TensorImportance, std::less<>> tensors;
    // By GGUF name, for the tensors that it was measured for: the mean KL divergence of the
    // predictions, in nats per token, per unit of the tensor's RelativeError. So what a mix of
    // types does to the predictions is about sum over tensors of sensitivity * relative error.
    std::map<std::string, double, std::less<>> sensitivity;

    // The mean squares of a tensor, [n_matrices, n_columns]; empty if it is not in the file.
    // Throws Error{bad_file} if the file has another number of them: it belongs to another model.
    std::span<const float> weights(std::string_view name, int64_t n_columns,
                                   int64_t n_matrices) const;
    std::optional<double> find_sensitivity(std::string_view name) const;
};

// Of a tensor that was encoded and decoded: the part of its output's energy that is error,
// sum w (x - q)^2 / sum w x^2, over all rows of all matrices, w the mean square of the column's
// input times the matrix's share of rows.
class RelativeError {
public:
    // `weights`: [n], null: all 1.
    void add_row(const float* original, const float* decoded, const float* weights, int64_t n,
                 double share = 1);
    void add(const RelativeError& other);
    // 0 without any error; infinite for errors in a tensor of zeros.
    double value() const { return error_ == 0 ? 0 : error_ / signal_; }

private:
    double error_ = 0;
    double signal_ = 0;
};

// Throws Error{bad_file} naming the file, the tensor and what is wrong with it.
Importance read_importance(const std::filesystem::path& path);

// The GGUF form. An existing file is replaced.
void write_importance(const Importance& importance, const std::filesystem::path& path);

}  // namespace nemo
