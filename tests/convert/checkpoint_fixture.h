// Checkpoints for tests: a temporary folder, a safetensors writer, a tiny model made from nothing,
// and editable copies of the golden ones.
#pragma once

#include "convert/safetensors.h"
#include "core/error.h"
#include "core/json.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

namespace nemo {

inline const std::filesystem::path kGoldenModels =
    std::filesystem::path(NEMO_SOURCE_DIR) / "tests/golden/models";

struct TestTensor {
    std::string name;
    std::string dtype;
    std::vector<int64_t> shape;
    std::string bytes;
};

template <class T>
std::string raw_bytes(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// The 8-byte length and the header.
inline std::string with_header_length(const std::string& header) {
    const uint64_t n_bytes = header.size();
    return raw_bytes(std::vector<uint64_t>{n_bytes}) + header;
}

inline std::string safetensors_bytes(const std::vector<TestTensor>& tensors) {
    Json::Object header;
    std::string data;
    for (const TestTensor& tensor : tensors) {
        Json::Array shape(tensor.shape.begin(), tensor.shape.end());
        const auto begin = static_cast<int64_t>(data.size());
        data += tensor.bytes;
        Json::Array offsets = {Json(begin), Json(static_cast<int64_t>(data.size()))};
        header.emplace_back(tensor.name, Json::Object{{"dtype", Json(tensor.dtype)},
                                                      {"shape", Json(std::move(shape))},
                                                      {"data_offsets", Json(std::move(offsets))}});
    }
    return with_header_length(to_json_text(Json(std::move(header)))) + data;
}

// Reproducible values in [-1, 1).
inline std::vector<float> test_values(int64_t n, uint32_t seed) {
    std::vector<float> values;
    uint32_t state = seed * 2654435761u + 1;
    for (int64_t i = 0; i < n; ++i) {
        state = state * 1664525u + 1013904223u;
        values.push_back(static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
    }
    return values;
}

inline TestTensor f32_tensor(std::string name, std::vector<int64_t> shape, uint32_t seed) {
    int64_t n = 1;
    for (const int64_t dim : shape) n *= dim;
    return {std::move(name), "F32", std::move(shape), raw_bytes(test_values(n, seed))};
}

// A checkpoint that can be changed before it is written.
struct TestCheckpoint {
    Json config;
    std::vector<TestTensor> tensors;

    Json& field(const std::string& key) {
        for (auto& [name, value] : config.object()) {
            if (name == key) return value;
        }
        return config.object().emplace_back(key, Json()).second;
    }

    TestTensor& tensor(const std::string& name) {
        const auto found = std::ranges::find(tensors, name, &TestTensor::name);
        REQUIRE_MESSAGE(found != tensors.end(), name);
        return *found;
    }

    void remove(const std::string& name) {
        REQUIRE(std::erase_if(tensors, [&](const TestTensor& t) { return t.name == name; }) == 1);
    }

    // With the golden models' tokenizer, of 264 tokens.
    void write(const std::filesystem::path& folder) const {
        std::filesystem::create_directories(folder);
        write_file(folder / "config.json", to_json_text(config));
        write_file(folder / "model.safetensors", safetensors_bytes(tensors));
        for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
            std::filesystem::copy_file(kGoldenModels / "dense" / name, folder / name,
                                       std::filesystem::copy_options::overwrite_existing);
        }
    }
};

inline TestCheckpoint golden_checkpoint(const std::string& name) {
    const std::filesystem::path folder = kGoldenModels / name;
    TestCheckpoint checkpoint;
    checkpoint.config = parse_json(read_file(folder / "config.json"), name);
    const SafetensorsSet weights = SafetensorsSet::open(folder);
    for (const SafetensorsFile& file : weights.files()) {
        for (const SafetensorsView& view : file.tensors()) {
            checkpoint.tensors.push_back(
                {view.name,
                 std::string(safetensors_type_name(view.type)),
                 view.shape,
                 {reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()}});
        }
    }
    return checkpoint;
}

// One MLP layer of width 32 on a hidden state of n_embd.
inline TestCheckpoint mlp_checkpoint(int64_t n_embd) {
    constexpr int64_t kVocab = 264;
    constexpr int64_t kWidth = 32;
    TestCheckpoint checkpoint;
    checkpoint.config = parse_json(
        R"({"architectures": ["NemotronHForCausalLM"], "hybrid_override_pattern": "-",
            "vocab_size": 264, "intermediate_size": 32})",
        "test");
    checkpoint.field("hidden_size") = Json(n_embd);
    checkpoint.tensors = {
        f32_tensor("backbone.embeddings.weight", {kVocab, n_embd}, 1),
        f32_tensor("backbone.layers.0.norm.weight", {n_embd}, 2),
        f32_tensor("backbone.layers.0.mixer.up_proj.weight", {kWidth, n_embd}, 3),
        f32_tensor("backbone.layers.0.mixer.down_proj.weight", {n_embd, kWidth}, 4),
        f32_tensor("backbone.norm_f.weight", {n_embd}, 5),
        f32_tensor("lm_head.weight", {kVocab, n_embd}, 6),
    };
    return checkpoint;
}

// The message and code of the Error that `action` throws.
template <class Action>
std::string error_message(const Action& action, ErrorCode code = ErrorCode::bad_file) {
    try {
        action();
    } catch (const Error& error) {
        CHECK(error.code() == code);
        return error.what();
    }
    FAIL_CHECK("no error was thrown");
    return "";
}

inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

inline void check_contains(const std::string& text, const std::string& part) {
    CHECK_MESSAGE(contains(text, part), text, " lacks ", part);
}

}  // namespace nemo
