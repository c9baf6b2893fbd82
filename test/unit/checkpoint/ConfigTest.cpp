//===- ConfigTest.cpp - Parsing config.json ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace retort;
using namespace retort::checkpoint;
using nlohmann::json;
using testing::HasSubstr;
using Kind = RopeScaling::Kind;

namespace {

json qwen2() {
  return {
      {"model_type", "qwen2"},       {"architectures", {"Qwen2ForCausalLM"}},
      {"vocab_size", 512},           {"hidden_size", 128},
      {"intermediate_size", 352},    {"num_hidden_layers", 3},
      {"num_attention_heads", 4},    {"num_key_value_heads", 2},
      {"hidden_act", "silu"},        {"max_position_embeddings", 32768},
      {"rms_norm_eps", 1e-6},        {"rope_theta", 1000000.0},
      {"tie_word_embeddings", true}, {"use_sliding_window", false},
      {"sliding_window", 4096},      {"max_window_layers", 3},
      {"attention_dropout", 0.0},    {"bos_token_id", 1},
      {"eos_token_id", 2},           {"torch_dtype", "bfloat16"}};
}

json llama() {
  json config = qwen2();
  config.merge_patch({{"model_type", "llama"},
                      {"architectures", {"LlamaForCausalLM"}},
                      {"use_sliding_window", nullptr},
                      {"sliding_window", nullptr},
                      {"max_window_layers", nullptr}});
  return config;
}

/// The configuration of `base` with `patch` merged in; a null removes a field.
ModelConfig parsed(json base, const json &patch = json::object(),
                   std::string_view generation = {}) {
  base.merge_patch(patch);
  auto config = parseConfig(base.dump(), "config.json", generation);
  EXPECT_TRUE(config.isOk()) << config.status().message();
  return config ? *config : ModelConfig();
}

/// The message that `base` with `patch` merged in is refused with.
std::string errorOf(json base, const json &patch,
                    std::string_view generation = {}) {
  base.merge_patch(patch);
  auto config = parseConfig(base.dump(), "config.json", generation);
  EXPECT_FALSE(config.isOk()) << base.dump();
  std::string message = config.status().message();
  EXPECT_EQ(message.find('\n'), std::string::npos);
  return message;
}

TEST(Config, ReadsQwen2) {
  ModelConfig config = parsed(qwen2());
  EXPECT_EQ(config.family, Family::Qwen2);
  EXPECT_EQ(config.vocabSize, 512);
  EXPECT_EQ(config.hiddenSize, 128);
  EXPECT_EQ(config.intermediateSize, 352);
  EXPECT_EQ(config.numLayers, 3);
  EXPECT_EQ(config.numHeads, 4);
  EXPECT_EQ(config.numKvHeads, 2);
  EXPECT_EQ(config.headDim, 32);
  EXPECT_EQ(config.queryDim(), 128);
  EXPECT_EQ(config.kvDim(), 64);
  EXPECT_EQ(config.rmsNormEps, 1e-6);
  EXPECT_EQ(config.ropeTheta, 1e6);
  EXPECT_EQ(config.ropeScaling.kind, Kind::None);
  EXPECT_EQ(config.maxPositionEmbeddings, 32768);
  EXPECT_TRUE(config.tieWordEmbeddings);
  EXPECT_TRUE(config.qkvBias);
  EXPECT_FALSE(config.oBias);
  EXPECT_FALSE(config.mlpBias);
  EXPECT_EQ(config.bosTokenId, 1);
  EXPECT_EQ(config.eosTokenIds, std::vector<int64_t>{2});
  EXPECT_EQ(config.storedDType, DType::BF16);
  EXPECT_EQ(familyName(config.family), "qwen2");
}

TEST(Config, ReadsLlamaWithItsBiases) {
  ModelConfig plain = parsed(llama());
  EXPECT_EQ(plain.family, Family::Llama);
  EXPECT_FALSE(plain.qkvBias || plain.oBias || plain.mlpBias);
  ModelConfig attention = parsed(llama(), {{"attention_bias", true}});
  EXPECT_TRUE(attention.qkvBias && attention.oBias);
  EXPECT_FALSE(attention.mlpBias);
  EXPECT_TRUE(parsed(llama(), {{"mlp_bias", true}}).mlpBias);
}

TEST(Config, MissingFieldsGetTheDefaultsOfTransformers) {
  json removed = {
      {"num_key_value_heads", nullptr}, {"hidden_act", nullptr},
      {"rms_norm_eps", nullptr},        {"rope_theta", nullptr},
      {"tie_word_embeddings", nullptr}, {"max_position_embeddings", nullptr},
      {"bos_token_id", nullptr},        {"eos_token_id", nullptr},
      {"architectures", nullptr},       {"torch_dtype", nullptr}};
  ModelConfig config = parsed(llama(), removed);
  EXPECT_EQ(config.numKvHeads, 4);
  EXPECT_EQ(config.rmsNormEps, 1e-6);
  EXPECT_EQ(config.ropeTheta, 10000.0);
  EXPECT_FALSE(config.tieWordEmbeddings);
  EXPECT_EQ(config.maxPositionEmbeddings, 2048);
  EXPECT_EQ(config.bosTokenId, std::nullopt);
  EXPECT_TRUE(config.eosTokenIds.empty());
  EXPECT_EQ(config.storedDType, std::nullopt);

  json heads = {{"num_attention_heads", 64}, {"num_key_value_heads", nullptr}};
  EXPECT_EQ(parsed(qwen2(), heads).numKvHeads, 32);
  EXPECT_THAT(errorOf(qwen2(), {{"num_key_value_heads", nullptr}}),
              HasSubstr("the default of 32"));
}

TEST(Config, ExplicitHeadDimNeedNotDivideTheHiddenSize) {
  ModelConfig config =
      parsed(llama(), {{"head_dim", 48}, {"num_attention_heads", 6}});
  EXPECT_EQ(config.headDim, 48);
  EXPECT_EQ(config.queryDim(), 288);
}

TEST(Config, ReadsTheNewerStyle) {
  json patch = {{"rope_theta", nullptr},
                {"torch_dtype", nullptr},
                {"dtype", "float16"},
                {"rope_parameters",
                 {{"rope_type", "llama3"},
                  {"rope_theta", 500000.0},
                  {"factor", 8.0},
                  {"low_freq_factor", 1.0},
                  {"high_freq_factor", 4.0},
                  {"original_max_position_embeddings", 8192}}}};
  ModelConfig config = parsed(llama(), patch);
  EXPECT_EQ(config.storedDType, DType::F16);
  EXPECT_EQ(config.ropeTheta, 500000.0);
  EXPECT_EQ(config.ropeScaling.kind, Kind::Llama3);
  EXPECT_EQ(config.ropeScaling.factor, 8.0);
  EXPECT_EQ(config.ropeScaling.originalMaxPosition, 8192);
  patch["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  EXPECT_EQ(parsed(qwen2(), patch).ropeTheta, 5e5);
}

TEST(Config, ReadsTheOlderStyleUnderBothTypeKeys) {
  for (const char *key : {"type", "rope_type"}) {
    json linear = {{"rope_scaling", {{key, "linear"}, {"factor", 2}}}};
    for (const json &base : {qwen2(), llama()}) {
      ModelConfig config = parsed(base, linear);
      EXPECT_EQ(config.ropeScaling.kind, Kind::Linear);
      EXPECT_EQ(config.ropeScaling.factor, 2.0);
    }
  }
}

TEST(Config, ReadsYarnWithItsDefaults) {
  json yarn = {{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}}}};
  ModelConfig config = parsed(qwen2(), yarn);
  EXPECT_EQ(config.ropeScaling.kind, Kind::Yarn);
  EXPECT_EQ(config.ropeScaling.originalMaxPosition, 32768);
  EXPECT_EQ(config.ropeScaling.betaFast, 32.0);
  EXPECT_EQ(config.ropeScaling.betaSlow, 1.0);
  EXPECT_EQ(config.ropeScaling.mscale, std::nullopt);
  EXPECT_TRUE(config.ropeScaling.truncate);
  yarn["rope_scaling"].update({{"beta_fast", 16},
                               {"mscale", 0.707},
                               {"mscale_all_dim", 0},
                               {"attention_factor", 1.5},
                               {"truncate", false},
                               {"original_max_position_embeddings", 4096}});
  config = parsed(llama(), yarn);
  EXPECT_EQ(config.ropeScaling.betaFast, 16.0);
  EXPECT_EQ(config.ropeScaling.mscale, 0.707);
  EXPECT_EQ(config.ropeScaling.mscaleAllDim, std::nullopt);
  EXPECT_EQ(config.ropeScaling.attentionFactor, 1.5);
  EXPECT_FALSE(config.ropeScaling.truncate);
  EXPECT_EQ(config.ropeScaling.originalMaxPosition, 4096);
}

