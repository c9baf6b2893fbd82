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

/// Of the mean of the diagonal, what is added to it. That the matrix can be
/// inverted takes little; what is learnt from T tokens about n inputs holds for
/// other texts only with more, the more the fewer tokens there are: n / T
/// beside a constant. On texts other than the calibration's this lost least, in
/// matrices of 900 and of 4900 inputs alike.
double dampingOf(int64_t tokens, int64_t cols) {
  return 0.1 + static_cast<double>(cols) / static_cast<double>(tokens);
}
/// Tried with ten times the damping each, if that is not enough.
constexpr int kDampings = 4;
/// Columns whose errors are spread at once over those behind them.
constexpr int64_t kLazyColumns = 128;
/// Rows that one thread rounds at a time.
constexpr int64_t kRowsAtOnce = 16;

template <typename Body>
void forPieces(int64_t count, int threads, const Body &body) {
  std::atomic<int64_t> next{0};
  int64_t pieces = (count + kRowsAtOnce - 1) / kRowsAtOnce;
  runOnThreads(
      static_cast<size_t>(
          std::clamp<int64_t>(threads, 1, std::max<int64_t>(pieces, 1))),
      [&] {
        for (int64_t first; (first = next.fetch_add(kRowsAtOnce)) < count;)
          for (int64_t i = first; i < std::min(count, first + kRowsAtOnce); ++i)
            body(i);
      });
}

} // namespace

std::vector<float> inputImportance(std::span<const float> inputs,
                                   int64_t tokens, int64_t cols) {
  auto n = static_cast<size_t>(cols);
  std::vector<double> squares(n);
  for (size_t t = 0; t < static_cast<size_t>(tokens); ++t)
    for (size_t c = 0; c < n; ++c) {
      double x = inputs[t * n + c];
      squares[c] += x * x;
    }
  std::vector<float> out;
  out.reserve(n);
  for (double square : squares)
    out.push_back(static_cast<float>(
        square / static_cast<double>(std::max<int64_t>(tokens, 1))));
  return out;
}

std::optional<Hessian> Hessian::fromInputs(std::span<const float> inputs,
                                           int64_t tokens, int64_t cols,
                                           int threads, int64_t widest) {
  Hessian out;
  out.numCols = cols;
  out.meanSquares = inputImportance(inputs, tokens, cols);
  double sum =
      std::accumulate(out.meanSquares.begin(), out.meanSquares.end(), 0.0);
  if (!(sum > 0))
    return std::nullopt;
  std::vector<int32_t> order(static_cast<size_t>(cols));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return out.meanSquares[static_cast<size_t>(a)] >
           out.meanSquares[static_cast<size_t>(b)];
  });
  auto count = static_cast<size_t>((cols + widest - 1) / widest);
  out.blocks.resize(count);
  for (size_t i = 0; i < order.size(); ++i)
    out.blocks[i % count].order.push_back(order[i]);
  double damping =
      sum * static_cast<double>(tokens) / static_cast<double>(cols);
  for (Block &block : out.blocks)
    if (!fill(block, inputs, tokens, cols, damping, threads))
      return std::nullopt;
  return out;
}

/// `damping`: the mean of the diagonal.
bool Hessian::fill(Block &block, std::span<const float> inputs, int64_t tokens,
                   int64_t cols, double damping, int threads) {
  // With columns backwards, the inverse of the factor is what GPTQ's Cholesky
  // factor of the inverse is: h = L L' gives inverse(h) = inverse(L)'
  // inverse(L).
  size_t n = block.order.size();
  auto size = static_cast<int64_t>(n);
  std::vector<float> ordered(static_cast<size_t>(tokens) * n);
  forPieces(tokens, threads, [&](int64_t t) {
    const float *from = inputs.data() + t * cols;
    float *to = ordered.data() + static_cast<size_t>(t) * n;
    for (size_t c = 0; c < n; ++c)
      to[n - 1 - c] = from[block.order[c]];
  });
  damping *= dampingOf(tokens, size);
  for (int i = 0; i < kDampings; ++i, damping *= 10) {
    block.factor.assign(n * n, 0.0f);
    addGram(block.factor, size, ordered.data(), tokens, threads);
    for (size_t c = 0; c < n; ++c)
      block.factor[c * n + c] += static_cast<float>(damping);
    if (invertCholesky(block.factor, size, threads))
      return true;
  }
  return false;
}

