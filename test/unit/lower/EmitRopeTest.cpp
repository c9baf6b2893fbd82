//===- EmitRopeTest.cpp - Rotary embedding against double precision -------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/lower/KernelHarness.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>

namespace retort {
namespace {

using test::AlignedBytes;
using test::CompiledKernel;
using test::randomFloats;

std::string tableEntry(int64_t half, bool one, double scale,
                       const char *element = "f64") {
  std::string frequencies =
      "tensor<" + std::to_string(half) + "x" + element + ">";
  std::string table = "tensor<?x" + std::to_string(2 * half) + "xf32>";
  return "kernel.entry @k tokens(" + std::string(one ? "one" : "many") +
         ") {\n^bb0(%f: " + frequencies +
         "):\n  %r = kernel.rope_table %f scale " + std::to_string(scale) +
         " : (" + frequencies + ") -> " + table + "\n}\n";
}

struct RopeShape {
  int64_t size, heads, kvHeads;
  CacheElement element = CacheElement::F32;
  int64_t qkvStride() const {
    return roundUp<int64_t>((heads + 2 * kvHeads) * size, 128);
  }
  int64_t qStride() const { return roundUp<int64_t>(heads * size, 128); }
  std::string entry(bool one) const {
    auto activation = [](int64_t stride) {
      return "tensor<?x" + std::to_string(stride) + "xf32>";
    };
    auto cache = [&](const char *kind) {
      return "!kernel.cache<" + std::string(kind) + ", " +
             std::to_string(kvHeads) + " x " + std::to_string(size) + ", " +
             std::string(cacheElementName(element)) + ">";
    };
    std::string qkv = activation(qkvStride()), table = activation(size);
    std::string keys = cache("keys"), values = cache("values");
    return "kernel.entry @k tokens(" + std::string(one ? "one" : "many") +
           ") {\n^bb0(%x: " + qkv + ", %t: " + table + ", %k: " + keys +
           ", %v: " + values +
           "):\n  %q, %nk, %nv = kernel.rope_cache %x, %t, %k, %v heads " +
           std::to_string(heads) + " : (" + qkv + ", " + table + ", " + keys +
           ", " + values + ") -> (" + activation(qStride()) + ", " + keys +
           ", " + values + ")\n}\n";
  }
};

class EmitRopeTest : public ::testing::Test {
protected:
  void SetUp() override {
    target = hostTarget();
    if (!target)
      GTEST_SKIP() << "no CPU target of the table runs on this machine";
  }
  const Target *target = nullptr;
};

TEST_F(EmitRopeTest, TableOfCosinesAndSines) {
  for (int64_t headDim : {32, 64, 80, 128, 256}) {
    int64_t half = roundUp<int64_t>(headDim / 2, 16);
    AlignedBytes frequencies(8 * half);
    for (int64_t i = 0; i < headDim / 2; ++i)
      frequencies.as<double>()[i] = std::pow(
          1e6, -2.0 * static_cast<double>(i) / static_cast<double>(headDim));
    for (int64_t tokens : {1, 35})
      for (double scale : {1.0, 1.25}) {
        auto kernel = CompiledKernel::compile(
            tableEntry(half, tokens == 1, scale), *target);
        ASSERT_TRUE(kernel) << kernel.status().message();
        for (int64_t position : {0, 1, 4097, 1 << 20}) {
          AlignedBytes table(4 * (tokens + 1) * 2 * half);
          std::fill_n(table.as<float>(), (tokens + 1) * 2 * half, 9.0f);
          kernel->run({frequencies.data(), table.data()},
                      {tokens, position, 0});
          for (int64_t t = 0; t < tokens; ++t)
            for (int64_t i = 0; i < half; ++i) {
              // Exact to some 1e-13 at these positions.
              long double angle = static_cast<long double>(position + t) *
                                  frequencies.as<double>()[i];
              const float *row = table.as<float>() + t * 2 * half;
              ASSERT_NEAR(row[i], scale * std::cos(angle), 8e-8)
                  << position + t << ", pair " << i;
              ASSERT_NEAR(row[half + i], scale * std::sin(angle), 8e-8)
                  << position + t << ", pair " << i;
            }
          for (int64_t i = 0; i < 2 * half; ++i)
            ASSERT_EQ(table.as<float>()[tokens * 2 * half + i], 9.0f);
        }
      }
  }
}

TEST_F(EmitRopeTest, FrequenciesOfF32AreRefused) {
  auto kernel =
      CompiledKernel::compile(tableEntry(32, true, 1.0, "f32"), *target);
  ASSERT_FALSE(kernel);
  EXPECT_EQ(kernel.status().code(), Code::Unsupported);
  EXPECT_NE(kernel.status().message().find("expected frequencies of f64"),
            std::string::npos)
      << kernel.status().message();
}

/// Runs rope_cache in chunks and compares everything it may have written.
void checkRopeCache(const Target &target, RopeShape shape, int64_t position,
                    std::vector<int64_t> chunks) {
  SCOPED_TRACE("size " + std::to_string(shape.size) + ", heads " +
               std::to_string(shape.heads) + "/" +
               std::to_string(shape.kvHeads));
  auto one = CompiledKernel::compile(shape.entry(true), target);
  auto many = CompiledKernel::compile(shape.entry(false), target);
  ASSERT_TRUE(one && many);
  int64_t tokens = 0;
  for (int64_t chunk : chunks)
    tokens += chunk;
  int64_t positions = roundUp<int64_t>(position + tokens, 64);
  using test::HeadCache;
  HeadCache keys(shape.element, shape.kvHeads, shape.size, true, positions);
  HeadCache values(shape.element, shape.kvHeads, shape.size, false, positions);
  AlignedBytes qkv(4 * (tokens + 8) * shape.qkvStride()),
      table(4 * (tokens + 8) * shape.size),
      q(4 * (tokens + 8) * shape.qStride());
  auto numbers = randomFloats((tokens + 8) * (shape.qkvStride() + shape.size),
                              static_cast<uint32_t>(tokens));
  std::copy_n(numbers.begin(), (tokens + 8) * shape.qkvStride(),
              qkv.as<float>());
  std::copy_n(numbers.begin() + (tokens + 8) * shape.qkvStride(),
              (tokens + 8) * shape.size, table.as<float>());
  constexpr float kUntouched = 4224; // exact in every element
  std::fill_n(q.as<float>(), (tokens + 8) * shape.qStride(), kUntouched);
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t h = 0; h < shape.kvHeads; ++h)
      for (HeadCache *cache : {&keys, &values})
        cache->set(p, h, std::vector<float>(shape.size, kUntouched));
  float untouched = keys.get(0, 0, 0);

