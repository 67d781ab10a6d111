#include "app/background_save.h"

#include <chrono>
#include <exception>
#include <optional>
#include <utility>

namespace nemo {

namespace {

// A script's next message comes sooner.
constexpr std::chrono::milliseconds kQuiet(500);

}  // namespace

BackgroundSave::~BackgroundSave() {
    finish();
}

void BackgroundSave::start(std::filesystem::path file, const SaveOptions& options,
                           std::function<void()> written) {
    finish();
    step_ = Step::waits;
    is_wanted_ = true;
    is_urgent_ = false;
    thread_ = std::thread([this, file = std::move(file), options, written = std::move(written)] {
        run(file, options, written);
    });
}

void BackgroundSave::run(const std::filesystem::path& file, const SaveOptions& options,
                         const std::function<void()>& written) {
    try {
        std::optional<AtomicFile> complete;
        if (wait_for_quiet())
            complete = session_.write_states(file, options, [this] {
                const std::lock_guard lock(mutex_);
                if (is_wanted_) return false;
                // Removing hundreds of megabytes that were written takes longer.
                step_ = Step::failed;
                changed_.notify_all();
                return true;
            });
        if (!complete) return reach(Step::failed);
        reach(Step::commits);
        complete->commit();
        written();
        reach(Step::done);
    } catch (const std::exception&) {
        // Nobody is there to be told. The same will be tried, and told, when the chat is left.
        reach(Step::failed);
    }
}

bool BackgroundSave::wait_for_quiet() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kQuiet, [this] { return !is_wanted_ || is_urgent_; });
    if (is_wanted_) step_ = Step::packs;
    return is_wanted_;
}

void BackgroundSave::reach(Step step) {
    const std::lock_guard lock(mutex_);
    step_ = step;
    changed_.notify_all();
}

bool BackgroundSave::stop() {
    std::unique_lock lock(mutex_);
    const bool was_wanted = std::exchange(is_wanted_, false);
    changed_.notify_all();
    changed_.wait(lock, [this] { return step_ != Step::waits && step_ != Step::packs; });
    return was_wanted && step_ != Step::failed;
}

bool BackgroundSave::finish() {
    {
        const std::lock_guard lock(mutex_);
        is_urgent_ = true;
        changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
    return is_wanted_ && step_ == Step::done;
}

}  // namespace nemo
