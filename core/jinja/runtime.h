// What one rendering carries along: its limits, the position it has reached, and the heap.
#pragma once

#include "core/chat_template.h"
#include "core/jinja/lexer.h"
#include "core/jinja/value.h"

#include <ctime>
#include <deque>
#include <initializer_list>

namespace nemo::jinja {

class Runtime {
public:
    Runtime(const TemplateLimits& limits, std::string_view source_name, const std::tm& now)
        : limits_(limits), source_name_(source_name), now_(now) {}
    Runtime(const Runtime&) = delete;

    template <class... Args>
    [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
        fail_at(source_name_, position_, format, std::forward<Args>(args)...);
    }

    // Where errors are reported: the innermost operation that runs.
    void set_position(Position position) { position_ = position; }
    const std::tm& now() const { return now_; }

    void step(int64_t n_steps = 1) {
        n_steps_ += n_steps;
        if (n_steps_ > limits_.max_steps) fail_steps();
    }
    // To be called before `n_more` bytes join a text of n_bytes. Copying counts as steps.
    void check_text_size(size_t n_bytes, size_t n_more) {
        if (n_more > limits_.max_output_bytes || n_bytes > limits_.max_output_bytes - n_more) {
            fail("the text grows beyond the limit of {} bytes", limits_.max_output_bytes);
        }
        step(static_cast<int64_t>(n_more / kBytesPerStep));
    }

    Value new_list(std::vector<Value> items, ListType type = ListType::list);
    Dict& new_dict();
    Namespace& new_namespace();
    Callable& new_callable(Callable callable);

    // Alive while a nested value, expression or statement is being worked on.
    class Nesting {
    public:
        explicit Nesting(Runtime& runtime) : runtime_(runtime) {
            if (++runtime_.depth_ > runtime_.limits_.max_depth * kNestingPerDepth)
                runtime_.fail_depth();
        }
        ~Nesting() { --runtime_.depth_; }
        Nesting(const Nesting&) = delete;

    private:
        Runtime& runtime_;
    };

private:
    // One level that a template's author sees (a macro calling itself, say) is several of ours.
    static constexpr int kNestingPerDepth = 5;
    static constexpr size_t kBytesPerStep = 64;

    [[noreturn]] void fail_steps() const;
    [[noreturn]] void fail_depth() const;

    TemplateLimits limits_;
    std::string source_name_;
    std::tm now_;
    Position position_;
    int64_t n_steps_ = 0;
    int depth_ = 0;
    std::deque<List> lists_;
    std::deque<Dict> dicts_;
    std::deque<Namespace> namespaces_;
    std::deque<Callable> callables_;
};

// Matches the arguments of a call with a builtin's parameters and refuses what does not fit.
class Parameters {
public:
    // The first n_required of `names` must be given.
    Parameters(Runtime& runtime, const char* function, const Arguments& arguments,
               std::initializer_list<const char*> names, size_t n_required = 0);

    // nullptr if not given.
    const Value* find(size_t index) const { return values_[index]; }
    const Value& get(size_t index) const { return *values_[index]; }
    bool is_true(size_t index, bool fallback) const;
    // These fail if the value is of another type; None counts as not given.
    int64_t integer(size_t index, int64_t fallback) const;
    const Text* text(size_t index) const;

private:
    [[noreturn]] void fail_type(size_t index, const char* wanted) const;

    Runtime& runtime_;
    const char* function_;
    std::vector<const char*> names_;
    std::vector<const Value*> values_;
};

}  // namespace nemo::jinja
