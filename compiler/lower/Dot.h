//===- Dot.h - Integer dot products of a group ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Products of packed integer weights with quantized activations
/// (compiler/encoding), summed over a group of 32 columns in 32-bit lanes whose
/// lanes are rows of a strip. The sums are exact, so that every target, tile
/// and number of tokens gives the same.
///
/// A group is taken in steps. In a step a lane's 32-bit word of weights meets
/// the same word of activations: four columns, bytes by bytes, for narrow
/// weights (IntegerFormat); two, 16 bits by 16 bits, for others. The words of
/// weights come from `load`; those of an activation are its quants as they lie,
/// after `prepare`.
///
/// A target that multiplies bytes alone takes int16 quants apart, x = 256 high
/// + low: of two words of four columns `prepare` makes one of high and one of
/// low bytes, and `load` gives the same word for both.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_DOT_H
#define RETORT_COMPILER_LOWER_DOT_H

#include "compiler/lower/Decode.h"

namespace retort {

class GroupDot {
public:
  using Values = KernelBuilder::Values;

  GroupDot(KernelBuilder &k, const PackedEncoding &weights)
      : k(k), isNarrow(weights.isNarrow()), middle(weights.middle()) {}

  /// Steps of a group of weights of that encoding.
  static int64_t steps(const PackedEncoding &weights) {
    return weights.isNarrow() ? 8 : 16;
  }
  int64_t steps() const { return isNarrow ? 8 : 16; }

  /// The words of steps 2 * pair and 2 * pair + 1 of the group that begins at
  /// column `first` of a block, of rows v * lanes and on.
  std::pair<mlir::Value, mlir::Value>
  load(Decoder &decode, Index block, Index first, int64_t pair, int64_t v);

  /// The group's eight words of signed bytes.
  static Values signedWords(Decoder &decode, Index block, Index first,
                            int64_t v);

  /// What the sums of a group of narrow weights begin with, so that they come
  /// out less what zero points contribute: `zeroPoints` (as zeroPointWords
  /// gives them; null: the middle each) times `negatedSums`, the word of an
  /// activation's group in all lanes. Null for others, which are signed. Exact:
  /// the halves of a sum stay within 16 * 15 * 127 = 30480, and what is between
  /// wraps.
  mlir::Value start(mlir::Value negatedSums, mlir::Value zeroPoints);
  /// From lanes of i32.
  mlir::Value zeroPointWords(mlir::Value zeroPoints);
  /// What `addPair` takes for two words of quants that follow each other, in
  /// all lanes.
  std::pair<mlir::Value, mlir::Value> prepare(mlir::Value x0, mlir::Value x1);
  /// Whether `prepare` takes quants apart; only `addPair` can be used then.
  bool splitsQuants() const {
    return !isNarrow &&
           (step() == DotStep::AArch64Sdot || step() == DotStep::AArch64Usdot);
  }
  /// `acc` (null: zero) plus the products of a step, or of two, as a tree
  /// instead of a chain. Words are lanes of i32.
  mlir::Value add(mlir::Value acc, mlir::Value w, mlir::Value x);
  mlir::Value addPair(mlir::Value acc, mlir::Value w0, mlir::Value x0,
                      mlir::Value w1, mlir::Value x1);
  /// The sums as lanes of i32.
  mlir::Value finish(mlir::Value acc);

private:
  /// Whether the target has an instruction that multiplies and adds to lanes of
  /// i32.
  bool accumulates() const {
    return step() == DotStep::X86Vnni ||
           (isNarrow && (step() == DotStep::AArch64Sdot ||
                         step() == DotStep::AArch64Usdot));
  }
  /// Whether sums of narrow weights are kept in lanes of i16, each of two
  /// columns of four.
  bool sumsPairs() const { return step() == DotStep::X86Pairs && isNarrow; }
  mlir::Value accumulate(mlir::Value acc, mlir::Value w, mlir::Value x);
  mlir::Value addSplit(mlir::Value acc, mlir::Value w, mlir::Value high,
                       mlir::Value low);
  mlir::Value finishSplit(mlir::Value acc);
  mlir::Value product(mlir::Value w, mlir::Value x);
  mlir::Value genericProduct(mlir::Value w, mlir::Value x);
  mlir::Value call(llvm::StringRef intrinsic, mlir::Type type,
                   mlir::ValueRange args);
  mlir::Value bytes(mlir::Value words);
  mlir::Value halves(mlir::Value words);
  DotStep step() const { return k.target().dot; }

  KernelBuilder &k;
  bool isNarrow;
  int64_t middle;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_DOT_H
