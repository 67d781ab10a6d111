// The GGUF keys of one architecture, "nemotron_h.block_count", under their names without prefix.
// Each architecture translates them from and to a ModelConfig in a file of its own
// (nemotron_h_config.cpp, ...); config_gguf.cpp lists them.
#pragma once

#include "core/gguf.h"
#include "core/model_file.h"
#include "models/config.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nemo {

// Throws Error{bad_file} naming the file and the full key if a value without fallback is missing or
// has another type.
class ConfigReader {
public:
    ConfigReader(const ModelFile& file, const std::string& architecture)
        : file_(file), metadata_(file.metadata()), prefix_(architecture + ".") {}

    const ModelFile& file() const { return file_; }
    // The full key, for messages.
    std::string name(const char* key) const { return prefix_ + key; }

    bool contains(const char* key) const { return metadata_.contains(name(key)); }
    int64_t integer(const char* key) const { return metadata_.get_integer(name(key)); }
    int64_t integer(const char* key, int64_t fallback) const {
        return metadata_.get_integer(name(key), fallback);
    }
    float real(const char* key) const { return static_cast<float>(metadata_.get_real(name(key))); }
    float real(const char* key, double fallback) const {
        return static_cast<float>(metadata_.get_real(name(key), fallback));
    }
    bool flag(const char* key, bool fallback) const {
        return metadata_.get_bool(name(key), fallback);
    }
    std::string text(const char* key, const char* fallback) const {
        return metadata_.get_string(name(key), fallback);
    }
    // The number of blocks, which is safe to allocate for.
    int64_t n_blocks() const;
    // Of block i, whether the file has one number for all blocks or one per block.
    int64_t of_block(const char* key, size_t i) const {
        return metadata_.get_per_layer(name(key), n_blocks())[i];
    }
    int64_t of_block(const char* key, size_t i, int64_t fallback) const {
        return contains(key) ? of_block(key, i) : fallback;
    }
    // Of block i. Files without attention.key_length mean n_embd / n_heads.
    AttentionShape attention_shape(size_t i, int64_t n_embd) const;

private:
    const ModelFile& file_;
    const GgufMetadata& metadata_;
    std::string prefix_;
};

class ConfigWriter {
public:
    ConfigWriter(const std::string& architecture, GgufMetadata& metadata)
        : metadata_(metadata), prefix_(architecture + ".") {}

    void u32(const char* key, int64_t value) {
        metadata_.set_u32(prefix_ + key, static_cast<uint32_t>(value));
    }
    void f32(const char* key, float value) { metadata_.set_f32(prefix_ + key, value); }
    void flag(const char* key, bool value) { metadata_.set_bool(prefix_ + key, value); }
    void text(const char* key, const char* value) { metadata_.set_string(prefix_ + key, value); }
    void array(const char* key, const std::vector<int64_t>& values) {
        metadata_.set_i32_array(prefix_ + key, std::vector<int32_t>(values.begin(), values.end()));
    }

private:
    GgufMetadata& metadata_;
    std::string prefix_;
};

// What an architecture has to say beyond the keys that all have: its norms and its layers.
void read_nemotron_h(const ConfigReader& keys, ModelConfig& config);
void write_nemotron_h(const ModelConfig& config, ConfigWriter& keys);
void read_nemotron(const ConfigReader& keys, ModelConfig& config);
void write_nemotron(const ModelConfig& config, ConfigWriter& keys);

}  // namespace nemo
