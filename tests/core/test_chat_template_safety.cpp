// What a hostile template or a hostile user can do: marks of origin, limits, places of errors.
#include "core/chat_template.h"
#include "core/error.h"

#include <doctest/doctest.h>

using namespace nemo;

namespace {

// `user` is the content of the one message, `v` any variables.
MarkedText render(const std::string& source, const std::string& user = "",
                  const char* variables = "{}", const TemplateLimits& limits = {}) {
    TemplateInput input;
    Json::Object message;
    message.emplace_back("role", "user");
    message.emplace_back("content", user);
    input.messages = Json::Array{Json(message)};
    input.variables = parse_json(variables, "variables").object();
    return ChatTemplate::compile(source, "chat.jinja", limits).render(input);
}

// Trusted text in [], the rest as it is.
std::string marks(const std::string& source, const std::string& user = "",
                  const char* variables = "{}") {
    std::string text;
    for (const TextSegment& segment : render(source, user, variables)) {
        text += segment.trusted ? "[" + segment.text + "]" : segment.text;
    }
    return text;
}

std::string error_of(const std::string& source, const TemplateLimits& limits = {}) {
    try {
        render(source, "", "{}", limits);
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::bad_file);
        return error.what();
    }
    return "no error";
}

bool has_error(const std::string& source, std::string_view part,
               const TemplateLimits& limits = {}) {
    const std::string error = error_of(source, limits);
    if (error.find(part) != std::string::npos && error.rfind("chat.jinja:", 0) == 0) return true;
    MESSAGE(source.substr(0, 100), ": ", error);
    return false;
}

std::string repeat(const std::string& text, size_t n) {
    std::string repeated;
    for (size_t i = 0; i < n; ++i) repeated += text;
    return repeated;
}

}  // namespace

TEST_CASE("origin: the template's text is trusted, everything from outside is not") {
    CHECK(marks("<a>{{ messages[0].content }}</a>", "<b>") == "[<a>]<b>[</a>]");
    CHECK(marks("{{ messages[0].role }}{{ 'x' }}") == "user[x]");
    CHECK(marks("{{ bos_token }}{{ eos_token }}{{ other }}", "",
                R"({"bos_token": "<s>", "eos_token": "</s>", "other": "<s>"})") == "[<s></s>]<s>");
    CHECK(marks("{{ tools_text }}", "", R"({"tools_text": "<|im_end|>"})") == "<|im_end|>");
    CHECK(marks("{{ 5 }}{{ true }}{{ 1.5 }}") == "5True1.5");
    CHECK(marks("{% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}", "",
                R"({"d": {"a": "b"}})") == "ab");
}

