#include "convert/llama_cpp.h"

#include "checkpoint_fixture.h"
#include "convert/plan.h"

namespace nemo {
namespace {

LayerConfig layer_of(LayerKind kind) {
    LayerConfig layer = {.kind = kind};
    layer.mamba2 = {8, 64, 128, 2, 4};
    layer.attention = {4, 2, 64};
    layer.n_ff = 64;
    layer.moe.router.n_experts = 8;
    layer.moe.router.n_used = 2;
    layer.moe.n_ff = 32;
    return layer;
}

// Two layers of the kind, the second one changed.
template <class Change>
std::string limits_of(LayerKind kind, const Change& change) {
    ModelConfig config;
    config.layers = {layer_of(kind), layer_of(kind)};
    change(config.layers[1]);
    std::string text;
    for (const std::string& limit : llama_cpp_limits(config)) text += limit + "\n";
    return text;
}

TEST_CASE("what llama.cpp cannot load is said, and nothing else") {
    CHECK(limits_of(LayerKind::moe, [](LayerConfig&) {}).empty());
    CHECK(limits_of(LayerKind::mlp, [](LayerConfig& layer) { layer.n_ff = 32; }).empty());
    CHECK(limits_of(LayerKind::attention, [](LayerConfig& layer) {
              layer.attention = {8, 1, 64};
          }).empty());
    // Dimensions of another kind do not count.
    CHECK(limits_of(LayerKind::mlp, [](LayerConfig& layer) { layer.moe.n_ff = 1; }).empty());

    check_contains(limits_of(LayerKind::mamba2,
                             [](LayerConfig& layer) {
                                 layer.mamba2.state_size = 96;
                                 layer.mamba2.n_groups = 4;
                             }),
                   "one number (Mamba state size, Mamba groups)");
    check_contains(
        limits_of(LayerKind::moe, [](LayerConfig& layer) { layer.moe.router.n_used = 1; }),
        "experts that differ between layers");
    check_contains(limits_of(LayerKind::moe, [](LayerConfig& layer) { layer.moe.n_ff = 64; }),
                   "experts that differ between layers");
    check_contains(limits_of(LayerKind::moe,
                             [](LayerConfig& layer) {
                                 layer.moe.n_ff = 64;
                                 layer.moe.n_ff_shared = 64;
                             }),
                   "one number (shared expert width)");
    check_contains(limits_of(LayerKind::moe, [](LayerConfig& l) { l.kind = LayerKind::mlp; }),
                   "experts and dense MLP layers");
}

TEST_CASE("what llama.cpp derives for nemotron must be so") {
    ModelConfig config;
    config.architecture = "nemotron";
    config.n_embd = 256;
    config.layers = {layer_of(LayerKind::attention), layer_of(LayerKind::mlp)};
    CHECK(llama_cpp_limits(config).empty());
    config.tied_embeddings = true;
    config.n_embd = 128;
    const std::vector<std::string> limits = llama_cpp_limits(config);
    REQUIRE(limits.size() == 2);
    check_contains(limits[0], "needs a tensor output.weight");
    check_contains(limits[1], "4 attention heads of size 64 make 256, but");
    config.architecture = "nemotron_h";
    CHECK(llama_cpp_limits(config).empty());
}

TEST_CASE("the plan says it") {
    const ConversionPlan plan = make_plan(kGoldenModels / "puzzle", DType::q8_0);
    REQUIRE(plan.warnings.size() == 1);
    check_contains(plan.warnings[0], "one number (Mamba state size, number of experts)");
}

}  // namespace
}  // namespace nemo
