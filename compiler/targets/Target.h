//===- Target.h - Facts about CPU targets -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// One table of facts per CPU target. Passes and emitters read it; none asks
/// which target it is.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_TARGETS_TARGET_H
#define RETORT_COMPILER_TARGETS_TARGET_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>

namespace retort {

/// How a target multiplies bytes by bytes and sums them in 32-bit lanes.
enum class DotStep : uint8_t {
  Generic,      ///< shifts, 32-bit multiplications and additions
  X86Pairs,     ///< vpmaddubsw, summed in 16 bits, and vpmaddwd
  X86Vnni,      ///< vpdpbusd, and vpdpwssd for 16 bits
  AArch64Sdot,  ///< sdot
  AArch64Usdot, ///< sdot, and usdot for bytes without sign
};

/// How a target multiplies the weights of many rows with many tokens.
enum class MatrixStep : uint8_t {
  None,         ///< by dot products, from registers
  AArch64Bytes, ///< by dot products of bytes; for int8 weights alone
  AArch64Smmla, ///< smmla and usmmla: 2 rows by 2 tokens by 8 columns
  X86Amx,       ///< tiles: 16 rows by 16 tokens by 32 columns
};

struct Target {
  llvm::StringRef name;     ///< as `--target` and the artifact spell it
  llvm::StringRef triple;   ///< LLVM target triple
  llvm::StringRef cpu;      ///< LLVM `-mcpu`
  llvm::StringRef features; ///< LLVM `-mattr`, on top of the CPU's
  /// What the runtime must find on the machine, as LLVM spells features.
  llvm::ArrayRef<llvm::StringRef> runtimeFeatures;
  int64_t lanes;     ///< f32 elements of a vector register
  int64_t registers; ///< vector registers
  /// Register tile of the matrix product: vectors of rows by tokens. The
  /// accumulators fit the registers, beside the weights and one activation or
  /// the activations and one vector of weights, whichever are fewer.
  int64_t microVectors;
  int64_t microTokens;
  /// Rows of the register tile of attention, at most: a query head of a token
  /// each, which share what is read of the cache.
  int64_t attentionRows;
  /// Independent chains of FMAs in a matrix-vector product that decodes its
  /// weights in registers: enough to hide an FMA's latency, but no spills.
  int64_t fmaChains;
  DotStep dot;
  /// Tokens of the register tile of an integer matrix product, a divisor of
  /// 8: a strip's rows by these fit the registers.
  int64_t dotTokens;
  MatrixStep matrix = MatrixStep::None;
};

/// All targets, in the order of preference on one architecture (best last).
llvm::ArrayRef<Target> allTargets();

/// The target of that name, or null.
const Target *findTarget(llvm::StringRef name);

/// The best target that this machine can run, or null if it can run none.
const Target *hostTarget();

} // namespace retort

#endif // RETORT_COMPILER_TARGETS_TARGET_H
