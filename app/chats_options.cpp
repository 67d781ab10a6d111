#include "app/chats_options.h"

#include "app/option_parts.h"

#include <CLI/CLI.hpp>

namespace nemo {

namespace {

using Action = ChatsCommand::Action;

constexpr const char* kExamples = R"(Examples:
  nemo-cli chats search rice beans
  nemo-cli chats export 12 --format markdown > rice.md
  nemo-cli chats export -o backup.json
  nemo-cli chats import backup.json

Chats are in $XDG_DATA_HOME/nemo/chats.db (usually ~/.local/share/nemo/chats.db), or in the
folder NEMO_DATA, or where --chats says. A deleted chat can be brought back until it is purged.)";

CLI::App* add_action(CLI::App& chats, ChatsCommand& command, Action action, const char* name,
                     const char* help) {
    CLI::App* sub = chats.add_subcommand(name, help);
    sub->parse_complete_callback([&command, action] { command.action = action; });
    return sub;
}

void add_ids(CLI::App* sub, ChatsCommand& command) {
    sub->add_option("id", command.ids, "As `list` shows it")
        ->check(whole_number(1))
        ->type_name("ID")
        ->required();
}

void add_id(CLI::App* sub, ChatsCommand& command) {
    const auto set = [&command](int64_t id) { command.ids = {id}; };
    sub->add_option_function<int64_t>("id", set, "As `list` shows it")
        ->check(whole_number(1))
        ->type_name("ID")
        ->required();
}

void add_json(CLI::App* sub, ChatsCommand& command) {
    sub->add_flag("--json", command.json, "Print JSON");
}

void define_reading(CLI::App& chats, ChatsCommand& command) {
    CLI::App* list = add_action(chats, command, Action::list, "list", "Print a line for each chat");
    list->add_flag("--deleted", command.deleted, "The deleted ones");
    list->add_option("--folder", command.folder, "Only those in this folder")->type_name("NAME");
    list->add_option("-n,--limit", command.limit, "At most N, the last used first")
        ->check(whole_number(1))
        ->type_name("N");
    add_json(list, command);

    CLI::App* show = add_action(chats, command, Action::show, "show", "Print a chat");
    add_id(show, command);
    add_json(show, command);

    CLI::App* search =
        add_action(chats, command, Action::search, "search", "Find messages with all these words");
    search->add_option("words", command.words, "Parts of words, in any case")
        ->type_name("WORD")
        ->required();
    search->add_option("-n,--limit", command.limit, "At most N (default: 50)")
        ->check(whole_number(1))
        ->type_name("N");
    add_json(search, command);

    add_action(chats, command, Action::check, "check", "Look for damage in the whole file");
}

void define_files(CLI::App& chats, ChatsCommand& command) {
    CLI::App* out = add_action(chats, command, Action::export_chats, "export",
                               "Write chats as JSON, which `import` reads, or Markdown");
    out->add_option("id", command.ids, "As `list` shows it (default: all)")
        ->check(whole_number(1))
        ->type_name("ID");
    out->add_option("--format", command.format, "json or markdown (the branch that is shown)")
        ->check(CLI::IsMember({"json", "markdown"}).description(""))
        ->type_name("FORMAT");
    out->add_option("-o,--output", command.output, "Instead of standard output")->type_name("FILE");
    out->add_flag("--force", command.force, "Replace an existing file");

    CLI::App* in = add_action(chats, command, Action::import_chats, "import",
                              "Add the chats of JSON files: nemo's, OpenAI's, llama-server's");
    in->add_option("file", command.inputs, "Prints the new ids")->type_name("FILE")->required();
}

void define_changes(CLI::App& chats, ChatsCommand& command) {
    add_ids(add_action(chats, command, Action::delete_chats, "delete", "Delete chats"), command);
    add_ids(add_action(chats, command, Action::undelete, "undelete", "Bring deleted chats back"),
            command);
    add_ids(add_action(chats, command, Action::purge, "purge", "Erase deleted chats for good"),
            command);
    add_ids(add_action(chats, command, Action::pin, "pin", "Keep chats on top of the list"),
            command);
    add_ids(add_action(chats, command, Action::unpin, "unpin", "Keep them on top no longer"),
            command);
    CLI::App* rename =
        add_action(chats, command, Action::rename, "rename", "Give a chat another title");
    add_id(rename, command);
    rename->add_option("title", command.text, "Empty: from its first message")->required();
    CLI::App* move = add_action(chats, command, Action::move, "move", "Put a chat into a folder");
    add_id(move, command);
    move->add_option("folder", command.text, "Empty: none")->required();
}

}  // namespace

CLI::App* define_chats(CLI::App& app, ChatsCommand& command) {
    CLI::App* chats = app.add_subcommand("chats", "List, search, export and delete saved chats");
    chats->require_subcommand(1);
    chats->fallthrough();
    chats->footer(kExamples);
    add_chats_option(*chats, command.file);
    define_reading(*chats, command);
    define_files(*chats, command);
    define_changes(*chats, command);
    return chats;
}

}  // namespace nemo
