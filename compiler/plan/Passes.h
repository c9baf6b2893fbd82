//===- Passes.h - From launches to the program ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The pass from launches to the artifact's program.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PLAN_PASSES_H
#define RETORT_COMPILER_PLAN_PASSES_H

#include "mlir/Pass/Pass.h"

namespace retort {
#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "compiler/plan/Passes.h.inc"
} // namespace retort

#endif // RETORT_COMPILER_PLAN_PASSES_H
