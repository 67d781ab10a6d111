// The command lines of nemo-cli's subcommands that look into a model file or measure it.
#pragma once

#include "app/commands.h"

namespace CLI {
class App;
}

namespace nemo {

// Each adds its command; returns it.
CLI::App* define_tokenize(CLI::App& app, TokenizeCommand& command);
CLI::App* define_render(CLI::App& app, RenderCommand& command);
CLI::App* define_eval(CLI::App& app, EvalCommand& command);
CLI::App* define_perplexity(CLI::App& app, PerplexityCommand& command);
CLI::App* define_imatrix(CLI::App& app, ImatrixCommand& command);
CLI::App* define_bench(CLI::App& app, BenchCommand& command);
CLI::App* define_info(CLI::App& app, InfoCommand& command);

}  // namespace nemo