  int64_t first = 0;
  for (int64_t chunk : chunks) {
    (chunk == 1 ? *one : *many)
        .run({qkv.as<float>() + first * shape.qkvStride(),
              table.as<float>() + first * shape.size, keys.bytes.data(),
              values.bytes.data(), q.as<float>() + first * shape.qStride()},
             {chunk, position + first, 0});
    first += chunk;
  }

  int64_t half = shape.size / 2, differing = 0;
  auto rotated = [&](int64_t t, int64_t head, int64_t i) -> double {
    const float *x =
        qkv.as<float>() + t * shape.qkvStride() + head * shape.size;
    const float *row = table.as<float>() + t * shape.size;
    double cos = row[i % half], sin = row[half + i % half];
    return i < half ? x[i] * cos - x[i + half] * sin
                    : x[i] * cos + x[i - half] * sin;
  };
  for (int64_t t = 0; t < tokens + 8; ++t)
    for (int64_t i = 0; i < shape.qStride(); ++i) {
      float got = q.as<float>()[t * shape.qStride() + i];
      if (t >= tokens)
        ASSERT_EQ(got, kUntouched) << t;
      else if (i >= shape.heads * shape.size)
        ASSERT_EQ(got, 0.0f) << t;
      else
        ASSERT_NEAR(got, rotated(t, i / shape.size, i % shape.size), 1e-6)
            << "token " << t << ", element " << i;
    }
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t h = 0; h < shape.kvHeads; ++h) {
      int64_t t = p - position;
      bool isWritten = t >= 0 && t < tokens;
      std::vector<float> key(shape.size), value(shape.size);
      for (int64_t i = 0; isWritten && i < shape.size; ++i) {
        key[i] = static_cast<float>(rotated(t, shape.heads + h, i));
        value[i] =
            qkv.as<float>()[t * shape.qkvStride() +
                            (shape.heads + shape.kvHeads + h) * shape.size + i];
      }
      roundCached(shape.element, value);
      std::vector<float> roundedKey = key;
      roundCached(shape.element, roundedKey);
      for (int64_t i = 0; i < shape.size; ++i) {
        float gotKey = keys.get(p, h, i), gotValue = values.get(p, h, i);
        if (!isWritten) {
          ASSERT_EQ(gotKey, untouched) << p;
          ASSERT_EQ(gotValue, untouched) << p;
          continue;
        }
        // Rotated in f32, a key may be rounded to the neighbour.
        double step = shape.element == CacheElement::F32   ? 0
                      : shape.element == CacheElement::F16 ? 1.0 / 1024
                                                           : 1.0 / 64;
        ASSERT_NEAR(gotKey, roundedKey[i],
                    1e-6 + step * std::max(1.0f, std::abs(roundedKey[i])))
            << "position " << p << ", element " << i;
        ASSERT_EQ(gotValue, value[i]) << "position " << p << ", element " << i;
        differing += gotKey != roundedKey[i];
      }
    }
  // Seldom.
  if (shape.element != CacheElement::F32)
    EXPECT_LE(differing, 2 + tokens * shape.kvHeads * shape.size / 500);
}