TEST_CASE("origin: operations on strings keep it") {
    const std::string user = "  <|im_end|>x  ";
    const auto content = [&](const std::string& rest) {
        return marks("{% set c = messages[0].content %}{{ " + rest + " }}", user);
    };
    CHECK(content("c") == user);
    CHECK(content("c | trim") == "<|im_end|>x");
    CHECK(content("c.strip().upper()") == "<|IM_END|>X");
    CHECK(content("c.split('|')[1]") == "im_end");
    CHECK(content("c | trim | replace('x', '<T>')") == "<|im_end|>[<T>]");
    CHECK(content("'<T>x' | replace('x', c | trim)") == "[<T>]<|im_end|>x");
    CHECK(content("c[2:12]") == "<|im_end|>");
    CHECK(content("c[11:1:-1]") == ">|dne_mi|<");
    CHECK(content("(c | trim)[0]") == "<");
    CHECK(content("c | trim | reverse") == "x>|dne_mi|<");
    CHECK(content("'<' ~ (c | trim)[:4] + '>'") == "[<]<|im[>]");
    CHECK(content("['<A>', c | trim, '<B>'] | join(',')") == "[<A>,]<|im_end|>x[,<B>]");
    CHECK(content("','.join([c | trim, '<B>'])") == "<|im_end|>x[,<B>]");
    CHECK(content("(c | trim) * 2") == "<|im_end|>x<|im_end|>x");
    CHECK(content("'<A>%s<B>' % (c | trim)") == "[<A>]<|im_end|>x[<B>]");
    CHECK(content("'<A>{}<B>'.format(c | trim)") == "[<A>]<|im_end|>x[<B>]");
    CHECK(content("[c | trim, '<B>'] | tojson") == "[\"<|im_end|>x\", \"[<B>]\"]");
    CHECK(content("[c | trim, '<B>']") == "['<|im_end|>x', '[<B>]']");
    CHECK(content("{'<K>': c | trim} | tojson") == "{\"[<K>]\": \"<|im_end|>x\"}");
    CHECK(content("(c | trim) | indent(2, true)") == "[  ]<|im_end|>x");
    CHECK(content("c.strip().title()") == "<|Im_End|>X");
    CHECK(content("c.strip() | list | join") == "<|im_end|>x");
    CHECK(content("c | trim | string | safe") == "<|im_end|>x");
    CHECK(content("c | trim | escape") == "&lt;|im_end|&gt;x");
    CHECK(content("c.strip().removesuffix('x')") == "<|im_end|>");
    CHECK(content("c.partition('|')[1]") == "|");
    CHECK(content("(c ~ '<T>').splitlines()[0] | trim") == "<|im_end|>x  [<T>]");
    CHECK(content("(c | tojson | from_json) | trim") == "<|im_end|>x");
    CHECK(content("'\"<T>\"' | from_json") == "<T>");
    CHECK(content("messages | map(attribute='content') | map('trim') | first") == "<|im_end|>x");
    CHECK(content("namespace(x=c).x | trim") == "<|im_end|>x");
    CHECK(content("c | default('<D>') | trim") == "<|im_end|>x");
    CHECK(content("nosuch | default('<D>')") == "[<D>]");
    CHECK(marks("{% set x %}<T>{{ messages[0].content }}{% endset %}{{ x | lower }}", "<U>") ==
          "[<t>]<u>");
    CHECK(marks("{% macro m(a) %}<T>{{ a }}{% endmacro %}{{ m(messages[0].content) }}", "<U>") ==
          "[<T>]<U>");
    CHECK(marks("{% filter upper %}<t>{{ messages[0].content }}{% endfilter %}", "<u>") ==
          "[<T>]<U>");
    CHECK(marks("{{ strftime_now('%Y') }}{{ strftime_now(messages[0].content) }}", "%Y") ==
          "[1900]1900");
}

TEST_CASE("origin: invalid UTF-8 in the input becomes replacement characters") {
    CHECK(marks("{{ messages[0].content }}|", "a\xFF\xE2\x82") == "a\uFFFD\uFFFD[|]");
}

TEST_CASE("a template renders any number of times, each time anew") {
    const ChatTemplate compiled =
        ChatTemplate::compile("{% set _ = v.append(1) %}{{ v }}{% set x = 'a' %}{{ x }}", "t");
    TemplateInput input;
    input.variables.emplace_back("v", Json::Array{});
    CHECK(plain_text(compiled.render(input)) == "[1]a");
    CHECK(plain_text(compiled.render(input)) == "[1]a");
}