TEST(Config, RopeStylesThatAgreeAreAccepted) {
  json both = {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}},
               {"rope_parameters",
                {{"rope_type", "linear"}, {"factor", 2}, {"rope_theta", 1e6}}}};
  EXPECT_EQ(parsed(qwen2(), both).ropeScaling.kind, Kind::Linear);
  both["rope_parameters"]["factor"] = 4;
  EXPECT_THAT(errorOf(qwen2(), both),
              HasSubstr("field 'rope_scaling': expected the same as in "
                        "'rope_parameters'"));
}

TEST(Config, GenerationConfigDecidesTheEndTokens) {
  EXPECT_EQ(parsed(qwen2(), json::object(), R"({"eos_token_id": [5, 7, 5]})")
                .eosTokenIds,
            (std::vector<int64_t>{5, 7}));
  EXPECT_EQ(
      parsed(qwen2(), json::object(), R"({"eos_token_id": 9})").eosTokenIds,
      std::vector<int64_t>{9});
  EXPECT_EQ(
      parsed(qwen2(), json::object(), R"({"eos_token_id": null, "top_k": 20})")
          .eosTokenIds,
      std::vector<int64_t>{2});
  EXPECT_EQ(parsed(qwen2(), {{"eos_token_id", {3, 4}}}).eosTokenIds,
            (std::vector<int64_t>{3, 4}));
}

