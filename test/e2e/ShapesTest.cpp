//===- ShapesTest.cpp - Models of odd shapes ------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Random checkpoints of shapes that divide by nothing, in every variant of the
/// two families, against the reference interpreter.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "compiler/reference/Reference.h"

using namespace retort;
using namespace retort::test;
using nlohmann::json;

namespace {

struct Shape {
  const char *name;
  TinyModel model;
  int64_t tokens = 37; ///< in the prompt
};

std::ostream &operator<<(std::ostream &out, const Shape &shape) {
  return out << shape.name;
}

Shape shape(const char *name, json extra, int64_t heads, int64_t kvHeads,
            const char *family = "qwen2") {
  Shape result = {name, {}};
  TinyModel &model = result.model;
  model.modelType = family;
  model.vocab = 301;
  model.hidden = 80;
  model.intermediate = 100;
  model.heads = heads;
  model.kvHeads = kvHeads;
  model.extra = std::move(extra);
  return result;
}

std::vector<Shape> shapes() {
  std::vector<Shape> all = {
      shape("HeadDim48", {{"head_dim", 48}}, 5, 5),
      shape("HeadDim16", json::object(), 5, 1),
      shape("HeadDim128", {{"head_dim", 128}}, 2, 1, "llama"),
      shape("HeadDim6", {{"head_dim", 6}}, 6, 2, "llama"),
      shape("ManyHeads", {{"head_dim", 8}}, 14, 2),
      shape("LlamaBiases", {{"attention_bias", true}, {"mlp_bias", true}}, 5, 5,
            "llama"),
      shape("LinearRope",
            {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 4.0}}}}, 5,
            1, "llama"),
      shape("YarnRope",
            {{"rope_scaling",
              {{"rope_type", "yarn"},
               {"factor", 4.0},
               {"original_max_position_embeddings", 128}}}},
            5, 5),
      shape("Llama3Rope",
            {{"rope_scaling",
              {{"rope_type", "llama3"},
               {"factor", 8.0},
               {"low_freq_factor", 1.0},
               {"high_freq_factor", 4.0},
               {"original_max_position_embeddings", 64}}}},
            5, 1, "llama"),
      shape("NewerConfig",
            {{"rope_theta", nullptr},
             {"torch_dtype", nullptr},
             {"dtype", "bfloat16"},
             {"rope_parameters",
              {{"rope_type", "default"}, {"rope_theta", 5e4}}}},
            5, 5),
      shape("LargeEpsilon", {{"rms_norm_eps", 0.1}}, 5, 5),
  };
  Shape tied = shape("Tied", json::object(), 5, 5);
  tied.model.tied = true;
  all.push_back(tied);
  Shape f16 = shape("F16", json::object(), 5, 1, "llama");
  f16.model.dtype = DType::F16;
  all.push_back(f16);
  Shape f32 = shape("F32", json::object(), 5, 1);
  f32.model.dtype = DType::F32;
  all.push_back(f32);
  Shape oneLayer = shape("OneLayerOneHead", {{"head_dim", 80}}, 1, 1);
  oneLayer.model.layers = 1;
  all.push_back(oneLayer);
  Shape narrow = shape("Narrow", {{"head_dim", 2}}, 1, 1, "llama");
  narrow.model.hidden = 7;
  narrow.model.intermediate = 3;
  narrow.model.vocab = 5;
  all.push_back(narrow);
  Shape one = shape("OneToken", json::object(), 5, 5);
  one.tokens = 1;
  all.push_back(one);
  Shape longer = shape("LongPrompt", json::object(), 4, 2);
  longer.tokens = 400;
  all.push_back(longer);
  return all;
}

class Shapes : public ::testing::TestWithParam<Shape> {
protected:
  void SetUp() override {
    CheckpointBuilder(GetParam().model).write(dir.path());
    tokens = randomTokens(static_cast<size_t>(GetParam().tokens),
                          GetParam().model.vocab, 7);
    auto checkpoint = checkpoint::Checkpoint::open(dir.path());
    ASSERT_TRUE(checkpoint) << checkpoint.status().message();
    auto output = reference::runReference(*checkpoint, tokens);
    ASSERT_TRUE(output) << output.status().message();
    expected = std::move(output->logits);
  }

  std::vector<float> logits(const std::vector<std::string> &compileFlags,
                            const std::vector<std::string> &runFlags = {}) {
    std::string artifact = dir.path("model.retort");
    compileCheckpoint(dir.path(), artifact, compileFlags);
    return runLogits(artifact, tokens, runFlags).floats;
  }

  TempDir dir;
  std::vector<int32_t> tokens;
  std::vector<float> expected; ///< [T, vocab]
};

TEST_P(Shapes, KeptWeightsMatchTheReference) {
  EXPECT_LE(relativeRms(logits({}), expected), 1e-4);
}

TEST_P(Shapes, DecodePathMatchesTheReference) {
  EXPECT_LE(relativeRms(logits({}, {"--prefill-chunk", "1"}), expected), 1e-4);
}

TEST_P(Shapes, Int4IsNearTheReference) {
  EXPECT_LE(relativeRms(logits({"--weights", "int4"}), expected), 0.35);
}

TEST_P(Shapes, Int8IsNearTheReference) {
  EXPECT_LE(relativeRms(logits({"--weights", "int8"}), expected), 0.03);
}

INSTANTIATE_TEST_SUITE_P(Models, Shapes, ::testing::ValuesIn(shapes()),
                         [](const auto &info) {
                           return std::string(info.param.name);
                         });

} // namespace
