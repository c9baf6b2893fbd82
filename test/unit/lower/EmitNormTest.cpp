//===- EmitNormTest.cpp - Normalization against double precision ----------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/lower/KernelHarness.h"

#include "gtest/gtest.h"

#include <cmath>

namespace retort {
namespace {

using test::AlignedBytes;
using test::CompiledKernel;
using test::randomFloats;

std::string normEntry(int64_t stride, int64_t width, bool one, bool fromFirst,
                      const char *eps = "1.0e-06",
                      const char *element = "f32") {
  std::string x = "tensor<?x" + std::to_string(stride) + "xf32>";
  std::string w = "tensor<" + std::to_string(width) + "x" + element + ">";
  return "kernel.entry @k tokens(" + std::string(one ? "one" : "many") +
         ") {\n^bb0(%x: " + x + ", %w: " + w +
         "):\n  %r = kernel.rms_norm %x, %w eps " + eps +
         (fromFirst ? " from_first_row" : "") + " : (" + x + ", " + w +
         ") -> " + x + "\n}\n";
}

class EmitNormTest : public ::testing::Test {
protected:
  void SetUp() override {
    target = hostTarget();
    if (!target)
      GTEST_SKIP() << "no CPU target of the table runs on this machine";
  }

  void check(int64_t width, int64_t tokens, int64_t firstRow, bool fromFirst,
             float magnitude = 1) {
    SCOPED_TRACE("width " + std::to_string(width) + ", " +
                 std::to_string(tokens) + " tokens");
    int64_t stride = roundUp<int64_t>(width, 128);
    auto kernel = CompiledKernel::compile(
        normEntry(stride, width, tokens == 1, fromFirst), *target);
    ASSERT_TRUE(kernel) << kernel.status().message();
    int64_t rows = roundUp<int64_t>(tokens + firstRow, 8);
    AlignedBytes x(4 * rows * stride), w(4 * width), y(4 * rows * stride);
    auto numbers = randomFloats(rows * stride + width, 3);
    for (int64_t i = 0; i < rows * stride; ++i) {
      // Beyond the width lies what would be noticed in the sum.
      x.as<float>()[i] =
          i % stride < width ? magnitude * numbers[i] : magnitude * 100;
      y.as<float>()[i] = 777;
    }
    std::copy_n(numbers.end() - width, width, w.as<float>());
    kernel->run({x.data(), w.data(), y.data()}, {tokens, 5, firstRow});

    for (int64_t t = 0; t < rows; ++t) {
      const float *in = x.as<float>() + (fromFirst ? t + firstRow : t) * stride;
      const float *out = y.as<float>() + t * stride;
      if (t >= tokens) {
        for (int64_t i = 0; i < stride; ++i)
          ASSERT_EQ(out[i], 777.0f) << "row " << t;
        continue;
      }
      double sum = 0;
      for (int64_t i = 0; i < width; ++i)
        sum += static_cast<double>(in[i]) * in[i];
      double inverse = 1 / std::sqrt(sum / static_cast<double>(width) + 1e-6);
      for (int64_t i = 0; i < width; ++i) {
        double expected = in[i] * inverse * w.as<float>()[i];
        ASSERT_NEAR(out[i], expected, 1e-6 * std::abs(expected) + 1e-30)
            << "row " << t << ", element " << i;
      }
      for (int64_t i = width; i < stride; ++i)
        ASSERT_EQ(out[i], 0.0f) << "row " << t << ", element " << i;
    }
  }
  const Target *target = nullptr;
};

TEST_F(EmitNormTest, Widths) {
  for (int64_t width : {1, 7, 64, 100, 128, 200, 896, 1536, 5120, 8192})
    for (int64_t tokens : {1, 5})
      check(width, tokens, 0, false);
}

TEST_F(EmitNormTest, ManyTokens) { check(320, 41, 0, false); }

TEST_F(EmitNormTest, FromFirstRow) {
  check(256, 1, 6, true);
  check(256, 11, 3, true);
}

TEST_F(EmitNormTest, FirstRowIsIgnoredUnlessAskedFor) {
  check(256, 3, 4, false);
}

TEST_F(EmitNormTest, SmallAndLargeNumbers) {
  check(512, 2, 0, false, 1e-4f);
  check(512, 2, 0, false, 1e6f);
}

TEST_F(EmitNormTest, AZeroRowGivesZeros) {
  auto kernel =
      CompiledKernel::compile(normEntry(128, 96, true, false), *target);
  ASSERT_TRUE(kernel);
  AlignedBytes x(8 * 512), w(4 * 96), y(8 * 512);
  std::fill_n(w.as<float>(), 96, 2.0f);
  std::fill_n(y.as<float>(), 128, 1.0f);
  kernel->run({x.data(), w.data(), y.data()}, {1, 0, 0});
  for (int64_t i = 0; i < 128; ++i)
    EXPECT_EQ(y.as<float>()[i], 0.0f);
}

TEST_F(EmitNormTest, OneAndManyTokensAgreeExactly) {
  AlignedBytes x(8 * 4 * 896), w(4 * 896), a(8 * 4 * 896), b(8 * 4 * 896);
  auto numbers = randomFloats(9 * 896, 8);
  std::copy_n(numbers.begin(), 8 * 896, x.as<float>());
  std::copy_n(numbers.begin() + 8 * 896, 896, w.as<float>());
  for (auto [one, out] : {std::pair(true, &a), {false, &b}}) {
    auto kernel =
        CompiledKernel::compile(normEntry(896, 896, one, false), *target);
    ASSERT_TRUE(kernel);
    kernel->run({x.data(), w.data(), out->data()}, {1, 0, 0});
  }
  EXPECT_TRUE(std::equal(a.as<float>(), a.as<float>() + 896, b.as<float>()));
}

TEST_F(EmitNormTest, WeightsOfF64AreRefused) {
  auto kernel = CompiledKernel::compile(
      normEntry(128, 128, true, false, "1.0e-06", "f64"), *target);
  ASSERT_FALSE(kernel);
  EXPECT_EQ(kernel.status().code(), Code::Unsupported);
  EXPECT_NE(kernel.status().message().find("expected a weight of f32"),
            std::string::npos)
      << kernel.status().message();
}

} // namespace
} // namespace retort
