//===- Gptq.h - Rounding that makes up for errors ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// GPTQ (arXiv 2210.17323): columns are rounded one by one, those with the
/// largest inputs first, and what each loses is made up for by the columns that
/// are still to come. Groups and scales are fixed beforehand, so that the order
/// leaves no trace in the format.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_GPTQ_H
#define RETORT_COMPILER_PTQ_GPTQ_H

#include "compiler/ptq/Grid.h"

#include <optional>
#include <span>
#include <vector>

namespace retort::ptq {

/// The mean square of each input, of inputs [tokens, cols].
std::vector<float> inputImportance(std::span<const float> inputs,
                                   int64_t tokens, int64_t cols);

/// The sum of squares of the inputs of some matrices, ready for rounding them.
class Hessian {
public:
  /// From inputs [tokens, cols]. Nothing if there are none, or they do not
  /// determine an order (all zero). More than `widest` columns are divided into
  /// blocks, by turns in the order of their mean squares, and errors stay in
  /// their block: work grows with the cube of the columns, and what so many
  /// tokens tell of so many inputs is little.
  static std::optional<Hessian> fromInputs(std::span<const float> inputs,
                                           int64_t tokens, int64_t cols,
                                           int threads,
                                           int64_t widest = kWidest);
  static constexpr int64_t kWidest = 6144;

  /// As inputImportance() has it.
  std::span<const float> importance() const { return meanSquares; }
  int64_t cols() const { return numCols; }

private:
  friend class Rounding;
  int64_t numCols = 0;
  std::vector<float> meanSquares;
  /// Columns that make up for each other's errors.
  struct Block {
    std::vector<int32_t> order; ///< columns, largest mean square first
    /// [n, n] in that order, backwards: the inverse of the Cholesky factor.
    /// Row i, read backwards from i on, is how an error in column n - 1 - i
    /// spreads.
    std::vector<float> factor;
  };
  static bool fill(Block &block, std::span<const float> inputs, int64_t tokens,
                   int64_t cols, double damping, int threads);
  std::vector<Block> blocks;
};

/// Rounds weights [rows, hessian.cols()]. With `scales`, one per column, the
/// result is of weights that have been multiplied by them, and makes up for
/// errors of inputs that have been divided.
QuantizedResult roundWithHessian(const GridForm &form,
                                 std::span<const float> weights, int64_t rows,
                                 const Hessian &hessian, int threads,
                                 std::span<const float> scales = {});

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_GPTQ_H
