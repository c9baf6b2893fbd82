//===- LinearKernel.h - What emitters of linear launches share --*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The algorithms of a linear launch, for one token and for many, in floats and
/// in integers, and what they share.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_LINEARKERNEL_H
#define RETORT_COMPILER_LOWER_LINEARKERNEL_H

#include "compiler/lower/Decode.h"
#include "compiler/lower/RowSink.h"
#include "compiler/lower/Tiling.h"

#include <functional>
#include <optional>

namespace retort {

/// What the linear algorithms need to know of a matrix product: the weights'
/// geometry, how tiles divide its rows, and where its inputs lie.
struct LinearKernel {
  LinearKernel(KernelBuilder &k, mlir::Value weightOperand, Buffer x,
               int64_t xStride, Buffer weights, const LinearTiling &tiling);

  /// Columns up to the end of the last block.
  int64_t paddedCols() const {
    return encoding.blocksPerStrip(cols) * encoding.blockCols();
  }
  /// Registers that hold a strip's rows.
  int64_t vectors() const { return kStripRows / k.lanes(); }

  /// Groups of quantized inputs that the padded columns make.
  int64_t groups() const { return paddedCols() / kActivationGroup; }
  /// Of one block of integer weights.
  int64_t groupsPerBlock() const {
    return encoding.blockCols() / kActivationGroup;
  }

  /// Where the parts of a quantized row are that begins at an element of x, in
  /// 32-bit words of x.
  struct QuantizedRow {
    Index quants, scales, sums;
  };
  QuantizedRow quantizedRow(Index element) const;

  /// Makes the kernel quantize its inputs itself where they are plain and the
  /// weights integers: for launches of so few rows a matrix, or of inputs that
  /// others need plain, that their producers do not.
  void quantizeInputs();
  /// A group of plain inputs from element `from` of x on.
  QuantizedGroup quantizeGroup(Index from) const;

  KernelBuilder &k;
  PackedEncoding encoding;
  /// Of x, or what the kernel quantizes it to; none if floats are multiplied.
  std::optional<ActivationEncoding> inputs;
  bool quantizes = false;
  int64_t cols;
  LinearTiling tiling;
  int64_t xStride;
  Buffer x, weights;
};

/// One tile of a matrix product. A launch may compute several in turn, with
/// other weights and inputs each: those of an expert or of a head.
struct LinearJob {
  /// First byte of the matrix in the weights, and number of the tile among
  /// `LinearKernel::tiling.tiles`.
  Index weightBase, tile;
  /// Inputs: row r begins at element xBase + r * xStride of x, or at xRow(r) if
  /// that is given. With class `one` there is row 0 alone, with `few` at most
  /// kFewTokens of them.
  Index xBase, rows;
  std::function<Index(Index)> xRow;
  /// Takes the finished sums of an output unit for an input row. They lie in
  /// `sums` from `at` on, 32 of them; those of a swiglu unit's second strip
  /// `stripStride` elements further.
  std::function<void(Index unit, Index row, Buffer sums, Index at,
                     int64_t stripStride)>
      finish;
};

/// One or a few tokens: streams of weights, decoded in registers.
void emitLinearOne(LinearKernel &linear, const LinearJob &job);

/// Many tokens: weights decoded once per token block, a register tile of FMAs.
void emitLinearMany(LinearKernel &linear, const LinearJob &job);

/// The one for the entry's class.
void emitLinearJob(LinearKernel &linear, const LinearJob &job);

/// The same for quantized inputs, which the above pass on: one token, and few
/// or many. A token's result is the same in both, bit for bit:
/// ```
/// sum = fma(weight scale * input scale, float(products - zero point * sum of
///           the input's quants), sum)
/// ```
/// group by group in the order of columns, all in brackets being exact.
void emitLinearIntOne(LinearKernel &linear, const LinearJob &job);
void emitLinearIntMany(LinearKernel &linear, const LinearJob &job);

/// What becomes of a linear launch's sums.
struct LinearEpilogue {
  bool swiglu = false;
  RowSink result;
  std::optional<Buffer> bias = std::nullopt, residual = std::nullopt;

  /// Bias, residual or swiglu, and the store to columns of `unit` in the row
  /// that begins at element `resultRow`.
  void emit(KernelBuilder &k, const LinearTiling &tiling, Index unit,
            Index resultRow, Buffer sums, Index at, int64_t stripStride) const;
};

/// silu(x) = x / (1 + exp(-x)) of f32 lanes.
mlir::Value emitSilu(KernelBuilder &k, mlir::Value x);

} // namespace retort

#endif // RETORT_COMPILER_LOWER_LINEARKERNEL_H
