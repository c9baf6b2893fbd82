//===- GptqTest.cpp - Rounding that makes up ------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/Gptq.h"

#include "compiler/ptq/Dense.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

using namespace retort;
using namespace retort::ptq;

namespace {

/// Inputs of which neighbours are alike.
std::vector<float> correlated(int64_t tokens, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(tokens * cols));
  for (int64_t t = 0; t < tokens; ++t) {
    float last = 0;
    for (int64_t c = 0; c < cols; ++c) {
      last = 0.9f * last + normal(random);
      x[static_cast<size_t>(t * cols + c)] = last * (c % 7 == 0 ? 4.0f : 1.0f);
    }
  }
  return x;
}

std::vector<float> gram(const std::vector<float> &x, int64_t tokens,
                        int64_t n) {
  std::vector<float> h(static_cast<size_t>(n * n));
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        h[static_cast<size_t>(i * n + j)] += x[static_cast<size_t>(t * n + i)] *
                                             x[static_cast<size_t>(t * n + j)];
  return h;
}

TEST(Dense, GramIsTheSumOfProducts) {
  // Sizes that tiles don't divide.
  constexpr int64_t n = 300, tokens = 40;
  std::vector<float> x = correlated(tokens, n, 1);
  std::vector<float> h(n * n), expected = gram(x, tokens, n);
  addGram(h, n, x.data(), tokens, 3);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j)
      ASSERT_NEAR(h[static_cast<size_t>(i * n + j)],
                  expected[static_cast<size_t>(i * n + j)], 1e-2);
}

TEST(Dense, InverseOfTheFactorInverts) {
  constexpr int64_t n = 530, tokens = 1200;
  std::vector<float> x = correlated(tokens, n, 2);
  std::vector<float> h(n * n);
  addGram(h, n, x.data(), tokens, 2);
  std::vector<float> inverse = h;
  ASSERT_TRUE(invertCholesky(inverse, n, 2));
  // inverse * h * transposed inverse = 1, with h from its lower triangle.
  auto at = [&](int64_t i, int64_t j) {
    return double(h[static_cast<size_t>(std::max(i, j) * n + std::min(i, j))]);
  };
  for (int64_t row : {0, 17, 255, 256, 400, 529}) {
    std::vector<double> product(n);
    for (int64_t k = 0; k <= row; ++k)
      for (int64_t j = 0; j < n; ++j)
        product[static_cast<size_t>(j)] +=
            inverse[static_cast<size_t>(row * n + k)] * at(k, j);
    for (int64_t other : {0, 17, 255, 256, 400, 529}) {
      double sum = 0;
      for (int64_t j = 0; j <= other; ++j)
        sum += product[static_cast<size_t>(j)] *
               inverse[static_cast<size_t>(other * n + j)];
      EXPECT_NEAR(sum, row == other ? 1 : 0, 1e-3) << row << ' ' << other;
    }
  }
  std::vector<float> other = h;
  ASSERT_TRUE(invertCholesky(other, n, 5));
  EXPECT_EQ(inverse, other);
}

TEST(Dense, RefusesWhatIsNotPositive) {
  std::vector<float> h = {1, 0, 2, 1}; // lower triangle: 1, 2, 1
  EXPECT_FALSE(invertCholesky(h, 2, 1));
}

double outputError(const GridForm &form, const std::vector<float> &weights,
                   const QuantizedResult &result, const std::vector<float> &x,
                   int64_t tokens) {
  int64_t cols = result.cols, width = form.width(cols);
  double sum = 0;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t r = 0; r < result.rows; ++r) {
      double error = 0;
      for (int64_t c = 0; c < cols; ++c) {
        auto i = static_cast<size_t>(r * cols + c);
        const Grid &grid =
            result
                .grids[static_cast<size_t>(r * form.groups(cols) + c / width)];
        error += double(x[static_cast<size_t>(t * cols + c)]) *
                 (weights[i] - valueOnGrid(form, grid, result.quants[i]));
      }
      sum += error * error;
    }
  return sum;
}

TEST(Gptq, OutputsAreNearerThanRoundingToNearest) {
  constexpr int64_t rows = 24, cols = 256, tokens = 512;
  std::vector<float> x = correlated(tokens, cols, 3);
  std::vector<float> weights = correlated(rows, cols, 4);
  auto hessian = Hessian::fromInputs(x, tokens, cols, 2);
  ASSERT_TRUE(hessian);
  for (const char *name : {"int4", "int4-zero-points", "int8"}) {
    GridForm form = *parseGridForm(name, 64);
    QuantizedResult nearest = roundToNearest(form, weights, rows, cols, 2);
    QuantizedResult result = roundWithHessian(form, weights, rows, *hessian, 2);
    EXPECT_LE(outputError(form, weights, result, x, tokens),
              0.5 * outputError(form, weights, nearest, x, tokens))
        << name;
    EXPECT_EQ(result.quants,
              roundWithHessian(form, weights, rows, *hessian, 5).quants)
        << name;
  }
}

TEST(Gptq, FewerTokensThanColumnsWillDo) {
  constexpr int64_t rows = 8, cols = 128, tokens = 20;
  std::vector<float> x = correlated(tokens, cols, 5);
  std::vector<float> weights = correlated(rows, cols, 6);
  auto hessian = Hessian::fromInputs(x, tokens, cols, 1);
  ASSERT_TRUE(hessian);
  GridForm form = *parseGridForm("int4", 32);
  QuantizedResult result = roundWithHessian(form, weights, rows, *hessian, 1);
  EXPECT_LT(outputError(form, weights, result, x, tokens),
            outputError(form, weights,
                        roundToNearest(form, weights, rows, cols, 1), x,
                        tokens));
}

TEST(Gptq, BlocksOfColumnsGainToo) {
  constexpr int64_t rows = 24, cols = 250, tokens = 512;
  std::vector<float> x = correlated(tokens, cols, 7);
  std::vector<float> weights = correlated(rows, cols, 8);
  auto hessian = Hessian::fromInputs(x, tokens, cols, 2, /*widest=*/100);
  auto whole = Hessian::fromInputs(x, tokens, cols, 2);
  ASSERT_TRUE(hessian && whole);
  GridForm form = *parseGridForm("int4", 50);
  auto error = [&](const QuantizedResult &result) {
    return outputError(form, weights, result, x, tokens);
  };
  QuantizedResult result = roundWithHessian(form, weights, rows, *hessian, 2);
  EXPECT_LT(error(result),
            0.9 * error(roundToNearest(form, weights, rows, cols, 2)));
  EXPECT_LT(error(roundWithHessian(form, weights, rows, *whole, 2)),
            error(result));
  EXPECT_EQ(result.quants,
            roundWithHessian(form, weights, rows, *hessian, 5).quants);
}

TEST(BadHessian, NothingToLearnFrom) {
  std::vector<float> zeros(16 * 32);
  EXPECT_FALSE(Hessian::fromInputs({}, 0, 32, 1));
  EXPECT_FALSE(Hessian::fromInputs(zeros, 16, 32, 1));
}

} // namespace
