//===- Passes.h - From models to launches -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The pass from the model dialect to the kernel dialect.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_FUSE_PASSES_H
#define RETORT_COMPILER_FUSE_PASSES_H

#include "dialects/Encoding/Encoding.h"

#include "mlir/Pass/Pass.h"

namespace retort {
/// Discardable attributes of launch ops: the layer (absent outside layers) and
/// what the launch is for, e.g. "gate_up".
inline constexpr llvm::StringLiteral kLayerAttr = "kernel.layer";
inline constexpr llvm::StringLiteral kLabelAttr = "kernel.label";

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "compiler/fuse/Passes.h.inc"
} // namespace retort

#endif // RETORT_COMPILER_FUSE_PASSES_H
