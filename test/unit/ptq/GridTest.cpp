//===- GridTest.cpp - What weights are rounded to -------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/Grid.h"

#include "compiler/checkpoint/DType.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

using namespace retort;
using namespace retort::ptq;
using testing::HasSubstr;

namespace {

GridForm form(const char *name, int64_t group = 4) {
  auto parsed = parseGridForm(name, group);
  EXPECT_TRUE(parsed) << parsed.status().message();
  return *parsed;
}

TEST(Grid, SymmetricRangeEndsAtTheLargestMagnitude) {
  std::vector<float> weights = {-0.75f, 0.1f, 0.3f, 0.2f};
  Grid grid = fitRange(form("int4"), weights);
  EXPECT_EQ(grid.scale, nearestBF16(0.75f / 7.5f));
  EXPECT_EQ(grid.zero, 0);
  EXPECT_EQ(roundToGrid(form("int4"), grid, -0.75f), -7);
  EXPECT_EQ(roundToGrid(form("int4"), grid, -5.0f), -8);
  EXPECT_EQ(roundToGrid(form("int4"), grid, 5.0f), 7);
}

TEST(Grid, ZeroPointsUseTheWholeRange) {
  std::vector<float> weights = {0.0f, 1.5f, 0.7f, 0.2f};
  GridForm shifted = form("int4-zero-points");
  Grid grid = fitRange(shifted, weights);
  EXPECT_EQ(grid.zero, -8);
  EXPECT_EQ(roundToGrid(shifted, grid, 0.0f), -8);
  EXPECT_EQ(roundToGrid(shifted, grid, 1.5f), 7);
  EXPECT_EQ(valueOnGrid(shifted, grid, -8), 0.0f);
}

TEST(Grid, ZerosStayZeros) {
  for (const char *name : {"int4", "int4-zero-points", "int8", "fp8"}) {
    std::vector<float> zeros(4);
    Grid grid = fitRange(form(name), zeros);
    EXPECT_GT(grid.scale, 0) << name;
    EXPECT_EQ(valueOnGrid(form(name), grid, roundToGrid(form(name), grid, 0)),
              0)
        << name;
  }
}

TEST(Grid, ScalesOfTinyWeightsArePositive) {
  std::vector<float> weights(4, std::bit_cast<float>(uint32_t(1)));
  EXPECT_GT(fitRange(form("int8"), weights).scale, 0);
}

TEST(Grid, WeightedFitIsNoWorseThanTheRange) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const char *name : {"int4", "int4-zero-points", "int8"}) {
    GridForm f = form(name, 64);
    std::vector<float> weights(64), importance(64);
    for (size_t i = 0; i < 64; ++i) {
      weights[i] = normal(random);
      importance[i] = std::abs(normal(random));
    }
    auto error = [&](const Grid &grid) {
      double sum = 0;
      for (size_t i = 0; i < 64; ++i) {
        double e =
            weights[i] - valueOnGrid(f, grid, roundToGrid(f, grid, weights[i]));
        sum += importance[i] * e * e;
      }
      return sum;
    };
    EXPECT_LE(error(fitWeighted(f, weights, importance)),
              error(fitRange(f, weights)))
        << name;
  }
}

TEST(Grid, NearestF8MatchesASearch) {
  std::mt19937 random(4);
  std::uniform_real_distribution<float> exponent(-12, 10);
  for (int i = 0; i < 20000; ++i) {
    float value = std::exp2(exponent(random)) * (i % 2 ? 1.0f : -1.0f);
    float found = checkpoint::f8e4m3ToF32(nearestF8(value));
    float least = INFINITY;
    for (int code = 0; code < 256; ++code)
      if ((code & 0x7f) != 0x7f)
        least = std::min(least, std::abs(checkpoint::f8e4m3ToF32(
                                             static_cast<uint8_t>(code)) -
                                         value));
    ASSERT_EQ(std::abs(found - value), least) << value;
  }
  for (int code = 0; code < 256; ++code)
    if ((code & 0x7f) != 0x7f)
      EXPECT_EQ(nearestF8(checkpoint::f8e4m3ToF32(static_cast<uint8_t>(code))),
                code);
}

TEST(Grid, ThreadsDoNotMatter) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> weights(37 * 128);
  for (float &w : weights)
    w = normal(random);
  QuantizedResult one = roundToNearest(form("int4", 32), weights, 37, 128, 1);
  QuantizedResult many = roundToNearest(form("int4", 32), weights, 37, 128, 5);
  EXPECT_EQ(one.quants, many.quants);
}

TEST(BadGrid, UnknownForm) {
  auto parsed = parseGridForm("int3", 32);
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.status().message(),
              HasSubstr("expected int4, int4-zero-points, int8 or fp8, found "
                        "'int3'"));
}

} // namespace
