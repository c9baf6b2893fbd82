//===- QuantizeWeights.cpp - Choose encodings -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/quantize/Passes.h"

#include "dialects/Encoding/Encoding.h"
#include "dialects/Model/Model.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace retort {
#define GEN_PASS_DEF_QUANTIZEWEIGHTSPASS
#include "compiler/quantize/Passes.h.inc"

namespace {

/// The encoding that stores elements of `type` as they are.
std::optional<EncodingKind> keptKind(Type type) {
  if (type.isF32())
    return EncodingKind::F32;
  if (type.isF16())
    return EncodingKind::F16;
  if (type.isBF16())
    return EncodingKind::BF16;
  if (isa<Float8E4M3FNType>(type))
    return EncodingKind::Fp8;
  return std::nullopt;
}

struct QuantizeWeightsPass
    : impl::QuantizeWeightsPassBase<QuantizeWeightsPass> {
  using QuantizeWeightsPassBase::QuantizeWeightsPassBase;

  void runOnOperation() override {
    if (failed(parseOptions()))
      return signalPassFailure();
    SymbolTable symbols(getOperation());
    llvm::SetVector<Operation *> matrices;
    llvm::SmallPtrSet<Operation *, 2> outer, routers;
    auto add = [&](Attribute name) {
      Operation *weight =
          symbols.lookup(cast<FlatSymbolRefAttr>(name).getValue());
      matrices.insert(weight);
      return weight;
    };
    getOperation().walk([&](Operation *op) {
      if (auto linear = dyn_cast<model::LinearOp>(op)) {
        Operation *weight = add(linear.getWeightAttr());
        if (llvm::any_of(op->getUsers(), llvm::IsaPred<func::ReturnOp>))
          outer.insert(weight);
      } else if (auto embedding = dyn_cast<model::EmbeddingOp>(op)) {
        outer.insert(add(embedding.getWeightAttr()));
      } else if (auto mla = dyn_cast<model::MlaOp>(op)) {
        add(mla.getKvBAttr());
      } else if (auto moe = dyn_cast<model::MoeOp>(op)) {
        routers.insert(add(moe.getRouterAttr()));
        for (ArrayAttr list : {moe.getGates(), moe.getUps(), moe.getDowns(),
                               moe.getShared().value_or(ArrayAttr())})
          for (Attribute name : list ? list.getValue() : ArrayRef<Attribute>())
            add(name);
      }
    });
    for (Operation *op : matrices)
      if (failed(encode(cast<model::WeightOp>(op), outer.contains(op),
                        routers.contains(op))))
        return signalPassFailure();
  }

  LogicalResult parseOptions() {
    kind = llvm::StringSwitch<std::optional<EncodingKind>>(weights)
               .Case("f32", EncodingKind::F32)
               .Case("f16", EncodingKind::F16)
               .Case("bf16", EncodingKind::BF16)
               .Case("int8", EncodingKind::Int8)
               .Case("int4", EncodingKind::Int4)
               .Default(std::nullopt);
    if (!kind && weights != "keep")
      return getOperation().emitError("expected weights to be f32, f16, bf16, "
                                      "int8, int4 or keep, found ")
             << weights;
    if (groupSize != 32 && groupSize != 64 && groupSize != 128)
      return getOperation().emitError(
                 "expected a group size of 32, 64 or 128, found ")
             << groupSize;
    return success();
  }

  LogicalResult encode(model::WeightOp weight, bool isOuter, bool isRouter) {
    auto type = cast<RankedTensorType>(weight.getType());
    if (encoding::getPackedEncoding(type))
      return success();
    PackedEncoding result;
    if (isRouter) {
      // An expert more or less is no small error, and routers are small.
      Type element = type.getElementType();
      result.kind = isa<Float8E4M3FNType>(element)
                        ? EncodingKind::F32
                        : keptKind(element).value_or(EncodingKind::F32);
    } else if (kind) {
      result.kind = *kind;
    } else if (auto kept = keptKind(type.getElementType())) {
      result.kind = *kept;
    } else {
      return weight.emitError("expected elements that can be kept (f32, f16, "
                              "bf16 or f8E4M3FN), found ")
             << type.getElementType();
    }
    // Every token meets the errors of these two at full size, so they keep 8
    // bits, as the usual 4-bit mixes of other engines do.
    if (isOuter && result.kind == EncodingKind::Int4)
      result.kind = EncodingKind::Int8;
    if (result.isInteger())
      result.groupSize = groupSize;
    result.zeroPoints =
        result.kind == EncodingKind::Int4 && weight->hasAttr(kZeroPointsAttr);
    weight->removeAttr(kZeroPointsAttr);
    auto attr = encoding::PackedAttr::get(&getContext(), result);
    weight.setType(RankedTensorType::get(
        type.getShape(), Float32Type::get(&getContext()), attr));
    ++numEncoded;
    return success();
  }

  std::optional<EncodingKind> kind;
};

} // namespace
} // namespace retort
