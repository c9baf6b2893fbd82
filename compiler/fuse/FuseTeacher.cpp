//===- FuseTeacher.cpp - Latent attention and experts as launches ---------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/fuse/Fuser.h"

using namespace mlir;

namespace retort {

/// Parts of heads and slots that matrices read begin at multiples of this: the
/// widest block of an encoding.
static constexpr int64_t kPartMultiple = 128;

struct Fuser::LatentInputs {
  Value projected; ///< what the launch gives: queries or their latent, then kv
  Value q;         ///< queries, `qHead` elements per head
  int64_t kvOffset = 0;
};

namespace {

/// Sizes of a head's query: the part without rotation, then the rotary part.
struct QueryLayout {
  explicit QueryLayout(model::MlaOp op)
      : heads(op.getNumHeads()), nope(op.getNope()), rope(op.getRope()),
        interleaved(op.getInterleaved()),
        rotary(roundUp<int64_t>(nope, kPartMultiple)) {}

  /// Calls `run(first source row, rows, first packed row)` for the rotary rows.
  void forRotaryRuns(int64_t src, int64_t dst,
                     function_ref<void(int64_t, int64_t, int64_t)> run) const {
    if (interleaved)
      return run(src, rope, dst);
    run(src, rope / 2, dst);
    run(src + rope / 2, rope / 2, dst + paddedRope() / 2);
  }
  void forEachRun(function_ref<void(int64_t, int64_t, int64_t)> run) const {
    for (int64_t h = 0; h < heads; ++h) {
      run(h * (nope + rope), nope, h * head());
      forRotaryRuns(h * (nope + rope) + nope, h * head() + rotary, run);
    }
  }
  int64_t paddedRope() const { return kernel::paddedHeadSize(rope); }
  int64_t head() const { return rotary + paddedRope(); }
  int64_t width() const { return heads * head(); }

