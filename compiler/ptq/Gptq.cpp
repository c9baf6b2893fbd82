//===- Gptq.cpp - Rounding that makes up for errors -----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/Gptq.h"

#include "compiler/ptq/Dense.h"
#include "runtime/support/Threads.h"

#include <algorithm>
#include <atomic>
#include <numeric>

namespace retort::ptq {
namespace {

/// Of the mean of the diagonal, what is added to it so that it can be inverted.
constexpr double kDamping = 0.01;
/// Tried with ten times the damping each, if that is not enough.
constexpr int kDampings = 4;
/// Columns whose errors are spread at once over those behind them.
constexpr int64_t kLazyColumns = 128;
/// Rows that one thread rounds at a time.
constexpr int64_t kRowsAtOnce = 16;

} // namespace

std::optional<Hessian> Hessian::fromInputs(std::span<const float> inputs,
                                           int64_t tokens, int64_t cols,
                                           int threads) {
  auto n = static_cast<size_t>(cols);
  Hessian out;
  out.numCols = cols;
  std::vector<double> squares(n);
  for (int64_t t = 0; t < tokens; ++t)
    for (size_t c = 0; c < n; ++c) {
      double x = inputs[static_cast<size_t>(t) * n + c];
      squares[c] += x * x;
    }
  double sum = std::accumulate(squares.begin(), squares.end(), 0.0);
  if (tokens == 0 || !(sum > 0))
    return std::nullopt;
  for (double square : squares)
    out.meanSquares.push_back(
        static_cast<float>(square / static_cast<double>(tokens)));
  out.order.resize(n);
  std::iota(out.order.begin(), out.order.end(), 0);
  std::stable_sort(out.order.begin(), out.order.end(),
                   [&](int32_t a, int32_t b) {
                     return out.meanSquares[static_cast<size_t>(a)] >
                            out.meanSquares[static_cast<size_t>(b)];
                   });
  // With columns backwards, the inverse of the factor is what GPTQ's Cholesky
  // factor of the inverse is: h = L L' gives inverse(h) = inverse(L)'
  // inverse(L).
  std::vector<float> ordered(static_cast<size_t>(tokens) * n);
  for (int64_t t = 0; t < tokens; ++t)
    for (size_t c = 0; c < n; ++c)
      ordered[static_cast<size_t>(t) * n + n - 1 - c] =
          inputs[static_cast<size_t>(t) * n +
                 static_cast<size_t>(out.order[c])];
  double damping = kDamping * sum / static_cast<double>(cols);
  for (int i = 0; i < kDampings; ++i, damping *= 10) {
    out.factor.assign(n * n, 0.0f);
    addGram(out.factor, cols, ordered.data(), tokens, threads);
    for (size_t c = 0; c < n; ++c)
      out.factor[c * n + c] += static_cast<float>(damping);
    if (invertCholesky(out.factor, cols, threads))
      return out;
  }
  return std::nullopt;
}

QuantizedResult roundWithHessian(const GridForm &form,
                                 std::span<const float> weights, int64_t rows,
                                 const Hessian &hessian, int threads) {
  int64_t cols = hessian.cols();
  QuantizedResult out(form, rows, cols);
  int64_t width = form.width(cols), groups = form.groups(cols);
  // Scales come from the weights as they are.
  std::atomic<int64_t> nextRow{0};
  auto workers = static_cast<size_t>(std::clamp<int64_t>(threads, 1, rows));
  runOnThreads(workers, [&] {
    for (int64_t row; (row = nextRow.fetch_add(1)) < rows;)
      for (int64_t g = 0; g < groups; ++g)
        out.grids[static_cast<size_t>(row * groups + g)] = fitWeighted(
            form,
            weights.subspan(static_cast<size_t>(row * cols + g * width),
                            static_cast<size_t>(width)),
            hessian.importance().subspan(static_cast<size_t>(g * width),
                                         static_cast<size_t>(width)));
  });
  // Columns lie backwards here too: position cols - 1 is rounded first.
  std::vector<float> left(static_cast<size_t>(rows * cols));
  auto columnAt = [&](int64_t position) {
    return static_cast<int64_t>(
        hessian.order[static_cast<size_t>(cols - 1 - position)]);
  };
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t p = 0; p < cols; ++p)
      left[static_cast<size_t>(row * cols + p)] =
          weights[static_cast<size_t>(row * cols + columnAt(p))];
  std::vector<float> errors(static_cast<size_t>(rows * kLazyColumns));
  const float *spread = hessian.factor.data();
  for (int64_t end = cols; end > 0;) {
    int64_t begin = std::max<int64_t>(0, end - kLazyColumns);
    std::atomic<int64_t> next{0};
    runOnThreads(workers, [&] {
      for (int64_t first; (first = next.fetch_add(kRowsAtOnce)) < rows;)
        for (int64_t row = first; row < std::min(rows, first + kRowsAtOnce);
             ++row) {
          float *w = left.data() + row * cols;
          float *error = errors.data() + row * kLazyColumns;
          for (int64_t p = end; p-- > begin;) {
            int64_t col = columnAt(p);
            const Grid &grid =
                out.grids[static_cast<size_t>(row * groups + col / width)];
            int8_t quant = roundToGrid(form, grid, w[p]);
            out.quants[static_cast<size_t>(row * cols + col)] = quant;
            float e =
                (w[p] - valueOnGrid(form, grid, quant)) / spread[p * cols + p];
            error[p - begin] = e;
            for (int64_t k = begin; k < p; ++k)
              w[k] -= e * spread[p * cols + k];
          }
        }
    });
    subtractProduct(left.data(), cols, errors.data(), kLazyColumns,
                    spread + begin * cols, cols, rows, begin, end - begin,
                    threads);
    end = begin;
  }
  return out;
}

} // namespace retort::ptq
