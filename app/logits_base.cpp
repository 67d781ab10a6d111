#include "app/logits_base.h"

#include "app/perplexity.h"
#include "core/byte_reader.h"
#include "core/checked.h"
#include "core/crc32c.h"
#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nemo {

namespace {

constexpr std::string_view kMagic = "NEMOKLB\n";
constexpr uint32_t kVersion = 1;
constexpr size_t kFixedHeaderBytes = kMagic.size() + 4 * sizeof(uint32_t);
constexpr size_t kFixedRowBytes = 4 * sizeof(uint32_t);
constexpr size_t kChecksumBytes = sizeof(uint32_t);
constexpr double kRange = 64;
constexpr double kMaxCode = std::numeric_limits<uint16_t>::max();
// What no honest file exceeds; keeps all sizes far from overflow.
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxContext = int64_t{1} << 24;

template <class T>
void append(std::vector<std::byte>& bytes, T value) {
    const auto raw = std::as_bytes(std::span(&value, 1));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
}

size_t row_bytes_of(int64_t n_vocab) {
    return kFixedRowBytes + sizeof(uint16_t) * static_cast<size_t>(n_vocab);
}

size_t chunk_bytes_of(const LogitsBaseHeader& header) {
    return static_cast<size_t>(n_scored(header.n_context)) * row_bytes_of(header.n_vocab) +
           kChecksumBytes;
}

uint64_t checked_file_bytes(const LogitsBaseHeader& header, const std::string& source) {
    const auto n_chunks = static_cast<uint64_t>(header.n_chunks);
    const uint64_t per_chunk =
        chunk_bytes_of(header) + sizeof(int32_t) * static_cast<uint64_t>(header.n_context);
    auto total = checked_mul(n_chunks, per_chunk);
    if (total) total = checked_add(*total, uint64_t{kFixedHeaderBytes + kChecksumBytes});
    if (!total)
        fail(ErrorCode::bad_file, "{}: {} chunks of {} bytes are more than a file can hold", source,
             header.n_chunks, per_chunk);
    return *total;
}

int64_t read_count(ByteReader& reader, const char* what, int64_t low, int64_t high) {
    const int64_t value = reader.read<uint32_t>(what);
    if (value < low || value > high)
        fail(ErrorCode::bad_file, "{}: {} is {}, expected {} to {}", reader.source(), what, value,
             low, high);
    return value;
}

void check_checksum(uint32_t stored, std::span<const std::byte> bytes, const std::string& source,
                    const std::string& what) {
    const uint32_t actual = crc32c(bytes);
    if (stored != actual)
        fail(ErrorCode::bad_file, "{}: {} is damaged: checksum {:08x}, stored {:08x}", source, what,
             actual, stored);
}

}  // namespace

void refuse_to_replace_other_file(const std::filesystem::path& path) {
    if (!std::filesystem::is_regular_file(path)) return;
    const MappedFile file = MappedFile::open(path);
    const std::string_view text = file.text();
    if (!text.empty() && !text.starts_with(kMagic))
        fail(ErrorCode::runtime,
             "{}: exists and holds no predictions of a model; it is not replaced", path.string());
}

LogitsBaseWriter::LogitsBaseWriter(const std::filesystem::path& path,
                                   const LogitsBaseHeader& header)
    : file_(path),
      n_vocab_(header.n_vocab),
      n_rows_per_chunk_(n_scored(header.n_context)),
      n_rows_left_(header.n_chunks * n_rows_per_chunk_) {
    NEMO_ASSERT(std::ssize(header.tokens) == header.n_chunks * header.n_context);
    file_.reserve(checked_file_bytes(header, path.string()));
    std::vector<std::byte> bytes;
    for (const char c : kMagic) append(bytes, c);
    append(bytes, kVersion);
    append(bytes, static_cast<uint32_t>(header.n_vocab));
    append(bytes, static_cast<uint32_t>(header.n_chunks));
    append(bytes, static_cast<uint32_t>(header.n_context));
    for (const int32_t token : header.tokens) append(bytes, token);
    append(bytes, crc32c(bytes));
    file_.write(bytes);
}

void LogitsBaseWriter::write_row(std::span<const float> logits, double logits_log_sum_exp,
                                 double nll) {
    NEMO_ASSERT(std::ssize(logits) == n_vocab_ && n_rows_left_ > 0);
    const auto [smallest, largest] = std::ranges::minmax(logits);
    const double low = std::max<double>(smallest, largest - kRange);
    const double step = (largest - low) / kMaxCode;
    row_.clear();
    append(row_, static_cast<float>(nll));
    append(row_, static_cast<uint32_t>(top_index(logits)));
    append(row_, static_cast<float>(low - logits_log_sum_exp));
    append(row_, static_cast<float>(step));
    for (const float logit : logits) {
        const double code = step > 0 ? std::round((logit - low) / step) : 0;
        append(row_, static_cast<uint16_t>(std::clamp(code, 0.0, kMaxCode)));
    }
    file_.write(row_);
    checksum_ = crc32c(row_, checksum_);
    if (--n_rows_left_ % n_rows_per_chunk_ != 0) return;
    row_.clear();
    append(row_, checksum_);
    file_.write(row_);
    checksum_ = 0;
}

