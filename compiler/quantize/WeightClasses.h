//===- WeightClasses.h - What each matrix is for ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Finds the class of each matrix of a model from the ops that use it, whatever
/// it is named.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_QUANTIZE_WEIGHTCLASSES_H
#define RETORT_COMPILER_QUANTIZE_WEIGHTCLASSES_H

#include "compiler/quantize/WeightChoice.h"
#include "dialects/Model/Model.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

namespace retort {

/// What uses a matrix.
struct WeightUses {
  bool isRouter = false;
  bool isEmbedding = false;
  bool isHead = false;
  /// Of a matrix that is neither: Attention, Experts or Dense.
  WeightClass inner = WeightClass::Dense;

  /// Head wins over embedding where they are tied. Not for routers.
  WeightClass weightClass() const {
    return isHead        ? WeightClass::Head
           : isEmbedding ? WeightClass::Embedding
                         : inner;
  }
};

/// The matrices that ops of the module multiply with or look rows up in, in the
/// order of their first use. The module must have been verified.
llvm::MapVector<mlir::Operation *, WeightUses>
classifyWeights(mlir::ModuleOp module);

} // namespace retort

#endif // RETORT_COMPILER_QUANTIZE_WEIGHTCLASSES_H
