// The bundled checkpoint, converted once per type for the whole test program.
#pragma once

#include "convert/convert.h"
#include "tests/temp_folder.h"

#include <filesystem>
#include <map>

namespace nemo {

inline std::string demo_model(DType type) {
    static const TempFolder folder;
    static std::map<DType, std::string> paths;
    std::string& path = paths[type];
    if (path.empty()) {
        path = (folder / (std::string(dtype_info(type).name) + ".gguf")).string();
        const auto checkpoint = std::filesystem::path(NEMO_SOURCE_DIR) / "assets/demo";
        write_model(make_plan(checkpoint, type), path, 2, [](const ConvertProgress&) {});
    }
    return path;
}

}  // namespace nemo
