//===- PhaseLaunches.cpp - The launches of a phase ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/plan/PhaseLaunches.h"

#include "compiler/fuse/Passes.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace retort {

using namespace kernel;

/// The linear that alone takes a norm's rows; null if there is none.
static LinearOp linearOf(RmsNormOp norm) {
  if (norm->getNumResults() != 1 || !norm.getResult().hasOneUse())
    return {};
  OpOperand &use = *norm.getResult().use_begin();
  auto linear = dyn_cast<LinearOp>(use.getOwner());
  return linear && use.getOperandNumber() == 0 ? linear : LinearOp();
}

/// The rope_cache that alone takes a linear's rows, if they are heads alone.
static RopeCacheOp ropeOf(LinearOp linear) {
  if (!linear.getResult().hasOneUse() || linear.getResidual() ||
      linear.getEpilogue() != Epilogue::None)
    return {};
  OpOperand &use = *linear.getResult().use_begin();
  auto rope = dyn_cast<RopeCacheOp>(use.getOwner());
  if (!rope || use.getOperandNumber() != 0)
    return {};
  CacheType keys = rope.getKeys().getType();
  int64_t heads =
      static_cast<int64_t>(rope.getNumHeads()) + 2 * keys.getNumHeads();
  auto weight = cast<RankedTensorType>(linear.getWeight().getType());
  return weight.getDimSize(0) == heads * keys.getHeadSize() ? rope
                                                            : RopeCacheOp();
}

Operation *lastReader(Operation *op) {
  if (auto norm = dyn_cast<RmsNormOp>(op))
    if (LinearOp linear = linearOf(norm))
      op = linear;
  if (auto linear = dyn_cast<LinearOp>(op))
    if (RopeCacheOp rope = ropeOf(linear))
      op = rope;
  return op;
}

/// One op of those, which must follow each other in the data. It has the label
/// and layer of the linear.
static OwningOpRef<FusedOp> fuse(ArrayRef<Operation *> parts) {
  OpBuilder b(parts.front()->getContext());
  SmallVector<Value> inputs;
  auto isInner = [&](Value v) {
    return llvm::is_contained(parts, v.getDefiningOp());
  };
  for (Operation *part : parts)
    for (Value v : part->getOperands())
      if (!isInner(v))
        inputs.push_back(v);
  Operation *last = parts.back();
  auto fused =
      FusedOp::create(b, last->getLoc(), last->getResultTypes(), inputs);
  Block &block = fused.getBody().emplaceBlock();
  b.setInsertionPointToEnd(&block);
  IRMapping inner;
  for (Operation *part : parts) {
    // An operand that occurs twice has two arguments.
    SmallVector<Value> operands;
    for (Value v : part->getOperands())
      operands.push_back(isInner(v)
                             ? inner.lookup(v)
                             : block.addArgument(v.getType(), v.getLoc()));
    Operation *clone = b.clone(*part, inner);
    clone->setOperands(operands);
    if (isa<LinearOp>(part))
      fused->setDiscardableAttrs(part->getDiscardableAttrDictionary());
    clone->removeDiscardableAttr(kLayerAttr);
    clone->removeDiscardableAttr(kLabelAttr);
  }
  YieldOp::create(b, last->getLoc(), block.back().getResults());
  return fused;
}

PhaseLaunches::PhaseLaunches(func::FuncOp func, TokenClass tokens) {
  auto take = [&](ArrayRef<Operation *> parts) {
    if (parts.size() == 1)
      return list.push_back({parts.front(), parts.front()->getResults()});
    fused.push_back(fuse(parts));
    list.push_back({fused.back().get(), parts.back()->getResults()});
  };
  // Parts wait for the last of them, where all operands exist.
  for (Operation &op : func.getBody().front()) {
    if (isa<LoadWeightOp, LoadCacheOp, LoadPartialsOp, func::ReturnOp>(op))
      continue;
    // One token's slots are in order already.
    if (tokens == TokenClass::One && isa<MoeGroupOp>(op))
      continue;
    auto norm = dyn_cast<RmsNormOp>(op);
    if (norm && tokens == TokenClass::One && linearOf(norm))
      continue;
    SmallVector<Operation *> parts;
    auto rope = dyn_cast<RopeCacheOp>(op);
    auto linear = dyn_cast<LinearOp>(op);
    if (tokens != TokenClass::Few) {
      if (linear && ropeOf(linear))
        continue;
      if (auto heads =
              rope ? rope.getQkv().getDefiningOp<LinearOp>() : LinearOp();
          heads && ropeOf(heads) == rope) {
        linear = heads;
        parts.push_back(linear);
      }
    }
    if (linear && tokens == TokenClass::One)
      if (auto first = linear.getX().getDefiningOp<RmsNormOp>();
          first && linearOf(first) == linear)
        parts.insert(parts.begin(), first);
    parts.push_back(&op);
    take(parts);
  }
}

} // namespace retort
