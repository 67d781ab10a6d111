// A golden model: the tiny checkpoint, converted, and what the float64 reference computed for it
// (tests/golden/README.md).
#pragma once

#include "convert/convert.h"
#include "convert/safetensors.h"
#include "kernels/cpu/cpu_backend.h"
#include "models/session.h"
#include "tests/kernels/helpers.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace nemo {

inline const std::vector<std::string>& golden_names() {
    static const std::vector<std::string> names = {
        "dense", "mixed_order", "moe", "moe_latent", "per_layer",
        "fp8",   "one_group",   "mtp", "puzzle",     "nemotron"};
    return names;
}

inline std::filesystem::path golden_folder(const std::string& name) {
    return std::filesystem::path(NEMO_SOURCE_DIR) / "tests/golden/models" / name;
}

class GoldenModel {
public:
    GoldenModel(const std::string& name, DType type)
        : golden_(SafetensorsFile::open(golden_folder(name) / "golden.safetensors")) {
        const std::filesystem::path path = folder_ / "model.gguf";
        write_model(make_plan(golden_folder(name), type), path, 1, [](const ConvertProgress&) {});
        file_ = std::make_shared<const ModelFile>(ModelFile::open(path));
    }

    const std::shared_ptr<const ModelFile>& file() const { return file_; }

    template <class T>
    std::vector<T> read(const std::string& name) const {
        for (const SafetensorsView& view : golden_.tensors()) {
            if (view.name != name) continue;
            std::vector<T> values(view.bytes.size() / sizeof(T));
            std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
            return values;
        }
        FAIL("no golden tensor " << name);
        return {};
    }

private:
    TempFolder folder_;
    SafetensorsFile golden_;
    std::shared_ptr<const ModelFile> file_;
};

// ||a - b|| / ||b||.
inline double relative_error(const float* a, const float* b, size_t n) {
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < n; ++i) {
        difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
        norm += double{b[i]} * b[i];
    }
    return std::sqrt(difference / norm);
}

// The logits [T, n_vocab] of all tokens, taken in by chunks.
inline std::vector<float> all_logits(Session& session, const std::vector<int32_t>& tokens) {
    std::vector<float> logits;
    session.append_with_logits(tokens, [&](std::span<const float> rows) {
        logits.insert(logits.end(), rows.begin(), rows.end());
    });
    return logits;
}

}  // namespace nemo
