// The predictions of one model over a text, kept in a file so that other files of the same model
// can be compared with it: nemo-cli perplexity --kl-base writes it, --kl reads it.
//
// Format, little-endian, without padding:
//   header   "NEMOKLB\n"; u32 version = 1; u32 n_vocab; u32 n_chunks; u32 n_context;
//            i32 tokens[n_chunks * n_context], as the text has them;
//            u32 CRC-32C of all that
//   chunks   n_chunks times: n_scored(n_context) rows; u32 CRC-32C of the rows
//   row      what was predicted for one token: f32 negative log-likelihood of that token;
//            u32 the most probable token; f32 low; f32 step; u16 codes[n_vocab]
// ln p of token i is low + step * codes[i]. Probabilities below e^-64 of the largest are raised to
// that, so a step is at most 0.001 and the divergence of a model from itself is below 1e-7. Loss
// and best token are kept apart, so that ratio and agreement are exact.
#pragma once

#include "core/atomic_file.h"
#include "core/mapped_file.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace nemo {

struct LogitsBaseHeader {
    int64_t n_vocab = 0;
    int64_t n_chunks = 0;
    int64_t n_context = 0;
    std::vector<int32_t> tokens;  // [n_chunks * n_context]
};

// Throws Error{runtime} if there is a file that is none of these: one of the model itself, say.
void refuse_to_replace_other_file(const std::filesystem::path& path);

class LogitsBaseWriter {
public:
    LogitsBaseWriter(const std::filesystem::path& path, const LogitsBaseHeader& header);

    // The rows in order, chunk by chunk: logits [n_vocab], finite, their log_sum_exp, and the loss.
    void write_row(std::span<const float> logits, double logits_log_sum_exp, double nll);
    // After the last row.
    void finish();

private:
    AtomicFile file_;
    int64_t n_vocab_;
    int64_t n_rows_per_chunk_;
    int64_t n_rows_left_;
    uint32_t checksum_ = 0;  // of the current chunk
    std::vector<std::byte> row_;
};

class LogitsBase {
public:
    // Throws Error{bad_file} if it is not such a file, or damaged.
    static LogitsBase open(const std::filesystem::path& path);

    const std::string& path() const { return file_.path(); }
    const LogitsBaseHeader& header() const { return header_; }

    // Call before the chunk's rows are read. Throws Error{bad_file} if it is damaged.
    void check_chunk(int64_t chunk) const;

    struct Row {
        double nll = 0;
        int64_t top = 0;
    };
    // Row `index` < n_scored of a chunk; fills log_probs [n_vocab], not normalised.
    Row read_row(int64_t chunk, int64_t index, std::span<double> log_probs) const;

private:
    std::span<const std::byte> row_bytes(int64_t chunk, int64_t index) const;

    MappedFile file_;
    LogitsBaseHeader header_;
    size_t rows_offset_ = 0;
    size_t n_row_bytes_ = 0;
};

}  // namespace nemo
