#include "core/jinja/runtime.h"

#include <algorithm>

namespace nemo::jinja {

void Runtime::fail_steps() const {
    fail("the template runs longer than {} steps", limits_.max_steps);
}

void Runtime::fail_depth() const {
    fail("nested too deeply (limit {} levels)", limits_.max_depth);
}

Value Runtime::new_list(std::vector<Value> items, ListType type) {
    step(1 + static_cast<int64_t>(items.size() / 4));
    lists_.push_back({type, std::move(items)});
    return Value::list(&lists_.back());
}

Dict& Runtime::new_dict() {
    step();
    return dicts_.emplace_back();
}

Namespace& Runtime::new_namespace() {
    step();
    return namespaces_.emplace_back();
}

Callable& Runtime::new_callable(Callable callable) {
    step();
    return callables_.emplace_back(std::move(callable));
}

Parameters::Parameters(Runtime& runtime, const char* function, const Arguments& arguments,
                       std::initializer_list<const char*> names, size_t n_required)
    : runtime_(runtime), function_(function), names_(names), values_(names.size(), nullptr) {
    const size_t n_given = arguments.positional.size();
    if (n_given > names_.size()) {
        runtime.fail("{}() takes at most {} arguments, {} given", function, names_.size(), n_given);
    }
    for (size_t i = 0; i < n_given; ++i) values_[i] = &arguments.positional[i];
    for (const auto& [name, value] : arguments.named) {
        const auto found = std::find_if(names_.begin(), names_.end(),
                                        [&](const char* known) { return name == known; });
        if (found == names_.end()) runtime.fail("{}() has no argument '{}'", function, name);
        const Value*& slot = values_[static_cast<size_t>(found - names_.begin())];
        if (slot) runtime.fail("{}() got two values for the argument '{}'", function, name);
        slot = &value;
    }
    for (size_t i = 0; i < n_required; ++i) {
        if (!values_[i]) runtime.fail("{}() needs the argument '{}'", function, names_[i]);
    }
}

bool Parameters::is_true(size_t index, bool fallback) const {
    return values_[index] ? jinja::is_true(*values_[index]) : fallback;
}

int64_t Parameters::integer(size_t index, int64_t fallback) const {
    const Value* value = values_[index];
    if (!value || value->is(Kind::none)) return fallback;
    if (!value->is_integer()) fail_type(index, "an integer");
    return value->as_integer();
}

const Text* Parameters::text(size_t index) const {
    const Value* value = values_[index];
    if (!value || value->is(Kind::none)) return nullptr;
    if (!value->is(Kind::text)) fail_type(index, "a string");
    return value->as_text().get();
}

void Parameters::fail_type(size_t index, const char* wanted) const {
    runtime_.fail("{}(): the argument '{}' must be {}, not {}", function_, names_[index], wanted,
                  type_name(*values_[index]));
}

}  // namespace nemo::jinja
