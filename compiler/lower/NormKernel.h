//===- NormKernel.h - Root-mean-square normalization ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The normalization that `kernel.rms_norm` and `kernel.latent_cache` share.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_NORMKERNEL_H
#define RETORT_COMPILER_LOWER_NORMKERNEL_H

#include "compiler/lower/KernelBuilder.h"

namespace retort {

struct NormKernel {
  KernelBuilder &k;
  Buffer x, weight, result;
  int64_t width;  ///< elements that are normalized, the length of `weight`
  int64_t stride; ///< elements that are written: zeros follow the width
  double eps;

  /// Normalizes the row of `x` that begins at element `from` into that of
  /// `result` at `to`; both are multiples of a register's lanes.
  void normalize(Index from, Index to);

private:
  /// Elements that whole vectors cover; the rest of the width goes one by one.
  int64_t vectorized() const { return width / k.lanes() * k.lanes(); }
  mlir::Value sumOfSquares(Index row);
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_NORMKERNEL_H
