//===- Emitters.h - Emitters of launches ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// An emitter writes the body of one launch's function in scf, vector, memref
/// and arith. It fails, with a diagnostic on the op, on what it cannot emit.
/// New launches are added to `lookupEmitter`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_EMITTERS_H
#define RETORT_COMPILER_LOWER_EMITTERS_H

#include "compiler/lower/KernelBuilder.h"

namespace retort {

using Emitter = mlir::LogicalResult (*)(KernelBuilder &, mlir::Operation *);

/// The emitter of a launch op, or null.
Emitter lookupEmitter(mlir::Operation *launch);

mlir::LogicalResult emitEmbed(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitLinear(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitRmsNorm(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitRopeTable(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitRopeCache(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitFused(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitAttention(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitHeadLinear(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitLatentCache(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitLatentAttention(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitMoeRoute(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitMoeGroup(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitMoeUp(KernelBuilder &k, mlir::Operation *op);
mlir::LogicalResult emitMoeDown(KernelBuilder &k, mlir::Operation *op);

} // namespace retort

#endif // RETORT_COMPILER_LOWER_EMITTERS_H
