//===- EncodeActivations.cpp - Quantized inputs of integer weights --------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/fuse/Passes.h"
#include "dialects/Kernel/Kernel.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace retort {
#define GEN_PASS_DEF_ENCODEACTIVATIONSPASS
#include "compiler/fuse/Passes.h.inc"

namespace {

/// The matrix that a use multiplies its value with; null for other uses.
Value weightOf(OpOperand &use) {
  unsigned number = use.getOperandNumber();
  return llvm::TypeSwitch<Operation *, Value>(use.getOwner())
      .Case<kernel::LinearOp, kernel::HeadLinearOp, kernel::MoeUpOp,
            kernel::MoeDownOp>(
          [&](auto op) { return number == 0 ? op.getWeight() : Value(); })
      .Default([](Operation *) { return Value(); });
}

/// The form in which a use wants its value: the type itself if it is plain.
Type wantedType(OpOperand &use) {
  auto plain = cast<RankedTensorType>(use.get().getType());
  Value weight = weightOf(use);
  if (!weight)
    return plain;
  auto inputs = ActivationEncoding::forWeights(
      *encoding::getPackedEncoding(weight.getType()));
  if (!inputs)
    return plain;
  return RankedTensorType::get(
      plain.getShape(), plain.getElementType(),
      encoding::ActivationAttr::get(plain.getContext(), *inputs));
}

/// Whether a launch can quantize its first result on the way.
bool canQuantize(Operation *op) {
  if (auto linear = dyn_cast<kernel::LinearOp>(op))
    return linear.getEpilogue() == kernel::Epilogue::Swiglu;
  return isa<kernel::RmsNormOp, kernel::AttentionOp, kernel::LatentAttentionOp,
             kernel::HeadLinearOp, kernel::MoeUpOp>(op);
}

struct EncodeActivationsPass
    : impl::EncodeActivationsPassBase<EncodeActivationsPass> {
  void runOnOperation() override {
    SmallVector<Operation *> producers;
    getOperation().walk([&](Operation *op) {
      if (canQuantize(op) &&
          kernel::isPlainActivation(op->getResult(0).getType()))
        producers.push_back(op);
    });
    for (Operation *op : producers)
      encode(op);
  }

private:
  void encode(Operation *op) {
    Value value = op->getResult(0);
    llvm::SmallSetVector<Type, 4> wanted;
    for (OpOperand &use : value.getUses())
      wanted.insert(wantedType(use));
    if (wanted.empty() ||
        (wanted.size() == 1 && wanted.front() == value.getType()))
      return;
    ++numEncoded;
    if (wanted.size() == 1)
      return value.setType(cast<RankedTensorType>(wanted.front()));
    if (auto norm = dyn_cast<kernel::RmsNormOp>(op))
      addForms(norm, wanted);
  }

  /// Every consumer gets its form of a norm's result. The plain one always
  /// exists: the others are made from it.
  void addForms(kernel::RmsNormOp norm,
                const llvm::SmallSetVector<Type, 4> &wanted) {
    Type plain = norm.getResult().getType();
    SmallVector<Type> types;
    for (Type type : wanted)
      if (type != plain)
        types.push_back(type);
    OpBuilder b(norm);
    auto forms = kernel::RmsNormOp::create(
        b, norm.getLoc(), plain, types, norm.getX(), norm.getWeight(),
        norm.getEpsAttr(), norm.getFromFirstRowAttr(), norm.getOffsetAttr());
    forms->setDiscardableAttrs(norm->getDiscardableAttrDictionary());
    for (OpOperand &use :
         llvm::make_early_inc_range(norm.getResult().getUses()))
      for (Value form : forms->getResults())
        if (form.getType() == wantedType(use)) {
          use.set(form);
          break;
        }
    norm.erase();
  }
};

} // namespace
} // namespace retort
