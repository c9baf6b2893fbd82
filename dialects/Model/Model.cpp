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

LogicalResult MlaOp::verify() {
  int64_t heads = getNumHeads();
  if (failed(verifyHeads(*this, "heads", widthOf(getQ()), heads)))
    return failure();
  int64_t nope = getNope(), rope = getRope(), v = getV();
  if (nope <= 0 || rope <= 0 || rope % 2 || v <= 0)
    return emitOpError("expected nope, an even rope and v above zero, found ")
           << nope << ", " << rope << " and " << v;
  if (widthOf(getQ()) != heads * (nope + rope))
    return emitOpError("expected queries of ")
           << heads * (nope + rope) << " elements, found " << widthOf(getQ());
  if (widthOf(getKv()) <= rope)
    return emitOpError("expected a latent before the ")
           << rope << " elements of the shared key, found a row of "
           << widthOf(getKv());
  if (widthOf(getResult()) != heads * v)
    return emitOpError("expected a result of ")
           << heads * v << " elements, found " << widthOf(getResult());
  if (static_cast<int64_t>(getInvFreq().size()) != rope / 2)
    return emitOpError("expected ")
           << rope / 2 << " frequencies, found " << getInvFreq().size();
  return success();
}
LogicalResult MlaOp::verifySymbolUses(SymbolTableCollection &symbols) {
  int64_t rank = widthOf(getKv()) - static_cast<int64_t>(getRope());
  if (failed(verifyWeight(*this, symbols, getKvNormAttr(), {rank})))
    return failure();
  int64_t rows = static_cast<int64_t>(getNumHeads()) *
                 static_cast<int64_t>(getNope() + getV());
  return verifyWeight(*this, symbols, getKvBAttr(), {rows, rank});
}

LogicalResult MoeOp::verify() {
  int64_t experts = static_cast<int64_t>(getGates().size());
  if (experts == 0 || getUps().size() != getGates().size() ||
      getDowns().size() != getGates().size())
    return emitOpError("expected as many gates, ups and downs, found ")
           << getGates().size() << ", " << getUps().size() << " and "
           << getDowns().size();
  int64_t groups = getGroups(), topGroups = getTopGroups(), topK = getTopK();
  if (groups <= 0 || experts % groups || experts / groups < 2)
    return emitOpError("expected groups of at least two that divide the ")
           << experts << " experts, found " << groups;
  if (topGroups <= 0 || topGroups > groups)
    return emitOpError("expected top_groups from 1 to ")
           << groups << ", found " << topGroups;
  if (topK <= 0 || topK > topGroups * (experts / groups))
    return emitOpError("expected top_k from 1 to the ")
           << topGroups * (experts / groups)
           << " experts of the chosen groups, found " << topK;
  if (getShared() && getShared()->size() != 3)
    return emitOpError("expected a shared gate, up and down, found ")
           << getShared()->size() << " matrices";
  for (ArrayAttr list :
       {getGates(), getUps(), getDowns(), getShared().value_or(ArrayAttr())})
    for (Attribute name : list ? list.getValue() : ArrayRef<Attribute>())
      if (!isa<FlatSymbolRefAttr>(name))
        return emitOpError("expected symbols of weights, found ") << name;
  if (getResult().getType() != getX().getType())
    return emitOpError("expected a result of the input's type");
  return success();
}
LogicalResult MoeOp::verifySymbolUses(SymbolTableCollection &symbols) {
  int64_t width = widthOf(getX());
  if (failed(verifyWeight(*this, symbols, getRouterAttr(),
                          {static_cast<int64_t>(getGates().size()), width})))
    return failure();
  if (getBiasAttr() &&
      failed(verifyWeight(*this, symbols, getBiasAttr(),
                          {static_cast<int64_t>(getGates().size())})))
    return failure();
  auto rowsOf = [&](Attribute name) -> int64_t {
    auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(
        *this, cast<FlatSymbolRefAttr>(name));
    auto type =
        weight ? cast<RankedTensorType>(weight.getType()) : RankedTensorType();
    return type && type.getRank() == 2 ? type.getDimSize(0)
                                       : ShapedType::kDynamic;
  };
  auto verifyMlp = [&](Attribute gate, Attribute up, Attribute down,
                       int64_t inner) {
    return success(
        succeeded(verifyWeight(*this, symbols, cast<FlatSymbolRefAttr>(gate),
                               {inner, width})) &&
        succeeded(verifyWeight(*this, symbols, cast<FlatSymbolRefAttr>(up),
                               {inner, width})) &&
        succeeded(verifyWeight(*this, symbols, cast<FlatSymbolRefAttr>(down),
                               {width, inner})));
  };
  int64_t inner = rowsOf(getGates()[0]);
  for (auto [gate, up, down] : llvm::zip(getGates(), getUps(), getDowns()))
    if (failed(verifyMlp(gate, up, down, inner)))
      return failure();
  if (!getShared())
    return success();
  ArrayAttr shared = *getShared();
  int64_t sharedInner = rowsOf(shared[0]);
  if (failed(verifyMlp(shared[0], shared[1], shared[2], sharedInner)))
    return failure();
  if (sharedInner <= 0 || inner <= 0 || sharedInner % inner)
    return emitOpError("expected a shared width that is a multiple of an "
                       "expert's ")
           << inner << ", found " << sharedInner;
  return success();
}

LogicalResult ConcatOp::verify() {
  if (widthOf(getResult()) != widthOf(getLhs()) + widthOf(getRhs()))
    return emitOpError("expected a result of ")
           << widthOf(getLhs()) + widthOf(getRhs()) << " elements, found "
           << widthOf(getResult());
  return success();
}

} // namespace retort::model
