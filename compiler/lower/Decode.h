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

/// Columns that code which walks a block takes at a time: those of a word of
/// int8 and int4, those between two runs of planes of other integers, one of
/// floats.
int64_t columnStep(const PackedEncoding &encoding);

class Decoder {
public:
  Decoder(KernelBuilder &k, Buffer weights, const PackedEncoding &encoding)
      : k(k), weights(weights), encoding(encoding) {}

  /// The registers that hold a strip's rows.
  int64_t vectors() const { return kStripRows / k.lanes(); }

  int64_t columnStep() const { return retort::columnStep(encoding); }

  /// Floats: the elements (of fp8 divided by 256) of column `col` (of its block
  /// at byte `block`), rows v * lanes and on.
  mlir::Value loadFloats(Index block, Index col, int64_t v);
  /// Integers: the quants of columns col + 4 * word ... + 3, as the bytes of a
  /// word of rows v * lanes and on. `col` is a multiple of columnStep, and the
  /// columns lie within one. Unsigned as they are stored, and
  mlir::Value loadQuants(Index block, Index col, int64_t word, int64_t v);
  /// as signed bytes, less their zero point or looked up in the codebook.
  mlir::Value loadSigned(Index block, Index col, int64_t word, int64_t v);
  /// Signed byte `i` of each word as f32.
  mlir::Value toFloat(mlir::Value words, int64_t i);
  /// int4: the words of rows v * lanes and on that hold 8 columns from `col`
  /// on.
  mlir::Value loadWords(Index block, Index col, int64_t v);
  /// int4: quant `i` of each word as f32, 0..15.
  mlir::Value quant(mlir::Value words, int64_t i);
  /// Quant `i` of each int4 word times `inPlaceScale(i)`, as f32: cheaper than
  /// `quant`, for the bits stay where they are. `half` is the words for columns
  /// 0, 1, 4 and 5, and `upperHalf(words)` for the others.
  mlir::Value quantInPlace(mlir::Value half, int64_t i);
  mlir::Value upperHalf(mlir::Value words);
  static double inPlaceScale(int64_t i);
  /// Scales of rows v * lanes and on; for fp8 they make up for loadFloats.
  mlir::Value loadScales(Index block, int64_t v);
  /// Zero points, as f32, of integers that have some.
  mlir::Value loadZeroPoints(Index block, int64_t v);
  /// The same as i32.
  mlir::Value loadZeroPointInts(Index block, int64_t v);

private:
  mlir::Value wordsAt(Index block, Index word, int64_t v);
  mlir::Value lookUp(mlir::Value indices);

  KernelBuilder &k;
  Buffer weights;
  PackedEncoding encoding;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_DECODE_H
