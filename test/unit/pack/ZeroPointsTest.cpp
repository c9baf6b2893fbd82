//===- ZeroPointsTest.cpp - Where zero points pay ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/ZeroPoints.h"

#include "test/unit/pack/PackTestSupport.h"

#include <gtest/gtest.h>

#include <random>

namespace retort {
namespace {

using namespace test;
using checkpoint::Checkpoint;

const std::string kGate = "model.layers.0.mlp.gate_proj.weight";
const std::string kUp = "model.layers.0.mlp.up_proj.weight";

/// A checkpoint whose up projection is normally distributed, and whose gate
/// projection is so around a mean of its own.
Checkpoint skewedCheckpoint(const TempDir &dir, float mean) {
  TinyModel model;
  model.hidden = 128;
  model.intermediate = 300;
  CheckpointBuilder builder(model);
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  for (const std::string &name : {kGate, kUp}) {
    std::vector<float> values(128 * 300);
    for (float &value : values)
      value = normal(random) + (name == kGate ? mean : 0.0f);
    builder.tensor(name).bytes = encodeFloats(DType::BF16, values);
  }
  builder.write(dir.path());
  return openCheckpoint(dir.path());
}

TEST(ZeroPointsTest, ChosenWhereTheMeanIsFarFromZero) {
  TempDir dir;
  Checkpoint checkpoint = skewedCheckpoint(dir, 2.0f);
  std::vector<WeightSpec> specs;
  for (const char *encoding : {"int4<32>", "int4<64>", "int4<128>"}) {
    specs.push_back(wholeMatrix(checkpoint, kGate, encoding));
    specs.push_back(wholeMatrix(checkpoint, kUp, encoding));
  }
  ASSERT_TRUE(chooseZeroPoints(specs, checkpoint));
  for (size_t i = 0; i < specs.size(); ++i)
    EXPECT_EQ(specs[i].encoding.zeroPoints, i % 2 == 0) << i;
}

TEST(ZeroPointsTest, TakenBackWhereTheyDoNotPay) {
  TempDir dir;
  Checkpoint checkpoint = skewedCheckpoint(dir, 0.0f);
  std::vector<WeightSpec> specs = {
      wholeMatrix(checkpoint, kGate, "int4<32, zero_points>")};
  ASSERT_TRUE(chooseZeroPoints(specs, checkpoint));
  EXPECT_FALSE(specs[0].encoding.zeroPoints);
}

TEST(ZeroPointsTest, LeavesOtherEncodingsAlone) {
  TempDir dir;
  Checkpoint checkpoint = skewedCheckpoint(dir, 2.0f);
  std::vector<WeightSpec> specs = {wholeMatrix(checkpoint, kGate, "int8<32>"),
                                   wholeMatrix(checkpoint, kGate, "bf16"),
                                   literalOf("table", 8)};
  std::vector<WeightSpec> before = specs;
  ASSERT_TRUE(chooseZeroPoints(specs, checkpoint));
  for (size_t i = 0; i < specs.size(); ++i)
    EXPECT_EQ(specs[i].encoding, before[i].encoding);
}

TEST(ZeroPointsTest, ReportsSpecsThatDoNotFitTheCheckpoint) {
  TempDir dir;
  Checkpoint checkpoint = skewedCheckpoint(dir, 0.0f);
  std::vector<WeightSpec> specs = {wholeMatrix(checkpoint, kGate, "int4<32>")};
  specs[0].rowRuns[0].srcRow = 1;
  Status status = chooseZeroPoints(specs, checkpoint);
  EXPECT_EQ(status.code(), Code::InvalidArgument);
}

TEST(ZeroPointsTest, LeavesBadWeightsToThePacker) {
  TempDir dir;
  Checkpoint checkpoint =
      skewedCheckpoint(dir, std::numeric_limits<float>::infinity());
  std::vector<WeightSpec> specs = {wholeMatrix(checkpoint, kGate, "int4<32>")};
  ASSERT_TRUE(chooseZeroPoints(specs, checkpoint));
  EXPECT_FALSE(specs[0].encoding.zeroPoints);
}

} // namespace
} // namespace retort
