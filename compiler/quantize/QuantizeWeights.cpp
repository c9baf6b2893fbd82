//===- QuantizeWeights.cpp - Choose encodings -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/quantize/Passes.h"

#include "compiler/quantize/WeightClasses.h"
#include "dialects/Encoding/Encoding.h"
#include "dialects/Model/Model.h"

#include "mlir/IR/BuiltinOps.h"

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
    for (auto &[op, uses] : classifyWeights(getOperation()))
      if (failed(encode(cast<model::WeightOp>(op), uses)))
        return signalPassFailure();
  }

  LogicalResult parseOptions() {
    Result<WeightChoice> parsed = parseWeightChoice(weights.getValue());
    if (!parsed.isOk())
      return getOperation().emitError(parsed.status().message());
    choice = *parsed;
    if (groupSize != 32 && groupSize != 64 && groupSize != 128)
      return getOperation().emitError(
                 "expected a group size of 32, 64 or 128, found ")
             << groupSize.getValue();
    return success();
  }

  /// What is asked of a matrix. One that is embedding and head at once follows
  /// whichever of the two is named.
  FailureOr<WeightWish> wishFor(model::WeightOp weight,
                                const WeightUses &uses) {
    WeightClass weightClass = uses.weightClass();
    if (!uses.isHead || !uses.isEmbedding)
      return choice.wishFor(weightClass);
    const auto &embedding = choice.namedFor(WeightClass::Embedding);
    const auto &head = choice.namedFor(WeightClass::Head);
    if (embedding && head && *embedding != *head)
      return weight.emitError("expected one encoding for embedding and head, "
                              "which are this matrix");
    return embedding && !head ? *embedding : choice.wishFor(weightClass);
  }

  LogicalResult encode(model::WeightOp weight, const WeightUses &uses) {
    auto type = cast<RankedTensorType>(weight.getType());
    if (encoding::getPackedEncoding(type))
      return success();
    PackedEncoding result;
    bool isKept = false;
    FailureOr<WeightWish> wish = wishFor(weight, uses);
    if (failed(wish))
      return failure();
    auto planned =
        weight->getAttrOfType<encoding::PackedAttr>(kPlannedEncodingAttr);
    if (planned) {
      result = planned.getEncoding();
      weight->removeAttr(kKeptEncodingAttr);
      weight->removeAttr(kPlannedEncodingAttr);
    } else if (uses.isRouter) {
      // An expert more or less is no small error, and routers are small.
      Type element = type.getElementType();
      result.kind = isa<Float8E4M3FNType>(element)
                        ? EncodingKind::F32
                        : keptKind(element).value_or(EncodingKind::F32);
    } else if (wish->kind) {
      result.kind = *wish->kind;
    } else if (auto integers = weight->getAttrOfType<encoding::PackedAttr>(
                   kKeptEncodingAttr)) {
      result = integers.getEncoding();
      isKept = true;
    } else if (auto kept = keptKind(type.getElementType())) {
      result.kind = *kept;
    } else {
      return weight.emitError("expected elements that can be kept (f32, f16, "
                              "bf16 or f8E4M3FN), found ")
             << type.getElementType();
    }
    if (!isKept && !planned) {
      if (result.isInteger())
        result.groupSize = groupSize;
      result.zeroPoints =
          result.middle() != 0 && weight->hasAttr(kZeroPointsAttr);
      weight->removeAttr(kKeptEncodingAttr);
    }
    weight->removeAttr(kZeroPointsAttr);
    auto attr = encoding::PackedAttr::get(&getContext(), result);
    weight.setType(RankedTensorType::get(
        type.getShape(), Float32Type::get(&getContext()), attr));
    ++numEncoded;
    return success();
  }

  WeightChoice choice;
};

} // namespace
} // namespace retort
