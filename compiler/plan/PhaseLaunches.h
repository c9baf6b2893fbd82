//===- PhaseLaunches.h - The launches of a phase ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Which of a function's launches a phase makes, and which of them as one.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PLAN_PHASELAUNCHES_H
#define RETORT_COMPILER_PLAN_PHASELAUNCHES_H

#include "dialects/Kernel/Kernel.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace retort {

/// Ops of the function, and fused ones over its values, in the order in which
/// they run. See kernel.fused for what is fused in phases of which class.
class PhaseLaunches {
public:
  struct Launch {
    mlir::Operation *op;
    /// The function's values that `op` computes.
    mlir::ValueRange results;
  };

  PhaseLaunches(mlir::func::FuncOp func, kernel::TokenClass tokens);

  llvm::ArrayRef<Launch> launches() const { return list; }

private:
  llvm::SmallVector<Launch> list;
  llvm::SmallVector<mlir::OwningOpRef<kernel::FusedOp>> fused;
};

/// The launch that reads `op`'s operands in its stead in some phase: itself
/// unless it may be fused.
mlir::Operation *lastReader(mlir::Operation *op);

} // namespace retort

#endif // RETORT_COMPILER_PLAN_PHASELAUNCHES_H
