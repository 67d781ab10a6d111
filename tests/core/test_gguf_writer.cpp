// The checksums that every written file carries.
#include "core/gguf_writer.h"

#include "core/crc32c.h"
#include "core/error.h"
#include "core/model_file.h"
#include "core/tensor_checksums.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

using namespace nemo;

namespace {

std::string checksum_entry(const TensorView& tensor) {
    const uint32_t checksum = crc32c({tensor.data, static_cast<size_t>(tensor.n_bytes())});
    return fmt::format("{:08x} {} {}", checksum, dtype_info(tensor.dtype).name, tensor.name);
}

// Tensors of rising bytes, written in pieces of `n_piece`.
void write_model(const std::filesystem::path& path, const GgufMetadata& metadata, size_t n_piece) {
    const std::vector<GgufTensorInfo> infos = {{"a.weight", DType::f32, {3, 5, 1, 1}, 2},
                                               {"b.weight", DType::q8_0, {64, 2, 1, 1}, 2},
                                               {"c", DType::f32, {1, 1, 1, 1}, 1}};
    GgufWriter writer(path, metadata, infos);
    unsigned char next = 0;
    for (const GgufTensorInfo& info : infos) {
        std::string bytes;
        for (uint64_t i = 0; i < info.n_bytes(); ++i) bytes.push_back(static_cast<char>(++next));
        for (size_t i = 0; i < bytes.size(); i += n_piece) {
            const std::string piece = bytes.substr(i, n_piece);
            writer.write(std::as_bytes(std::span(piece)));
        }
    }
    writer.finish();
    CHECK(std::filesystem::file_size(path) == gguf_file_bytes(metadata, infos));
    CHECK(std::filesystem::file_size(path) == writer.n_file_bytes());
}

}  // namespace

TEST_CASE("every tensor's checksum, type and name stand in the metadata") {
    const TempFolder folder;
    GgufMetadata metadata;
    metadata.set_string("general.architecture", "test");
    for (const size_t n_piece : {1, 7, 1000}) {
        write_model(folder / "m.gguf", metadata, n_piece);
        const ModelFile file = ModelFile::open(folder / "m.gguf");
        const std::vector<std::string>& entries = file.metadata().get_strings(kTensorChecksumsKey);
        REQUIRE(entries.size() == 3);
        for (size_t i = 0; i < 3; ++i) CHECK(entries[i] == checksum_entry(file.tensors()[i]));
    }
}

TEST_CASE("checksums of the file that the metadata came from are replaced") {
    const TempFolder folder;
    write_model(folder / "1.gguf", GgufMetadata(), 9);
    GgufMetadata copied = ModelFile::open(folder / "1.gguf").metadata();
    write_model(folder / "2.gguf", copied, 9);
    CHECK(read_file(folder / "2.gguf") == read_file(folder / "1.gguf"));
    copied.set_u32(kTensorChecksumsKey, 7);
    write_model(folder / "3.gguf", copied, 9);
    CHECK(read_file(folder / "3.gguf") == read_file(folder / "1.gguf"));
}

TEST_CASE("a file without tensors has no checksums") {
    const TempFolder folder;
    GgufWriter writer(folder / "m.gguf", GgufMetadata(), {});
    writer.finish();
    CHECK_FALSE(ModelFile::open(folder / "m.gguf").metadata().contains(kTensorChecksumsKey));
}
