// A conversion plan for people, before anything is written (--dry-run).
#pragma once

#include "convert/plan.h"

#include <string>

namespace nemo {

// A line per tensor: name, shape, source and target format, bytes; then the totals, the files, and
// the memory that running the result takes.
std::string plan_table(const ConversionPlan& plan);

}  // namespace nemo