TEST(Config, HarmlessFieldsAreAccepted) {
  parsed(llama(), {{"pretraining_tp", 1},
                   {"use_cache", true},
                   {"attention_dropout", 0.1},
                   {"initializer_range", 0.02},
                   {"transformers_version", "4.40"},
                   {"partial_rotary_factor", 1.0},
                   {"_name_or_path", "x"}});
}

TEST(Config, BrokenJsonIsRefused) {
  for (std::string text :
       {std::string(), std::string("{"), std::string("{\"a\":}"),
        std::string("{}x"), std::string("\xff"), std::string("{}\0", 3)}) {
    auto config = parseConfig(text);
    ASSERT_FALSE(config.isOk());
    EXPECT_THAT(config.status().message(),
                HasSubstr("config.json: parse error"))
        << text;
  }
  EXPECT_THAT(parseConfig("[]").status().message(),
              HasSubstr("expected an object, found an array"));
  EXPECT_THAT(parseConfig(R"({"rms_norm_eps": NaN})").status().message(),
              HasSubstr("parse error"));
}

TEST(Config, DeepJsonIsRefused) {
  std::string text = "{\"a\":" + std::string(1'000'000, '[');
  EXPECT_EQ(parseConfig(text).status().message(),
            "config.json: expected JSON nested at most 64 deep, found deeper "
            "nesting");
}

TEST(Config, DuplicateKeyIsRefused) {
  EXPECT_EQ(
      parseConfig(R"({"vocab_size": 1, "vocab_size": 2})").status().message(),
      "config.json: duplicate key 'vocab_size'");
}

