// nemo-cli's commands: what each needs to know, and the function that runs it. The functions throw
// Error; the returned value is the exit status.
#pragma once

#include "app/answer_settings.h"
#include "app/load_model.h"
#include "kernels/kv_cache.h"
#include "models/state_blocks.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nemo {

// A model and the session with it.
struct ModelOptions {
    std::string path;
    std::string template_file;  // instead of the model's own
    int threads = 0;
    int64_t n_context = 0;
    int64_t state_budget = 0;  // bytes, 0: a part of the free memory
    StateCoding state_form = StateCoding::exact;
    KvTypes kv_types;
    LoadOptions load;
    bool no_speculation = false;
};

// The prompt in, the answer out.
struct GenerateCommand {
    ModelOptions model;
    AnswerSettings answer;
    std::optional<std::string> prompt;
    std::string prompt_file;  // "-": standard input
    std::string system;
    std::vector<std::string> stop_strings;
    bool hide_thinking = false;
    bool raw = false;
    bool json = false;
    bool quiet = false;
    bool verbose = false;
};
int run_generate(const GenerateCommand& command);

// A conversation in the terminal.
struct ChatCommand {
    ModelOptions model;  // no path: the chat's
    AnswerSettings answer;
    std::optional<std::string> system;
    std::string chats_file;  // empty: the usual one
    int64_t chat = 0;        // 0: a new one
    bool continues = false;  // the last one
    bool hide_thinking = false;
    bool quiet = false;
    bool verbose = false;
};
int run_chat(const ChatCommand& command);

struct TokenizeCommand {
    std::string model;
    std::optional<std::string> prompt;
    std::string prompt_file;
    bool special = false;
    bool no_bos = false;
    bool pieces = false;
};
int run_tokenize(const TokenizeCommand& command);

struct RenderCommand {
    std::string model;
    std::string template_file;
    std::string messages_file;
    std::string tools_file;
    std::string kwargs;
    std::string now;  // "2026-11-21T12:00:00", empty: the clock
    bool no_generation_prompt = false;
};
int run_render(const RenderCommand& command);

struct EvalCommand {
    std::string model;
    std::string tokens;  // "1,2,3"
    std::string logits_file;
    bool force = false;
    int64_t chunk = 256;
    int threads = 0;
    KvTypes kv_types;
};
int run_eval(const EvalCommand& command);

struct PerplexityCommand {
    std::string model;
    std::string text_file;  // "-": standard input; may be empty with base_in
    std::string base_out;   // --kl-base
    std::string base_in;    // --kl
    int64_t n_context = 0;  // tokens per chunk, 0: 512 or what the base has
    int64_t n_chunks = 0;   // at most, 0: all
    bool special = false;   // recognise control tokens in the text
    int threads = 0;
    KvTypes kv_types;
    LoadOptions load;
};
int run_perplexity(const PerplexityCommand& command);

struct ImatrixCommand {
    std::string model;
    std::string text_file;  // "-": standard input
    std::string output;
    int64_t n_context = 512;           // tokens per chunk
    int64_t n_chunks = 0;              // at most, 0: all
    int64_t n_sensitivity_chunks = 0;  // 0: not measured
    bool process_output = false;       // collect output.weight too
    bool special = false;              // recognise control tokens in the text
    bool force = false;
    int threads = 0;
};
int run_imatrix(const ImatrixCommand& command);

struct BenchCommand {
    std::string model;
    std::vector<int64_t> prompts = {512};      // tokens read at once, a test for each; 0: none
    std::vector<int64_t> generations = {128};  // tokens written one by one, a test for each
    std::vector<int64_t> depths = {0};         // tokens of context before each test
    int64_t chunk = 256;
    int n_repetitions = 5;
    std::string format = "md";  // or "json", "csv"
    bool ops = false;
    int threads = 0;
    KvTypes kv_types;
    LoadOptions load;
};
int run_bench(const BenchCommand& command);

struct InfoCommand {
    std::string model;
    int64_t n_context = 4096;
    KvTypes kv_types;
};
int run_info(const InfoCommand& command);

// Saved chats, without a model.
struct ChatsCommand {
    enum class Action {
        list,
        show,
        search,
        check,
        export_chats,
        import_chats,
        delete_chats,
        undelete,
        purge,
        pin,
        unpin,
        rename,
        move
    };
    Action action = Action::list;
    std::string file;  // empty: the usual one
    std::vector<int64_t> ids;
    std::vector<std::string> words;     // search
    std::vector<std::string> inputs;    // import
    std::string text;                   // rename: the title, move: the folder
    std::string output;                 // export; empty: standard output
    std::string format = "json";        // export; or "markdown"
    std::optional<std::string> folder;  // list
    std::optional<int64_t> limit;       // list, search
    bool deleted = false;               // list
    bool json = false;
    bool force = false;
};
int run_chats(const ChatsCommand& command);

}  // namespace nemo
