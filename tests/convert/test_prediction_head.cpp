// A checkpoint's multi-token prediction head: kept as llama.cpp's converter names it, or left out
// as if it had never been there.
#include "convert/convert.h"
#include "convert/verify.h"

#include "checkpoint_fixture.h"

namespace nemo {
namespace {

const ProgressCallback kSilent = [](const ConvertProgress&) {};
const OutputType kQ8 = uniform_output_type(DType::q8_0);

void convert(const std::filesystem::path& input, const std::filesystem::path& output,
             PredictionHead head) {
    write_model(make_plan(input, kQ8, head), output, 1, kSilent);
}

std::string report_text(const std::filesystem::path& path,
                        const std::filesystem::path& checkpoint) {
    const ModelFile file = ModelFile::open(path);
    return verify_text(file, verify_model(file, checkpoint, 1, kSilent));
}

TEST_CASE("the head is one more block, with the names that llama.cpp gives its tensors") {
    const ConversionPlan plan = make_plan(kGoldenModels / "mtp", kQ8);
    std::string block;
    for (const PlannedTensor& tensor : plan.tensors)
        if (tensor.spec.name.starts_with("blk.4."))
            block += fmt::format("{} {} {} {}\n", tensor.spec.name, dims_text(tensor.spec.dims),
                                 dtype_info(tensor.dtype).name, tensor.source->name());
    CHECK(
        block ==
        "blk.4.nextn.enorm.weight [32] F32 mtp.layers.0.enorm.weight\n"
        "blk.4.nextn.hnorm.weight [32] F32 mtp.layers.0.hnorm.weight\n"
        "blk.4.nextn.eh_proj.weight [64, 32] Q8_0 mtp.layers.0.eh_proj.weight\n"
        "blk.4.attn_norm.weight [32] F32 mtp.layers.0.norm.weight\n"
        "blk.4.attn_q.weight [32, 64] Q8_0 mtp.layers.0.mixer.q_proj.weight\n"
        "blk.4.attn_k.weight [32, 32] Q8_0 mtp.layers.0.mixer.k_proj.weight\n"
        "blk.4.attn_v.weight [32, 32] Q8_0 mtp.layers.0.mixer.v_proj.weight\n"
        "blk.4.attn_output.weight [64, 32] Q8_0 mtp.layers.0.mixer.o_proj.weight\n"
        "blk.4.post_attention_norm.weight [32] F32 mtp.layers.1.norm.weight\n"
        "blk.4.ffn_gate_inp.weight [32, 4] F32 mtp.layers.1.mixer.gate.weight\n"
        "blk.4.exp_probs_b.bias [4] F32 mtp.layers.1.mixer.gate.e_score_correction_bias\n"
        "blk.4.ffn_up_exps.weight [32, 32, 4] Q8_0 mtp.layers.1.mixer.experts.0.up_proj.weight\n"
        "blk.4.ffn_down_exps.weight [32, 32, 4] Q8_0 "
        "mtp.layers.1.mixer.experts.0.down_proj.weight\n"
        "blk.4.ffn_up_shexp.weight [32, 32] Q8_0 mtp.layers.1.mixer.shared_experts.up_proj.weight\n"
        "blk.4.ffn_down_shexp.weight [32, 32] Q8_0 "
        "mtp.layers.1.mixer.shared_experts.down_proj.weight\n"
        "blk.4.nextn.shared_head_norm.weight [32] F32 mtp.layers.1.final_layernorm.weight\n");
    CHECK(plan.warnings.empty());
    const std::string prefix = "nemotron_h_moe.";
    CHECK(plan.metadata.get_integer(prefix + "block_count") == 5);
    CHECK(plan.metadata.get_integer(prefix + "nextn_predict_layers") == 1);
    CHECK(plan.metadata.get_integers(prefix + "feed_forward_length") ==
          std::vector<int64_t>{0, 32, 0, 32, 32});
    CHECK(plan.metadata.get_integers(prefix + "attention.head_count_kv") ==
          std::vector<int64_t>{0, 0, 1, 0, 1});
}

TEST_CASE("left out, nothing of the head is in the file") {
    const TempFolder folder;
    TestCheckpoint without = golden_checkpoint("mtp");
    without.field("num_nextn_predict_layers") = Json(0);
    std::erase_if(without.tensors, [](const TestTensor& t) { return t.name.starts_with("mtp."); });
    without.write(folder / "without/mtp");  // the folder's name is the model's
    golden_checkpoint("mtp").write(folder / "with/mtp");
    convert(folder / "without/mtp", folder / "a.gguf", PredictionHead::keep);
    convert(folder / "with/mtp", folder / "b.gguf", PredictionHead::leave_out);
    CHECK(read_file(folder / "a.gguf") == read_file(folder / "b.gguf"));
    CHECK(make_plan(folder / "with/mtp", kQ8, PredictionHead::leave_out).warnings.empty());

    // From a file that has it, too.
    convert(folder / "with/mtp", folder / "c.gguf", PredictionHead::keep);
    write_model(make_plan(folder / "c.gguf", std::nullopt, PredictionHead::leave_out),
                folder / "d.gguf", 1, kSilent);
    CHECK(read_file(folder / "d.gguf") == read_file(folder / "a.gguf"));
}

TEST_CASE("verify knows the head, and files without it") {
    const TempFolder folder;
    for (const char* name : {"mtp", "moe_latent", "puzzle"}) {
        CAPTURE(name);
        for (const PredictionHead head : {PredictionHead::keep, PredictionHead::leave_out}) {
            convert(kGoldenModels / name, folder / "m.gguf", head);
            const std::string text = report_text(folder / "m.gguf", kGoldenModels / name);
            check_contains(text, ": sound; ");
            CHECK_FALSE(contains(text, "note: "));
            CHECK(contains(text, "nextn.eh_proj.weight") == (head == PredictionHead::keep));
        }
    }
}

TEST_CASE("a head with a tensor too few is refused, without any it is said") {
    const TempFolder folder;
    TestCheckpoint checkpoint = golden_checkpoint("mtp");
    checkpoint.remove("mtp.layers.1.final_layernorm.weight");
    checkpoint.write(folder / "in");
    check_contains(error_message([&] { make_plan(folder / "in", kQ8); }),
                   "mtp.layers.1.final_layernorm.weight is missing");
    CHECK_NOTHROW(make_plan(folder / "in", kQ8, PredictionHead::leave_out));

    std::erase_if(checkpoint.tensors,
                  [](const TestTensor& t) { return t.name.starts_with("mtp."); });
    checkpoint.write(folder / "in");
    const ConversionPlan plan = make_plan(folder / "in", kQ8);
    REQUIRE(plan.warnings.size() == 1);
    check_contains(plan.warnings[0], "speaks of a prediction head, but");
    CHECK_FALSE(plan.metadata.contains("nemotron_h_moe.nextn_predict_layers"));
    CHECK(make_plan(folder / "in", kQ8, PredictionHead::leave_out).warnings.empty());
}

TEST_CASE("tensors of a head that config.json does not know of are named") {
    const TempFolder folder;
    TestCheckpoint checkpoint = golden_checkpoint("mtp");
    checkpoint.field("num_nextn_predict_layers") = Json(0);
    checkpoint.write(folder / "in");
    const ConversionPlan plan = make_plan(folder / "in", kQ8);
    REQUIRE(plan.warnings.size() == 1);
    check_contains(plan.warnings[0], "not part of the model and are left out: mtp.layers.0.");
}

TEST_CASE("the tensors of a head in its own file beside the shards are found") {
    const TempFolder folder;
    TestCheckpoint rest = golden_checkpoint("mtp");
    TestCheckpoint head = rest;
    std::erase_if(rest.tensors, [](const TestTensor& t) { return t.name.starts_with("mtp."); });
    std::erase_if(head.tensors, [](const TestTensor& t) { return !t.name.starts_with("mtp."); });
    rest.write(folder / "in");
    write_file(folder / "in/mtp.safetensors", safetensors_bytes(head.tensors));
    CHECK(make_plan(folder / "in", kQ8).tensors.size() ==
          make_plan(kGoldenModels / "mtp", kQ8).tensors.size());
}

}  // namespace
}  // namespace nemo