TEST(Config, OtherFamiliesAreUnsupported) {
  for (const char *type : {"deepseek_v2", "mistral", "qwen3", ""}) {
    json config = qwen2();
    config["model_type"] = type;
    auto result = parseConfig(config.dump());
    ASSERT_FALSE(result.isOk());
    EXPECT_EQ(result.status().code(), Code::Unsupported);
    EXPECT_EQ(result.status().message(),
              "config.json: field 'model_type': expected 'qwen2', 'llama' or "
              "'deepseek_v3', "
              "found the string '" +
                  std::string(type) + "'");
  }
  EXPECT_EQ(errorOf(qwen2(), {{"model_type", nullptr}}),
            "config.json: field 'model_type': expected a string, found no such "
            "field");
}

TEST(Config, ArchitectureWithoutALanguageHeadIsRefused) {
  EXPECT_THAT(
      errorOf(llama(), {{"architectures", {"LlamaForSequenceClassification"}}}),
      HasSubstr("field 'architectures'"));
  EXPECT_THAT(errorOf(llama(), {{"architectures", 3}}),
              HasSubstr("field 'architectures'"));
}

/// Every required size, and ways in which an integer can be bad.
class BadInteger : public testing::TestWithParam<const char *> {};

TEST_P(BadInteger, IsRefusedByName) {
  std::string field = GetParam();
  std::string start = "config.json: field '" + field + "': expected ";
  auto with = [&](const json &value) {
    json config = llama();
    config[field] = value;
    auto result = parseConfig(config.dump());
    EXPECT_FALSE(result.isOk()) << field << " " << value;
    return result.status().message();
  };
  EXPECT_THAT(with(-4), HasSubstr(start + "a positive integer up to "));
  EXPECT_THAT(with(-4), testing::EndsWith(", found -4"));
  EXPECT_THAT(with(0), HasSubstr(start));
  EXPECT_THAT(with(1.5), HasSubstr(start));
  EXPECT_THAT(with("8"), testing::EndsWith("found the string '8'"));
  EXPECT_THAT(with(true), HasSubstr(start));
  EXPECT_THAT(with(json::array({8})), testing::EndsWith("found an array"));
  EXPECT_THAT(with(json::object()), testing::EndsWith("found an object"));
  EXPECT_THAT(with(int64_t(1) << 40), HasSubstr(start));
  EXPECT_THAT(with(UINT64_MAX), HasSubstr(start));
  EXPECT_THAT(with(1e300), HasSubstr(start));
}

INSTANTIATE_TEST_SUITE_P(Fields, BadInteger,
                         testing::Values("vocab_size", "hidden_size",
                                         "intermediate_size",
                                         "num_hidden_layers",
                                         "num_attention_heads",
                                         "num_key_value_heads", "head_dim",
                                         "max_position_embeddings"));

TEST(Config, RequiredSizesMayNotBeMissing) {
  for (const char *field : {"vocab_size", "hidden_size", "intermediate_size",
                            "num_hidden_layers", "num_attention_heads"}) {
    EXPECT_THAT(errorOf(llama(), {{field, nullptr}}),
                testing::EndsWith("found no such field"));
    json config = llama();
    config[field] = nullptr;
    EXPECT_THAT(parseConfig(config.dump()).status().message(),
                testing::EndsWith("found null"));
  }
}

