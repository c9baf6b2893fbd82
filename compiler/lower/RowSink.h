//===- RowSink.h - Store rows as their type asks ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Where a launch puts its result: f32 as it is, or quantized on the way
/// (compiler/encoding/ActivationEncoding.h).
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_ROWSINK_H
#define RETORT_COMPILER_LOWER_ROWSINK_H

#include "compiler/lower/KernelBuilder.h"

namespace retort {

/// A group of an activation as it is stored (ActivationEncoding.h).
struct QuantizedGroup {
  KernelBuilder::Values quants; ///< vectors of bytes, one after the other
  mlir::Value scale;            ///< f32
  mlir::Value negatedSums;      ///< i32; null for int16

  /// From a group's elements, in as many registers as that takes.
  QuantizedGroup(KernelBuilder &k, ActivationEncoding encoding,
                 llvm::ArrayRef<mlir::Value> registers);

  /// Positions in 32-bit words of `bytes`.
  void store(KernelBuilder &k, Buffer bytes, Index quants, Index scale,
             Index sums) const;
};

class RowSink {
public:
  /// For a result, an activation, of the launch, which lies in `to`.
  RowSink(KernelBuilder &k, mlir::Value result, Buffer to)
      : RowSink(k, result.getType(), to) {}
  RowSink(KernelBuilder &k, mlir::Type rows, Buffer to);

  int64_t stride() const { return rowStride; }
  bool isPlain() const { return !encoding; }
  /// Elements that are stored at a time: a register's, or a group.
  int64_t step() const { return encoding ? kActivationGroup : k->lanes(); }

  /// Stores `step()` elements, in as many registers as that takes, from
  /// element `at` of all rows on, a multiple of `step()`.
  void store(llvm::ArrayRef<mlir::Value> registers, Index at) const;
  /// Stores elements of a buffer of f32 from `from` on until `from + count`,
  /// both of which and `to` are multiples of `step()`, as `map` gives them.
  void copy(Buffer source, Index from, int64_t count, Index to,
            llvm::function_ref<mlir::Value(mlir::Value)> map) const;
  /// Stores zeros from `at` on, `count` of them.
  void clear(Index at, int64_t count) const;

private:
  KernelBuilder *k;
  Buffer to;
  std::optional<ActivationEncoding> encoding;
  int64_t rowStride;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_ROWSINK_H