void LogitsBaseWriter::finish() {
    NEMO_ASSERT(n_rows_left_ == 0);
    file_.commit();
}

LogitsBase LogitsBase::open(const std::filesystem::path& path) {
    LogitsBase base;
    base.file_ = MappedFile::open(path);
    const std::span<const std::byte> bytes = base.file_.bytes();
    const std::string& source = base.file_.path();
    ByteReader reader(bytes, source);
    if (reader.n_left() < kMagic.size() ||
        reader.read_text(kMagic.size(), "the magic number") != kMagic)
        fail(ErrorCode::bad_file, "{}: not written by nemo-cli perplexity --kl-base", source);
    const auto version = reader.read<uint32_t>("the version");
    if (version != kVersion)
        fail(ErrorCode::bad_file, "{}: version {}, but only {} is supported", source, version,
             kVersion);
    LogitsBaseHeader& header = base.header_;
    header.n_vocab = read_count(reader, "the vocabulary size", 1, kMaxVocab);
    header.n_chunks =
        read_count(reader, "the number of chunks", 1, std::numeric_limits<uint32_t>::max());
    header.n_context = read_count(reader, "the chunk length", 3, kMaxContext);
    const uint64_t n_expected = checked_file_bytes(header, source);
    if (n_expected != bytes.size())
        fail(ErrorCode::bad_file,
             "{}: {} chunks of {} tokens and {} log-probabilities need {} bytes, the file has {}",
             source, header.n_chunks, header.n_context, header.n_vocab, n_expected, bytes.size());
    const int64_t n_tokens = header.n_chunks * header.n_context;
    header.tokens.reserve(static_cast<size_t>(n_tokens));
    for (int64_t i = 0; i < n_tokens; ++i) header.tokens.push_back(reader.read<int32_t>("a token"));
    const std::span<const std::byte> covered = bytes.first(reader.offset());
    check_checksum(reader.read<uint32_t>("the checksum"), covered, source, "the header");
    for (const int32_t token : header.tokens)
        if (token < 0 || token >= header.n_vocab)
            fail(ErrorCode::bad_file, "{}: token id {} is outside the vocabulary of {}", source,
                 token, header.n_vocab);
    base.rows_offset_ = reader.offset();
    base.n_row_bytes_ = row_bytes_of(header.n_vocab);
    return base;
}

std::span<const std::byte> LogitsBase::row_bytes(int64_t chunk, int64_t index) const {
    NEMO_ASSERT(chunk >= 0 && chunk < header_.n_chunks);
    NEMO_ASSERT(index >= 0 && index < n_scored(header_.n_context));
    return file_.bytes().subspan(rows_offset_ +
                                     static_cast<size_t>(chunk) * chunk_bytes_of(header_) +
                                     static_cast<size_t>(index) * n_row_bytes_,
                                 n_row_bytes_);
}

void LogitsBase::check_chunk(int64_t chunk) const {
    const size_t n_bytes = chunk_bytes_of(header_) - kChecksumBytes;
    const std::byte* start = row_bytes(chunk, 0).data();
    ByteReader reader({start + n_bytes, kChecksumBytes}, path());
    check_checksum(reader.read<uint32_t>("the checksum"), {start, n_bytes}, path(),
                   fmt::format("chunk {}", chunk + 1));
}

LogitsBase::Row LogitsBase::read_row(int64_t chunk, int64_t index,
                                     std::span<double> log_probs) const {
    NEMO_ASSERT(std::ssize(log_probs) == header_.n_vocab);
    ByteReader reader(row_bytes(chunk, index), path());
    Row row;
    row.nll = reader.read<float>("a loss");
    row.top = reader.read<uint32_t>("a token");
    const double low = reader.read<float>("a log-probability");
    const double step = reader.read<float>("a step");
    if (!std::isfinite(row.nll) || !std::isfinite(low) || !std::isfinite(step) || step < 0 ||
        row.top >= header_.n_vocab)
        fail(ErrorCode::bad_file, "{}: row {} of chunk {} holds no predictions", path(), index + 1,
             chunk + 1);
    for (double& log_prob : log_probs) log_prob = low + step * reader.read<uint16_t>("a code");
    return row;
}

}  // namespace nemo
