//===- Tune.h - Tile shapes by timing ---------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `compile --tune`: for each distinct kernel of a dense matrix, times tiles of
/// other numbers of strips than the table's on this machine, and notes on the
/// launches what is faster (kStripsAttr, kGainsAttr in
/// compiler/lower/Tiling.h). Results don't depend on it: tiles are independent,
/// and what a strip's sums are added up in is the same whatever tile it is in.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_TUNE_TUNE_H
#define RETORT_COMPILER_TUNE_TUNE_H

#include "compiler/targets/Target.h"
#include "compiler/tune/TuneReport.h"
#include "runtime/support/Status.h"

#include "mlir/IR/BuiltinOps.h"

#include <atomic>
#include <functional>

namespace retort {

struct TuneOptions {
  /// Of a TuningCache, read first and written at the end.
  std::string cache;
  /// What made the code: entries of the cache hold for the same alone.
  std::string build;
  unsigned threads = 0; ///< 0: as many as the machine has
  std::function<void(size_t kernel, size_t kernels)> progress;
  const std::atomic<bool> *cancel = nullptr;
};

/// `module` is what fuse-launches and encode-activations make; `target` is one
/// that this machine runs. Cancelled, with what was found in the cache.
Result<TuneReport> tuneKernels(mlir::ModuleOp module, const Target &target,
                               const TuneOptions &options);

} // namespace retort

#endif // RETORT_COMPILER_TUNE_TUNE_H
