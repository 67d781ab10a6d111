#include "app/load_model.h"

#include "core/error.h"
#include "core/interrupt.h"
#include "core/progress_line.h"
#include "core/residency.h"

#include <optional>
#include <vector>

namespace nemo {

namespace {

// The mapping ends after the thread that reads it ahead.
struct OpenModel {
    ModelFile file;
    std::optional<ReadAhead> read_ahead;
};

void read_in_with_progress(const ModelFile& file, const std::vector<MappedBytes>& parts) {
    ProgressLine progress;
    const auto total = static_cast<double>(file.n_file_bytes());
    read_in(parts, [&](int64_t n_done) {
        if (progress.due()) {
            const auto done = static_cast<double>(n_done);
            progress.show(fmt::format("reading the model: {:3.0f}%, {:.1f} GB/s",
                                      100 * done / total, done / progress.seconds() / 1e9));
        }
        return !interrupted();
    });
    if (interrupted()) fail(ErrorCode::interrupted, "interrupted");
}

}  // namespace

std::shared_ptr<const ModelFile> load_model_file(const std::filesystem::path& path,
                                                 const LoadOptions& options) {
    const auto model = std::make_shared<OpenModel>(OpenModel{ModelFile::open(path), std::nullopt});
    const std::vector<MappedBytes> parts = model->file.part_bytes();
    // Locked first: a limit that forbids it shows before anything is read.
    if (options.lock) lock_in_memory(parts, model->file.path());
    if (options.lock || options.preload)
        read_in_with_progress(model->file, parts);
    else
        model->read_ahead.emplace(parts);
    return {model, &model->file};
}

}  // namespace nemo