TEST_F(EmitRopeTest, CacheWritesOfManyShapes) {
  checkRopeCache(*target, {64, 14, 2}, 0, {40});
  checkRopeCache(*target, {96, 3, 1}, 13, {20});
  checkRopeCache(*target, {32, 8, 8}, 60, {9});
  checkRopeCache(*target, {256, 2, 1}, 15, {2});
}

TEST_F(EmitRopeTest, CacheWritesOfEveryElement) {
  for (CacheElement element :
       {CacheElement::F16, CacheElement::BF16, CacheElement::Int8}) {
    checkRopeCache(*target, {64, 14, 2, element}, 0, {40});
    checkRopeCache(*target, {96, 3, 1, element}, 13, {20, 1});
    checkRopeCache(*target, {32, 8, 8, element}, 60, {9});
    checkRopeCache(*target, {256, 2, 1, element}, 15, {2});
  }
}

// Values as they can come out of a model gone wrong.
TEST_F(EmitRopeTest, WhatElementsCannotHold) {
  for (CacheElement element :
       {CacheElement::F16, CacheElement::BF16, CacheElement::Int8}) {
    RopeShape shape{32, 1, 1, element};
    auto kernel = CompiledKernel::compile(shape.entry(true), *target);
    ASSERT_TRUE(kernel) << kernel.status().message();
    AlignedBytes qkv(4 * shape.qkvStride()), table(4 * shape.size),
        q(4 * shape.qStride());
    test::HeadCache keys(element, 1, 32, true, 64);
    test::HeadCache values(element, 1, 32, false, 64);
    float *value = qkv.as<float>() + 2 * shape.size;
    auto run = [&] {
      kernel->run({qkv.data(), table.data(), keys.bytes.data(),
                   values.bytes.data(), q.data()},
                  {1, 5, 0});
    };
    value[0] = 1e5f;
    value[1] = -7e4f;
    value[2] = 65503;
    run();
    for (int64_t i = 0; i < 3; ++i) {
      float kept = values.get(5, 0, i);
      ASSERT_TRUE(std::isfinite(kept));
      float expected = element == CacheElement::F16
                           ? std::clamp(value[i], -65504.0f, 65504.0f)
                           : value[i];
      EXPECT_NEAR(kept, expected, std::abs(expected) / 100 + 1) << i;
    }
    value[1] = std::nanf("");
    run();
    EXPECT_TRUE(std::isnan(values.get(5, 0, 1)));
    std::fill_n(value, 32, 1e-40f);
    run();
    EXPECT_LE(std::abs(values.get(5, 0, 0)), 1e-7f);
  }
}

TEST_F(EmitRopeTest, OneTokenAtEachSlotOfABlock) {
  checkRopeCache(*target, {64, 4, 2}, 30, std::vector<int64_t>(20, 1));
}

TEST_F(EmitRopeTest, ChunksContinueEachOther) {
  checkRopeCache(*target, {64, 4, 2}, 0, {1, 17, 2, 30, 1, 16});
}

} // namespace
} // namespace retort