TEST(Config, HeadCountsMustFit) {
  EXPECT_EQ(errorOf(qwen2(), {{"num_key_value_heads", 3}}),
            "config.json: field 'num_key_value_heads': expected a divisor of "
            "num_attention_heads (4), found 3");
  EXPECT_THAT(errorOf(qwen2(), {{"num_key_value_heads", 8}}),
              HasSubstr("a divisor of"));
  EXPECT_EQ(errorOf(llama(), {{"hidden_size", 130}}),
            "config.json: field 'hidden_size': expected a multiple of "
            "num_attention_heads (4), or a head_dim, found 130");
  EXPECT_THAT(errorOf(llama(), {{"head_dim", 31}}),
              HasSubstr("field 'head_dim': expected an even head dimension"));
  EXPECT_THAT(
      errorOf(llama(), {{"hidden_size", 36}}),
      HasSubstr("field 'hidden_size': expected an even head dimension"));
  EXPECT_THAT(errorOf(llama(), {{"head_dim", 65536},
                                {"num_attention_heads", 65536},
                                {"num_key_value_heads", 1}}),
              HasSubstr("num_attention_heads * head_dim"));
}

TEST(Config, NumbersMustBeInRange) {
  EXPECT_THAT(errorOf(llama(), {{"rms_norm_eps", 0}}),
              HasSubstr("field 'rms_norm_eps': expected a number above 0"));
  EXPECT_THAT(errorOf(llama(), {{"rms_norm_eps", -1e-6}}),
              HasSubstr("rms_norm_eps"));
  EXPECT_THAT(errorOf(llama(), {{"rms_norm_eps", "1e-6"}}),
              HasSubstr("found the string '1e-6'"));
  EXPECT_THAT(errorOf(llama(), {{"rope_theta", 0}}), HasSubstr("rope_theta"));
  EXPECT_THAT(errorOf(llama(), {{"rope_theta", 1e300}}),
              HasSubstr("rope_theta"));
  std::string huge = llama().dump();
  huge.replace(huge.find("1000000.0"), 9, "1e999");
  EXPECT_FALSE(parseConfig(huge).isOk());
}

TEST(Config, BooleansMustBeBooleans) {
  for (const char *field :
       {"tie_word_embeddings", "attention_bias", "mlp_bias"})
    EXPECT_EQ(errorOf(llama(), {{field, 1}}),
              "config.json: field '" + std::string(field) +
                  "': expected true or false, found 1");
}

TEST(Config, OtherActivationsAreUnsupported) {
  EXPECT_EQ(errorOf(qwen2(), {{"hidden_act", "gelu"}}),
            "config.json: field 'hidden_act': expected 'silu', found the "
            "string 'gelu'");
  EXPECT_THAT(errorOf(qwen2(), {{"hidden_act", 3}}), HasSubstr("hidden_act"));
}

TEST(Config, FieldsThatChangeTheResultAreUnsupported) {
  const std::pair<const char *, json> fields[] = {
      {"pretraining_tp", 2},          {"partial_rotary_factor", 0.5},
      {"rope_interleaved", true},     {"final_logit_softcapping", 30.0},
      {"embedding_multiplier", 12.0}, {"use_qk_norm", true},
      {"num_local_experts", 8},       {"is_encoder_decoder", true}};
  for (const auto &[field, value] : fields) {
    json config = llama();
    config[field] = value;
    auto result = parseConfig(config.dump());
    ASSERT_FALSE(result.isOk()) << field;
    EXPECT_EQ(result.status().code(), Code::Unsupported);
    EXPECT_THAT(result.status().message(),
                HasSubstr("field '" + std::string(field) + "'"));
  }
}

TEST(Config, SlidingWindowWithoutEffectIsAccepted) {
  json on = {{"use_sliding_window", true}};
  parsed(qwen2(), on); // every layer is below max_window_layers
  on["max_window_layers"] = 0;
  on["sliding_window"] = 32768; // as long as the context
  parsed(qwen2(), on);
  json none = qwen2();
  none.update(on);
  none["sliding_window"] = nullptr;
  EXPECT_TRUE(parseConfig(none.dump()).isOk());
  json full =
      json::array({"full_attention", "full_attention", "full_attention"});
  parsed(qwen2(), {{"use_sliding_window", true},
                   {"max_window_layers", 0},
                   {"layer_types", full}});
  parsed(llama(), {{"layer_types", full}});
}

