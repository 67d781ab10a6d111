// Turns the text of a template into its tree.
#pragma once

#include "core/jinja/ast.h"

#include <string_view>

namespace nemo::jinja {

// Throws Error{bad_file} "SOURCE:LINE:COLUMN: ..." for wrong syntax and for features outside the
// subset. max_depth limits the nesting of tags and of expressions.
Template parse_template(std::string_view source, std::string_view source_name, int max_depth);

}  // namespace nemo::jinja
