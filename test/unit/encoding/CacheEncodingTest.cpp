//===- CacheEncodingTest.cpp - How caches are rounded and laid out --------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/encoding/CacheEncoding.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

namespace retort {
namespace {

std::vector<float> rounded(CacheElement element, std::vector<float> values) {
  roundCached(element, values);
  return values;
}

TEST(CacheEncodingTest, NamesAreReadBack) {
  for (CacheElement element : {CacheElement::F32, CacheElement::F16,
                               CacheElement::BF16, CacheElement::Int8})
    EXPECT_EQ(parseCacheElement(cacheElementName(element)), element);
  for (const char *name : {"", "f8", "F16", "int4", "int8 "})
    EXPECT_FALSE(parseCacheElement(name)) << name;
}

TEST(CacheEncodingTest, SizesOfBlocksAndRows) {
  EXPECT_EQ(CacheEncoding{CacheElement::F32}.blockBytes(128), 16 * 512);
  EXPECT_EQ(CacheEncoding{CacheElement::F16}.blockBytes(128), 16 * 256);
  EXPECT_EQ(CacheEncoding{CacheElement::Int8}.blockBytes(128),
            16 * (128 + 4 * 2));
  EXPECT_EQ(CacheEncoding{CacheElement::BF16}.latentRowBytes(576), 1152);
  // 576 quants, 18 scales, and zeros up to a line.
  EXPECT_EQ(CacheEncoding{CacheElement::Int8}.latentRowBytes(576), 640);
}

TEST(CacheEncodingTest, F32IsKept) {
  EXPECT_EQ(rounded(CacheElement::F32, {1e30f, 0.1f}),
            (std::vector<float>{1e30f, 0.1f}));
}

// The compiler's own conversion, which rounds to even.
TEST(CacheEncodingTest, F16RoundsAsTheTypeDoes) {
  std::mt19937 random(1);
  std::vector<float> values = {0, -0.0f, 65504, 65519, 6e-8f, 2.9e-8f, 1e-30f};
  for (int i = 0; i < 20000; ++i) {
    auto x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::abs(x) < 65504)
      values.push_back(x);
  }
  std::vector<float> got = rounded(CacheElement::F16, values);
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(got[i],
              std::min(static_cast<float>(static_cast<_Float16>(values[i])),
                       65504.0f))
        << values[i];
}

TEST(CacheEncodingTest, F16Saturates) {
  EXPECT_EQ(rounded(CacheElement::F16, {70000, -1e30f, INFINITY}),
            (std::vector<float>{65504, -65504, 65504}));
}

TEST(CacheEncodingTest, BF16RoundsToEven) {
  // Halfway between two neighbours, 2^-8 apart at 1.
  float step = 1.0f / 128;
  EXPECT_EQ(rounded(CacheElement::BF16, {1 + step / 2, 1 + 3 * step / 2}),
            (std::vector<float>{1, 1 + 2 * step}));
}

TEST(CacheEncodingTest, WhatIsNoNumberStaysNone) {
  for (CacheElement element :
       {CacheElement::F16, CacheElement::BF16, CacheElement::Int8}) {
    std::vector<float> values(32, 1.0f);
    values[3] = std::bit_cast<float>(0x7fffffffu);
    EXPECT_TRUE(std::isnan(rounded(element, values)[3]));
  }
}

TEST(CacheEncodingTest, Int8ErrorIsHalfAStepOfItsGroup) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> values(64);
  for (float &x : values)
    x = normal(random);
  values[40] = 1000; // spoils its own group alone
  std::vector<float> got = rounded(CacheElement::Int8, values);
  for (size_t i = 0; i < 64; ++i) {
    auto group = values.begin() + static_cast<std::ptrdiff_t>(i / 32 * 32);
    float amax = 0;
    std::for_each(group, group + 32,
                  [&](float x) { amax = std::max(amax, std::abs(x)); });
    // The scale is rounded by up to 2^-9.
    ASSERT_LE(std::abs(got[i] - values[i]), amax / 127 * 0.505f) << i;
  }
}

TEST(CacheEncodingTest, TinyGroupsAreZeros) {
  EXPECT_EQ(rounded(CacheElement::Int8, std::vector<float>(32, 1e-31f)),
            std::vector<float>(32, 0.0f));
}

} // namespace
} // namespace retort
