// nemo-cli imatrix: what a model needs to be quantized well, measured on a text: the importance of
// every input column of its weights, and how sensitive its predictions are to errors in them.
#include "app/commands.h"
#include "app/engine.h"
#include "app/importance_collector.h"
#include "app/sensitivity.h"
#include "app/text_chunks.h"
#include "core/atomic_file.h"
#include "core/console.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/progress_line.h"

#include <algorithm>

namespace nemo {

namespace {

// Reports to the observer as long as it lives.
class Observation {
public:
    Observation(Backend& backend, MatmulObserver& observer) : backend_(backend) {
        backend_.set_observer(&observer);
    }
    ~Observation() { backend_.set_observer(nullptr); }
    Observation(const Observation&) = delete;
    Observation& operator=(const Observation&) = delete;

private:
    Backend& backend_;
};

void show_progress(const char* what, int64_t n_done, int64_t n_total, ProgressLine& line) {
    if (!line.due()) return;
    line.show(fmt::format(
        "[{}/{}] {}, {}", n_done, n_total, what,
        line.time_left(static_cast<double>(n_done), static_cast<double>(n_total - n_done))));
}

Importance collect(const ImatrixCommand& command, const Engine& engine, const TextChunks& text) {
    ImportanceCollector collector(command.process_output);
    const Observation observation(engine.model().backend(), collector);
    Session session(engine.model(), {.n_context = text.n_context});
    ProgressLine progress;
    for (int64_t i = 0; i < text.n_chunks; ++i) {
        const std::vector<int32_t> chunk = text.chunk(i, engine.tokenizer().data());
        session.reset();
        if (command.process_output)
            session.append_with_logits(chunk, [](std::span<const float>) {});
        else
            session.append(chunk, interrupted);
        if (interrupted()) fail(ErrorCode::interrupted, "interrupted");
        show_progress("importance", i + 1, text.n_chunks, progress);
    }
    Importance importance;
    importance.source = command.output;
    importance.datasets = {command.text_file};
    importance.n_chunks = text.n_chunks;
    importance.chunk_size = text.n_context;
    importance.tensors = collector.tensors(command.model);
    return importance;
}

std::vector<ClassSensitivity> add_sensitivity(const ImatrixCommand& command, const Engine& engine,
                                              const TextChunks& text, Importance& importance) {
    ProgressLine progress;
    std::vector<ClassSensitivity> classes =
        measure_sensitivity(engine, text, command.n_sensitivity_chunks, importance, command.threads,
                            [&](int64_t n_done, int64_t n_total) {
                                show_progress("sensitivity", n_done, n_total, progress);
                            });
    for (const ClassSensitivity& cls : classes)
        for (const std::string& name : cls.tensors) importance.sensitivity[name] = cls.value();
    return classes;
}

std::string report(const Importance& importance, const std::vector<ClassSensitivity>& classes) {
    const auto n_matrices = [&](bool seen) {
        int64_t n = 0;
        for (const auto& [name, entry] : importance.tensors)
            n += seen ? std::ranges::count_if(entry.counts, [](int64_t c) { return c > 0; })
                      : std::ssize(entry.counts);
        return n;
    };
    std::string text = fmt::format("{} tensors, {} of {} matrices used, {} chunks of {} tokens\n",
                                   importance.tensors.size(), n_matrices(true), n_matrices(false),
                                   importance.n_chunks, importance.chunk_size);
    if (classes.empty()) return text;
    text += fmt::format("{:32} {:>7} {:>10} {:>10} {:>11}\n", "sensitivity", "tensors", "error",
                        "KL", "KL/error");
    for (const ClassSensitivity& cls : classes)
        text += fmt::format("{:32} {:>7} {:>10.6f} {:>10.6f} {:>11.4f}\n", cls.name,
                            cls.tensors.size(), cls.relative_error, cls.divergence, cls.value());
    return text;
}

}  // namespace

int run_imatrix(const ImatrixCommand& command) {
    refuse_to_replace(command.output, command.model);
    refuse_to_replace(command.output, command.text_file);
    refuse_existing(command.output, command.force);
    const Engine engine(command.model, command.threads);
    const TextChunks text = read_chunks({command.text_file, command.special}, command.n_context,
                                        command.n_chunks, engine.tokenizer());
    Importance importance = collect(command, engine, text);
    std::vector<ClassSensitivity> classes;
    if (command.n_sensitivity_chunks > 0)
        classes = add_sensitivity(command, engine, text, importance);
    write_importance(importance, command.output);
    write_stdout(report(importance, classes));
    return 0;
}

}  // namespace nemo
