// The workers of a loop are volunteers: a worker that is asleep or has lost its core when the loop
// ends is never waited for. One atomic word, the gate, says which loop is open and how many workers
// are inside; a worker enters only by a compare-and-swap on an open gate, and the caller closes the
// gate before it waits for those inside. So a job is never touched by anyone after parallel_for
// returns.
#include "core/thread_pool.h"

#include "core/error.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

namespace nemo {

namespace {

// The gate: bits 0-14 workers inside, bit 15 open, bits 16-31 number of the loop. The number wraps
// around; a worker that slept through all 2^16 loops only misses one that it need not join.
constexpr uint32_t kOpen = 1u << 15;
constexpr uint32_t kInside = kOpen - 1;
constexpr uint32_t kLoop = 1u << 16;
constexpr int kMaxThreads = 1024;

// Longer than the gaps between the loops of one token, shorter than a scheduler tick.
constexpr std::chrono::microseconds kSpinTime{40};

int n_usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
    return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// Polls `done` for a bounded time; what it last returned.
template <class Done>
bool spin_until(std::chrono::microseconds limit, Done done) {
    if (done()) return true;
    const auto deadline = std::chrono::steady_clock::now() + limit;
    do {
        for (int i = 0; i < 16; ++i) {
            if (done()) return true;
            __builtin_ia32_pause();
        }
    } while (std::chrono::steady_clock::now() < deadline);
    return done();
}

}  // namespace

struct ThreadPool::Impl {
    // The open job. Written while the gate is closed and nobody is inside.
    const Body* body = nullptr;
    int64_t n = 0;
    int64_t grain = 1;
    std::exception_ptr error;

    alignas(64) std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    alignas(64) std::atomic<uint32_t> gate{0};
    // Counts the loops; what idle workers sleep on. An int, because only that waits on a futex
    // without a detour in libstdc++.
    alignas(64) std::atomic<int> epoch{0};
    std::atomic<bool> stopping{false};
    std::chrono::microseconds spin_time{0};
    std::vector<std::thread> workers;

    ~Impl() {
        stopping = true;
        epoch.fetch_add(1);
        epoch.notify_all();
        for (std::thread& worker : workers) worker.join();
    }

    void start(int n_threads) {
        // With more threads than cores, spinning only takes the core from those that work.
        if (n_threads <= n_usable_cores()) spin_time = kSpinTime;
        workers.reserve(static_cast<size_t>(n_threads - 1));
        for (int i = 1; i < n_threads; ++i) workers.emplace_back([this, i] { work(i); });
    }

    void work(int thread) {
        int seen = 0;
        uint32_t joined = 0;
        while (!stopping) {
            uint32_t state = gate.load(std::memory_order_acquire);
            if ((state & kOpen) != 0 && state / kLoop != joined) {
                if (!gate.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel))
                    continue;
                joined = state / kLoop;
                run_ranges(thread);
                const uint32_t left = gate.fetch_sub(1, std::memory_order_acq_rel) - 1;
                if ((left & (kInside | kOpen)) == 0) gate.notify_all();
            }
            const auto changed = [&] { return epoch.load(std::memory_order_acquire) != seen; };
            if (!spin_until(spin_time, changed)) epoch.wait(seen, std::memory_order_acquire);
            // Read before the next look at the gate: a loop that opens after that look is not
            // missed.
            seen = epoch.load(std::memory_order_acquire);
        }
    }

    void run_ranges(int thread) {
        for (;;) {
            const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
            if (begin >= n || failed.load(std::memory_order_relaxed)) return;
            try {
                (*body)(begin, std::min(begin + grain, n), thread);
            } catch (...) {
                if (!failed.exchange(true)) error = std::current_exception();
            }
        }
    }

    void open_gate() {
        next.store(0, std::memory_order_relaxed);
        failed.store(false, std::memory_order_relaxed);
        error = nullptr;
        const uint32_t loop = gate.load(std::memory_order_relaxed) / kLoop + 1;
        gate.store(loop * kLoop | kOpen, std::memory_order_release);
        epoch.fetch_add(1, std::memory_order_release);
        epoch.notify_all();
    }

    void close_gate() {
        uint32_t state = gate.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
        const auto empty = [&] {
            state = gate.load(std::memory_order_acquire);
            return (state & kInside) == 0;
        };
        while (!spin_until(spin_time, empty)) gate.wait(state, std::memory_order_acquire);
    }
};

ThreadPool::ThreadPool(int n_threads) : impl_(std::make_unique<Impl>()) {
    NEMO_ASSERT(n_threads >= 0);
    impl_->start(std::min(n_threads == 0 ? n_usable_cores() : n_threads, kMaxThreads));
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::n_threads() const {
    return static_cast<int>(impl_->workers.size()) + 1;
}

void ThreadPool::parallel_for(int64_t n, int64_t grain, const Body& body) {
    NEMO_ASSERT(grain > 0);
    if (n <= grain || impl_->workers.empty()) {
        for (int64_t begin = 0; begin < n; begin += grain)
            body(begin, std::min(begin + grain, n), 0);
        return;
    }
    impl_->body = &body;
    impl_->n = n;
    impl_->grain = grain;
    impl_->open_gate();
    impl_->run_ranges(0);
    impl_->close_gate();
    if (impl_->error) std::rethrow_exception(std::exchange(impl_->error, nullptr));
}

}  // namespace nemo
