// Loose tensors in a checkpoint on disk, for tests of the forms in which quantizers leave them.
#pragma once

#include "checkpoint_fixture.h"
#include "convert/stored_tensors.h"

namespace nemo {

inline const std::string kName = "x.weight";

// Reproducible bytes from `first` to `first + n_values - 1`.
inline std::string test_bytes(int64_t n, uint32_t seed, int first, int n_values) {
    std::string text;
    for (const float value : test_values(n, seed))
        text += static_cast<char>(
            first + static_cast<int>((value + 1) * 0.5f * static_cast<float>(n_values)));
    return text;
}

inline int byte_of(const TestTensor& tensor, int64_t i) {
    return static_cast<uint8_t>(tensor.bytes[static_cast<size_t>(i)]);
}

inline int64_t count(const std::vector<int64_t>& shape) {
    int64_t n = 1;
    for (const int64_t dim : shape) n *= dim;
    return n;
}

inline TestTensor fp8(std::vector<int64_t> shape) {
    return {kName, "F8_E4M3", shape, test_bytes(count(shape), 1, 0, 120)};
}

inline TestTensor bf16(std::string name, std::vector<int64_t> shape) {
    std::vector<uint16_t> values;
    for (int64_t i = 0; i < count(shape); ++i) values.push_back(static_cast<uint16_t>(0x3f00 + i));
    return {std::move(name), "BF16", std::move(shape), raw_bytes(values)};
}

inline TestTensor f32(std::string name, std::vector<int64_t> shape,
                      const std::vector<float>& values) {
    return {std::move(name), "F32", std::move(shape), raw_bytes(values)};
}

// A checkpoint of loose tensors on disk.
class Stored {
public:
    Stored(const std::vector<TestTensor>& tensors, const std::string& quantization = "") {
        write_file(folder_ / "model.safetensors", safetensors_bytes(tensors));
        write_file(folder_ / "config.json",
                   quantization.empty() ? "{}" : R"({"quantization_config":)" + quantization + "}");
        weights_ = SafetensorsSet::open(folder_ / ".");
    }

    StoredTensor find(const std::vector<int64_t>& shape, const std::string& name = kName) {
        StoredTensors tensors(weights_, read_quantization_config(folder_ / "."), "DIR");
        return tensors.find(name, shape);
    }
    std::vector<float> values(const std::vector<int64_t>& shape) {
        const StoredTensor tensor = find(shape);
        std::vector<float> whole(static_cast<size_t>(tensor.n_elements)), part = whole;
        tensor.read(0, tensor.n_elements, whole.data(), {});
        // Reads may start and end anywhere, of what has been loaded too.
        LoadedBytes loaded;
        for (int64_t first = 0, n = 1; first < tensor.n_elements; first += n, n = n % 7 + 3) {
            n = std::min(n, tensor.n_elements - first);
            const MappedRange range = {tensor.weight.file, tensor.weight_bytes(first, n)};
            loaded.load({&range, 1});
            tensor.read(first, n, part.data() + first, loaded);
        }
        CHECK(part == whole);
        return whole;
    }
    std::string message(const std::vector<int64_t>& shape) {
        return error_message([&] { find(shape); });
    }

private:
    TempFolder folder_;
    SafetensorsSet weights_;
};

}  // namespace nemo
