//===- DeepseekConfigTest.cpp - Configurations of deepseek_v3 ---*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/Rope.h"
#include "runtime/support/File.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>

using namespace retort;
using namespace retort::checkpoint;
using nlohmann::json;
using testing::HasSubstr;

namespace {

json deepseek() {
  return {{"model_type", "deepseek_v3"},
          {"architectures", {"DeepseekV3ForCausalLM"}},
          {"vocab_size", 512},
          {"hidden_size", 128},
          {"intermediate_size", 320},
          {"moe_intermediate_size", 64},
          {"num_hidden_layers", 4},
          {"first_k_dense_replace", 1},
          {"moe_layer_freq", 1},
          {"n_routed_experts", 16},
          {"n_shared_experts", 2},
          {"num_experts_per_tok", 4},
          {"n_group", 4},
          {"topk_group", 2},
          {"topk_method", "noaux_tc"},
          {"scoring_func", "sigmoid"},
          {"norm_topk_prob", true},
          {"routed_scaling_factor", 2.5},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 4},
          {"q_lora_rank", 64},
          {"kv_lora_rank", 32},
          {"qk_nope_head_dim", 24},
          {"qk_rope_head_dim", 8},
          {"v_head_dim", 40},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"max_position_embeddings", 4096},
          {"num_nextn_predict_layers", 1},
          {"torch_dtype", "bfloat16"}};
}

/// `base` with the fields of `patch` put in place; a null is written as such.
json patched(json base, const json &patch) {
  for (const auto &[key, value] : patch.items())
    base[key] = value;
  return base;
}

ModelConfig parsed(const json &patch = json::object()) {
  auto config = parseConfig(patched(deepseek(), patch).dump());
  EXPECT_TRUE(config.isOk()) << config.status().message();
  return config ? *config : ModelConfig();
}

std::string errorOf(const json &patch) {
  auto config = parseConfig(patched(deepseek(), patch).dump());
  EXPECT_FALSE(config.isOk()) << patch;
  return config.status().message();
}

json fp8(const json &patch = json::object()) {
  json quantization = {{"quant_method", "fp8"},
                       {"fmt", "e4m3"},
                       {"activation_scheme", "dynamic"},
                       {"weight_block_size", {128, 128}}};
  return {{"quantization_config", patched(quantization, patch)}};
}

bool lists(const ModelConfig &config, const ExpectedTensor &tensor) {
  auto all = expectedTensors(config);
  return std::find(all.begin(), all.end(), tensor) != all.end();
}

bool names(const ModelConfig &config, std::string_view name) {
  for (const ExpectedTensor &tensor : expectedTensors(config))
    if (tensor.name == name)
      return true;
  return false;
}

TEST(DeepseekConfig, ReadsEveryField) {
  ModelConfig config = parsed();
  EXPECT_EQ(familyName(config.family), "deepseek_v3");
  ASSERT_TRUE(config.mla && config.moe && !config.fp8);
  EXPECT_EQ(config.mla->qLoraRank, 64);
  EXPECT_EQ(config.mla->kvLoraRank, 32);
  EXPECT_EQ(config.mla->qkNopeHeadDim, 24);
  EXPECT_EQ(config.mla->qkRopeHeadDim, 8);
  EXPECT_EQ(config.mla->vHeadDim, 40);
  EXPECT_EQ(config.mla->qkHeadDim(), 32);
  EXPECT_EQ(config.mla->latentDim(), 40);
  EXPECT_TRUE(config.mla->ropeInterleave);
  EXPECT_DOUBLE_EQ(config.mla->softmaxScale, 1 / std::sqrt(32.0));
  EXPECT_EQ(config.moe->numExperts, 16);
  EXPECT_EQ(config.moe->numShared, 2);
  EXPECT_EQ(config.moe->sharedIntermediateSize(), 128);
  EXPECT_EQ(config.moe->expertsPerToken, 4);
  EXPECT_EQ(config.moe->numGroups, 4);
  EXPECT_EQ(config.moe->topkGroups, 2);
  EXPECT_EQ(config.moe->intermediateSize, 64);
  EXPECT_TRUE(config.moe->normTopkProb);
  EXPECT_EQ(config.moe->routedScale, 2.5);
  EXPECT_EQ(config.moe->firstDense, 1);
  EXPECT_EQ(config.numMtpLayers, 1);
  EXPECT_EQ(config.headDim, 8);
  EXPECT_EQ(ropeInvFreq(config).size(), 4u);
  EXPECT_FALSE(config.isMoeLayer(0));
  EXPECT_TRUE(config.isMoeLayer(1));
}

