//===- BufferPlan.h - Buffers of values -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Which buffer each value of a function of launches lives in.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PLAN_BUFFERPLAN_H
#define RETORT_COMPILER_PLAN_BUFFERPLAN_H

#include "compiler/encoding/ActivationEncoding.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"

namespace retort {

/// What a value takes: bytes for each token, and bytes whatever their number.
struct BufferSize {
  int64_t perToken = 0, fixed = 0;
  /// Quantized rows share no buffer with other values: where a launch leaves
  /// elements untouched, what was there before must be scales and quants.
  std::optional<ActivationKind> quants = std::nullopt;
  bool operator==(const BufferSize &) const = default;
};

/// Values of a function mapped to numbered buffers; values of one buffer are
/// never alive at the same time.
struct BufferPlan {
  llvm::SmallVector<BufferSize> sizes;
  llvm::DenseMap<mlir::Value, int> bufferOf;
};

/// Plans a function of launches: arguments and results of launches get buffers,
/// caches and weights don't. A linear's or moe_down's result takes its
/// residual's buffer if the residual is used for the last time there.
/// Buffers of arguments hold nothing else: `head` runs several times over one
/// result of `body`. The buffers of returned values stay alive to the end.
BufferPlan planBuffers(mlir::func::FuncOp func);

} // namespace retort

#endif // RETORT_COMPILER_PLAN_BUFFERPLAN_H