TEST(Config, SlidingWindowWithEffectIsUnsupported) {
  json on = {{"use_sliding_window", true}, {"max_window_layers", 2}};
  EXPECT_THAT(errorOf(qwen2(), on),
              HasSubstr("field 'use_sliding_window': expected no "
                        "sliding-window attention shorter than the context of "
                        "32768"));
  EXPECT_THAT(errorOf(llama(), {{"sliding_window", 1024}}),
              HasSubstr("field 'sliding_window'"));
  json mixed =
      json::array({"full_attention", "sliding_attention", "full_attention"});
  EXPECT_THAT(errorOf(qwen2(), {{"layer_types", mixed}}),
              HasSubstr("field 'layer_types'"));
  EXPECT_THAT(errorOf(llama(), {{"layer_types", mixed}}),
              HasSubstr("field 'layer_types'"));
}

TEST(Config, BadLayerTypesAreRefused) {
  EXPECT_THAT(errorOf(qwen2(), {{"layer_types", "full_attention"}}),
              HasSubstr("field 'layer_types'"));
  EXPECT_THAT(
      errorOf(qwen2(), {{"layer_types", {"full_attention", "mamba", 3}}}),
      HasSubstr("an array of 'full_attention'"));
  EXPECT_THAT(errorOf(qwen2(), {{"layer_types", {"full_attention"}}}),
              HasSubstr("expected 3 entries, found 1"));
}

TEST(Config, OtherRopeTypesAreUnsupported) {
  for (const char *type : {"dynamic", "longrope", "su", "mrope", "ntk"})
    EXPECT_EQ(
        errorOf(qwen2(), {{"rope_scaling", {{"type", type}, {"factor", 2.0}}}}),
        "config.json: field 'rope_scaling.type': expected 'default', "
        "'linear', 'llama3' or 'yarn', found the string '" +
            std::string(type) + "'");
}

TEST(Config, BadRopeFieldsAreRefused) {
  auto error = [](const json &scaling) {
    json config = qwen2();
    config["rope_scaling"] = scaling;
    auto result = parseConfig(config.dump());
    EXPECT_FALSE(result.isOk()) << scaling;
    return result.status().message();
  };
  EXPECT_THAT(error("yarn"), HasSubstr("'rope_scaling': expected an object"));
  EXPECT_THAT(error({{"type", 3}}), HasSubstr("'rope_scaling.type'"));
  EXPECT_THAT(error({{"type", "linear"}}),
              HasSubstr("'rope_scaling.factor': expected a number above 0"));
  EXPECT_THAT(error({{"type", "yarn"}}), HasSubstr("'rope_scaling.factor'"));
  EXPECT_THAT(error({{"type", "linear"}, {"factor", 0}}), HasSubstr("found 0"));
  EXPECT_THAT(error({{"type", "linear"}, {"factor", -2}}),
              HasSubstr("found -2"));
  EXPECT_THAT(error({{"type", "linear"}, {"factor", 1e30}}),
              HasSubstr("factor"));
  EXPECT_THAT(error({{"type", "yarn"}, {"factor", 2}, {"truncate", 1}}),
              HasSubstr("'rope_scaling.truncate'"));
  EXPECT_THAT(error({{"type", "yarn"}, {"factor", 2}, {"beta_fast", "x"}}),
              HasSubstr("'rope_scaling.beta_fast'"));
  EXPECT_THAT(error({{"type", "yarn"},
                     {"factor", 2},
                     {"original_max_position_embeddings", 0}}),
              HasSubstr("original_max_position_embeddings"));
  EXPECT_THAT(error({{"type", "default"}, {"mrope_section", {1, 2}}}),
              HasSubstr("'rope_scaling.mrope_section'"));
  EXPECT_THAT(error({{"type", "default"}, {"partial_rotary_factor", 0.5}}),
              HasSubstr("'rope_scaling.partial_rotary_factor'"));
  EXPECT_THAT(error({{"full_attention", {{"rope_type", "default"}}}}),
              HasSubstr("'rope_scaling.full_attention'"));
  json llama3 = {{"rope_type", "llama3"},
                 {"factor", 8},
                 {"low_freq_factor", 4},
                 {"high_freq_factor", 4}};
  EXPECT_THAT(error(llama3), HasSubstr("above low_freq_factor (4)"));
  llama3.erase("low_freq_factor");
  EXPECT_THAT(error(llama3), HasSubstr("'rope_scaling.low_freq_factor'"));
}

