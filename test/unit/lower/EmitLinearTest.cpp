//===- EmitLinearTest.cpp - Linear kernels against a plain loop -----------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/lower/KernelHarness.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace retort;
using namespace retort::test;

namespace {

enum class Extra { None, Bias, Residual, BiasResidual, Swiglu, BiasSwiglu };

struct Case {
  const char *encoding;
  int64_t rows, cols;
  Extra extra;
  std::vector<int64_t> manyTokens;
};

void PrintTo(const Case &c, std::ostream *os) {
  *os << c.encoding << ' ' << c.rows << 'x' << c.cols << " extra "
      << static_cast<int>(c.extra);
}

constexpr int64_t kExtraStride = 128;
constexpr float kUntouched = 12345.5f;

std::string activation(int64_t stride) {
  return "tensor<?x" + std::to_string(stride) + "xf32>";
}

class LinearKernels : public testing::TestWithParam<Case> {
protected:
  void SetUp() override {
    if (!hostTarget())
      GTEST_SKIP() << "this machine runs none of the targets";
  }
  void check(const char *tokenClass, const std::vector<int64_t> &tokenCounts);
};

void LinearKernels::check(const char *tokenClass,
                          const std::vector<int64_t> &tokenCounts) {
  const Case &c = GetParam();
  PackedMatrix weight(*PackedEncoding::parse(c.encoding), c.rows, c.cols, 7);
  bool swiglu = c.extra == Extra::Swiglu || c.extra == Extra::BiasSwiglu;
  bool bias = c.extra == Extra::Bias || c.extra == Extra::BiasResidual ||
              c.extra == Extra::BiasSwiglu;
  bool residual = c.extra == Extra::Residual || c.extra == Extra::BiasResidual;
  int64_t outputs = swiglu ? c.rows / 2 : c.rows;
  int64_t xStride = roundUp<int64_t>(c.cols, kStrideMultiple);
  int64_t outStride = roundUp<int64_t>(outputs, kStrideMultiple) + kExtraStride;
  std::string biasType = "tensor<" + std::to_string(c.rows) + "xf32>";

  std::string params = "%x: " + activation(xStride) + ", %w: " + weight.type();
  std::string clauses;
  if (bias) {
    params += ", %b: " + biasType;
    clauses += " bias %b : " + biasType;
  }
  if (residual) {
    params += ", %r: " + activation(outStride);
    clauses += " residual %r : " + activation(outStride);
  }
  if (swiglu)
    clauses += " epilogue swiglu";
  std::string entry = std::string("kernel.entry @k tokens(") + tokenClass +
                      ") {\n^bb0(" + params +
                      "):\n  %y = kernel.linear %x, %w" + clauses + " : (" +
                      activation(xStride) + ", " + weight.type() + ") -> " +
                      activation(outStride) + "\n}\n";
  auto kernel = CompiledKernel::compile(entry, *hostTarget());
  ASSERT_TRUE(kernel) << kernel.status().message() << '\n' << entry;

  std::vector<float> biasValues = randomFloats(c.rows, 3);
  AlignedBytes biasBytes(c.rows * 4);
  std::copy(biasValues.begin(), biasValues.end(), biasBytes.as<float>());

  for (int64_t n : tokenCounts) {
    SCOPED_TRACE(testing::Message() << n << " tokens");
    int64_t padded = roundUp<int64_t>(n, 8), guard = padded + 2;
    AlignedBytes x(padded * xStride * 4), y(guard * outStride * 4);
    std::vector<float> values = randomFloats(n * c.cols, 11);
    for (int64_t t = 0; t < n; ++t)
      std::copy_n(&values[t * c.cols], c.cols, x.as<float>() + t * xStride);
    // What padding rows hold must not reach other rows.
    std::fill(x.as<float>() + n * xStride, x.as<float>() + padded * xStride,
              std::nanf(""));
    std::fill_n(y.as<float>(), guard * outStride, kUntouched);
    std::vector<float> before = randomFloats(n * outputs, 13);
    if (residual)
      for (int64_t t = 0; t < n; ++t)
        std::copy_n(&before[t * outputs], outputs,
                    y.as<float>() + t * outStride);

    std::vector<void *> args = {x.data(), weight.bytes.data()};
    if (bias)
      args.push_back(biasBytes.data());
    if (residual)
      args.push_back(y.data());
    args.push_back(y.data());
    kernel->run(args, {.n_tokens = n, .position = 5, .first_row = 0});

    auto sum = [&](int64_t t, int64_t r) {
      double s = bias ? biasValues[r] : 0;
      for (int64_t i = 0; i < c.cols; ++i)
        s += double(values[t * c.cols + i]) * weight.decoded[r * c.cols + i];
      return s;
    };
    double errors = 0, squares = 0;
    for (int64_t t = 0; t < n; ++t)
      for (int64_t o = 0; o < outStride; ++o) {
        float found = y.as<float>()[t * outStride + o];
        if (o >= outputs) {
          ASSERT_EQ(found, kUntouched) << "row " << t << " column " << o;
          continue;
        }
        double expected;
        if (swiglu) {
          int64_t row = o / 32 * 64 + o % 32;
          double gate = sum(t, row), up = sum(t, row + 32);
          expected = gate / (1 + std::exp(-gate)) * up;
        } else {
          expected = sum(t, o) + (residual ? before[t * outputs + o] : 0);
        }
        ASSERT_FALSE(std::isnan(found)) << "row " << t << " column " << o;
        errors += (found - expected) * (found - expected);
        squares += expected * expected;
      }
    // A sum of 1536 f32 products is this near; a single wrong element is not.
    EXPECT_LT(std::sqrt(errors / squares), 2e-6);
    for (int64_t i = padded * outStride; i < guard * outStride; ++i)
      ASSERT_EQ(y.as<float>()[i], kUntouched);
  }
}

TEST_P(LinearKernels, OneToken) { check("one", {1}); }
TEST_P(LinearKernels, FewTokens) { check("few", {1, 2, 5, 8}); }
TEST_P(LinearKernels, ManyTokens) { check("many", GetParam().manyTokens); }

INSTANTIATE_TEST_SUITE_P(
    Encodings, LinearKernels,
    testing::Values(
        Case{"f32", 32, 40, Extra::None, {1, 2, 3, 6, 7, 8, 13}},
        Case{"f32", 96, 100, Extra::BiasResidual, {5}},
        Case{"f16", 64, 100, Extra::Bias, {1, 6, 9}},
        Case{"f16", 64, 31, Extra::Swiglu, {2, 7}},
        Case{"bf16", 96, 1536, Extra::Residual, {13}},
        Case{"bf16", 128, 33, Extra::BiasSwiglu, {3, 97}},
        Case{"fp8", 96, 100, Extra::None, {1, 8, 100}},
        Case{"fp8", 64, 1536, Extra::Swiglu, {6}},
        Case{"fp8", 32, 300, Extra::BiasResidual, {13}},
        Case{"int8<32>", 96, 100, Extra::None, {1, 8, 100}},
        Case{"int8<64>", 64, 1536, Extra::Swiglu, {6}},
        Case{"int8<128>", 32, 40, Extra::BiasResidual, {13}},
        Case{"int4<32>", 32, 40, Extra::None, {1, 2, 3, 6, 7, 8, 13, 48, 100}},
        Case{"int4<32>", 544, 1536, Extra::Residual, {7}},
        Case{"int4<64>", 96, 100, Extra::Bias, {13}},
        Case{"int4<128>", 64, 300, Extra::BiasResidual, {48}},
        Case{"int4<32, zero_points>", 96, 1536, Extra::Residual, {13}},
        Case{"int4<64, zero_points>", 192, 100, Extra::Swiglu, {100}},
        Case{"int4<128, zero_points>", 64, 40, Extra::BiasSwiglu, {3}},
        Case{"int4<32>", 3200, 64, Extra::BiasSwiglu, {7}},
        Case{"int2<32>", 64, 100, Extra::Residual, {1, 6, 48}},
        Case{"int2<64, zero_points>", 64, 72, Extra::Swiglu, {7, 13}},
        Case{"int3<128>", 32, 300, Extra::None, {1, 13}},
        Case{"int3<32, zero_points>", 96, 40, Extra::Bias, {3, 48}},
        Case{"int5<32>", 64, 1536, Extra::None, {1, 100}},
        Case{"int6<64, zero_points>", 64, 100, Extra::Residual, {2, 13}},
        Case{"nf4<32>", 96, 100, Extra::BiasResidual, {1, 8, 48}}));

/// In one token class, a token's result is the same whatever surrounds it.
TEST(LinearKernelsBatch, RowsDoNotDependOnTheirNeighbours) {
  if (!hostTarget())
    GTEST_SKIP() << "this machine runs none of the targets";
  for (const char *encoding : {"f32", "int4<32>", "int8<64>"}) {
    PackedMatrix weight(*PackedEncoding::parse(encoding), 96, 300, 7);
    std::string entry =
        "kernel.entry @k tokens(many) {\n^bb0(%x: " + activation(384) +
        ", %w: " + weight.type() + "):\n  %y = kernel.linear %x, %w : (" +
        activation(384) + ", " + weight.type() + ") -> " + activation(128) +
        "\n}\n";
    auto kernel = CompiledKernel::compile(entry, *hostTarget());
    ASSERT_TRUE(kernel) << kernel.status().message();
    constexpr int64_t kTokens = 109;
    AlignedBytes x(112 * 384 * 4), all(112 * 128 * 4), one(112 * 128 * 4);
    std::vector<float> values = randomFloats(kTokens * 300, 5);
    for (int64_t t = 0; t < kTokens; ++t)
      std::copy_n(&values[t * 300], 300, x.as<float>() + t * 384);
    kernel->run({x.data(), weight.bytes.data(), all.data()},
                {.n_tokens = kTokens, .position = 0, .first_row = 0});
    for (int64_t t : {0, 5, 6, 95, 96, 107, 108}) {
      for (int64_t n : {1, 3}) {
        if (t + n > kTokens)
          continue;
        kernel->run({x.as<float>() + t * 384, weight.bytes.data(), one.data()},
                    {.n_tokens = n, .position = 0, .first_row = 0});
        for (int64_t i = 0; i < 96; ++i)
          ASSERT_EQ(one.as<float>()[i], all.as<float>()[t * 128 + i])
              << encoding << " token " << t << " of " << n << " row " << i;
      }
    }
  }
}

/// Drafts are verified with few tokens at a time: what they give must be what
/// one token at a time would, bit by bit.
TEST(LinearKernelsBatch, FewTokensGiveWhatOneGives) {
  if (!hostTarget())
    GTEST_SKIP() << "this machine runs none of the targets";
  for (const char *encoding : {"f32", "f16", "bf16", "fp8", "int8<32>",
                               "int4<32>", "int4<64>", "int4<32, zero_points>"})
    for (const char *epilogue : {"", " epilogue swiglu"}) {
      PackedMatrix weight(*PackedEncoding::parse(encoding), 256, 300, 7);
      auto compile = [&](const std::string &tokens) {
        return CompiledKernel::compile(
            "kernel.entry @k tokens(" + tokens +
                ") {\n^bb0(%x: " + activation(384) + ", %w: " + weight.type() +
                "):\n  %y = kernel.linear %x, %w" + epilogue + " : (" +
                activation(384) + ", " + weight.type() + ") -> " +
                activation(256) + "\n}\n",
            *hostTarget());
      };
      auto few = compile("few"), one = compile("one");
      ASSERT_TRUE(few) << few.status().message();
      ASSERT_TRUE(one) << one.status().message();
      AlignedBytes x(8 * 384 * 4), all(8 * 256 * 4), single(8 * 256 * 4);
      std::vector<float> values = randomFloats(8 * 300, 5);
      for (int64_t t = 0; t < 8; ++t)
        std::copy_n(&values[t * 300], 300, x.as<float>() + t * 384);
      for (int64_t n : {2, 3, 8}) {
        few->run({x.data(), weight.bytes.data(), all.data()},
                 {.n_tokens = n, .position = 0, .first_row = 0});
        for (int64_t t = 0; t < n; ++t) {
          one->run(
              {x.as<float>() + t * 384, weight.bytes.data(), single.data()},
              {.n_tokens = 1, .position = 0, .first_row = 0});
          for (int64_t i = 0; i < (*epilogue ? 128 : 256); ++i)
            ASSERT_EQ(single.as<float>()[i], all.as<float>()[t * 256 + i])
                << encoding << epilogue << " token " << t << " of " << n
                << " row " << i;
        }
      }
    }
}

} // namespace
