//===- Kernel.h - The kernel dialect ----------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The kernel dialect: one op per launch, operands carrying encodings,
/// target-free.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_DIALECTS_KERNEL_KERNEL_H
#define RETORT_DIALECTS_KERNEL_KERNEL_H

#include "compiler/encoding/CacheEncoding.h"
#include "dialects/Encoding/Encoding.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

/// How the element of a cache type is spelt.
template <> struct mlir::FieldParser<retort::CacheElement> {
  static FailureOr<retort::CacheElement> parse(AsmParser &parser);
};

namespace retort {
inline llvm::hash_code hash_value(CacheElement element) {
  return llvm::hash_value(static_cast<int>(element));
}
mlir::AsmPrinter &operator<<(mlir::AsmPrinter &printer, CacheElement element);
} // namespace retort

#include "dialects/Kernel/KernelDialect.h.inc"
#include "dialects/Kernel/KernelEnums.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Kernel/KernelTypes.h.inc"

namespace retort::kernel {
/// Rows of f32, plain or quantized.
bool isActivation(mlir::Type type);
bool isPlainActivation(mlir::Type type);
bool isTokens(mlir::Type type);
bool isIds(mlir::Type type);
bool isPackedMatrix(mlir::Type type);
bool isStaticVector(mlir::Type type);

/// Positions of a cache block; see the cache type.
inline constexpr int64_t kCacheBlock = kCachePositions;

/// Row stride of an activation, in elements.
inline int64_t strideOf(mlir::Value activation) {
  return mlir::cast<mlir::RankedTensorType>(activation.getType()).getDimSize(1);
}
/// Elements that a head of `headDim` dimensions takes after padding.
inline int64_t paddedHeadSize(int64_t headDim) {
  return 2 * roundUp<int64_t>(headDim / 2, 16);
}

/// The trait of launches that depend on positions; see Kernel.td.
template <typename ConcreteType>
class ReadsPosition
    : public mlir::OpTrait::TraitBase<ConcreteType, ReadsPosition> {};
} // namespace retort::kernel

#define GET_OP_CLASSES
#include "dialects/Kernel/KernelOps.h.inc"

namespace retort::kernel {
/// Whether what a launch makes of a row depends on its position or on a cache.
bool readsPosition(mlir::Operation *launch);
} // namespace retort::kernel

#endif // RETORT_DIALECTS_KERNEL_KERNEL_H
