//===- DeepseekTest.cpp - Latent attention and experts ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/DType.h"
#include "compiler/reference/Reference.h"
#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>

namespace retort::reference {
namespace {

using checkpoint::Checkpoint;
using checkpoint::TensorView;
using test::CheckpointBuilder;
using test::encodeFloats;
using test::TempDir;
using test::TinyModel;
using testing::ElementsAre;
using testing::HasSubstr;

/// Two layers, dense and with experts: two groups of four, of which one is
/// chosen, and two experts of it.
struct DeepseekTest : testing::Test {
  TempDir dir;
  TinyModel model;
  std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5};

  DeepseekTest() { model.modelType = "deepseek_v3"; }
  Checkpoint open(const CheckpointBuilder &builder) {
    builder.write(dir.path());
    auto opened = Checkpoint::open(dir.path());
    if (!opened)
      throw std::runtime_error(opened.status().message());
    return std::move(*opened);
  }
  Checkpoint open() { return open(CheckpointBuilder(model)); }
  static ReferenceOutput run(const Checkpoint &checkpoint,
                             std::span<const int32_t> tokens,
                             const ReferenceOptions &options = {}) {
    auto out = runReference(checkpoint, tokens, options);
    if (!out)
      throw std::runtime_error(out.status().message());
    return std::move(*out);
  }
  /// The experts of one token if every score is a half and `bias` decides.
  std::vector<int32_t> chosenBy(const std::vector<float> &bias) {
    CheckpointBuilder builder(model);
    auto &gate = builder.tensor("model.layers.1.mlp.gate.weight");
    std::fill(gate.bytes.begin(), gate.bytes.end(), std::byte{0});
    builder.tensor("model.layers.1.mlp.gate.e_score_correction_bias").bytes =
        encodeFloats(DType::F32, bias);
    ReferenceOptions options;
    options.keepExperts = true;
    return run(open(builder), std::vector<int32_t>{7}, options).experts;
  }
};

TEST_F(DeepseekTest, LowerIndicesWinTies) {
  EXPECT_THAT(chosenBy({0, 0, 0, 0, 0, 0, 0, 0}), ElementsAre(0, 1));
  EXPECT_THAT(chosenBy({0, 1, 1, 1, 0, 1, 1, 1}), ElementsAre(1, 2));
  EXPECT_THAT(chosenBy({0, 0, 0, 0, 1, 2, 1, 1}), ElementsAre(4, 5));
}

TEST_F(DeepseekTest, TheTwoBestJudgeAGroup) {
  // The second group has the best expert, the first the better pair.
  EXPECT_THAT(chosenBy({2, 0, 0, 2, 3, 0, 0, 0}), ElementsAre(0, 3));
  EXPECT_THAT(chosenBy({2, 0, 0, 2, 3, 0, 0, 2}), ElementsAre(4, 7));
}

TEST_F(DeepseekTest, NegativeChoicesStayWithinTheChosenGroups) {
  EXPECT_THAT(chosenBy({-1, -2, -2, -1, -9, -9, -9, -9}), ElementsAre(0, 3));
}

TEST_F(DeepseekTest, KeepsExpertsAscendingForEveryTokenAndLayer) {
  model.layers = 3;
  Checkpoint checkpoint = open();
  ReferenceOptions options;
  options.keepExperts = true;
  auto experts = run(checkpoint, tokens, options).experts;
  ASSERT_EQ(experts.size(), 2 * tokens.size() * 2);
  for (size_t i = 0; i < experts.size(); i += 2) {
    EXPECT_GE(experts[i], 0);
    EXPECT_LT(experts[i], experts[i + 1]);
    EXPECT_LT(experts[i + 1], 8);
  }
  EXPECT_TRUE(run(checkpoint, tokens).experts.empty());
}

TEST_F(DeepseekTest, ReadsOnlyExpertsThatFire) {
  Checkpoint checkpoint = open();
  std::set<std::string> read;
  std::mutex mutex;
  ReferenceOptions options;
  options.keepExperts = true;
  options.weights = [&](const TensorView &tensor, WeightUse use, int64_t first,
                        int64_t rows, std::span<float> out) {
    std::lock_guard lock(mutex);
    if (tensor.name.find(".experts.") != std::string::npos)
      read.insert(tensor.name);
    EXPECT_EQ(use == WeightUse::Router, tensor.name.ends_with(".gate.weight"));
    return checkpoint::readRows(tensor, first, rows, out);
  };
  auto out = run(checkpoint, std::vector<int32_t>{7}, options);
  ASSERT_EQ(out.experts.size(), 2u);
  EXPECT_EQ(read.size(), 6u);
  for (int32_t expert : out.experts)
    EXPECT_TRUE(read.contains("model.layers.1.mlp.experts." +
                              std::to_string(expert) + ".down_proj.weight"));
}

TEST_F(DeepseekTest, PiecesAndThreadsGiveTheSame) {
  Checkpoint checkpoint = open();
  ReferenceOptions one;
  one.threads = 1;
  ReferenceOptions three;
  three.threads = 3;
  EXPECT_EQ(run(checkpoint, tokens, one).logits,
            run(checkpoint, tokens, three).logits);
  auto next = generateGreedy(checkpoint, tokens, 4);
  ASSERT_TRUE(next) << next.status().message();
  for (int32_t token : *next) {
    auto whole = run(checkpoint, tokens);
    auto best = std::max_element(whole.logits.end() - 48, whole.logits.end());
    EXPECT_EQ(best - (whole.logits.end() - 48), token);
    tokens.push_back(token);
  }
}

TEST_F(DeepseekTest, EveryTensorCounts) {
  model.extra = {{"attention_bias", true}, {"num_nextn_predict_layers", 1}};
  Checkpoint checkpoint = open();
  ReferenceOptions options;
  options.mtp = true;
  auto plain = run(checkpoint, tokens, options);
  for (const TensorView &view : checkpoint.tensors()) {
    if (view.name.find(".experts.") != std::string::npos)
      continue; // some never fire
    ReferenceOptions changed = options;
    changed.weights = [&](const TensorView &tensor, WeightUse, int64_t first,
                          int64_t rows, std::span<float> out) {
      Status status = checkpoint::readRows(tensor, first, rows, out);
      if (tensor.name == view.name)
        for (float &value : out)
          value *= -1.5f;
      return status;
    };
    auto out = run(checkpoint, tokens, changed);
    EXPECT_NE(out.mtpLogits, plain.mtpLogits) << view.name;
    bool ofMtp = view.name.starts_with("model.layers.2.");
    EXPECT_EQ(out.logits == plain.logits, ofMtp) << view.name;
  }
}

TEST_F(DeepseekTest, DraftsFromAllTokensOrTheLast) {
  model.extra = {{"num_nextn_predict_layers", 1}};
  Checkpoint checkpoint = open();
  ReferenceOptions options;
  options.mtp = true;
  auto all = run(checkpoint, tokens, options).mtpLogits;
  EXPECT_EQ(all.size(), (tokens.size() - 1) * 48);
  options.lastLogitsOnly = true;
  EXPECT_EQ(run(checkpoint, tokens, options).mtpLogits,
            std::vector<float>(all.end() - 48, all.end()));
  EXPECT_TRUE(
      run(checkpoint, std::vector<int32_t>{1}, options).mtpLogits.empty());
}

TEST_F(DeepseekTest, DraftsNeedTheLayer) {
  Checkpoint checkpoint = open();
  ReferenceOptions options;
  options.mtp = true;
  auto out = runReference(checkpoint, tokens, options);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.status().code(), Code::InvalidArgument);
  EXPECT_THAT(out.status().message(), HasSubstr("multi-token-prediction"));
}

TEST_F(DeepseekTest, RefusesNaNInAnFp8Weight) {
  model.extra = {{"quantization_config", {{"quant_method", "fp8"}}}};
  CheckpointBuilder builder(model);
  builder.tensor("model.layers.0.mlp.down_proj.weight").bytes[3] =
      std::byte{0x7f};
  auto out = runReference(open(builder), tokens);
  ASSERT_FALSE(out);
  EXPECT_THAT(out.status().message(),
              HasSubstr("tensor 'model.layers.0.mlp.down_proj.weight': row 0, "
                        "column 3: expected a number, found NaN"));
}

} // namespace
} // namespace retort::reference
