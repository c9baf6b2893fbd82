//===- MoeTest.cpp - Experts at their edges ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Prompts that all experts but some never see, of one token and of thousands,
/// against the reference interpreter.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "compiler/reference/Reference.h"

using namespace retort;
using namespace retort::test;
using nlohmann::json;

namespace {

constexpr int64_t kExperts = 8, kVocab = 64, kContext = 4608;
constexpr int64_t kMoeLayers = 2;

/// Whether the checkpoint is fp8.
class Moe : public ::testing::TestWithParam<bool> {
protected:
  TinyModel model() const {
    TinyModel model;
    model.modelType = "deepseek_v3";
    model.vocab = kVocab;
    model.hidden = 64;
    model.layers = 1 + kMoeLayers;
    model.extra = {{"max_position_embeddings", kContext}};
    if (GetParam())
      model.extra["quantization_config"] = {{"quant_method", "fp8"},
                                            {"fmt", "e4m3"},
                                            {"activation_scheme", "dynamic"},
                                            {"weight_block_size", {16, 16}}};
    return model;
  }

  /// Writes and compiles a model whose routers prefer experts by `bias`.
  void make(TinyModel model, const std::vector<float> &bias = {}) {
    CheckpointBuilder builder(model);
    for (auto &tensor : builder.tensors)
      if (!bias.empty() && tensor.name.ends_with("e_score_correction_bias"))
        tensor.bytes = encodeFloats(DType::F32, bias);
    builder.write(dir.path());
    compileCheckpoint(dir.path(), artifact, {"--verify"});
  }

  /// The prompt's logits are the reference's, in chunks of whatever size.
  /// Returns the experts that the reference gave to the tokens.
  std::vector<int32_t> check(const std::vector<int32_t> &tokens,
                             const std::vector<const char *> &chunks,
                             double tolerance = 1e-4) {
    auto checkpoint = checkpoint::Checkpoint::open(dir.path());
    if (!checkpoint) {
      ADD_FAILURE() << checkpoint.status().message();
      return {};
    }
    reference::ReferenceOptions options;
    options.keepExperts = true;
    auto expected = reference::runReference(*checkpoint, tokens, options);
    if (!expected) {
      ADD_FAILURE() << expected.status().message();
      return {};
    }
    for (const char *chunk : chunks)
      EXPECT_LE(
          relativeRms(
              runLogits(artifact, tokens, {"--prefill-chunk", chunk}).floats,
              expected->logits),
          1e-4)
          << "chunks of " << chunk;
    return expected->experts;
  }

  TempDir dir;
  std::string artifact = dir.path("model.retort");
};

TEST_P(Moe, AllTokensOnOneExpert) {
  TinyModel one = model();
  one.extra["num_experts_per_tok"] = 1;
  one.extra["n_group"] = one.extra["topk_group"] = 1;
  std::vector<float> bias(kExperts, 0.0f);
  bias[5] = 10;
  make(one, bias);
  std::vector<int32_t> tokens = randomTokens(600, kVocab, 1);
  EXPECT_EQ(check(tokens, {"1", "7", "512"}),
            std::vector<int32_t>(kMoeLayers * tokens.size(), 5));
}

TEST_P(Moe, AllTokensOnTheSameTwoExperts) {
  std::vector<float> bias(kExperts, 0.0f);
  bias[4] = bias[7] = 10;
  make(model(), bias);
  std::vector<int32_t> tokens = randomTokens(600, kVocab, 2);
  std::vector<int32_t> experts = check(tokens, {"1", "512"});
  ASSERT_EQ(experts.size(), kMoeLayers * 2 * tokens.size());
  for (size_t i = 0; i < experts.size(); ++i)
    ASSERT_EQ(experts[i], i % 2 ? 7 : 4);
}

TEST_P(Moe, AnExpertIsNeverChosen) {
  std::vector<float> bias(kExperts, 0.0f);
  bias[3] = -10;
  make(model(), bias);
  std::vector<int32_t> experts =
      check(randomTokens(300, kVocab, 3), {"1", "16", "512"});
  EXPECT_EQ(std::count(experts.begin(), experts.end(), 3), 0);
  for (int32_t other : {0, 1, 2, 4, 5, 6, 7})
    EXPECT_GT(std::count(experts.begin(), experts.end(), other), 0) << other;
}

TEST_P(Moe, AGroupIsNeverChosen) {
  make(model(), {10, 10, 10, 10, 0, 0, 0, 0});
  std::vector<int32_t> experts =
      check(randomTokens(300, kVocab, 4), {"1", "512"});
  ASSERT_FALSE(experts.empty());
  EXPECT_LT(*std::max_element(experts.begin(), experts.end()), 4);
}

TEST_P(Moe, OneToken) {
  make(model());
  for (int32_t token : {0, 17, int32_t(kVocab - 1)})
    EXPECT_EQ(check({token}, {"1", "512"}).size(), kMoeLayers * 2u);
}

TEST_P(Moe, ThousandsOfTokensInOnePrompt) {
  make(model());
  std::vector<int32_t> experts =
      check(randomTokens(4096, kVocab, 5), {"512", "500"});
  for (int32_t expert = 0; expert < kExperts; ++expert)
    EXPECT_GT(std::count(experts.begin(), experts.end(), expert), 0) << expert;
}

TEST_P(Moe, EveryExpertFires) {
  TinyModel all = model();
  all.extra["num_experts_per_tok"] = kExperts;
  all.extra["topk_group"] = 2;
  make(all);
  EXPECT_EQ(check(randomTokens(100, kVocab, 6), {"1", "64"}).size(),
            kMoeLayers * kExperts * 100u);
}

TEST_P(Moe, HeadsAndTokensThatFillNoTile) {
  // Tiles of latent attention are of 16 heads, 4 tokens and blocks of 48.
  TinyModel many = model();
  many.heads = 21;
  std::vector<int32_t> tokens = randomTokens(131, kVocab, 7);
  make(many);
  check(tokens, {"1", "50", "512"});
  // Rounded caches may turn the choice of an expert, but in all chunks alike.
  compileCheckpoint(dir.path(), artifact, {"--verify", "--kv", "f16"});
  std::vector<float> alone =
      runLogits(artifact, tokens, {"--prefill-chunk", "1"}).floats;
  for (const char *chunk : {"50", "512"})
    EXPECT_LE(
        relativeRms(
            runLogits(artifact, tokens, {"--prefill-chunk", chunk}).floats,
            alone),
        1e-4)
        << "chunks of " << chunk;
}

INSTANTIATE_TEST_SUITE_P(Types, Moe, ::testing::Bool(), [](const auto &info) {
  return info.param ? "Fp8" : "BF16";
});

} // namespace