TEST(Config, BadDTypesAreRefused) {
  EXPECT_THAT(errorOf(qwen2(), {{"torch_dtype", "int8"}}),
              HasSubstr("field 'torch_dtype'"));
  EXPECT_THAT(errorOf(qwen2(), {{"dtype", 16}}), HasSubstr("field 'dtype'"));
}

TEST(Config, TokenIdsOutsideTheVocabularyAreRefused) {
  EXPECT_EQ(errorOf(qwen2(), {{"eos_token_id", 512}}),
            "config.json: field 'eos_token_id': expected an integer from 0 to "
            "511, found 512");
  EXPECT_THAT(errorOf(qwen2(), {{"eos_token_id", {2, -1}}}),
              HasSubstr("found -1"));
  EXPECT_THAT(errorOf(qwen2(), {{"eos_token_id", {2, "x"}}}),
              HasSubstr("eos_token_id"));
  EXPECT_THAT(errorOf(qwen2(), {{"bos_token_id", 512}}),
              HasSubstr("field 'bos_token_id'"));
}

TEST(Config, BadGenerationConfigIsRefused) {
  EXPECT_EQ(errorOf(qwen2(), json::object(), R"({"eos_token_id": 600})"),
            "generation_config.json: field 'eos_token_id': expected an integer "
            "from 0 to 511, found 600");
  EXPECT_THAT(errorOf(qwen2(), json::object(), "[]"),
              HasSubstr("generation_config.json: expected an object"));
  EXPECT_THAT(errorOf(qwen2(), json::object(), "{"),
              HasSubstr("generation_config.json: parse error"));
}

TEST(Config, ExpectedTensorsFollowTheBiasFlags) {
  auto count = [](const ModelConfig &config, std::string_view ending) {
    int found = 0;
    for (const ExpectedTensor &tensor : expectedTensors(config))
      found += tensor.name.ends_with(ending);
    return found;
  };
  ModelConfig tied = parsed(qwen2());
  EXPECT_EQ(expectedTensors(tied).size(), 1u + 3 * 12 + 1);
  EXPECT_EQ(count(tied, ".bias"), 9);
  EXPECT_EQ(count(tied, "lm_head.weight"), 0);
  ModelConfig biased = parsed(llama(), {{"attention_bias", true},
                                        {"mlp_bias", true},
                                        {"tie_word_embeddings", false},
                                        {"head_dim", 16}});
  EXPECT_EQ(count(biased, ".bias"), 21);
  EXPECT_EQ(count(biased, "lm_head.weight"), 1);
  auto all = expectedTensors(biased);
  auto has = [&](const ExpectedTensor &tensor) {
    return std::find(all.begin(), all.end(), tensor) != all.end();
  };
  EXPECT_TRUE(has({"model.layers.2.self_attn.q_proj.weight", {64, 128}}));
  EXPECT_TRUE(has({"model.layers.0.self_attn.k_proj.weight", {32, 128}}));
  EXPECT_TRUE(has({"model.layers.0.self_attn.o_proj.weight", {128, 64}}));
  EXPECT_TRUE(has({"model.layers.0.self_attn.o_proj.bias", {128}}));
  EXPECT_TRUE(has({"model.layers.1.mlp.down_proj.weight", {128, 352}}));
  EXPECT_TRUE(has({"model.layers.1.mlp.down_proj.bias", {128}}));
  EXPECT_TRUE(has({"lm_head.weight", {512, 128}}));
}

} // namespace
