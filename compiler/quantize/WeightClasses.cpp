//===- WeightClasses.cpp - What each matrix is for --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/quantize/WeightClasses.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace retort {
namespace {

bool isAttention(Operation *op) {
  return isa_and_nonnull<model::AttentionOp, model::MlaOp>(op);
}

/// Whether a projection's result is on its way into attention: through rope,
/// or, for a compressed query, through a norm that alone reads it and the next
/// projection. What a residual connection reads too is a layer's input.
bool feedsAttention(Value v) {
  return llvm::any_of(v.getUsers(), [](Operation *user) {
    if (isAttention(user))
      return true;
    if (auto rope = dyn_cast<model::RopeOp>(user))
      return feedsAttention(rope.getResult());
    auto norm = dyn_cast<model::RmsNormOp>(user);
    return norm && norm.getX().hasOneUse() &&
           llvm::any_of(norm->getUsers(), [](Operation *next) {
             auto linear = dyn_cast<model::LinearOp>(next);
             return linear && llvm::any_of(linear->getUsers(),
                                           llvm::IsaPred<model::MlaOp>);
           });
  });
}

} // namespace

llvm::MapVector<Operation *, WeightUses> classifyWeights(ModuleOp module) {
  SymbolTable symbols(module);
  llvm::MapVector<Operation *, WeightUses> found;
  auto uses = [&](Attribute name) -> WeightUses & {
    return found[symbols.lookup(cast<FlatSymbolRefAttr>(name).getValue())];
  };
  module.walk([&](Operation *op) {
    if (auto linear = dyn_cast<model::LinearOp>(op)) {
      WeightUses &weight = uses(linear.getWeightAttr());
      weight.isHead |=
          llvm::any_of(op->getUsers(), llvm::IsaPred<func::ReturnOp>);
      if (isAttention(linear.getX().getDefiningOp()) ||
          feedsAttention(linear.getResult()))
        weight.inner = WeightClass::Attention;
    } else if (auto embedding = dyn_cast<model::EmbeddingOp>(op)) {
      uses(embedding.getWeightAttr()).isEmbedding = true;
    } else if (auto mla = dyn_cast<model::MlaOp>(op)) {
      uses(mla.getKvBAttr()).inner = WeightClass::Attention;
    } else if (auto moe = dyn_cast<model::MoeOp>(op)) {
      uses(moe.getRouterAttr()).isRouter = true;
      for (ArrayAttr list : {moe.getGates(), moe.getUps(), moe.getDowns(),
                             moe.getShared().value_or(ArrayAttr())})
        for (Attribute name : list ? list.getValue() : ArrayRef<Attribute>())
          uses(name).inner = WeightClass::Experts;
    }
  });
  return found;
}

} // namespace retort
