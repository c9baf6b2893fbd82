//===- Program.h - The program dialect --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The program dialect: the artifact's program, one op per table of the file.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_DIALECTS_PROGRAM_PROGRAM_H
#define RETORT_DIALECTS_PROGRAM_PROGRAM_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"

#include "dialects/Program/ProgramDialect.h.inc"
#include "dialects/Program/ProgramEnums.h.inc"
#define GET_OP_CLASSES
#include "dialects/Program/ProgramOps.h.inc"

namespace retort::program {
/// Names that the planner gives to the buffers which the runtime reads and
/// writes itself.
inline constexpr llvm::StringLiteral kTokensBuffer = "tokens";
inline constexpr llvm::StringLiteral kHiddenBuffer = "hidden";
inline constexpr llvm::StringLiteral kLogitsBuffer = "logits";
inline constexpr llvm::StringLiteral kDraftHiddenBuffer = "draft_hidden";
inline constexpr llvm::StringLiteral kDraftLogitsBuffer = "draft_logits";
} // namespace retort::program

#endif // RETORT_DIALECTS_PROGRAM_PROGRAM_H
