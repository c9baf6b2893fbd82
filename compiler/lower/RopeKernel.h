//===- RopeKernel.h - Rotary position embedding -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The rotation that all launches with rotary parts share.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_ROPEKERNEL_H
#define RETORT_COMPILER_LOWER_ROPEKERNEL_H

#include "compiler/lower/CacheAccess.h"

namespace retort {

/// Rotates the `size` elements of `x` from `head` on by the row of `table` that
/// begins at `tableRow` (kernel.rope_table: cosines, then sines; padded halves)
/// and calls `put` with the first element and the value of each vector of the
/// result, in padded halves. The elements are in padded halves too or, if
/// `interleaved`, rotated pairs are neighbours.
void emitRotation(KernelBuilder &k, Buffer x, Index head, Buffer table,
                  Index tableRow, int64_t size, bool interleaved,
                  llvm::function_ref<void(Index, mlir::Value)> put);

/// What becomes of the heads that a qkv matrix gives: rotated queries in the
/// result, rotated keys and values in the caches.
struct RopeCacheKernel {
  /// `table`, caches and `result` are the launch's, `scratch` has space for a
  /// head.
  RopeCacheKernel(KernelBuilder &k, kernel::RopeCacheOp op, Buffer table,
                  Buffer keys, Buffer values, Buffer result, Buffer scratch);

  /// Heads of token `t`, the first of their kind being 0, whose elements begin
  /// at `from`.
  void query(Index t, Index head, Buffer x, Index from);
  void key(Index t, Index head, Buffer x, Index from);
  void value(Index t, Index head, Buffer x, Index from);
  /// The row's padding, which the next launch may read.
  void clearPadding(Index t);

  KernelBuilder &k;
  Buffer table, result, scratch;
  CacheAccess keys, values;
  int64_t numHeads, kvHeads, size, qStride;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_ROPEKERNEL_H