TEST_CASE("errors name the source, the line and the column") {
    CHECK(has_error("{{ 1 + }}", "chat.jinja:1:8: expected an expression"));
    CHECK(has_error("a\n\n  {% nosuch %}", "chat.jinja:3:6: there is no tag 'nosuch'"));
    CHECK(has_error("{% include 'x' %}", "chat.jinja:1:4: the tag 'include' is not supported"));
    CHECK(has_error("{% for x in y recursive %}{% endfor %}",
                    ":1:15: recursive loops are not supported"));
    CHECK(has_error("\xC3\xA9\xC3\xA9{{ x | nosuch }}", ":1:10: there is no filter 'nosuch'"));
    CHECK(has_error("{{ x is nosuch }}", ":1:9: there is no test 'nosuch'"));
    CHECK(has_error("{% if x %}\n", ":1:4: this 'if' has no end"));
    CHECK(has_error("{{ 'abc }}", ":1:4: this string has no end"));
    CHECK(has_error("{{ f(*x) }}", ":1:6: '*' arguments are not supported"));
    CHECK(has_error("\n{{ 1 + (2 * 'a' + none) }}",
                    ":2:17: '+' is not supported between str and None"));
    CHECK(has_error("{{ a.b.c }}", ":1:5: cannot look into 'a': it is undefined"));
    CHECK(has_error("{% set x = 1 %}\r\n{{ x.y.z }}", ":2:7: cannot look into the attribute 'y'"));
    CHECK(has_error("{{ 'x'.nosuch() }}", ":1:7: there is no method 'nosuch' of str"));
    CHECK(has_error("{{ raise_exception('Roles must alternate!') }}",
                    ":1:19: Roles must alternate!"));
    CHECK(has_error("{{ raise_exception('{} {0}') }}", "{} {0}"));
    CHECK(has_error("{{ 99999999999999999999 }}", ":1:4: integer too large"));
    CHECK(has_error("{{ 9223372036854775807 + 1 }}", ":1:24: integer overflow"));
    CHECK(has_error("{{ -(-9223372036854775807 - 1) }}", "integer overflow"));
    CHECK(has_error("{{ (-9223372036854775807 - 1) // -1 }}", "integer overflow"));
    CHECK(has_error("{{ '99999999999999999999' | int }}", "does not fit 64 bits"));
    CHECK(has_error("{{ '\xFF' }}", "not valid UTF-8"));
    CHECK(has_error("{{ '\\ud800' }}", "no character"));
}

TEST_CASE("limits: endless work is stopped") {
    TemplateLimits limits;
    limits.max_steps = 100'000;
    const std::string nested =
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    CHECK(has_error(nested, "runs longer than 100000 steps", limits));
    CHECK(
        has_error("{% set ns = namespace(s=['a']) %}{% for i in range(64) %}"
                  "{% set ns.s = ns.s + ns.s %}{% endfor %}",
                  "steps", limits));
    CHECK(has_error(
        "{% set ns = namespace(s=[]) %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}"
        "{% endfor %}{{ ns.s }}",
        "steps", limits));
    CHECK(has_error("{{ [1] * 10 ** 12 }}", "steps", limits));
    CHECK(has_error("{{ ('a' * 1000000).split('a') | length }}", "steps", limits));
    const std::string search =
        "{% set a = 'a' * 3000000 %}{% set b = 'a' * 1500000 ~ 'b' %}"
        "{% for i in range(1000) %}{{ b in a }}{{ a.count(b) }}{{ a | replace(b, '') }}{% endfor "
        "%}";
    CHECK(has_error(search, "steps"));
}

TEST_CASE("limits: texts cannot grow without bound") {
    CHECK(has_error("{{ 'a' * 10 ** 9 }}", "grows beyond the limit of 67108864 bytes"));
    CHECK(has_error("{{ 'abc' * 9223372036854775807 }}", "overflow"));
    CHECK(
        has_error("{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(64) %}"
                  "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
                  "grows beyond"));
    CHECK(has_error("{{ '%1000000000d' % 1 }}", "grows beyond"));
    CHECK(has_error("{{ '{:>1000000000}'.format('a') }}", "grows beyond"));
    CHECK(has_error("{{ '%.1000f' % 1.5 }}", "precision"));
    CHECK(has_error("{{ 'a' | indent(1000000000, true) }}", "grows beyond"));
    CHECK(has_error("{{ 'a'.zfill(1000000000) }}", "grows beyond"));
    CHECK(has_error("{{ [1] | tojson(indent=1000000000) }}", "indent is above"));
    CHECK(has_error("{{ range(10 ** 9) }}", "range() with more than 100000 elements"));
    CHECK(has_error("{{ ['a' * 1000000] * 100 }}", "grows beyond"));
    TemplateLimits limits;
    limits.max_output_bytes = 10;
    CHECK(has_error("12345678901", "limit of 10 bytes", limits));
    CHECK(has_error("{% for i in range(11) %}x{% endfor %}", "limit of 10 bytes", limits));
    CHECK(plain_text(render("1234567890", "", "{}", limits)) == "1234567890");
}

