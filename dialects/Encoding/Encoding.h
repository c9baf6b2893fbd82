//===- Encoding.h - The encoding dialect ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The encoding dialect: `#encoding.packed` and `#encoding.activation`, the
/// attributes that tell how the bytes of a weight or an activation are stored.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_DIALECTS_ENCODING_ENCODING_H
#define RETORT_DIALECTS_ENCODING_ENCODING_H

#include "compiler/encoding/ActivationEncoding.h"
#include "compiler/encoding/PackedEncoding.h"

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/Hashing.h"

namespace retort {
inline llvm::hash_code hash_value(const PackedEncoding &e) {
  return llvm::hash_combine(static_cast<int>(e.kind), e.groupSize, e.zeroPoints,
                            static_cast<int>(e.scales));
}
inline llvm::hash_code hash_value(const ActivationEncoding &e) {
  return llvm::hash_value(static_cast<int>(e.kind));
}
} // namespace retort

#include "dialects/Encoding/EncodingDialect.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Encoding/EncodingAttrs.h.inc"

namespace retort::encoding {
/// The packed encoding that a weight's tensor type carries; nullopt for a type
/// without one.
std::optional<PackedEncoding> getPackedEncoding(mlir::Type type);
/// The encoding of a quantized activation's type; nullopt for another type.
std::optional<ActivationEncoding> getActivationEncoding(mlir::Type type);
} // namespace retort::encoding

#endif // RETORT_DIALECTS_ENCODING_ENCODING_H
