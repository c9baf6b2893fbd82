//===- Passes.h - How weights are stored ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Passes that choose how weights are stored.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_QUANTIZE_PASSES_H
#define RETORT_COMPILER_QUANTIZE_PASSES_H

#include "mlir/Pass/Pass.h"

namespace retort {
/// Marks a model.weight whose int4 groups get zero points of their own.
inline constexpr llvm::StringLiteral kZeroPointsAttr = "model.zero_points";
/// Of a model.weight: the #encoding.packed that it gets, whatever the options.
inline constexpr llvm::StringLiteral kPlannedEncodingAttr =
    "model.planned_encoding";

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "compiler/quantize/Passes.h.inc"
} // namespace retort

#endif // RETORT_COMPILER_QUANTIZE_PASSES_H
