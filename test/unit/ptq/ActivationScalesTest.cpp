//===- ActivationScalesTest.cpp - Scales between layers -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/ActivationScales.h"

#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

using namespace retort;
using namespace retort::ptq;
using testing::ElementsAre;

namespace {

checkpoint::ModelConfig configOf(const test::TinyModel &model) {
  auto parsed =
      checkpoint::parseConfig(test::CheckpointBuilder(model).config.dump());
  EXPECT_TRUE(parsed) << parsed.status().message();
  return *parsed;
}

const ScaleFold &foldOf(const std::vector<ScaleFold> &folds,
                        const std::string &consumer) {
  for (const ScaleFold &fold : folds)
    if (fold.consumers.front() == consumer)
      return fold;
  throw std::out_of_range(consumer);
}

TEST(ScaleFolds, HeadsThatShareValuesShareSources) {
  test::TinyModel model;
  model.hidden = 32; // 4 heads of 8 over 2 of keys and values
  auto folds = scaleFolds(configOf(model), 1);
  ASSERT_EQ(folds.size(), 4u);
  const ScaleFold &output = foldOf(folds, "model.layers.1.self_attn.o_proj"
                                          ".weight");
  EXPECT_EQ(output.producer, "model.layers.1.self_attn.v_proj.weight");
  ASSERT_EQ(output.sources.size(), 32u);
  for (int c = 0; c < 32; ++c)
    EXPECT_EQ(output.sources[static_cast<size_t>(c)], c / 16 * 8 + c % 8) << c;
  const ScaleFold &qkv =
      foldOf(folds, "model.layers.1.self_attn.q_proj.weight");
  EXPECT_EQ(qkv.norm, "model.layers.1.input_layernorm.weight");
  EXPECT_THAT(qkv.consumers,
              ElementsAre("model.layers.1.self_attn.q_proj.weight",
                          "model.layers.1.self_attn.k_proj.weight",
                          "model.layers.1.self_attn.v_proj.weight"));
  EXPECT_EQ(foldOf(folds, "model.layers.1.mlp.down_proj.weight").producer,
            "model.layers.1.mlp.up_proj.weight");
}

TEST(ScaleFolds, RouterAndExpertsKeepTheirNorm) {
  test::TinyModel model;
  model.modelType = "deepseek_v3"; // layer 0 is dense, layer 1 has experts
  checkpoint::ModelConfig config = configOf(model);
  int norms[2] = {};
  for (int64_t layer : {0, 1})
    for (const ScaleFold &fold : scaleFolds(config, layer))
      norms[layer] += fold.norm.ends_with("post_attention_layernorm.weight");
  EXPECT_EQ(norms[0], 1);
  EXPECT_EQ(norms[1], 0);
  auto folds = scaleFolds(config, 1);
  EXPECT_EQ(
      foldOf(folds, "model.layers.1.mlp.experts.7.down_proj.weight").producer,
      "model.layers.1.mlp.experts.7.up_proj.weight");
  // Of a head's 8 + 12 rows those of values: after 8 of keys.
  const ScaleFold &output =
      foldOf(folds, "model.layers.1.self_attn.o_proj.weight");
  EXPECT_EQ(output.sources[0], 8);
  EXPECT_EQ(output.sources[11], 19);
  EXPECT_EQ(output.sources[12], 28);
}

TEST(ExactScale, QuotientTimesScaleIsTheValue) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> exponent(-6, 6);
  for (DType dtype : {DType::BF16, DType::F16, DType::F32})
    for (int i = 0; i < 2000; ++i) {
      float value =
          roundTo(dtype, std::exp2(exponent(random)) * (i % 2 ? -1.0f : 1.0f));
      float wanted = std::exp2(exponent(random));
      float scale = exactScale(value, wanted, dtype);
      EXPECT_NEAR(scale / wanted, 1, 0.01);
      EXPECT_FLOAT_EQ(roundTo(dtype, value / scale) * scale, value);
    }
}

TEST(ExactScale, NoneWhereTheQuotientDoesNotFit) {
  EXPECT_EQ(exactScale(60000.0f, 0x1p-4f, DType::F16), 1.0f);
  EXPECT_EQ(exactScale(0x1p-14f, 4096.0f, DType::F16), 1.0f);
  EXPECT_EQ(exactScale(0.0f, 3.0f, DType::F16), 3.0f);
}

/// Inputs of which some are far larger than the others.
Activations unevenInputs(int64_t rows, int64_t cols) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  Activations x{rows, cols, {}};
  for (int64_t i = 0; i < rows * cols; ++i)
    x.values.push_back(normal(random) * (i % cols % 16 == 3 ? 30.0f : 1.0f));
  return x;
}

