#include "app/state_folder.h"

#include "core/crc32c.h"
#include "core/environment.h"
#include "core/private_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace nemo {

namespace fs = std::filesystem;

namespace {

constexpr const char* kExtension = ".state";

fs::path file_of(const fs::path& folder, int64_t chat) {
    return folder / (std::to_string(chat) + kExtension);
}

}  // namespace

fs::path state_folder_of(const fs::path& chat_file) {
    const fs::path& cache = environment().cache_folder;
    if (cache.empty()) return cache;
    if (chat_file.empty()) return cache / "state";
    const std::string file = fs::weakly_canonical(chat_file).string();
    return cache / "state" / fmt::format("{:08x}", crc32c(std::as_bytes(std::span(file))));
}

fs::path state_file(const fs::path& folder, int64_t chat) {
    create_private_folder(folder);
    return file_of(folder, chat);
}

void remove_state(const fs::path& folder, int64_t chat) {
    std::error_code ignored;
    if (!folder.empty()) fs::remove(file_of(folder, chat), ignored);
}

void trim_state_folder(const fs::path& folder, const fs::path& newest, uint64_t most_bytes) {
    struct File {
        fs::path path;
        uint64_t n_bytes = 0;
        fs::file_time_type written;
    };
    std::vector<File> files;
    uint64_t n_bytes = 0;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder, error)) {
        if (entry.path().extension() != kExtension || !entry.is_regular_file(error)) continue;
        const uint64_t size = entry.file_size(error);
        if (error) continue;
        n_bytes += size;
        if (entry.path() != newest)
            files.push_back({entry.path(), size, entry.last_write_time(error)});
    }
    std::ranges::sort(files, std::less{}, &File::written);
    for (const File& file : files) {
        if (n_bytes <= most_bytes) return;
        if (fs::remove(file.path, error)) n_bytes -= file.n_bytes;
    }
}

}  // namespace nemo
