//===- LinearKernel.h - What emitters of linear launches share --*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The two algorithms of a linear launch, for one token and for many, and what
/// they share.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_LINEARKERNEL_H
#define RETORT_COMPILER_LOWER_LINEARKERNEL_H

#include "compiler/lower/Decode.h"
#include "compiler/lower/Tiling.h"

namespace retort {

/// A linear launch's operands and geometry.
struct LinearKernel {
  LinearKernel(KernelBuilder &k, kernel::LinearOp op);

  /// Columns up to the end of the last block.
  int64_t paddedCols() const {
    return encoding.blocksPerStrip(cols) * encoding.blockCols();
  }
  /// Registers that hold a strip's rows.
  int64_t vectors() const { return kStripRows / k.lanes(); }
  /// Byte of strip `strip` in the weights.
  Index stripByte(Index strip) { return strip * encoding.stripBytes(cols); }

  /// Finishes unit `unit` for a token whose sums lie in `sums` from `at` on,
  /// those of a swiglu unit's second strip `stripStride` elements further:
  /// bias, residual or swiglu, and the store.
  void emitEpilogue(Index unit, Index token, Buffer sums, Index at,
                    int64_t stripStride);

  KernelBuilder &k;
  bool swiglu;
  PackedEncoding encoding;
  int64_t cols;
  LinearTiling tiling;
  int64_t xStride, resultStride;
  Buffer x, weights, result;
  std::optional<Buffer> bias, residual;
};

/// One token: streams of weights, decoded in registers.
void emitLinearOne(LinearKernel &linear);

/// Many tokens: weights decoded once per token block, a register tile of FMAs.
void emitLinearMany(LinearKernel &linear);

/// silu(x) = x / (1 + exp(-x)) of f32 lanes.
mlir::Value emitSilu(KernelBuilder &k, mlir::Value x);

} // namespace retort

#endif // RETORT_COMPILER_LOWER_LINEARKERNEL_H
