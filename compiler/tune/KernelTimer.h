//===- KernelTimer.h - How long a launch takes ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Compiles one entry for this machine and runs it over made-up data, as the
/// runtime would: tiles handed out to workers that meet at a barrier.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_TUNE_KERNELTIMER_H
#define RETORT_COMPILER_TUNE_KERNELTIMER_H

#include "compiler/codegen/LoadedCode.h"
#include "compiler/lower/Tiling.h"
#include "compiler/targets/Target.h"
#include "runtime/engine/Memory.h"
#include "runtime/engine/Workers.h"

#include "mlir/IR/BuiltinOps.h"

namespace retort {

class KernelTimer {
public:
  /// `module` holds a kernel.entry; it is compiled away. The launch is one of
  /// dense matrices: rows, vectors, matrices and caches are all that it takes.
  /// Unsupported if it takes anything else.
  static Result<KernelTimer> create(mlir::ModuleOp module, const Target &target,
                                    int64_t tokens, unsigned threads);

  /// Seconds of a launch, on average over so many copies of the weights that
  /// they come from memory where they would: for one or a few tokens.
  double run(Workers &workers);

private:
  explicit KernelTimer(LoadedCode code) : code(std::move(code)) {}

  LoadedCode code;
  retort_kernel_fn kernel = nullptr;
  Tiling tiling;
  int64_t tokens = 1, copies = 1;
  std::vector<Pages> memory;
  std::vector<void *> args;
  size_t matrix = 0;       ///< the argument of which there are copies
  int64_t matrixBytes = 0; ///< from one copy to the next
  Pages scratch;
  uint64_t scratchStride = 0;
};

} // namespace retort

#endif // RETORT_COMPILER_TUNE_KERNELTIMER_H
