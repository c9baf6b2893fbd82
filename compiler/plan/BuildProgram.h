//===- BuildProgram.h - The artifact's program tables -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// From program IR to the tables of an artifact: a printer that takes no
/// decision.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PLAN_BUILDPROGRAM_H
#define RETORT_COMPILER_PLAN_BUILDPROGRAM_H

#include "compiler/pack/WeightSpec.h"
#include "runtime/abi/artifact_generated.h"

#include "mlir/IR/BuiltinOps.h"

namespace retort {

struct BuiltProgram {
  /// Complete but for `weights`, which the artifact writer fills from the
  /// specs.
  abi::ProgramT program;
  /// The weights that launches use, in the order of their first use.
  std::vector<WeightSpec> weights;
};

/// Reads the program dialect's ops of `module`; emits a diagnostic and fails if
/// a symbol that the runtime needs is missing.
mlir::FailureOr<BuiltProgram> buildProgram(mlir::ModuleOp module);

} // namespace retort

#endif // RETORT_COMPILER_PLAN_BUILDPROGRAM_H
