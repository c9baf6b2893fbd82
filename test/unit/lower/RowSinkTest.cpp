//===- RowSinkTest.cpp - Launches that quantize their results -------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/lower/KernelHarness.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

using namespace retort;
using namespace retort::test;

namespace {

constexpr ActivationEncoding kEncodings[] = {{ActivationKind::Int8},
                                             {ActivationKind::Int16}};

std::string plainType(int64_t stride) {
  return "tensor<?x" + std::to_string(stride) + "xf32>";
}

/// Expects `found` to be the quants, scales and sums of `plain`.
void expectQuantized(ActivationEncoding encoding,
                     const std::vector<float> &plain, int64_t stride,
                     const uint8_t *found) {
  QuantizedRows expected(encoding, plain, stride, stride);
  int64_t used = encoding.usedBytes(stride);
  for (size_t t = 0; t < plain.size() / stride; ++t)
    EXPECT_EQ(std::memcmp(found + t * encoding.rowBytes(stride),
                          expected.row(t), used),
              0)
        << encoding.str() << " row " << t;
}

class RowSinks : public testing::Test {
protected:
  void SetUp() override {
    if (!hostTarget())
      GTEST_SKIP() << "this machine runs none of the targets";
  }
};

TEST_F(RowSinks, ANormGivesEveryForm) {
  constexpr int64_t kTokens = 11, kWidth = 100, kStride = 256;
  std::vector<float> weights = randomFloats(kWidth, 2);
  AlignedBytes w(kWidth * 4), x(16 * 128 * 4);
  std::copy(weights.begin(), weights.end(), w.as<float>());
  std::vector<float> values = randomFloats(kTokens * kWidth, 1);
  for (int64_t t = 0; t < kTokens; ++t)
    std::copy_n(&values[t * kWidth], kWidth, x.as<float>() + t * 128);
  std::string operands = "(tensor<?x128xf32>, tensor<100xf32>)";
  std::string head = "kernel.entry @k tokens(many) {\n^bb0(%x: "
                     "tensor<?x128xf32>, %w: tensor<100xf32>):\n  %y";
  std::string body =
      " = kernel.rms_norm %x, %w eps 1.0e-6 : " + operands + " -> ";
  std::string int8 = QuantizedRows::type(kEncodings[0], kStride);
  std::string int16 = QuantizedRows::type(kEncodings[1], kStride);
  AlignedBytes plain(16 * kStride * 4), narrow(16 * 4 * kStride),
      wide(16 * 4 * kStride);
  auto all =
      CompiledKernel::compile(head + ":3" + body + "(" + plainType(kStride) +
                                  ", " + int16 + ", " + int8 + ")\n}\n",
                              *hostTarget());
  ASSERT_TRUE(all) << all.status().message();
  retort_kernel_scalars scalars{
      .n_tokens = kTokens, .position = 0, .first_row = 0};
  all->run({x.data(), w.data(), plain.data(), wide.data(), narrow.data()},
           scalars);
  std::vector<float> rows(plain.as<float>(),
                          plain.as<float>() + kTokens * kStride);
  for (int64_t t = 0; t < kTokens; ++t) {
    double squares = 1e-6;
    for (int64_t i = 0; i < kWidth; ++i)
      squares +=
          double(values[t * kWidth + i]) * values[t * kWidth + i] / kWidth;
    for (int64_t i = 0; i < kStride; ++i)
      ASSERT_NEAR(rows[t * kStride + i],
                  i < kWidth
                      ? values[t * kWidth + i] / std::sqrt(squares) * weights[i]
                      : 0,
                  1e-5);
  }
  expectQuantized(kEncodings[0], rows, kStride, narrow.data());
  expectQuantized(kEncodings[1], rows, kStride, wide.data());

  // Without the plain form, too.
  auto alone =
      CompiledKernel::compile(head + body + int8 + "\n}\n", *hostTarget());
  ASSERT_TRUE(alone) << alone.status().message();
  AlignedBytes again(16 * 4 * kStride);
  alone->run({x.data(), w.data(), again.data()}, scalars);
  expectQuantized(kEncodings[0], rows, kStride, again.data());
}

TEST_F(RowSinks, AttentionQuantizesItsHeads) {
  // Two heads of 64 in a row of 256: the rest is zeros.
  constexpr int64_t kTokens = 3, kStride = 256, kCache = 64 * 64;
  AlignedBytes q(8 * kStride * 4), keys(kCache * 4), values(kCache * 4);
  std::vector<float> random = randomFloats(8 * kStride + 2 * kCache, 4);
  std::copy_n(random.begin(), 8 * kStride, q.as<float>());
  std::copy_n(&random[8 * kStride], kCache, keys.as<float>());
  std::copy_n(&random[8 * kStride + kCache], kCache, values.as<float>());
  auto compile = [](const std::string &result, const char *tokens) {
    return CompiledKernel::compile(
        std::string("kernel.entry @k tokens(") + tokens +
            ") {\n^bb0(%q: tensor<?x256xf32>, %k: !kernel.cache<keys, 1 x 64>, "
            "%v: !kernel.cache<values, 1 x 64>):\n  %y = kernel.attention %q, "
            "%k, %v heads 2 scale 0.125 : (tensor<?x256xf32>, "
            "!kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>) -> " +
            result + "\n}\n",
        *hostTarget());
  };
  for (const char *tokens : {"one", "many"}) {
    int64_t n = tokens[0] == 'o' ? 1 : kTokens;
    retort_kernel_scalars scalars{.n_tokens = n, .position = 9, .first_row = 0};
    AlignedBytes plain(8 * kStride * 4);
    auto kernel = compile(plainType(kStride), tokens);
    ASSERT_TRUE(kernel) << kernel.status().message();
    kernel->run({q.data(), keys.data(), values.data(), plain.data()}, scalars);
    std::vector<float> rows(plain.as<float>(), plain.as<float>() + n * kStride);
    for (ActivationEncoding encoding : kEncodings) {
      auto quantizing = compile(QuantizedRows::type(encoding, kStride), tokens);
      ASSERT_TRUE(quantizing) << quantizing.status().message();
      AlignedBytes found(8 * encoding.rowBytes(kStride));
      quantizing->run({q.data(), keys.data(), values.data(), found.data()},
                      scalars);
      expectQuantized(encoding, rows, kStride, found.data());
    }
  }
}

/// What is no number must not look like one, and what is too small is zero.
TEST_F(RowSinks, ExtremeGroups) {
  constexpr int64_t kWidth = 128;
  AlignedBytes w(kWidth * 4), x(8 * kWidth * 4);
  std::fill_n(w.as<float>(), kWidth, 1.0f);
  auto compile = [&](ActivationEncoding encoding) {
    return CompiledKernel::compile(
        "kernel.entry @k tokens(many) {\n^bb0(%x: tensor<?x128xf32>, %w: "
        "tensor<128xf32>):\n  %y = kernel.rms_norm %x, %w eps 1.0e30 : "
        "(tensor<?x128xf32>, tensor<128xf32>) -> " +
            QuantizedRows::type(encoding, kWidth) + "\n}\n",
        *hostTarget());
  };
  for (ActivationEncoding encoding : kEncodings) {
    auto kernel = compile(encoding);
    ASSERT_TRUE(kernel) << kernel.status().message();
    auto run = [&](float value) {
      std::fill_n(x.as<float>(), kWidth, 1.0f);
      x.as<float>()[40] = value;
      AlignedBytes y(8 * encoding.rowBytes(kWidth));
      kernel->run({x.data(), w.data(), y.data()},
                  {.n_tokens = 1, .position = 0, .first_row = 0});
      std::vector<float> out;
      for (int64_t i = 0; i < kWidth; ++i)
        out.push_back(QuantizedRows::decode(encoding, kWidth, y.data(), i));
      return out;
    };
    // 1 / sqrt(1e30) and less.
    for (float value : run(1.0f))
      EXPECT_NEAR(value, 1e-15, 1e-17);
    EXPECT_TRUE(std::isnan(run(std::nanf(""))[40]));
    std::fill_n(w.as<float>(), kWidth, 1e-20f);
    for (float value : run(1.0f))
      EXPECT_EQ(value, 0);
    std::fill_n(w.as<float>(), kWidth, 1.0f);
  }
}

} // namespace
