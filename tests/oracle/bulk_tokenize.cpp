// Encodes many documents for compare_tokenizers.py.
//
//   bulk_tokenize TOKENIZER DOCUMENTS IDS [untrusted]
//
// TOKENIZER is a tokenizer.json, a SentencePiece .model, a GGUF file or an HF directory. DOCUMENTS
// holds, for each document, its length in bytes (u32, little endian) and its bytes; IDS gets, for
// each, the number of ids (u32) and the ids (i32). Prints the processor seconds that encoding took
// and how many documents decoding did not give back.
#include "core/error.h"
#include "core/mapped_file.h"
#include "core/model_file.h"
#include "core/tokenizer.h"
#include "core/utf8.h"

#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>

namespace {

double cpu_seconds() {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

nemo::TokenizerData read_data(const std::filesystem::path& path) {
    if (std::filesystem::is_directory(path)) return nemo::tokenizer_from_hf(path);
    if (path.extension() == ".json") return nemo::tokenizer_from_tokenizer_json(path);
    if (path.extension() == ".gguf") return nemo::tokenizer_from_gguf(nemo::ModelFile::open(path));
    return nemo::tokenizer_from_sentencepiece(path);
}

void write_u32(std::ofstream& out, uint32_t value) {
    out.write(reinterpret_cast<const char*>(&value), sizeof value);
}

int run(const char* tokenizer_path, const char* documents_path, const char* ids_path,
        bool trusted) {
    const double load_start = cpu_seconds();
    const auto tokenizer = nemo::Tokenizer::create(read_data(tokenizer_path), tokenizer_path);
    const double load_seconds = cpu_seconds() - load_start;
    const nemo::MappedFile documents = nemo::MappedFile::open(documents_path);
    std::ofstream out(ids_path, std::ios::binary);
    double encode_seconds = 0;
    size_t n_documents = 0;
    size_t n_ids = 0;
    size_t n_failed = 0;
    std::string_view rest = documents.text();
    while (rest.size() >= sizeof(uint32_t)) {
        uint32_t n_bytes = 0;
        std::memcpy(&n_bytes, rest.data(), sizeof n_bytes);
        const std::string_view text = rest.substr(sizeof n_bytes, n_bytes);
        rest.remove_prefix(sizeof n_bytes + text.size());
        const double start = cpu_seconds();
        const auto ids = tokenizer->encode(text, trusted, {.add_special = false});
        encode_seconds += cpu_seconds() - start;
        write_u32(out, static_cast<uint32_t>(ids.size()));
        out.write(reinterpret_cast<const char*>(ids.data()),
                  static_cast<std::streamsize>(ids.size() * sizeof ids[0]));
        if (tokenizer->decode(ids, true) != nemo::sanitize_utf8(text)) ++n_failed;
        ++n_documents;
        n_ids += ids.size();
    }
    std::printf("%zu documents, %zu bytes, %zu ids: load %.2f s, encode %.3f s, %zu not restored\n",
                n_documents, documents.text().size(), n_ids, load_seconds, encode_seconds,
                n_failed);
    return out.flush() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4 && argc != 5) {
        std::fprintf(stderr, "usage: bulk_tokenize TOKENIZER DOCUMENTS IDS [untrusted]\n");
        return 2;
    }
    try {
        return run(argv[1], argv[2], argv[3], argc == 4);
    } catch (const nemo::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return static_cast<int>(error.code());
    }
}
