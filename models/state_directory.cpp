#include "models/state_directory.h"

#include "core/byte_reader.h"
#include "core/checked.h"
#include "core/crc32c.h"

#include <algorithm>
#include <optional>

namespace nemo {

namespace {

constexpr std::string_view kMagic = "NEMOSTAT";
constexpr uint32_t kVersion = 1;
constexpr size_t kBlockEntryBytes = 12;
constexpr uint8_t kLive = 255;  // instead of a kind

class ByteWriter {
public:
    template <class T>
    requires std::is_arithmetic_v<T>
    void write(T value) {
        const auto* first = reinterpret_cast<const std::byte*>(&value);
        bytes.insert(bytes.end(), first, first + sizeof value);
    }
    template <class T>
    void write_all(const std::vector<T>& values) {
        for (const T value : values) write(value);
    }
    void write_blocks(const std::vector<BlockEntry>& blocks) {
        for (const BlockEntry& block : blocks) {
            write(block.n_stored);
            write(block.crc);
        }
    }

    std::vector<std::byte> bytes;
};

void write_states(ByteWriter& out, const std::vector<StateDirectory::State>& states) {
    out.write(static_cast<uint32_t>(states.size()));
    for (const StateDirectory::State& state : states) {
        out.write(state.is_live ? kLive : static_cast<uint8_t>(state.kind));
        out.write(static_cast<uint64_t>(state.tokens.size()));
        out.write_all(state.tokens);
        out.write_all(state.pages);
        out.write_blocks(state.recurrent);
    }
}

[[noreturn]] void disagree(const ByteReader& reader, std::string_view what, int64_t found,
                           int64_t wanted) {
    fail(ErrorCode::bad_file, "{}: {} is {}, but {} here", reader.source(), what, found, wanted);
}

BlockEntry read_block(ByteReader& reader, std::string_view what) {
    const auto n_stored = reader.read<uint64_t>(what);
    return {n_stored, reader.read<uint32_t>(what)};
}

std::vector<BlockEntry> read_blocks(ByteReader& reader, size_t n, std::string_view what) {
    reader.require_items(n, kBlockEntryBytes, what);
    std::vector<BlockEntry> blocks;
    blocks.reserve(n);
    for (size_t i = 0; i < n; ++i) blocks.push_back(read_block(reader, what));
    return blocks;
}

// What must be right before the rest can be believed. Returns the directory's bytes.
std::span<const std::byte> checked_body(std::span<const std::byte> file,
                                        const std::string& source) {
    ByteReader reader(file, source);
    if (file.size() < kMagic.size() || reader.read_text(kMagic.size(), "the magic") != kMagic)
        fail(ErrorCode::bad_file, "{}: this is not a state file of nemo", source);
    if (const auto version = reader.read<uint32_t>("the version"); version != kVersion)
        fail(ErrorCode::bad_file, "{}: version {}, but this program reads version {}", source,
             version, kVersion);
    const auto n_bytes = reader.read<uint64_t>("the directory's length");
    const size_t start = reader.offset();
    reader.read_text(n_bytes, "the directory");
    const size_t end = reader.offset();
    const auto stored = reader.read<uint32_t>("the directory's checksum");
    if (const uint32_t crc = crc32c(file.first(end)); stored != crc)
        fail(ErrorCode::bad_file,
             "{}: the directory's checksum is {:08x}, but its bytes have {:08x}", source, stored,
             crc);
    return file.subspan(start, end - start);
}

void read_model(ByteReader& reader, StateDirectory& directory, const StateExpectation& expected) {
    directory.model.n_file_bytes = reader.read<uint64_t>("the model");
    directory.model.header_crc = reader.read<uint32_t>("the model");
    directory.model.sample_crc = reader.read<uint32_t>("the model");
    if (directory.model != expected.model)
        fail(ErrorCode::bad_file, "{}: belongs to another model (of {} bytes, this one has {})",
             reader.source(), directory.model.n_file_bytes, expected.model.n_file_bytes);
}

void read_layout(ByteReader& reader, StateDirectory& directory, const StateExpectation& expected) {
    const KvPageLayout& layout = expected.live.page_layout();
    const auto read_equal = [&](std::string_view what, int64_t wanted) {
        const auto found = reader.read<int64_t>(what);
        if (found != wanted) disagree(reader, what, found, wanted);
        return found;
    };
    const auto type = [&](std::string_view what, DType wanted) {
        read_equal(what, static_cast<int64_t>(wanted));
        return wanted;
    };
    directory.kv_types.keys = type("the type of cached keys", layout.types().keys);
    directory.kv_types.values = type("the type of cached values", layout.types().values);
    directory.n_recurrent =
        read_equal("the size of the recurrent state", expected.live.n_recurrent());
    directory.token_bytes = read_equal("the cache size of a token", layout.token_bytes());
    directory.n_vocab = read_equal("the size of the vocabulary", expected.n_vocab);
    const auto coding = reader.read<uint8_t>("the coding of recurrent states");
    if (coding > static_cast<uint8_t>(StateCoding::int8))
        fail(ErrorCode::bad_file, "{}: the coding of recurrent states is {}, at most {} is known",
             reader.source(), coding, static_cast<uint8_t>(StateCoding::int8));
    directory.coding = static_cast<StateCoding>(coding);
}

void read_pages(ByteReader& reader, StateDirectory& directory) {
    const auto n = reader.read<uint32_t>("the number of pages");
    reader.require_items(n, sizeof(uint32_t) + kBlockEntryBytes, "the list of pages");
    for (uint32_t i = 0; i < n; ++i) {
        const auto n_rows = int64_t{reader.read<uint32_t>("the rows of a page")};
        if (n_rows < 1 || n_rows > kKvPageRows)
            fail(ErrorCode::bad_file, "{}: page {} has {} rows, 1 to {} are allowed",
                 reader.source(), i, n_rows, kKvPageRows);
        directory.pages.push_back({n_rows, read_block(reader, "the block of a page")});
    }
}

void read_tokens(ByteReader& reader, StateDirectory::State& state,
                 const StateExpectation& expected) {
    const auto n = reader.read<uint64_t>("the number of tokens");
    reader.require_items(n, sizeof(int32_t), "the list of tokens");
    if (n < 1 || n > static_cast<uint64_t>(expected.n_context))
        fail(ErrorCode::bad_file, "{}: a state has {} tokens, 1 to {} fit into the context",
             reader.source(), n, expected.n_context);
    for (uint64_t i = 0; i < n; ++i) {
        const auto token = reader.read<int32_t>("a token");
        if (token < 0 || token >= expected.n_vocab)
            fail(ErrorCode::bad_file, "{}: token id {} is outside the vocabulary of {} tokens",
                 reader.source(), token, expected.n_vocab);
        state.tokens.push_back(token);
    }
}

void read_page_numbers(ByteReader& reader, const StateDirectory& directory,
                       StateDirectory::State& state, const KvPageLayout& layout) {
    const auto n_tokens = std::ssize(state.tokens);
    for (size_t i = 0; i < layout.n_pages(n_tokens); ++i) {
        const auto number = reader.read<uint32_t>("the pages of a state");
        if (number >= directory.pages.size())
            fail(ErrorCode::bad_file, "{}: a state needs page {}, but there are {}",
                 reader.source(), number, directory.pages.size());
        const int64_t n_needed =
            std::min(kKvPageRows, n_tokens - static_cast<int64_t>(i) * kKvPageRows);
        if (directory.pages[number].n_rows < n_needed)
            fail(ErrorCode::bad_file, "{}: a state needs {} rows of page {}, which has {}",
                 reader.source(), n_needed, number, directory.pages[number].n_rows);
        state.pages.push_back(number);
    }
}

void read_states(ByteReader& reader, StateDirectory& directory, const StateExpectation& expected) {
    const auto n = reader.read<uint32_t>("the number of states");
    for (uint32_t i = 0; i < n; ++i) {
        StateDirectory::State state;
        const auto kind = reader.read<uint8_t>("the kind of a state");
        state.is_live = kind == kLive;
        if (state.is_live ? i > 0 : kind > static_cast<uint8_t>(CheckpointKind::chat))
            fail(ErrorCode::bad_file, "{}: state {} has kind {}, which it cannot have",
                 reader.source(), i, kind);
        if (!state.is_live) state.kind = static_cast<CheckpointKind>(kind);
        read_tokens(reader, state, expected);
        read_page_numbers(reader, directory, state, expected.live.page_layout());
        state.recurrent = read_blocks(reader, n_recurrent_blocks(directory.n_recurrent),
                                      "the blocks of a recurrent state");
        directory.states.push_back(std::move(state));
    }
}

}  // namespace

std::vector<std::byte> StateDirectory::encoded() const {
    ByteWriter body;
    body.write(model.n_file_bytes);
    body.write(model.header_crc);
    body.write(model.sample_crc);
    body.write(static_cast<int64_t>(kv_types.keys));
    body.write(static_cast<int64_t>(kv_types.values));
    body.write(n_recurrent);
    body.write(token_bytes);
    body.write(n_vocab);
    body.write(static_cast<uint8_t>(coding));
    body.write(static_cast<uint32_t>(pages.size()));
    for (const Page& page : pages) {
        body.write(static_cast<uint32_t>(page.n_rows));
        body.write_blocks({page.block});
    }
    write_states(body, states);
    body.write(static_cast<uint8_t>(logits.size()));
    body.write_blocks(logits);

    ByteWriter out;
    for (const char c : kMagic) out.write(c);
    out.write(kVersion);
    out.write(static_cast<uint64_t>(body.bytes.size()));
    out.bytes.insert(out.bytes.end(), body.bytes.begin(), body.bytes.end());
    out.write(crc32c(out.bytes));
    return out.bytes;
}

StateDirectory read_state_directory(std::span<const std::byte> file, const std::string& source,
                                    const StateExpectation& expected) {
    const std::span<const std::byte> body = checked_body(file, source);
    ByteReader reader(body, source);
    StateDirectory directory;
    directory.n_front_bytes =
        static_cast<uint64_t>(body.data() - file.data()) + body.size() + sizeof(uint32_t);
    read_model(reader, directory, expected);
    read_layout(reader, directory, expected);
    read_pages(reader, directory);
    read_states(reader, directory, expected);
    const auto n_logits = reader.read<uint8_t>("the number of logit blocks");
    const bool has_live = !directory.states.empty() && directory.states.front().is_live;
    if (n_logits > (has_live ? 1 : 0))
        fail(ErrorCode::bad_file, "{}: {} blocks of logits, but at most {} can be", source,
             n_logits, has_live ? 1 : 0);
    directory.logits = read_blocks(reader, n_logits, "the block of logits");
    if (reader.n_left() > 0)
        fail(ErrorCode::bad_file, "{}: the directory has {} bytes too many", source,
             reader.n_left());
    std::optional<uint64_t> end = directory.n_front_bytes;
    directory.for_blocks(
        [&](const BlockEntry& block) { end = end ? checked_add(*end, block.n_stored) : end; });
    if (end != file.size())
        fail(ErrorCode::bad_file, "{}: has {} bytes, but its blocks end at {}", source, file.size(),
             end.value_or(UINT64_MAX));
    return directory;
}

}  // namespace nemo