/// The rounding of one matrix. Within a block columns lie backwards, in the
/// Hessian's order: the last position is rounded first.
class Rounding {
public:
  Rounding(const GridForm &form, std::span<const float> weights, int64_t rows,
           const Hessian &hessian, int threads, std::span<const float> scales)
      : form(form), weights(weights), hessian(hessian), scales(scales),
        threads(threads), rows(rows), cols(hessian.cols()),
        width(form.width(cols)), groups(form.groups(cols)),
        out(form, rows, cols),
        errors(static_cast<size_t>(rows * kLazyColumns)) {}

  QuantizedResult run() {
    forPieces(rows, threads, [&](int64_t row) {
      fitRow(form,
             weights.subspan(static_cast<size_t>(row * cols),
                             static_cast<size_t>(cols)),
             hessian.importance(), scales,
             std::span(out.grids).subspan(static_cast<size_t>(row * groups),
                                          static_cast<size_t>(groups)));
    });
    for (const Hessian::Block &block : hessian.blocks)
      roundBlock(block);
    return std::move(out);
  }

private:
  void roundBlock(const Hessian::Block &block) {
    size = static_cast<int64_t>(block.order.size());
    columns.assign(block.order.rbegin(), block.order.rend());
    left.resize(static_cast<size_t>(rows * size));
    forPieces(rows, threads, [&](int64_t row) {
      const float *from = weights.data() + row * cols;
      float *to = left.data() + row * size;
      for (int64_t p = 0; p < size; ++p)
        to[p] = from[columns[static_cast<size_t>(p)]];
    });
    const float *factor = block.factor.data();
    for (int64_t end = size; end > 0;) {
      int64_t begin = std::max<int64_t>(0, end - kLazyColumns);
      forPieces(rows, threads,
                [&](int64_t row) { round(factor, row, begin, end); });
      subtractProduct(left.data(), size, errors.data(), kLazyColumns,
                      factor + begin * size, size, rows, begin, end - begin,
                      threads);
      end = begin;
    }
  }

  void round(const float *factor, int64_t row, int64_t begin, int64_t end) {
    const Grid *grids = out.grids.data() + row * groups;
    int8_t *quants = out.quants.data() + row * cols;
    float *w = left.data() + row * size;
    float *error = errors.data() + row * kLazyColumns;
    for (int64_t p = end; p-- > begin;) {
      int64_t col = columns[static_cast<size_t>(p)];
      float scale = scales.empty() ? 1.0f : scales[static_cast<size_t>(col)];
      const Grid &grid = grids[col / width];
      int8_t quant = roundToGrid(form, grid, w[p] * scale);
      quants[col] = quant;
      const float *spread = factor + p * size;
      float e = (w[p] - valueOnGrid(form, grid, quant) / scale) / spread[p];
      error[p - begin] = e;
      for (int64_t k = begin; k < p; ++k)
        w[k] -= e * spread[k];
    }
  }

  const GridForm &form;
  std::span<const float> weights;
  const Hessian &hessian;
  std::span<const float> scales;
  int threads;
  int64_t rows, cols, width, groups;
  QuantizedResult out;
  std::vector<float> errors; ///< [rows, kLazyColumns] of the last columns
  // Of the block at hand:
  int64_t size = 0;
  std::vector<int64_t> columns; ///< by position
  std::vector<float> left;      ///< [rows, size]: what is to be rounded
};

QuantizedResult roundWithHessian(const GridForm &form,
                                 std::span<const float> weights, int64_t rows,
                                 const Hessian &hessian, int threads,
                                 std::span<const float> scales) {
  return Rounding(form, weights, rows, hessian, threads, scales).run();
}

} // namespace retort::ptq
