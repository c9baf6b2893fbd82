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

#include "compiler/lower/KernelBuilder.h"

namespace retort {

/// Rotates the `size` elements of `x` from `head` on by the row of `table` that
/// begins at `tableRow` (kernel.rope_table: cosines, then sines; padded halves)
/// and calls `put` with the first element, counted from `head`, and the value
/// of each vector of the result.
void emitRotation(KernelBuilder &k, Buffer x, Index head, Buffer table,
                  Index tableRow, int64_t size,
                  llvm::function_ref<void(Index, mlir::Value)> put);

} // namespace retort

#endif // RETORT_COMPILER_LOWER_ROPEKERNEL_H
