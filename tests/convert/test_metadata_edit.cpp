// Editing the keys of a planned file.
#include "convert/metadata_edit.h"

#include "checkpoint_fixture.h"
#include "core/tokenizer.h"

namespace nemo {
namespace {

ConversionPlan dense_plan() {
    ConversionPlan plan = make_plan(kGoldenModels / "dense", DType::q8_0);
    plan.metadata.set_f32("a.real", 0.5f);
    plan.metadata.set_bool("a.flag", false);
    plan.metadata.set("a.byte", {GgufType::u8, false, int64_t{1}});
    return plan;
}

std::string refusal(const std::string& edit) {
    ConversionPlan plan = dense_plan();
    return error_message([&] { edit_metadata({.set = {edit}}, plan); }, ErrorCode::usage);
}

TEST_CASE("--set keeps the type of a key, or takes the one that is given") {
    ConversionPlan plan = dense_plan();
    edit_metadata(
        {.set = {"general.name=a=b", "a.real=1e-3", "a.flag=true", "a.byte=255", "new.key:i64=-5",
                 "new.text:str=", "new.real:f64=0.1", "a.real:str=text"}},
        plan);
    const GgufMetadata& metadata = plan.metadata;
    CHECK(metadata.get_string("general.name") == "a=b");
    CHECK(metadata.get_bool("a.flag"));
    CHECK(metadata.find("a.byte")->type == GgufType::u8);
    CHECK(metadata.get_integer("a.byte") == 255);
    CHECK(metadata.find("new.key")->type == GgufType::i64);
    CHECK(metadata.get_integer("new.key") == -5);
    CHECK(metadata.get_string("new.text").empty());
    CHECK(metadata.get_real("new.real") == 0.1);
    CHECK(metadata.get_string("a.real") == "text");
}

TEST_CASE("--set refuses values that are not of the key's type") {
    check_contains(refusal("a.byte=256"), "an integer from 0 to 255");
    check_contains(refusal("a.byte=-1"), "an integer from 0 to 255");
    check_contains(refusal("a.byte=1x"), "an integer");
    check_contains(refusal("a.flag=1"), "true or false");
    check_contains(refusal("a.real=nan"), "a finite number");
    check_contains(refusal("a.real=1e39"), "a finite number");
    check_contains(refusal("a.real="), "a finite number");
    check_contains(refusal("new.key=1"), "say its type for a new key, as in new.key:str=1");
    check_contains(refusal("new.key:u31=1"), "unknown type u31; one of: u8");
    check_contains(refusal("new.key:u32"), "expected KEY=VALUE");
    check_contains(refusal("new.key:str=\xff"), "UTF-8");
    check_contains(refusal("=1"), "cannot be a key");
    check_contains(refusal("tokenizer.ggml.tokens=1"), "is an array");
}

TEST_CASE("keys that say what the tensors are cannot be edited") {
    for (const char* key : {"general.alignment", "general.architecture", "split.count",
                            "nemo.tensor_checksums", "nemotron_h.block_count",
                            "nemotron_h.ssm.state_size", "nemotron_h.attention.key_length"}) {
        CAPTURE(key);
        check_contains(refusal(std::string(key) + ":u32=1"), "cannot be edited");
        ConversionPlan plan = dense_plan();
        check_contains(
            error_message([&] { edit_metadata({.unset = {key}}, plan); }, ErrorCode::usage),
            "cannot be edited");
    }
    ConversionPlan plan = dense_plan();
    CHECK_NOTHROW(edit_metadata({.set = {"nemotron_h.context_length=4096"}}, plan));
}

TEST_CASE("--unset leaves a key out") {
    ConversionPlan plan = dense_plan();
    const size_t n_keys = plan.metadata.entries().size();
    edit_metadata({.unset = {"a.real", "general.name"}}, plan);
    CHECK_FALSE(plan.metadata.contains("a.real"));
    CHECK(plan.metadata.entries().size() == n_keys - 2);
    CHECK_FALSE(plan.metadata.get_bool("a.flag"));
    check_contains(
        error_message([&] { edit_metadata({.unset = {"a.real"}}, plan); }, ErrorCode::usage),
        "no such key");
}

TEST_CASE("an edited tokenizer must still be one") {
    ConversionPlan plan = dense_plan();
    check_contains(
        error_message([&] { edit_metadata({.set = {"tokenizer.ggml.eos_token_id=99999"}}, plan); }),
        "99999 is not in the vocabulary");
    plan = dense_plan();
    edit_metadata({.set = {"tokenizer.ggml.eos_token_id=7"}}, plan);
    const TokenizerData data = tokenizer_from_gguf(plan.metadata);
    CHECK(data.eos == 7);
    CHECK(std::ranges::count(data.end_of_generation, 7) == 1);
    check_contains(
        error_message([&] { edit_metadata({.set = {"tokenizer.chat_template:str={% if"}}, plan); }),
        "tokenizer.chat_template:1:1");
}

TEST_CASE("--chat-template takes a template that compiles") {
    const TempFolder folder;
    ConversionPlan plan = dense_plan();
    write_file(folder / "good.jinja", "{{ messages[0].content }}");
    edit_metadata({.chat_template = folder / "good.jinja"}, plan);
    CHECK(plan.metadata.get_string("tokenizer.chat_template") == "{{ messages[0].content }}");
    write_file(folder / "bad.jinja", "{{ messages");
    check_contains(
        error_message([&] { edit_metadata({.chat_template = folder / "bad.jinja"}, plan); }),
        "bad.jinja:1:");
    write_file(folder / "empty.jinja", "");
    check_contains(
        error_message([&] { edit_metadata({.chat_template = folder / "empty.jinja"}, plan); }),
        "empty.jinja: is empty");
}

TEST_CASE("--tokenizer replaces everything that belongs to the tokenizer") {
    const std::filesystem::path demo = std::filesystem::path(NEMO_SOURCE_DIR) / "assets/demo";
    ConversionPlan plan = dense_plan();
    check_contains(error_message([&] { edit_metadata({.tokenizer = demo}, plan); }),
                   "the tokenizer has 4096 tokens, but tensor token_embd.weight has 264 rows");
    plan = make_plan(demo, DType::q8_0);
    plan.metadata.set_u32("tokenizer.ggml.left_over", 1);
    edit_metadata({.tokenizer = kGoldenModels / "dense"}, plan);
    CHECK_FALSE(plan.metadata.contains("tokenizer.ggml.left_over"));
    const TokenizerData data = tokenizer_from_gguf(plan.metadata);
    CHECK(data.tokens.size() == 4096);
    CHECK(data.tokens.back().starts_with("[PAD"));
    CHECK(data.chat_template == tokenizer_from_hf(kGoldenModels / "dense").chat_template);
}

}  // namespace
}  // namespace nemo
