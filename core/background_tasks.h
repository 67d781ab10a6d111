// A thread that does tasks one after the other while the caller goes on with something else.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace nemo {

class BackgroundTasks {
public:
    // At most `max_pending` tasks, the running one included, are not done when run() returns.
    explicit BackgroundTasks(size_t max_pending);
    // Drops the tasks that have not begun and waits for the one that has.
    ~BackgroundTasks();
    BackgroundTasks(const BackgroundTasks&) = delete;
    BackgroundTasks& operator=(const BackgroundTasks&) = delete;

    // Waits for a place, then returns. Throws what an earlier task threw; no task runs after that.
    void run(std::function<void()> task);
    // Until all are done. Throws as run().
    void wait();

private:
    void work();
    void wait_until_pending(std::unique_lock<std::mutex>& lock, size_t n);

    size_t max_pending_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> tasks_;  // the first one may be running
    std::exception_ptr error_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace nemo
