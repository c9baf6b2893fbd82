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
/// the same word of activations: four columns, bytes by bytes, for int4
/// weights; two, 16 bits by 16 bits, for int8 weights. The words of weights
/// come from `unpack`; those of an activation are its quants as they lie, after
/// `prepare`.
///
/// A target that multiplies bytes alone takes int16 quants apart, x = 256 high
/// + low: of two words of four columns `prepare` makes one of high and one of
/// low bytes, and `unpack` gives the packed word for both.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_DOT_H
#define RETORT_COMPILER_LOWER_DOT_H

#include "compiler/lower/KernelBuilder.h"

namespace retort {

class GroupDot {
public:
  using Values = KernelBuilder::Values;

  GroupDot(KernelBuilder &k, const PackedEncoding &weights)
      : k(k), isInt4(weights.kind == EncodingKind::Int4) {}

  /// Steps of a group of weights of that encoding.
  static int64_t steps(const PackedEncoding &weights) {
    return weights.kind == EncodingKind::Int4 ? 8 : 16;
  }
  int64_t steps() const { return isInt4 ? 8 : 16; }
  /// Packed words of a row in a group; each widens to two steps.
  int64_t packedWords() const { return steps() / 2; }

  /// The words of two steps from the packed words of rows in lanes.
  std::pair<mlir::Value, mlir::Value> unpack(mlir::Value words);

  /// What the sums of a group of int4 begin with, so that they come out less
  /// what zero points contribute: `zeroPoints` (as zeroPointWords gives them;
  /// null: 8 each) times `negatedSums`, the word of an activation's group in
  /// all lanes. Null for int8, which has no zero points. Exact: the halves of a
  /// sum stay within 16 * 15 * 127 = 30480, and what is between wraps.
  mlir::Value start(mlir::Value negatedSums, mlir::Value zeroPoints);
  /// From lanes of i32.
  mlir::Value zeroPointWords(mlir::Value zeroPoints);
  /// What `addPair` takes for two words of quants that follow each other, in
  /// all lanes.
  std::pair<mlir::Value, mlir::Value> prepare(mlir::Value x0, mlir::Value x1);
  /// Whether `prepare` takes quants apart; only `addPair` can be used then.
  bool splitsQuants() const {
    return !isInt4 &&
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
           (isInt4 && (step() == DotStep::AArch64Sdot ||
                       step() == DotStep::AArch64Usdot));
  }
  /// Whether sums of int4 are kept in lanes of i16, each of two columns of
  /// four.
  bool sumsPairs() const { return step() == DotStep::X86Pairs && isInt4; }
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
  bool isInt4;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_DOT_H
