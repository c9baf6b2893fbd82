//===- ActivationEncodingTest.cpp - Quantized activations -----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/encoding/ActivationEncoding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace retort {
namespace {

constexpr ActivationEncoding kInt8{ActivationKind::Int8};
constexpr ActivationEncoding kInt16{ActivationKind::Int16};

TEST(ActivationEncodingTest, RowsHoldQuantsScalesAndSums) {
  EXPECT_EQ(kInt8.scalesOffset(256), 256);
  EXPECT_EQ(kInt8.sumsOffset(256), 256 + 8 * 4);
  EXPECT_EQ(kInt16.scalesOffset(256), 512);
  EXPECT_EQ(kInt16.sumsOffset(256), 512 + 8 * 4);
  EXPECT_EQ(kInt8.usedBytes(256), 256 + 2 * 8 * 4);
  EXPECT_EQ(kInt16.usedBytes(256), 512 + 8 * 4) << "nothing needs their sums";
  for (ActivationEncoding encoding : {kInt8, kInt16})
    for (int64_t stride = 128; stride < 20000; stride += 128) {
      int64_t bytes = encoding.rowBytes(stride);
      EXPECT_EQ(bytes % 128, 64) << "an odd number of lines";
      EXPECT_GE(bytes, encoding.usedBytes(stride));
      EXPECT_LT(bytes, encoding.usedBytes(stride) + 128);
    }
}

TEST(ActivationEncodingTest, WeightsSayWhatTheyTake) {
  auto of = [](const char *name) {
    return ActivationEncoding::forWeights(*PackedEncoding::parse(name));
  };
  EXPECT_EQ(of("int4<128, zero_points>"), kInt8);
  EXPECT_EQ(of("int8<32>"), kInt16);
  for (const char *name : {"f32", "f16", "bf16", "fp8"})
    EXPECT_EQ(of(name), std::nullopt) << name;
}

TEST(ActivationEncodingTest, RoundsToTheNearestMultipleOfTheScale) {
  std::vector<float> row(64);
  row[0] = 127; // a scale of 1
  row[1] = 2.5f;
  row[2] = -3.5f;
  row[3] = 0.49f;
  row[40] = 1e-31f; // too small to count
  roundActivation(kInt8, row);
  EXPECT_EQ(row[0], 127);
  EXPECT_EQ(row[1], 2);
  EXPECT_EQ(row[2], -4);
  EXPECT_EQ(row[3], 0);
  EXPECT_EQ(row[40], 0);
}

TEST(ActivationEncodingTest, GroupsDoNotMix) {
  std::vector<float> row(64, 0.01f), small(32, 0.01f);
  row[0] = 1000;
  roundActivation(kInt8, row);
  roundActivation(kInt8, small);
  EXPECT_EQ(row[1], 0);
  for (size_t i = 0; i < 32; ++i)
    EXPECT_EQ(row[32 + i], small[i]);
}

TEST(ActivationEncodingTest, ErrorsStayWithinHalfAStep) {
  for (ActivationEncoding encoding : {kInt8, kInt16}) {
    std::vector<float> row(32);
    for (size_t i = 0; i < 32; ++i)
      row[i] = std::sin(static_cast<float>(i) * 7.3f) * 5;
    std::vector<float> rounded = row;
    roundActivation(encoding, rounded);
    float step = 5.0f / static_cast<float>(encoding.limit());
    for (size_t i = 0; i < 32; ++i)
      EXPECT_NEAR(rounded[i], row[i], step * 0.501f) << encoding.str();
  }
}

TEST(ActivationEncodingTest, AnEncodedRowReadsAsTheRoundedOne) {
  constexpr int64_t kStride = 256;
  for (ActivationEncoding encoding : {kInt8, kInt16}) {
    std::vector<float> row(kStride);
    for (size_t i = 0; i < 200; ++i)
      row[i] = std::sin(static_cast<float>(i) * 3.1f) * (i < 64 ? 0.01f : 9);
    std::vector<std::byte> bytes(
        static_cast<size_t>(encoding.usedBytes(kStride)));
    encodeActivation(encoding, row, bytes);
    std::vector<float> found(kStride);
    decodeActivation(encoding, bytes, found);
    roundActivation(encoding, row);
    EXPECT_EQ(found, row) << encoding.str();
  }
}

TEST(ActivationEncodingTest, SumsOfInt8QuantsAreNegatedByColumnPairs) {
  std::vector<float> row(128);
  row[0] = 127; // a scale of 1
  row[1] = 3;
  row[2] = -5;
  row[7] = 2;
  std::vector<std::byte> bytes(static_cast<size_t>(kInt8.usedBytes(128)));
  encodeActivation(kInt8, row, bytes);
  int16_t sums[2];
  std::memcpy(sums, bytes.data() + kInt8.sumsOffset(128), sizeof sums);
  EXPECT_EQ(sums[0], -(127 + 3));
  EXPECT_EQ(sums[1], -(-5 + 2));
}

// Rows with what isn't a number stay within their quants.
TEST(ActivationEncodingTest, UnusableElementsAreEncodedWithoutOverflow) {
  std::vector<float> row(128, 1.f), found(128);
  row[3] = NAN;
  row[40] = INFINITY;
  std::vector<std::byte> bytes(static_cast<size_t>(kInt16.usedBytes(128)));
  encodeActivation(kInt16, row, bytes);
  decodeActivation(kInt16, bytes, found);
  EXPECT_EQ(found[3], 0);
  EXPECT_FALSE(std::isfinite(found[40]));
  EXPECT_EQ(found[64], 1);
}

} // namespace
} // namespace retort
