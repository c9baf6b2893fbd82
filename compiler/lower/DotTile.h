//===- DotTile.h - Integer products of many rows and tokens -----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The products of a strip's 32 rows with several tokens, summed over a group
/// of 32 columns, on targets whose table names a MatrixStep. Weights and quants
/// lie in scratch, in the order that the instructions take:
/// ```
/// panel    8 words of 4 columns, each of 32 rows: [word][row]; with smmla two
///          words of each two rows side by side, so that 16 bytes hold 8
///          columns of 2 rows
/// quants   [token][word] as they lie; int16 quants, x = 256 * high + low, as 8
///          words of high and 8 of low bytes
/// ```
/// The sums are those of GroupDot, exactly, without what zero points
/// contribute.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_DOTTILE_H
#define RETORT_COMPILER_LOWER_DOTTILE_H

#include "compiler/lower/Dot.h"

namespace retort {

class DotTile {
public:
  using Values = KernelBuilder::Values;

  /// `words` is the scratch in words of 32 bits, in which `panel` begins the
  /// weights (16 * 32 words) and `products` is room for a tile's products, 32
  /// tokens by 32 rows, where these are stored before they are read.
  DotTile(KernelBuilder &k, const PackedEncoding &weights, Buffer words,
          int64_t panel, int64_t products)
      : k(k), dot(k, weights), isNarrow(weights.isNarrow()), words(words),
        panel(panel), room(products) {}

  /// Whether the target has such instructions for these weights.
  bool isUsed() const;
  /// Tokens of a tile: a divisor of linearIntTokenBlock() for many tokens.
  int64_t tokens() const;
  /// Puts a group's eight words of signed bytes (Decoder::loadSigned) of a
  /// register of rows, register `v` of the strip, into the panel.
  void storeWeights(llvm::SmallVector<mlir::Value> rows, int64_t v);
  /// Arranges a token's quants of a group, which begin at word `at`, in place.
  void arrangeQuants(Index at);
  /// The products with the tokens whose quants begin at word `at`, as lanes of
  /// i32: [token][register of rows].
  Values products(Index at);

private:
  MatrixStep step() const { return k.target().matrix; }
  int64_t vectors() const { return kStripRows / k.lanes(); }
  mlir::Value loadWeights(int64_t word, int64_t v);
  mlir::Value bytes(mlir::Value words) {
    return k.bitcast(words, k.vec(k.i8(), 4 * k.lanes()));
  }
  mlir::Value call(llvm::StringRef intrinsic, mlir::ValueRange args);
  Values byDots(Index at);
  Values bySmmla(Index at);
  Values byTiles(Index at);

  KernelBuilder &k;
  GroupDot dot;
  bool isNarrow;
  Buffer words;
  int64_t panel, room;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_DOTTILE_H
