//===- ImportModel.h - From config to model IR ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// From a checkpoint's config to model IR.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_IMPORT_IMPORTMODEL_H
#define RETORT_COMPILER_IMPORT_IMPORTMODEL_H

#include "compiler/checkpoint/Config.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"

namespace retort {

/// Builds a module with a `model.weight` for every tensor of
/// `checkpoint::expectedTensors(config)` and `func.func @forward` from token
/// ids [T] to logits [T, vocab]. `typeOf` tells the stored type of a tensor.
/// Sources: modeling_qwen2.py and modeling_llama.py of transformers.
mlir::OwningOpRef<mlir::ModuleOp>
importModel(mlir::MLIRContext &context, const checkpoint::ModelConfig &config,
            llvm::function_ref<DType(llvm::StringRef)> typeOf);

} // namespace retort

#endif // RETORT_COMPILER_IMPORT_IMPORTMODEL_H
