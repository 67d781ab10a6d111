// nemo-cli eval: the logits of given tokens, as raw float32.
#include "app/commands.h"
#include "app/engine.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/interrupt.h"

#include <charconv>

namespace nemo {

namespace {

std::vector<int32_t> parse_tokens(std::string_view text) {
    std::vector<int32_t> tokens;
    const char* position = text.data();
    const char* const end = text.data() + text.size();
    for (;;) {
        int32_t token = 0;
        const auto [stop, error] = std::from_chars(position, end, token);
        if (error != std::errc() || (stop != end && *stop != ','))
            fail(ErrorCode::usage, "--tokens: a number is needed at character {} of \"{}\"",
                 position - text.data() + 1, text);
        tokens.push_back(token);
        if (stop == end) return tokens;
        position = stop + 1;
    }
}

}  // namespace

int run_eval(const EvalCommand& command) {
    const std::vector<int32_t> tokens = parse_tokens(command.tokens);
    refuse_to_replace(command.logits_file, command.model);
    refuse_existing(command.logits_file, command.force);
    const auto backend = make_cpu_backend(command.threads);
    const Model model(load_model_file(command.model, {}), *backend);
    Session session(
        model,
        {.n_context = std::ssize(tokens), .chunk = command.chunk, .kv_types = command.kv_types});
    AtomicFile out(command.logits_file);
    session.append_with_logits(tokens, [&](std::span<const float> rows) {
        if (interrupted()) fail(ErrorCode::interrupted, "interrupted");
        out.write(std::as_bytes(rows));
    });
    out.commit();
    return 0;
}

}  // namespace nemo
