//===- Model.h - The model dialect ------------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The model dialect: what a checkpoint means, over value tensors and weights
/// by name.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_DIALECTS_MODEL_MODEL_H
#define RETORT_DIALECTS_MODEL_MODEL_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/Model/ModelDialect.h.inc"

namespace retort {
/// On a model.weight of fp8 blocks: rows and columns of the tensor that share a
/// scale, an array<i64>.
inline constexpr llvm::StringLiteral kScaleBlockAttr = "model.scale_block";
/// Of a model.weight whose checkpoint has integers with scales: the
/// #encoding.packed that holds them exactly. quantize-weights removes it from
/// weights that get another.
inline constexpr llvm::StringLiteral kKeptEncodingAttr = "model.kept_encoding";
} // namespace retort

namespace retort::model {
bool isTokens(mlir::Type type);
bool isRows(mlir::Type type);
/// Elements of a row.
inline int64_t widthOf(mlir::Value rows) {
  return mlir::cast<mlir::RankedTensorType>(rows.getType()).getDimSize(1);
}
} // namespace retort::model

#define GET_OP_CLASSES
#include "dialects/Model/ModelOps.h.inc"

#endif // RETORT_DIALECTS_MODEL_MODEL_H
