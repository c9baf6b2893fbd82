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

/// Rewrites `forward` and `draft` op by op. Linear and rope ops are not
/// translated where they stand but by the op that consumes them, which decides
/// what they are fused with.
class Fuser {
public:
  Fuser(ModuleOp module, CacheElement cacheElement)
      : module(module), b(module.getContext()), weights(module, b),
        cacheElement(cacheElement) {}

  /// Makes `body` and `head` of `forward`.
  LogicalResult forward(mlir::func::FuncOp func);
  /// Makes `draft_body` and `draft_head` of `draft`; `forward` comes first.
  LogicalResult draft(mlir::func::FuncOp func);
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

  /// Starts the function that takes the place of `func`, with its arguments.
  void startBody(mlir::func::FuncOp func, StringRef name);
  /// Translates what `func` holds and ends its body.
  LogicalResult translate(mlir::func::FuncOp func, StringRef headName);
  /// Whether the op behind a norm brings it into its own launches: the head
  /// does so with the final norm, latent attention with that of its queries.
  bool consumerTakes(model::RmsNormOp norm, model::LinearOp output);

  LogicalResult embedding(model::EmbeddingOp op);
  LogicalResult norm(model::RmsNormOp op);
  /// A matrix times two rows, one behind the other: two launches, of which the
  /// second adds to what the first gives.
  LogicalResult concatLinear(model::LinearOp op, model::ConcatOp concat);
  LogicalResult attention(model::AttentionOp op);
  LogicalResult swiglu(model::SwigluOp op);
  LogicalResult add(model::AddOp op);
  LogicalResult head(mlir::func::FuncOp func, StringRef name);

  FailureOr<Value> plainLinear(model::LinearOp op, Value residual,
                               StringRef role);
  Value ropeTable(Location loc, DenseF64ArrayAttr invFreq, FloatAttr scale);
  /// Memory in which tiles of attention share the positions of a token; null
  /// if the groups of heads are tiles enough.
  Value partials(Location loc, int64_t groups, int64_t heads, int64_t size);
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
  CacheElement cacheElement;
  mlir::IRMapping map;
  /// Rope tables by (frequencies, scale): one for each function, null in those
  /// that have not used it.
  SmallVector<std::pair<std::pair<Attribute, Attribute>, Value>> tables;
  Block *body = nullptr;
  int64_t layer = -1;
  int64_t layersDone = 0;     ///< of the functions before the present one
  model::RmsNormOp finalNorm; ///< of `forward`, for `draft`
  /// Head layout of attention results, which their consumers' columns follow.
  llvm::DenseMap<Value, HeadLayout> headsOf;
};

} // namespace retort

#endif // RETORT_COMPILER_FUSE_FUSER_H