double outputError(const GridForm &form, const MatrixSample &matrix,
                   const QuantizedResult &result, const Activations &x,
                   std::span<const float> scales) {
  double sum = 0;
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t r = 0; r < matrix.rows; ++r) {
      double error = 0;
      for (int64_t c = 0; c < x.cols; ++c) {
        auto i = static_cast<size_t>(r * x.cols + c);
        const Grid &grid = result.grids[static_cast<size_t>(
            r * form.groups(x.cols) + c / form.width(x.cols))];
        double found = valueOnGrid(form, grid, result.quants[i]);
        if (!scales.empty())
          found /= scales[static_cast<size_t>(c)];
        error += x.values[static_cast<size_t>(t * x.cols + c)] *
                 (matrix.weights[i] - found);
      }
      sum += error * error;
    }
  return sum;
}

TEST(FindScales, LessIsLostWithThem) {
  constexpr int64_t cols = 128, tokens = 200;
  Activations x = unevenInputs(tokens, cols);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<MatrixSample> matrices(1);
  matrices[0].rows = 24;
  for (int64_t i = 0; i < 24 * cols; ++i)
    matrices[0].weights.push_back(normal(random));
  GridForm form = *parseGridForm("int4", 64);
  std::vector<float> importance = inputImportance(x.values, tokens, cols);
  auto hessian = Hessian::fromInputs(x.values, tokens, cols, 2);
  ASSERT_TRUE(hessian);
  for (const Hessian *used : {static_cast<const Hessian *>(nullptr),
                              static_cast<const Hessian *>(&*hessian)}) {
    ScaleSearch search{
        form,     x,  importance, used,
        matrices, {}, cols,       [](int64_t, float scale) { return scale; },
        true,     2};
    std::vector<float> scales = findScales(search);
    ASSERT_EQ(scales.size(), static_cast<size_t>(cols));
    EXPECT_GT(scales[3], scales[4]);
    auto round = [&](std::span<const float> by) {
      return used
                 ? roundWithHessian(form, matrices[0].weights, 24, *used, 2, by)
                 : roundWeighted(form, matrices[0].weights, 24, importance, 2,
                                 by);
    };
    double plain = outputError(form, matrices[0], round({}), x, {});
    double scaled = outputError(form, matrices[0], round(scales), x, scales);
    EXPECT_LT(scaled, 0.95 * plain) << (used ? "gptq" : "rtn");
    // Any number of threads finds the same.
    search.threads = 5;
    EXPECT_EQ(findScales(search), scales);
  }
}

TEST(FindScales, ColumnsOfLargeWeightsAreMadeLikeOthers) {
  constexpr int64_t cols = 64, tokens = 200;
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  Activations x{tokens, cols, {}};
  for (int64_t i = 0; i < tokens * cols; ++i)
    x.values.push_back(normal(random));
  std::vector<MatrixSample> matrices(1);
  matrices[0].rows = 64;
  for (int64_t i = 0; i < 64 * cols; ++i)
    matrices[0].weights.push_back(normal(random) *
                                  (i % cols == 5 ? 8.0f : 1.0f));
  GridForm form = *parseGridForm("int4", 64);
  std::vector<float> importance = inputImportance(x.values, tokens, cols);
  auto hessian = Hessian::fromInputs(x.values, tokens, cols, 2);
  ASSERT_TRUE(hessian);
  ScaleSearch search{
      form,     x,  importance, &*hessian,
      matrices, {}, cols,       [](int64_t, float scale) { return scale; },
      false,    2};
  std::vector<float> scales = findScales(search);
  ASSERT_EQ(scales.size(), static_cast<size_t>(cols));
  EXPECT_NEAR(scales[4] / scales[5], 8, 3);
  auto loss = [&](std::span<const float> by) {
    return outputError(
        form, matrices[0],
        roundWithHessian(form, matrices[0].weights, 64, *hessian, 2, by), x,
        by);
  };
  EXPECT_LT(loss(scales), 0.8 * loss({}));
}

TEST(FindScales, NoneIfNothingIsGained) {
  // Weights on the grid lose nothing without scales.
  constexpr int64_t cols = 32, tokens = 64;
  Activations x = unevenInputs(tokens, cols);
  std::vector<MatrixSample> matrices(1);
  matrices[0].rows = 4;
  for (int64_t i = 0; i < 4 * cols; ++i)
    matrices[0].weights.push_back(
        i % cols == 0 ? -0.9375f : 0.125f * static_cast<float>(i % 7 - 3));
  GridForm form = *parseGridForm("int4", 32);
  std::vector<float> importance = inputImportance(x.values, tokens, cols);
  ScaleSearch search{
      form,     x,  importance, nullptr,
      matrices, {}, cols,       [](int64_t, float) { return 1.0f; },
      true,     1};
  EXPECT_TRUE(findScales(search).empty());
}

} // namespace
