//===- WeightUnitsTest.cpp - Matrices of one encoding -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/WeightUnits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using testing::ElementsAre;

namespace {

WeightSpec matrix(std::initializer_list<const char *> tensors) {
  WeightSpec spec;
  spec.rows = 40;
  spec.cols = 96;
  for (const char *tensor : tensors)
    spec.rowRuns.push_back({tensor, 0, 1, 0});
  return spec;
}

TEST(WeightUnits, ALaunchReadsAUnit) {
  std::vector<WeightSpec> specs = {matrix({"q", "k", "q", "v"}), matrix({"o"})};
  auto units = weightUnits(specs);
  ASSERT_EQ(units.size(), 2u);
  EXPECT_THAT(units[0].tensors, ElementsAre("q", "k", "v"));
  EXPECT_THAT(units[0].specs, ElementsAre(0u));
  EXPECT_THAT(units[1].tensors, ElementsAre("o"));
}

TEST(WeightUnits, ATensorThatIsPackedTwiceJoins) {
  std::vector<WeightSpec> specs = {matrix({"table"}), matrix({"o"}),
                                   matrix({"table"})};
  auto units = weightUnits(specs);
  ASSERT_EQ(units.size(), 2u);
  EXPECT_THAT(units[0].tensors, ElementsAre("table"));
  EXPECT_THAT(units[0].specs, ElementsAre(0u, 2u));
}

TEST(WeightUnits, ALaterSpecJoinsTwoUnits) {
  std::vector<WeightSpec> specs = {matrix({"a"}), matrix({"b", "c"}),
                                   matrix({"c", "a"}), matrix({"b"})};
  auto units = weightUnits(specs);
  ASSERT_EQ(units.size(), 1u);
  EXPECT_THAT(units[0].tensors, ElementsAre("a", "b", "c"));
  EXPECT_THAT(units[0].specs, testing::UnorderedElementsAre(0u, 1u, 2u, 3u));
}

TEST(WeightUnits, VectorsHaveNone) {
  std::vector<WeightSpec> specs = {matrix({"a"}), matrix({"a"})};
  specs[0].form = specs[1].form = WeightForm::Vector;
  EXPECT_TRUE(weightUnits(specs).empty());
}

TEST(WeightUnits, BytesArePadded) {
  std::vector<WeightSpec> specs = {matrix({"a"}), matrix({"a"})};
  PackedEncoding encoding{EncodingKind::Int4, 32, true};
  auto units = weightUnits(specs);
  // Two strips of three blocks: 512 bytes of quants, 64 of scales, 32 of zero
  // points; each matrix ends at a multiple of 4096 or less.
  uint64_t plain = 2 * 3 * (512 + 64 + 32);
  EXPECT_GE(unitBytes(units[0], specs, encoding), 2 * plain);
  EXPECT_LT(unitBytes(units[0], specs, encoding), 2 * plain + 2 * 4096);
}

} // namespace