TEST(DeepseekConfig, AbsentFieldsHaveTheDefaultsOfTransformers) {
  json bare = {{"model_type", "deepseek_v3"}, {"vocab_size", 512},
               {"hidden_size", 128},          {"intermediate_size", 320},
               {"num_hidden_layers", 4},      {"num_attention_heads", 4}};
  auto config = parseConfig(bare.dump());
  ASSERT_TRUE(config.isOk()) << config.status().message();
  EXPECT_EQ(config->mla->qLoraRank, 1536);
  EXPECT_EQ(config->mla->kvLoraRank, 512);
  EXPECT_EQ(config->mla->qkHeadDim(), 192);
  EXPECT_EQ(config->moe->numExperts, 256);
  EXPECT_EQ(config->moe->expertsPerToken, 8);
  EXPECT_EQ(config->moe->numGroups, 8);
  EXPECT_EQ(config->moe->topkGroups, 4);
  EXPECT_EQ(config->moe->firstDense, 3);
  EXPECT_EQ(config->moe->routedScale, 2.5);
  EXPECT_EQ(config->declaredMtpLayers, 1);
  EXPECT_EQ(config->maxPositionEmbeddings, 4096);
}

TEST(DeepseekConfig, NullQueryRankMeansAPlainProjection) {
  ModelConfig config = parsed({{"q_lora_rank", nullptr}});
  EXPECT_EQ(config.mla->qLoraRank, 0);
  EXPECT_TRUE(
      lists(config, {"model.layers.0.self_attn.q_proj.weight", {128, 128}}));
  EXPECT_FALSE(names(config, "model.layers.0.self_attn.q_a_proj.weight"));
}

