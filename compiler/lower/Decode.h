//===- Decode.h - Decode packed weights in registers ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Emits the decoding of packed blocks (compiler/encoding/PackedEncoding.h) to
/// f32 vectors whose lanes are rows of a strip.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_DECODE_H
#define RETORT_COMPILER_LOWER_DECODE_H

#include "compiler/lower/KernelBuilder.h"

namespace retort {

/// Columns that are stored together: 4 bytes of a row for integers, one column
/// for floats. Code that walks a block goes in steps of this.
int64_t columnStep(const PackedEncoding &encoding);

class Decoder {
public:
  Decoder(KernelBuilder &k, Buffer weights, const PackedEncoding &encoding)
      : k(k), weights(weights), encoding(encoding) {}

  /// The registers that hold a strip's rows.
  int64_t vectors() const { return kStripRows / k.lanes(); }

  /// Floats: the elements (of fp8 divided by 256) of column `col` (of its block
  /// at byte `block`), rows v * lanes and on.
  mlir::Value loadFloats(Index block, Index col, int64_t v);
  /// Integers: the 32-bit words of rows v * lanes and on that hold `columnStep`
  /// columns from `col` on.
  mlir::Value loadWords(Index block, Index col, int64_t v);
  /// Quant `i` of each word as f32: signed for int8, 0..15 for int4.
  mlir::Value quant(mlir::Value words, int64_t i);
  /// Quant `i` of each int4 word times `inPlaceScale(i)`, as f32: cheaper than
  /// `quant`, for the bits stay where they are. `half` is the words for columns
  /// 0, 1, 4 and 5, and `upperHalf(words)` for the others.
  mlir::Value quantInPlace(mlir::Value half, int64_t i);
  mlir::Value upperHalf(mlir::Value words);
  static double inPlaceScale(int64_t i);
  /// Scales of rows v * lanes and on; for fp8 they make up for loadFloats.
  mlir::Value loadScales(Index block, int64_t v);
  /// Zero points, as f32; int4 alone.
  mlir::Value loadZeroPoints(Index block, int64_t v);
  /// The same as i32.
  mlir::Value loadZeroPointInts(Index block, int64_t v);

private:
  KernelBuilder &k;
  Buffer weights;
  PackedEncoding encoding;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_DECODE_H
