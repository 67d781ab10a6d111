// Keeps the file of a session's states current while the user reads and types, so that a killed
// program or a power cut costs little: a thread writes the file, and whatever the session is wanted
// for next comes first.
//
// Between start() and stop() nobody may change the session. stop() returns as soon as the thread
// has let go of it, within milliseconds: an unfinished file is dropped, one that is only waiting
// for the disk is finished behind the next answer.
#pragma once

#include "models/session.h"

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

namespace nemo {

class BackgroundSave {
public:
    explicit BackgroundSave(Session& session) : session_(session) {}
    // As finish().
    ~BackgroundSave();
    BackgroundSave(const BackgroundSave&) = delete;
    BackgroundSave& operator=(const BackgroundSave&) = delete;

    // After a moment of quiet. `written` is called by the thread when the file is in its place.
    void start(std::filesystem::path file, const SaveOptions& options,
               std::function<void()> written);
    // True if what was started since the last stop() is in its place, or is about to be.
    bool stop();
    // Waits for it. True if it is in its place; false if it was stopped or failed.
    bool finish();

private:
    enum class Step { waits, packs, commits, done, failed };
    void run(const std::filesystem::path& file, const SaveOptions& options,
             const std::function<void()>& written);
    bool wait_for_quiet();
    void reach(Step step);

    Session& session_;
    std::mutex mutex_;
    std::condition_variable changed_;
    // Of the thread, if there is one; under mutex_.
    Step step_ = Step::failed;
    bool is_wanted_ = false;  // else: stop as soon as possible
    bool is_urgent_ = false;  // do not wait for quiet
    std::thread thread_;
};

}  // namespace nemo