  int64_t heads, nope, rope;
  bool interleaved;
  int64_t rotary; ///< where a head's rotary part begins
};

} // namespace

FailureOr<Fuser::LatentInputs> Fuser::latentInputs(model::MlaOp op) {
  auto qLinear = op.getQ().getDefiningOp<model::LinearOp>();
  auto kvLinear = op.getKv().getDefiningOp<model::LinearOp>();
  if (!qLinear || !kvLinear)
    return op.emitOpError("expected queries and a latent that are linear");
  auto qNorm = qLinear.getX().getDefiningOp<model::RmsNormOp>();
  auto qLatent =
      qNorm ? qNorm.getX().getDefiningOp<model::LinearOp>() : nullptr;
  bool direct = qLinear.getX() == kvLinear.getX();
  if (!direct && (!qLatent || qLatent.getX() != kvLinear.getX()))
    return op.emitOpError("expected queries that are linear in the latent's "
                          "input, or in a norm of what is");
  auto x = get(op, kvLinear.getX());
  if (failed(x))
    return failure();

  QueryLayout query(op);
  std::string prefix = "layers." + std::to_string(layer) + ".";
  int64_t rank = model::widthOf(op.getKv()) - query.rope;
  SmallVector<WeightBuilder::Run> rows, biases;
  auto add = [&](model::LinearOp linear, int64_t src, int64_t count,
                 int64_t dst) {
    rows.push_back({linear.getWeight(), src, count, dst});
    if (linear.getBias())
      biases.push_back({*linear.getBias(), src, count, dst});
  };
  LatentInputs inputs;
  if (direct) {
    query.forEachRun([&](int64_t src, int64_t count, int64_t dst) {
      add(qLinear, src, count, dst);
    });
    inputs.kvOffset = query.width();
  } else {
    int64_t qRank = model::widthOf(qLatent.getResult());
    add(qLatent, 0, qRank, 0);
    inputs.kvOffset = roundUp<int64_t>(qRank, 32);
  }
  add(kvLinear, 0, rank, inputs.kvOffset);
  int64_t key = inputs.kvOffset + roundUp<int64_t>(rank, 32);
  query.forRotaryRuns(rank, key, [&](int64_t src, int64_t count, int64_t dst) {
    add(kvLinear, src, count, dst);
  });
  int64_t total = key + query.paddedRope();
  auto w = weights.assembled(op, prefix + "latent", rows, total,
                             model::widthOf(kvLinear.getX()));
  if (failed(w))
    return failure();
  Value bias;
  if (!biases.empty()) {
    auto vector = weights.assembledVector(op, prefix + "latent.bias", biases,
                                          roundUp(total, kStripRows));
    if (failed(vector))
      return failure();
    bias = *vector;
  }
  auto projected =
      kernel::LinearOp::create(b, op.getLoc(), activation(total), *x, *w, bias,
                               Value(), kernel::Epilogue::None);
  label(projected, "linear latent", layer);
  inputs.projected = projected;
  if (direct) {
    inputs.q = inputs.projected;
    return inputs;
  }

  auto normWeight = weights.vector(op, qNorm.getWeight());
  if (failed(normWeight))
    return failure();
  auto normed = kernel::RmsNormOp::create(
      b, op.getLoc(), activation(model::widthOf(qLatent.getResult())),
      mlir::TypeRange(), inputs.projected, *normWeight, qNorm.getEpsAttr(),
      UnitAttr(), b.getI64IntegerAttr(0));
  label(normed, "rms_norm q", layer);
  SmallVector<WeightBuilder::Run> queryRows, queryBiases;
  query.forEachRun([&](int64_t src, int64_t count, int64_t dst) {
    queryRows.push_back({qLinear.getWeight(), src, count, dst});
  });
  auto qWeight = weights.assembled(op, prefix + "q", queryRows, query.width(),
                                   model::widthOf(qLinear.getX()));
  if (failed(qWeight))
    return failure();
  if (qLinear.getBias())
    return op.emitOpError("expected queries without a bias behind their norm");
  auto q = kernel::LinearOp::create(b, op.getLoc(), activation(query.width()),
                                    normed.getResult(), *qWeight, Value(),
                                    Value(), kernel::Epilogue::None);
  label(q, "linear q", layer);
  inputs.q = q;
  return inputs;
}

LogicalResult Fuser::latentAttention(model::MlaOp op) {
  layer = op.getLayer();
  QueryLayout query(op);
  int64_t heads = query.heads, nope = query.nope, v = op.getV();
  int64_t rank = model::widthOf(op.getKv()) - query.rope;
  int64_t paddedRank = roundUp<int64_t>(rank, 32);
  std::string prefix = "layers." + std::to_string(layer) + ".";
  auto inputs = latentInputs(op);
  auto norm = weights.vector(op, op.getKvNorm());
  if (failed(inputs) || failed(norm))
    return failure();

  Value table =
      ropeTable(op.getLoc(), op.getInvFreqAttr(), op.getRopeScaleAttr());
  Value cache = kernel::LoadCacheOp::create(
      b, op.getLoc(),
      kernel::CacheType::get(b.getContext(), kernel::CacheKind::Latent, 1,
                             paddedRank + query.paddedRope(), cacheElement),
      b.getI64IntegerAttr(layer));
  auto write = kernel::LatentCacheOp::create(
      b, op.getLoc(), cache.getType(), inputs->projected, *norm, table, cache,
      op.getEpsAttr(), b.getI64IntegerAttr(inputs->kvOffset),
      op.getInterleavedAttr());
  label(write, "latent_cache", layer);

  // Each head's key matrix, transposed, meets its query; the value matrix
  // comes after the sum over the positions.
  SmallVector<WeightBuilder::Run> keyRows, valueRows;
  HeadLayout values{heads, v, /*halves=*/false};
  for (int64_t h = 0; h < heads; ++h) {
    int64_t src = h * (nope + v);
    keyRows.push_back({.tensor = op.getKvB(),
                       .src = 0,
                       .count = rank,
                       .dst = h * paddedRank,
                       .colShift = src,
                       .transposed = true});
    valueRows.push_back({op.getKvB(), src + nope, v, h * values.paddedHead()});
  }
  auto keyWeight = weights.assembled(op, prefix + "absorbed_k", keyRows,
                                     heads * paddedRank, nope,
                                     /*roundsInputs=*/true);
  auto valueWeight = weights.assembled(op, prefix + "absorbed_v", valueRows,
                                       values.paddedWidth(), rank,
                                       /*roundsInputs=*/true);
  if (failed(keyWeight) || failed(valueWeight))
    return failure();
  auto absorbed = kernel::HeadLinearOp::create(
      b, op.getLoc(), activation(heads * paddedRank), inputs->q, *keyWeight,
      b.getI64IntegerAttr(heads), b.getI64IntegerAttr(query.head()),
      b.getI64IntegerAttr(paddedRank));
  label(absorbed, "head_linear k", layer);
  int64_t resultHead = roundUp<int64_t>(rank, kPartMultiple);
  auto attention = kernel::LatentAttentionOp::create(
      b, op.getLoc(), activation(heads * resultHead), absorbed, inputs->q,
      table, write.getNewCache(), b.getI64IntegerAttr(heads),
      b.getI64IntegerAttr(paddedRank), b.getI64IntegerAttr(query.head()),
      b.getI64IntegerAttr(query.rotary), b.getI64IntegerAttr(resultHead),
      op.getScaleAttr(), op.getInterleavedAttr());
  label(attention, "latent_attention", layer);
  auto result = kernel::HeadLinearOp::create(
      b, op.getLoc(), activation(values.paddedWidth()), attention, *valueWeight,
      b.getI64IntegerAttr(heads), b.getI64IntegerAttr(resultHead),
      b.getI64IntegerAttr(values.paddedHead()));
  label(result, "head_linear v", layer);
  map.map(op.getResult(), result.getResult());
  headsOf[op.getResult()] = values;
  return success();
}

FailureOr<Value> Fuser::experts(model::MoeOp op, Value residual) {
  auto x = get(op, op.getX());
  if (failed(x))
    return failure();
  layer = op.getLayer();
  std::string prefix = "layers." + std::to_string(layer) + ".";
  auto widthOf = [&](Attribute name) {
    return cast<RankedTensorType>(
               cast<model::WeightOp>(SymbolTable::lookupNearestSymbolFrom(
                                         op, cast<FlatSymbolRefAttr>(name)))
                   .getType())
        .getDimSize(0);
  };
  int64_t hidden = model::widthOf(op.getX());
  int64_t routed = static_cast<int64_t>(op.getGates().size());
  int64_t inner = widthOf(op.getGates()[0]);
  // The shared MLP is as many experts that always fire as fit in its width.
  int64_t shared = op.getShared() ? widthOf((*op.getShared())[0]) / inner : 0;
  int64_t total = routed + shared;
  int64_t slots = static_cast<int64_t>(op.getTopK()) + shared;
  int64_t upRows = 2 * roundUp(inner, kStripRows);
  int64_t downRows = roundUp(hidden, kStripRows);
  auto name = [](Attribute symbol) {
    return cast<FlatSymbolRefAttr>(symbol).getValue();
  };

  SmallVector<WeightBuilder::Run> up, down;
  for (int64_t e = 0; e < total; ++e) {
    bool isShared = e >= routed;
    Attribute gate = isShared ? (*op.getShared())[0] : op.getGates()[e];
    Attribute upName = isShared ? (*op.getShared())[1] : op.getUps()[e];
    Attribute downName = isShared ? (*op.getShared())[2] : op.getDowns()[e];
    int64_t part = isShared ? (e - routed) * inner : 0;
    up.push_back({name(gate), part, inner, e * upRows, 2 * kStripRows});
    up.push_back(
        {name(upName), part, inner, e * upRows + kStripRows, 2 * kStripRows});
    down.push_back({name(downName), 0, hidden, e * downRows, kStripRows, part});
  }
  auto router =
      weights.matrix(op, op.getRouter(), op.getRouter(), std::nullopt);
  auto upWeight = weights.assembled(op, prefix + "experts.gate_up", up,
                                    total * upRows, hidden);
  auto downWeight = weights.assembled(op, prefix + "experts.down", down,
                                      total * downRows, inner);
  if (failed(router) || failed(upWeight) || failed(downWeight))
    return failure();
  Value bias;
  if (op.getBias()) {
    auto vector = weights.vector(op, *op.getBias());
    if (failed(vector))
      return failure();
    bias = *vector;
  }

  auto logits =
      kernel::LinearOp::create(b, op.getLoc(), activation(routed), *x, *router,
                               Value(), Value(), kernel::Epilogue::None);
  label(logits, "linear router", layer);
  int64_t stride = roundUp<int64_t>(slots, 16);
  auto ids =
      RankedTensorType::get({ShapedType::kDynamic, stride}, b.getI32Type());
  auto shares =
      RankedTensorType::get({ShapedType::kDynamic, stride}, b.getF32Type());
  auto route = kernel::MoeRouteOp::create(
      b, op.getLoc(), shares, ids, logits, bias, b.getI64IntegerAttr(routed),
      b.getI64IntegerAttr(shared), op.getTopKAttr(), op.getGroupsAttr(),
      op.getTopGroupsAttr(), op.getNormalizeAttr(), op.getScaleAttr());
  label(route, "moe_route", layer);
  auto lists = kernel::MoeGroupOp::create(
      b, op.getLoc(),
      kernel::ExpertListsType::get(b.getContext(), total, slots),
      route.getIds());
  label(lists, "moe_group", layer);
  int64_t slot = roundUp<int64_t>(inner, kPartMultiple);
  auto act = kernel::MoeUpOp::create(b, op.getLoc(), activation(slots * slot),
                                     *x, *upWeight, route.getIds(), lists,
                                     b.getI64IntegerAttr(slot));
  label(act, "moe_up", layer);
  auto sum = kernel::MoeDownOp::create(
      b, op.getLoc(), residual.getType(), act, *downWeight, route.getIds(),
      route.getWeights(), lists, residual, b.getI64IntegerAttr(slot));
  label(sum, "moe_down", layer);
  return sum.getResult();
}

} // namespace retort
