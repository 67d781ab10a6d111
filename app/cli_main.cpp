// nemo-cli: prompts in, answers out. Errors end here and become the exit status.
#include "app/cli_options.h"
#include "core/console.h"
#include "core/interrupt.h"
#include "core/mapped_file.h"

#include <exception>

namespace {

using namespace nemo;

int run(const Command& command) {
    struct Runner {
        int operator()(const GenerateCommand& c) const { return run_generate(c); }
        int operator()(const ChatCommand& c) const { return run_chat(c); }
        int operator()(const TokenizeCommand& c) const { return run_tokenize(c); }
        int operator()(const RenderCommand& c) const { return run_render(c); }
        int operator()(const EvalCommand& c) const { return run_eval(c); }
        int operator()(const PerplexityCommand& c) const { return run_perplexity(c); }
        int operator()(const ImatrixCommand& c) const { return run_imatrix(c); }
        int operator()(const BenchCommand& c) const { return run_bench(c); }
        int operator()(const InfoCommand& c) const { return run_info(c); }
        int operator()(const ChatsCommand& c) const { return run_chats(c); }
    };
    return std::visit(Runner{}, command);
}

}  // namespace

int main(int argc, char** argv) {
    prepare_standard_streams();
    install_interrupt_handler();
    install_lost_page_handler();
    try {
        const ParsedCommandLine parsed = parse_command_line({argv + 1, argv + argc});
        if (parsed.exit_status == 0) {
            write_stdout(parsed.message);
            return 0;
        }
        if (parsed.exit_status) {
            write_stderr(parsed.message);
            return *parsed.exit_status;
        }
        return run(parsed.command);
    } catch (const std::exception& exception) {
        return report_exception("nemo-cli", exception);
    }
}
