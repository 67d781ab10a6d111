#include "app/chat_text.h"

#include "core/byte_size.h"
#include "core/console.h"
#include "core/utf8.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

namespace nemo {

namespace {

constexpr size_t kExcerptCharacters = 60;

double percent(int64_t part, int64_t whole) {
    return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
}

std::string size_of(int64_t n_bytes) {
    return size_text(static_cast<uint64_t>(n_bytes));
}

const char* speaker(const Message& message) {
    if (message.role == "user") return "you";
    return message.role == "assistant" ? "model" : "summary";
}

std::string message_line(const Message& message) {
    std::string line = fmt::format("{:>5} {}: {}", message.id, speaker(message),
                                   excerpt(message.content, kExcerptCharacters));
    if (message.state != MessageState::complete)
        line += fmt::format(" [{}]", message_state_name(message.state));
    return line;
}

// The messages of a tree by their parents.
struct Tree {
    explicit Tree(const std::vector<Message>& messages) {
        for (const Message& message : messages) {
            by_id[message.id] = &message;
            children[message.parent].push_back(&message);
        }
    }
    std::set<int64_t> path_to(int64_t leaf) const {
        std::set<int64_t> path;
        for (auto at = by_id.find(leaf); at != by_id.end(); at = by_id.find(at->second->parent))
            path.insert(at->first);
        return path;
    }
    const std::vector<const Message*>& children_of(int64_t parent) const {
        static const std::vector<const Message*> kNone;
        const auto found = children.find(parent);
        return found == children.end() ? kNone : found->second;
    }

    std::map<int64_t, const Message*> by_id;
    std::map<int64_t, std::vector<const Message*>> children;
};

}  // namespace

std::string footer_text(const AnswerReport& report, const ContextUsage& usage) {
    const double rate = report.generate_seconds > 0
                            ? static_cast<double>(report.n_generated) / report.generate_seconds
                            : 0;
    std::string text =
        fmt::format("[reused {}, read {} in {:.2f} s; wrote {} at {:.1f}/s; context {}/{}, {:.0f}%",
                    report.n_reused, report.n_read, report.prompt_seconds, report.n_generated, rate,
                    usage.n_used, usage.n_context, percent(usage.n_used, usage.n_context));
    if (report.n_drafted > 0)
        text += fmt::format("; guessed {}, {} right", report.n_drafted, report.n_accepted);
    if (report.reason == FinishReason::cancelled) text += "; stopped";
    if (report.reason == FinishReason::length) text += "; cut at max_tokens";
    return text + "]";
}

std::string usage_text(const ContextUsage& usage) {
    const int64_t n_per_token = usage.n_used > 0 ? usage.cache_bytes / usage.n_used : 0;
    std::string text = fmt::format(
        "context      {} of {} tokens, {:.0f}%\n"
        "weights      {}\n"
        "state        {}, the same for any length\n"
        "cache        {}, grows by {} per token\n"
        "checkpoints  {} in memory, {} on disk: states to come back to without reading again\n",
        usage.n_used, usage.n_context, percent(usage.n_used, usage.n_context),
        size_of(usage.weight_bytes), size_of(usage.state_bytes), size_of(usage.cache_bytes),
        size_of(n_per_token), size_of(usage.checkpoint_bytes), size_of(usage.spilled_bytes));
    if (!usage.spill_problem.empty())
        text += fmt::format("             one was lost: {}\n", usage.spill_problem);
    return text;
}

std::string tree_text(const std::vector<Message>& tree, int64_t leaf) {
    const Tree by_parent(tree);
    const std::set<int64_t> shown = by_parent.path_to(leaf);
    std::string text;
    // Only where a chat forks does it move to the right, so that a long one stays readable.
    std::vector<std::pair<const Message*, size_t>> open;
    const auto push = [&](int64_t parent, size_t depth) {
        const auto& children = by_parent.children_of(parent);
        const size_t child_depth = children.size() > 1 ? depth + 1 : depth;
        for (auto child = children.rbegin(); child != children.rend(); ++child)
            open.emplace_back(*child, child_depth);
    };
    push(0, 0);
    while (!open.empty()) {
        const auto [message, depth] = open.back();
        open.pop_back();
        text += fmt::format("{}{}{}\n", shown.count(message->id) ? "*" : " ",
                            std::string(2 * depth, ' '), message_line(*message));
        push(message->id, depth);
    }
    return text;
}

std::string branches_text(const std::vector<Message>& tree, int64_t leaf) {
    const Tree by_parent(tree);
    std::string text;
    for (const Message& message : tree)
        if (by_parent.children_of(message.id).empty())
            text += (message.id == leaf ? "*" : " ") + message_line(message) + "\n";
    return text;
}

std::string chats_text(const std::vector<Chat>& chats) {
    std::string text;
    for (const Chat& chat : chats)
        text += fmt::format("{:>5} {}\n", chat.id, excerpt(chat.title, kExcerptCharacters));
    return text;
}

std::string hits_text(const std::vector<SearchHit>& hits) {
    std::string text;
    for (const SearchHit& hit : hits)
        text += fmt::format("{:>5} {}: {}\n", hit.chat, excerpt(hit.title, kExcerptCharacters / 2),
                            terminal_safe_line(hit.snippet.text));
    return text;
}

std::string excerpt(std::string_view text, size_t n_characters) {
    std::string line;
    size_t offset = 0;
    for (size_t n = 0; offset < text.size() && n < n_characters; ++n) {
        const CodePoint code_point = decode_utf8(text, offset);
        const bool is_break = code_point.value == '\n' || code_point.value == '\t';
        append_utf8(line, is_break ? U' ' : code_point.value);
        offset += static_cast<size_t>(code_point.n_bytes);
    }
    if (offset < text.size()) line += "...";
    return terminal_safe_line(line);
}

}  // namespace nemo
