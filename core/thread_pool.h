// A persistent pool for data-parallel loops.
//
// Workers spin for a bounded time after a loop and then sleep on a futex, so that the many short
// loops of a token cost little and an idle program costs nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace nemo {

class ThreadPool {
public:
    // n_threads = 0: one per core this process may use. The caller is one of them.
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int n_threads() const;

    // Calls body(begin, end, thread) on disjoint ranges that cover [0, n), each at most `grain`
    // long and starting at a multiple of it; `thread` < n_threads() is unique among those running.
    // Returns when all are done. Ranges are claimed one by one, so a thread that lost its core
    // delays only its own range. The first exception of a body is rethrown here. Not reentrant.
    using Body = std::function<void(int64_t begin, int64_t end, int thread)>;
    void parallel_for(int64_t n, int64_t grain, const Body& body);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nemo
