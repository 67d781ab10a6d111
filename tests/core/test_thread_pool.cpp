// The pool under many short loops, sleeping workers, exceptions and more threads than cores. Run
// under ThreadSanitizer too (preset tsan).
#include "core/thread_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace nemo;

TEST_CASE("ranges cover everything once, start at multiples of the grain, and threads are unique") {
    for (const int n_threads : {1, 2, 5}) {
        ThreadPool pool(n_threads);
        REQUIRE(pool.n_threads() == n_threads);
        for (const int64_t n : {0, 1, 7, 64, 65, 1000}) {
            for (const int64_t grain : {1, 3, 64, 2000}) {
                // Not atomic: a range handed out twice is a data race and a wrong count.
                std::vector<int> n_visits(static_cast<size_t>(n), 0);
                std::vector<std::atomic<int>> running(static_cast<size_t>(n_threads));
                std::atomic<bool> well_formed{true};
                pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int thread) {
                    if (thread < 0 || thread >= n_threads || begin % grain != 0 || begin >= end ||
                        end - begin > grain || running[static_cast<size_t>(thread)]++ != 0)
                        well_formed = false;
                    for (int64_t i = begin; i < end; ++i) ++n_visits[static_cast<size_t>(i)];
                    running[static_cast<size_t>(thread)]--;
                });
                CHECK(well_formed);
                CHECK(n_visits == std::vector<int>(static_cast<size_t>(n), 1));
            }
        }
    }
}

TEST_CASE("many loops in a row, with and without time to fall asleep in between") {
    ThreadPool pool(3);
    int64_t sum = 0;
    std::vector<int64_t> values(64);
    for (int loop = 0; loop < 3000; ++loop) {
        pool.parallel_for(64, 8, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] = i + loop;
        });
        for (const int64_t value : values) sum += value;
        if (loop % 300 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(sum == int64_t{3000} * (63 * 64 / 2) + int64_t{64} * (2999 * 3000 / 2));
}

TEST_CASE("workers take part when there is time to") {
    ThreadPool pool(2);
    std::atomic<int> n_of_worker{0};
    for (int attempt = 0; attempt < 50 && n_of_worker == 0; ++attempt)
        pool.parallel_for(8, 1, [&](int64_t, int64_t, int thread) {
            n_of_worker += thread == 1;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        });
    CHECK(n_of_worker > 0);
}

TEST_CASE("an exception of a body reaches the caller and the pool lives on") {
    for (const int n_threads : {1, 4}) {
        ThreadPool pool(n_threads);
        for (int attempt = 0; attempt < 100; ++attempt) {
            CHECK_THROWS_AS(pool.parallel_for(100, 1,
                                              [](int64_t begin, int64_t, int) {
                                                  if (begin >= 50) throw std::runtime_error("x");
                                              }),
                            std::runtime_error);
        }
        std::atomic<int64_t> n{0};
        pool.parallel_for(100, 10, [&](int64_t begin, int64_t end, int) { n += end - begin; });
        CHECK(n == 100);
    }
}

TEST_CASE("0 threads means one per usable core") {
    CHECK(ThreadPool(0).n_threads() >= 1);
}