TEST(DeepseekConfig, ListsTensorsInTheOrderOfUse) {
  ModelConfig config = parsed(fp8());
  DType f8 = DType::F8E4M3;
  EXPECT_TRUE(lists(
      config, {"model.layers.0.self_attn.q_a_proj.weight", {64, 128}, f8}));
  EXPECT_TRUE(
      lists(config, {"model.layers.0.self_attn.q_a_layernorm.weight", {64}}));
  EXPECT_TRUE(lists(
      config, {"model.layers.0.self_attn.q_b_proj.weight", {128, 64}, f8}));
  EXPECT_TRUE(lists(
      config,
      {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", {40, 128}, f8}));
  EXPECT_TRUE(lists(
      config, {"model.layers.3.self_attn.kv_b_proj.weight", {256, 32}, f8}));
  EXPECT_TRUE(lists(
      config, {"model.layers.3.self_attn.o_proj.weight", {128, 160}, f8}));
  EXPECT_TRUE(
      lists(config, {"model.layers.0.mlp.gate_proj.weight", {320, 128}, f8}));
  EXPECT_TRUE(lists(config, {"model.layers.1.mlp.gate.weight", {16, 128}}));
  EXPECT_TRUE(lists(
      config,
      {"model.layers.1.mlp.gate.e_score_correction_bias", {16}, DType::F32}));
  EXPECT_TRUE(
      lists(config,
            {"model.layers.1.mlp.experts.15.down_proj.weight", {128, 64}, f8}));
  EXPECT_TRUE(lists(
      config,
      {"model.layers.1.mlp.shared_experts.up_proj.weight", {128, 128}, f8}));
  EXPECT_TRUE(lists(config, {"lm_head.weight", {512, 128}}));
  EXPECT_TRUE(lists(config, {"model.layers.4.eh_proj.weight", {128, 256}}));
  auto all = expectedTensors(config);
  EXPECT_EQ(all.front().name, "model.embed_tokens.weight");
  EXPECT_EQ(all.back().name, "model.layers.4.shared_head.norm.weight");
  EXPECT_EQ(scaleShape(*config.fp8, {320, 128}), (std::vector<int64_t>{3, 1}));
}

TEST(DeepseekConfig, BiasesAreOfTheLatentsAndTheOutput) {
  ModelConfig config = parsed({{"attention_bias", true}});
  EXPECT_TRUE(lists(config, {"model.layers.1.self_attn.q_a_proj.bias", {64}}));
  EXPECT_TRUE(lists(
      config, {"model.layers.1.self_attn.kv_a_proj_with_mqa.bias", {40}}));
  EXPECT_TRUE(lists(config, {"model.layers.1.self_attn.o_proj.bias", {128}}));
  EXPECT_FALSE(names(config, "model.layers.1.self_attn.q_b_proj.bias"));
  EXPECT_FALSE(names(config, "model.layers.1.self_attn.kv_b_proj.bias"));
}

TEST(DeepseekConfig, AllLayersMayBeDense) {
  for (int64_t first : {int64_t(4), int64_t(100), INT64_MAX}) {
    ModelConfig config = parsed({{"first_k_dense_replace", first}});
    for (int64_t layer = 0; layer < 4; ++layer)
      EXPECT_FALSE(config.isMoeLayer(layer));
    EXPECT_FALSE(names(config, "model.layers.3.mlp.gate.weight"));
    EXPECT_TRUE(names(config, "model.layers.3.mlp.gate_proj.weight"));
  }
}

TEST(DeepseekConfig, YarnScalesTheSoftmax) {
  json yarn = {{"type", "yarn"},
               {"factor", 40},
               {"mscale", 1.0},
               {"mscale_all_dim", 1.0},
               {"original_max_position_embeddings", 4096}};
  double m = 0.1 * std::log(40.0) + 1.0;
  ModelConfig older = parsed({{"rope_scaling", yarn}});
  EXPECT_DOUBLE_EQ(older.mla->softmaxScale, m * m / std::sqrt(32.0));
  EXPECT_DOUBLE_EQ(ropeAttentionFactor(older), 1.0);
  yarn["rope_theta"] = 10000.0;
  ModelConfig newer = parsed({{"rope_parameters", yarn}});
  EXPECT_EQ(newer.mla->softmaxScale, older.mla->softmaxScale);
  yarn["mscale_all_dim"] = 0;
  EXPECT_DOUBLE_EQ(parsed({{"rope_parameters", yarn}}).mla->softmaxScale,
                   1 / std::sqrt(32.0));
  json linear = {{"type", "linear"}, {"factor", 40}, {"mscale_all_dim", 1.0}};
  EXPECT_EQ(parsed({{"rope_scaling", linear}}).mla->softmaxScale,
            older.mla->softmaxScale);
}

TEST(DeepseekConfig, FieldsThatRepeatOthersMustAgree) {
  parsed({{"qk_head_dim", 32},
          {"head_dim", 8},
          {"num_local_experts", 16},
          {"num_key_value_heads", nullptr}});
  EXPECT_THAT(errorOf({{"qk_head_dim", 30}}), HasSubstr("'qk_head_dim'"));
  EXPECT_THAT(errorOf({{"head_dim", 32}}), HasSubstr("'head_dim'"));
  EXPECT_THAT(errorOf({{"num_local_experts", 8}}),
              HasSubstr("'num_local_experts'"));
  EXPECT_THAT(errorOf({{"num_key_value_heads", 2}}),
              HasSubstr("'num_key_value_heads'"));
}

TEST(DeepseekConfig, HostileNumbersAreRefusedByName) {
  const std::pair<const char *, json> cases[] = {
      {"n_routed_experts", 0},
      {"n_routed_experts", -8},
      {"n_routed_experts", 1e9},
      {"n_routed_experts", nullptr},
      {"n_shared_experts", 0},
      {"num_experts_per_tok", 0},
      {"n_group", 0},
      {"n_group", nullptr},
      {"topk_group", 0},
      {"topk_group", 5},
      {"moe_intermediate_size", 0},
      {"moe_intermediate_size", int64_t(1) << 40},
      {"first_k_dense_replace", -1},
      {"routed_scaling_factor", 0},
      {"routed_scaling_factor", "x"},
      {"norm_topk_prob", 1},
      {"q_lora_rank", 0},
      {"kv_lora_rank", 0},
      {"kv_lora_rank", nullptr},
      {"kv_lora_rank", int64_t(1) << 62},
      {"qk_nope_head_dim", 0},
      {"qk_rope_head_dim", 0},
      {"qk_rope_head_dim", 7},
      {"v_head_dim", 0},
      {"v_head_dim", -1},
      {"num_nextn_predict_layers", -1},
      {"rope_interleave", "yes"}};
  for (const auto &[field, value] : cases)
    EXPECT_THAT(errorOf({{field, value}}),
                HasSubstr("field '" + std::string(field) + "': expected"))
        << value;
}

TEST(DeepseekConfig, GroupsMustDivideTheExperts) {
  EXPECT_EQ(errorOf({{"n_group", 3}}),
            "config.json: field 'n_group': expected a divisor of "
            "n_routed_experts (16), found 3");
}

TEST(DeepseekConfig, GroupsNeedTwoExperts) {
  EXPECT_EQ(errorOf({{"n_group", 16}}),
            "config.json: field 'n_group': expected at most half of "
            "n_routed_experts (16), as a group is judged by its two best, "
            "found 16");
}

TEST(DeepseekConfig, ChosenGroupsMustHoldTheChosenExperts) {
  EXPECT_THAT(errorOf({{"num_experts_per_tok", 17}}),
              HasSubstr("at most n_routed_experts (16), found 17"));
  EXPECT_THAT(errorOf({{"num_experts_per_tok", 9}}),
              HasSubstr("at most the 8 experts of topk_group (2) groups"));
  parsed({{"num_experts_per_tok", 8}});
}

TEST(DeepseekConfig, ProductsThatOverflowAreRefused) {
  EXPECT_THAT(errorOf({{"num_attention_heads", 65536},
                       {"num_key_value_heads", 65536},
                       {"qk_nope_head_dim", 65536}}),
              HasSubstr("'qk_nope_head_dim': expected num_attention_heads *"));
  EXPECT_THAT(errorOf({{"num_attention_heads", 65536},
                       {"num_key_value_heads", 65536},
                       {"v_head_dim", 65536}}),
              HasSubstr("'v_head_dim'"));
  EXPECT_THAT(
      errorOf({{"n_shared_experts", 16384}, {"moe_intermediate_size", 4096}}),
      HasSubstr("'n_shared_experts'"));
  EXPECT_THAT(
      errorOf({{"n_routed_experts", 16384}, {"num_hidden_layers", 4096}}),
      HasSubstr("'n_routed_experts': expected at most 262144 experts"));
  EXPECT_THAT(errorOf({{"n_routed_experts", 16384},
                       {"n_shared_experts", 1},
                       {"moe_intermediate_size", 1 << 22},
                       {"hidden_size", 1 << 20},
                       {"num_hidden_layers", 16}}),
              HasSubstr("overflows 64 bits"));
}

TEST(DeepseekConfig, OtherMethodsAreUnsupported) {
  const std::pair<const char *, json> cases[] = {
      {"topk_method", "greedy"},     {"topk_method", "group_limited_greedy"},
      {"scoring_func", "softmax"},   {"hidden_act", "gelu"},
      {"moe_layer_freq", 2},         {"mlp_bias", true},
      {"model_type", "deepseek_v2"}, {"rope_interleaved", true}};
  for (const auto &[field, value] : cases) {
    auto config = parseConfig(patched(deepseek(), {{field, value}}).dump());
    ASSERT_FALSE(config.isOk()) << field;
    EXPECT_EQ(config.status().code(), Code::Unsupported) << field;
    EXPECT_THAT(config.status().message(), HasSubstr(field));
  }
}

TEST(Fp8Config, ReadsBlocksOfEveryFamily) {
  EXPECT_EQ(parsed(fp8({{"weight_block_size", {64, 32}}})).fp8->blockRows, 64);
  EXPECT_EQ(parsed(fp8({{"weight_block_size", {64, 32}}})).fp8->blockCols, 32);
  json llama = {{"model_type", "llama"},  {"vocab_size", 512},
                {"hidden_size", 128},     {"intermediate_size", 320},
                {"num_hidden_layers", 2}, {"num_attention_heads", 4}};
  auto config = parseConfig(patched(llama, fp8()).dump());
  ASSERT_TRUE(config.isOk()) << config.status().message();
  EXPECT_EQ(config->fp8->blockCols, 128);
  EXPECT_TRUE(lists(
      *config,
      {"model.layers.0.self_attn.k_proj.weight", {128, 128}, DType::F8E4M3}));
  parsed({{"quantization_config", json::object()}});
}

TEST(Fp8Config, OthersAreRefusedByName) {
  auto error = [](const json &patch) { return errorOf(fp8(patch)); };
  const std::string at = "field 'quantization_config.";
  EXPECT_THAT(error({{"quant_method", "hqq"}}),
              HasSubstr(at + "quant_method': expected 'fp8'"));
  EXPECT_THAT(error({{"fmt", "e5m2"}}), HasSubstr(at + "fmt'"));
  EXPECT_THAT(error({{"activation_scheme", "static"}}),
              HasSubstr(at + "activation_scheme'"));
  EXPECT_THAT(error({{"bits", 4}}), HasSubstr(at + "bits'"));
  const json sizes[] = {nullptr,   128,          {128},        {0, 128},
                        {128, -1}, {1, 2, 3},    {128, 1.5},   "128",
                        {1, "1"},  {1, 1 << 30}, json::array()};
  for (const json &size : sizes)
    EXPECT_THAT(error({{"weight_block_size", size}}),
                HasSubstr(at + "weight_block_size': expected two positive"))
        << size;
  EXPECT_THAT(errorOf({{"quantization_config", 8}}),
              HasSubstr("'quantization_config': expected an object"));
}

struct Example {
  const char *name;
  double billions;
};

class Examples : public testing::TestWithParam<Example> {};

TEST_P(Examples, HaveTheParametersTheyAreKnownFor) {
  auto text = readFile(std::string(RETORT_SOURCE_DIR "/examples/configs/") +
                           GetParam().name + "/config.json",
                       1 << 20);
  ASSERT_TRUE(text.isOk()) << text.status().message();
  auto config = parseConfig(*text);
  ASSERT_TRUE(config.isOk()) << config.status().message();
  config->numMtpLayers = 0;
  double total = 0;
  for (const ExpectedTensor &tensor : expectedTensors(*config)) {
    double count = 1;
    for (int64_t dim : tensor.shape)
      count *= static_cast<double>(dim);
    total += count;
  }
  EXPECT_NEAR(total / 1e9, GetParam().billions, GetParam().billions * 0.003);
}

INSTANTIATE_TEST_SUITE_P(
    Configs, Examples,
    testing::Values(Example{"DeepSeek-R1", 671.03},
                    Example{"DeepSeek-R1-Distill-Qwen-1.5B", 1.777},
                    Example{"DeepSeek-R1-Distill-Qwen-7B", 7.616},
                    Example{"DeepSeek-R1-Distill-Qwen-14B", 14.77},
                    Example{"DeepSeek-R1-Distill-Qwen-32B", 32.76},
                    Example{"DeepSeek-R1-Distill-Llama-8B", 8.03},
                    Example{"DeepSeek-R1-Distill-Llama-70B", 70.55}),
    [](const auto &info) {
      std::string name = info.param.name;
      for (char &c : name)
        c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

} // namespace
