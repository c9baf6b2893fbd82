//===- Fuser.h - From models to launches ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The rewriting that `fuse-launches` does: private to this folder.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_FUSE_FUSER_H
#define RETORT_COMPILER_FUSE_FUSER_H

#include "compiler/fuse/Passes.h"
#include "compiler/fuse/WeightBuilder.h"
#include "dialects/Kernel/Kernel.h"
#include "dialects/Model/Model.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"

namespace retort {

using llvm::SmallVector;
using llvm::StringRef;
using mlir::Attribute;
using mlir::Block;
using mlir::DenseF64ArrayAttr;
using mlir::FailureOr;
using mlir::FloatAttr;
using mlir::Location;
using mlir::LogicalResult;
using mlir::ModuleOp;
using mlir::OpBuilder;
using mlir::Operation;
using mlir::Value;

/// Rewrites `forward` op by op. Linear and rope ops are not translated where
/// they stand but by the op that consumes them, which decides what they are
/// fused with.
class Fuser {
public:
  Fuser(ModuleOp module)
      : module(module), b(module.getContext()), weights(module, b) {}

  LogicalResult run(mlir::func::FuncOp forward);
  int64_t launches = 0;

private:
  mlir::RankedTensorType activation(int64_t width) {
    return mlir::RankedTensorType::get(
        {mlir::ShapedType::kDynamic, roundUp(width, kStrideMultiple)},
        b.getF32Type());
  }

  /// Marks a launch for the ledger; layer -1 is outside the layers.
  void label(Operation *op, StringRef text, int64_t layer) {
    op->setAttr(kLabelAttr, b.getStringAttr(text));
    if (layer >= 0)
      op->setAttr(kLayerAttr, b.getI64IntegerAttr(layer));
    ++launches;
  }

  LogicalResult embedding(model::EmbeddingOp op);
  LogicalResult norm(model::RmsNormOp op);
  LogicalResult attention(model::AttentionOp op);
  LogicalResult swiglu(model::SwigluOp op);
  LogicalResult add(model::AddOp op);
  LogicalResult head(mlir::func::FuncOp forward);

  FailureOr<Value> plainLinear(model::LinearOp op, Value residual,
                               StringRef role);
  Value ropeTable(Location loc, DenseF64ArrayAttr invFreq, FloatAttr scale);
  LogicalResult latentAttention(model::MlaOp op);
  /// The projections in front of latent attention, in one launch.
  struct LatentInputs;
  FailureOr<LatentInputs> latentInputs(model::MlaOp op);
  /// The sum of the experts' results and `residual`.
  FailureOr<Value> experts(model::MoeOp op, Value residual);
  /// The translation of a value, or an error that names the op in the way.
  FailureOr<Value> get(Operation *user, Value v);

  ModuleOp module;
  OpBuilder b;
  WeightBuilder weights;
  mlir::IRMapping map;
  /// Rope tables by (frequencies, scale): one for the whole model.
  SmallVector<std::pair<std::pair<Attribute, Attribute>, Value>> tables;
  Block *body = nullptr;
  int64_t layer = -1;
  /// Head layout of attention results, which their consumers' columns follow.
  llvm::DenseMap<Value, HeadLayout> headsOf;
};

} // namespace retort

#endif // RETORT_COMPILER_FUSE_FUSER_H
