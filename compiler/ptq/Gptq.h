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

/// The sum of squares of the inputs of some matrices, ready for rounding them.
class Hessian {
public:
  /// From inputs [tokens, cols]. Nothing if there are none, or they do not
  /// determine an order (all zero).
  static std::optional<Hessian> fromInputs(std::span<const float> inputs,
                                           int64_t tokens, int64_t cols,
                                           int threads);

  /// The mean square of each input.
  std::span<const float> importance() const { return meanSquares; }
  int64_t cols() const { return numCols; }

private:
  friend QuantizedResult roundWithHessian(const GridForm &,
                                          std::span<const float>, int64_t,
                                          const Hessian &, int);
  int64_t numCols = 0;
  std::vector<float> meanSquares;
  std::vector<int32_t> order; ///< columns, largest mean square first
  /// [cols, cols] in that order, backwards: the inverse of the Cholesky factor.
  /// Row i, read backwards from i on, is how an error in column cols - 1 - i
  /// spreads.
  std::vector<float> factor;
};

/// Rounds weights [rows, hessian.cols()].
QuantizedResult roundWithHessian(const GridForm &form,
                                 std::span<const float> weights, int64_t rows,
                                 const Hessian &hessian, int threads);

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_GPTQ_H
