#include "core/error.h"

#include <cstdio>
#include <cstdlib>

namespace nemo {

void assertion_failed(const char* condition, const char* file, int line) {
    std::fprintf(stderr, "nemo: internal error: %s is false (%s:%d)\n", condition, file, line);
    std::abort();
}

}  // namespace nemo