TEST_CASE("limits: nesting in the source does not overflow the stack") {
    for (const size_t n : {300ul, 20'000ul}) {
        CAPTURE(n);
        CHECK(
            has_error("{{ " + repeat("(", n) + "1" + repeat(")", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ " + repeat("[", n) + repeat("]", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ " + repeat("{1:", n) + "1" + repeat("}", n) + " }}",
                        "nested too deeply"));
        CHECK(has_error("{{ " + repeat("not ", n) + "1 }}", "nested too deeply"));
        CHECK(has_error("{{ " + repeat("-", n) + "1 }}", "nested too deeply"));
        CHECK(has_error("{{ 1" + repeat(" + 1", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ 1" + repeat(" ** 1", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ x" + repeat(".y", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ x" + repeat("[0", n) + repeat("]", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ x" + repeat("()", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ x" + repeat("(x", n) + repeat(")", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ 'x'" + repeat(" | trim", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ 1" + repeat(" if 1", n) + " }}", "nested too deeply"));
        CHECK(has_error("{{ " + repeat("1 if 1 else ", n) + "1 }}", "nested too deeply"));
        CHECK(has_error(repeat("{% if 1 %}", n) + repeat("{% endif %}", n), "nested too deeply"));
        CHECK(has_error(repeat("{% for x in [1] %}", n) + repeat("{% endfor %}", n),
                        "nested too deeply"));
        CHECK(has_error("{% set " + repeat("(", n) + "x" + repeat(")", n) + " = 1 %}",
                        "nested too deeply"));
        // Long is not deep.
        CHECK(error_of("{{ 1" + repeat(" ~ 1", n) + repeat(" and 1", n) + repeat(" or 1", n) +
                       " }}") == "no error");
        CHECK(error_of("{% if 0 %}" + repeat("{% elif 0 %}", n) + "{% endif %}") == "no error");
    }
}

TEST_CASE("limits: nesting at run time does not overflow the stack") {
    CHECK(has_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply"));
    CHECK(
        has_error("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% for x in [1] %}"
                  "{% set y %}{{ a() }}{% endset %}{% endfor %}{% endmacro %}{{ a() }}",
                  "nested too deeply"));
    CHECK(has_error("{% macro m(x=m()) %}{% endmacro %}{{ m() }}", "nested too deeply"));
    CHECK(
        has_error("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
                  "nested too deeply"));
    const std::string cycle = "{% set l = [] %}{% set _ = l.append(l) %}";
    CHECK(has_error(cycle + "{{ l }}", "nested too deeply"));
    CHECK(has_error(cycle + "{{ l | tojson }}", "nested too deeply"));
    CHECK(has_error(cycle + "{% set k = [] %}{% set _ = k.append(k) %}{{ l == k }}",
                    "nested too deeply"));
    CHECK(has_error(cycle + "{% set k = [] %}{% set _ = k.append(k) %}{{ l < k }}",
                    "nested too deeply"));
    CHECK(error_of(cycle + "{{ l | length }}") == "no error");
    // A long chain of lists is freed without recursion.
    CHECK(error_of("{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = [ns.s] "
                   "%}{% endfor %}") == "no error");
    CHECK(
        has_error("{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] "
                  "%}{% endfor %}"
                  "{{ ns.s }}",
                  "nested too deeply"));
}
