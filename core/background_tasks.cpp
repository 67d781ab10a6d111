#include "core/background_tasks.h"

#include <utility>

namespace nemo {

BackgroundTasks::BackgroundTasks(size_t max_pending)
    : max_pending_(max_pending), thread_([this] { work(); }) {}

BackgroundTasks::~BackgroundTasks() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void BackgroundTasks::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
        if (stopping_) return;
        const std::function<void()>& task = tasks_.front();  // only this thread takes tasks away
        lock.unlock();
        std::exception_ptr error;
        try {
            task();
        } catch (...) {
            error = std::current_exception();
        }
        lock.lock();
        tasks_.pop_front();
        if (error) {
            error_ = error;
            tasks_.clear();
            stopping_ = true;
        }
        changed_.notify_all();
    }
}

void BackgroundTasks::wait_until_pending(std::unique_lock<std::mutex>& lock, size_t n) {
    changed_.wait(lock, [&] { return error_ || tasks_.size() <= n; });
    if (error_) std::rethrow_exception(error_);
}

void BackgroundTasks::run(std::function<void()> task) {
    std::unique_lock lock(mutex_);
    wait_until_pending(lock, max_pending_ - 1);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
}

void BackgroundTasks::wait() {
    std::unique_lock lock(mutex_);
    wait_until_pending(lock, 0);
}

}  // namespace nemo
