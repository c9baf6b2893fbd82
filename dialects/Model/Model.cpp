//===- Model.cpp - The model dialect ----------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "dialects/Model/Model.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

#include "dialects/Model/ModelDialect.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/Model/ModelOps.cpp.inc"

namespace retort::model {

void ModelDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/Model/ModelOps.cpp.inc"
      >();
}

bool isTokens(Type type) {
  auto t = dyn_cast<RankedTensorType>(type);
  return t && t.getRank() == 1 && t.isDynamicDim(0) &&
         t.getElementType().isInteger(32);
}

bool isRows(Type type) {
  auto t = dyn_cast<RankedTensorType>(type);
  return t && t.getRank() == 2 && t.isDynamicDim(0) && !t.isDynamicDim(1) &&
         t.getElementType().isF32() && !t.getEncoding();
}

namespace {

/// The weight that `name` refers to has the shape that the op needs.
LogicalResult verifyWeight(Operation *op, SymbolTableCollection &symbols,
                           FlatSymbolRefAttr name, ArrayRef<int64_t> shape) {
  auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(op, name);
  if (!weight)
    return op->emitOpError("expected a model.weight named ") << name;
  auto type = cast<RankedTensorType>(weight.getType());
  bool same = type.getRank() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; same && i < shape.size(); ++i)
    same = shape[i] == ShapedType::kDynamic || shape[i] == type.getDimSize(i);
  if (same)
    return success();
  auto diag = op->emitOpError("expected weight ") << name << " of shape [";
  llvm::interleaveComma(shape, diag, [&](int64_t d) {
    if (d == ShapedType::kDynamic)
      diag << "?";
    else
      diag << d;
  });
  return diag << "], found " << type;
}

LogicalResult verifyHeads(Operation *op, StringRef what, int64_t width,
                          int64_t heads) {
  if (heads <= 0 || width % heads)
    return op->emitOpError("expected ")
           << what << " that divide a row of " << width << ", found " << heads;
  return success();
}

} // namespace

LogicalResult WeightOp::verify() {
  auto type = cast<RankedTensorType>(getType());
  if (!type.hasStaticShape() || type.getRank() < 1 || type.getRank() > 2)
    return emitOpError(
               "expected a static shape of one or two dimensions, found ")
           << type;
  return success();
}

LogicalResult EmbeddingOp::verify() { return success(); }
LogicalResult EmbeddingOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyWeight(*this, symbols, getWeightAttr(),
                      {ShapedType::kDynamic, widthOf(getResult())});
}

LogicalResult RmsNormOp::verify() {
  double eps = getEps().convertToDouble();
  if (!(eps >= 0.0) || !(eps < 1.0))
    return emitOpError("expected eps in [0, 1), found ") << eps;
  return success();
}
LogicalResult RmsNormOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyWeight(*this, symbols, getWeightAttr(), {widthOf(getX())});
}

LogicalResult LinearOp::verify() { return success(); }
LogicalResult LinearOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (failed(verifyWeight(*this, symbols, getWeightAttr(),
                          {widthOf(getResult()), widthOf(getX())})))
    return failure();
  if (getBiasAttr())
    return verifyWeight(*this, symbols, getBiasAttr(), {widthOf(getResult())});
  return success();
}

LogicalResult RopeOp::verify() {
  int64_t width = widthOf(getX());
  if (failed(verifyHeads(*this, "heads", width, getNumHeads())))
    return failure();
  int64_t half = width / static_cast<int64_t>(getNumHeads()) / 2;
  if (static_cast<int64_t>(getInvFreq().size()) != half)
    return emitOpError("expected ")
           << half << " frequencies, one for every two dimensions of a head, "
           << "found " << getInvFreq().size();
  return success();
}

LogicalResult AttentionOp::verify() {
  int64_t heads = getNumHeads(), kvHeads = getNumKvHeads();
  if (failed(verifyHeads(*this, "heads", widthOf(getQ()), heads)))
    return failure();
  if (kvHeads <= 0 || heads % kvHeads)
    return emitOpError("expected kv_heads that divide the ")
           << heads << " heads, found " << kvHeads;
  int64_t kvWidth = widthOf(getQ()) / heads * kvHeads;
  for (Value v : {Value(getK()), Value(getV())})
    if (widthOf(v) != kvWidth)
      return emitOpError("expected keys and values of ")
             << kvWidth << " elements, found " << widthOf(v);
  if (getResult().getType() != getQ().getType())
    return emitOpError("expected a result of the queries' type");
  return success();
}

} // namespace retort::model
