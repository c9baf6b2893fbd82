//===- FuseLaunches.cpp - From models to launches ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/fuse/Passes.h"

#include "compiler/fuse/Fuser.h"

using namespace mlir;

namespace retort {
#define GEN_PASS_DEF_FUSELAUNCHESPASS
#include "compiler/fuse/Passes.h.inc"

FailureOr<Value> Fuser::get(Operation *user, Value v) {
  if (Value mapped = map.lookupOrNull(v))
    return mapped;
  return user->emitOpError("expected an operand that one launch can compute, "
                           "found the result of ")
         << v.getDefiningOp()->getName();
}

LogicalResult Fuser::embedding(model::EmbeddingOp op) {
  auto w = weights.matrix(op, op.getWeight(), op.getWeight(), std::nullopt);
  if (failed(w))
    return failure();
  auto embed = kernel::EmbedOp::create(
      b, op.getLoc(), activation(model::widthOf(op.getResult())),
      map.lookup(op.getTokens()), *w);
  label(embed, "embed", -1);
  map.map(op.getResult(), embed.getResult());
  return success();
}

LogicalResult Fuser::norm(model::RmsNormOp op) {
  auto x = get(op, op.getX());
  if (failed(x))
    return failure();
  auto w = weights.vector(op, op.getWeight());
  if (failed(w))
    return failure();
  auto norm = kernel::RmsNormOp::create(
      b, op.getLoc(), x->getType(), mlir::TypeRange(), *x, *w, op.getEpsAttr(),
      UnitAttr(), b.getI64IntegerAttr(0));
  label(norm, "rms_norm", layer);
  map.map(op.getResult(), norm.getResult());
  return success();
}

Value Fuser::ropeTable(Location loc, DenseF64ArrayAttr invFreq,
                       FloatAttr scale) {
  std::pair<Attribute, Attribute> key = {invFreq, scale};
  auto *known = llvm::find_if(tables, [&](auto &t) { return t.first == key; });
  int64_t number = known - tables.begin();
  if (known == tables.end())
    tables.push_back({key, Value()});
  Value &made = tables[number].second;
  if (made)
    return made;
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(body);
  SmallVector<double> freq(invFreq.asArrayRef());
  freq.resize(roundUp<int64_t>(freq.size(), 16), 0.0);
  Value w = weights.literal("rope.inv_freq." + std::to_string(number), freq);
  auto type = RankedTensorType::get(
      {ShapedType::kDynamic, static_cast<int64_t>(freq.size()) * 2},
      b.getF32Type());
  auto table = kernel::RopeTableOp::create(b, loc, type, w, scale);
  label(table, "rope_table", -1);
  made = table;
  return made;
}

Value Fuser::partials(Location loc, int64_t groups, int64_t heads,
                      int64_t size) {
  // Tiles for some dozens of threads, without more parts than are put together
  // in a small share of the time.
  constexpr int64_t kTiles = 64, kMostSplits = 16;
  int64_t splits = std::min(kMostSplits, ceilDiv(kTiles, groups));
  if (splits < 2)
    return {};
  auto type =
      kernel::PartialsType::get(b.getContext(), splits, groups, heads, size);
  return kernel::LoadPartialsOp::create(b, loc, type);
}

LogicalResult Fuser::attention(model::AttentionOp op) {
  auto ropeQ = op.getQ().getDefiningOp<model::RopeOp>();
  auto ropeK = op.getK().getDefiningOp<model::RopeOp>();
  model::LinearOp q, k;
  auto v = op.getV().getDefiningOp<model::LinearOp>();
  if (ropeQ && ropeK) {
    q = ropeQ.getX().getDefiningOp<model::LinearOp>();
    k = ropeK.getX().getDefiningOp<model::LinearOp>();
  }
  if (!q || !k || !v || q.getX() != k.getX() || q.getX() != v.getX() ||
      ropeQ.getInvFreq() != ropeK.getInvFreq() ||
      ropeQ.getScaleAttr() != ropeK.getScaleAttr())
    return op.emitOpError("expected rotated queries and keys and plain values, "
                          "all linear in the same rows");
  auto x = get(op, q.getX());
  if (failed(x))
    return failure();
  layer = op.getLayer();
  int64_t heads = op.getNumHeads(), kvHeads = op.getNumKvHeads();
  HeadLayout qHeads{heads, model::widthOf(op.getQ()) / heads};
  HeadLayout kvLayout{kvHeads, qHeads.headDim};
  if (qHeads.headDim % 2)
    return op.emitOpError("expected an even head size, found ")
           << qHeads.headDim;

  std::string prefix = "layers." + std::to_string(layer) + ".";
  std::pair<model::LinearOp, HeadLayout> parts[] = {
      {q, qHeads}, {k, kvLayout}, {v, kvLayout}};
  SmallVector<WeightBuilder::Part> rows, biases;
  bool anyBias = false;
  for (auto &[linear, layout] : parts) {
    rows.push_back({linear.getWeight(), layout});
    anyBias |= linear.getBias().has_value();
    biases.push_back({linear.getBias().value_or(""), layout});
  }
  auto w = weights.stacked(op, prefix + "qkv", rows);
  if (failed(w))
    return failure();
  Value bias;
  if (anyBias) {
    auto vector = weights.bias(op, prefix + "qkv.bias", biases);
    if (failed(vector))
      return failure();
    bias = *vector;
  }
  auto qkv = kernel::LinearOp::create(
      b, op.getLoc(),
      activation(qHeads.paddedWidth() + 2 * kvLayout.paddedWidth()), *x, *w,
      bias, Value(), kernel::Epilogue::None);
  label(qkv, "linear qkv", layer);

  Value table =
      ropeTable(ropeQ.getLoc(), ropeQ.getInvFreqAttr(), ropeQ.getScaleAttr());
  auto cache = [&](kernel::CacheKind kind) -> Value {
    auto load = kernel::LoadCacheOp::create(
        b, op.getLoc(),
        kernel::CacheType::get(b.getContext(), kind, kvHeads,
                               kvLayout.paddedHead(), cacheElement),
        b.getI64IntegerAttr(layer));
    return load;
  };
  Value keys = cache(kernel::CacheKind::Keys);
  Value values = cache(kernel::CacheKind::Values);
  auto write = kernel::RopeCacheOp::create(
      b, op.getLoc(), activation(qHeads.paddedWidth()), keys.getType(),
      values.getType(), qkv.getResult(), table, keys, values,
      b.getI64IntegerAttr(heads));
  label(write, "rope_cache", layer);
  auto attn = kernel::AttentionOp::create(
      b, op.getLoc(), write.getQ().getType(), write.getQ(), write.getNewKeys(),
      write.getNewValues(),
      partials(op.getLoc(), kvHeads, heads / kvHeads, kvLayout.paddedHead()),
      b.getI64IntegerAttr(heads), op.getScaleAttr());
  label(attn, "attention", layer);
  map.map(op.getResult(), attn.getResult());
  headsOf[op.getResult()] = qHeads;
  return success();
}

LogicalResult Fuser::swiglu(model::SwigluOp op) {
  auto gate = op.getGate().getDefiningOp<model::LinearOp>();
  auto up = op.getUp().getDefiningOp<model::LinearOp>();
  if (!gate || !up || gate.getX() != up.getX())
    return op.emitOpError("expected a gate and an up that are linear in the "
                          "same rows");
  auto x = get(op, gate.getX());
  if (failed(x))
    return failure();
  std::string prefix = "layers." + std::to_string(layer) + ".";
  auto w = weights.interleaved(op, prefix + "gate_up", gate.getWeight(),
                               up.getWeight());
  if (failed(w))
    return failure();
  Value bias;
  if (gate.getBias() || up.getBias()) {
    auto vector = weights.interleavedBias(
        op, prefix + "gate_up.bias", model::widthOf(op.getResult()),
        gate.getBias().value_or(""), up.getBias().value_or(""));
    if (failed(vector))
      return failure();
    bias = *vector;
  }
  auto linear = kernel::LinearOp::create(
      b, op.getLoc(), activation(model::widthOf(op.getResult())), *x, *w, bias,
      Value(), kernel::Epilogue::Swiglu);
  label(linear, "linear gate_up", layer);
  map.map(op.getResult(), linear.getResult());
  return success();
}

FailureOr<Value> Fuser::plainLinear(model::LinearOp op, Value residual,
                                    StringRef role) {
  auto x = get(op, op.getX());
  if (failed(x))
    return failure();
  std::optional<HeadLayout> columns;
  if (auto it = headsOf.find(op.getX()); it != headsOf.end())
    columns = it->second;
  auto w = weights.matrix(op, op.getWeight(), op.getWeight(), columns);
  if (failed(w))
    return failure();
  Value bias;
  if (op.getBias()) {
    auto vector = weights.bias(op, *op.getBias(), {{*op.getBias(), {}}});
    if (failed(vector))
      return failure();
    bias = *vector;
  }
  auto linear = kernel::LinearOp::create(
      b, op.getLoc(), activation(model::widthOf(op.getResult())), *x, *w, bias,
      residual, kernel::Epilogue::None);
  label(linear, ("linear " + role).str(), layer);
  return linear.getResult();
}

LogicalResult Fuser::add(model::AddOp op) {
  for (auto [value, other] :
       {std::pair<Value, Value>(op.getRhs(), op.getLhs()),
        std::pair<Value, Value>(op.getLhs(), op.getRhs())}) {
    auto linear = value.getDefiningOp<model::LinearOp>();
    auto moe = value.getDefiningOp<model::MoeOp>();
    if ((!linear && !moe) || !value.hasOneUse())
      continue;
    auto residual = get(op, other);
    if (failed(residual))
      return failure();
    if (moe) {
      auto sum = experts(moe, *residual);
      if (failed(sum))
        return failure();
      ++layer;
      map.map(op.getResult(), *sum);
      return success();
    }
    bool attends = isa_and_nonnull<model::AttentionOp, model::MlaOp>(
        linear.getX().getDefiningOp());
    auto sum = plainLinear(linear, *residual, attends ? "o" : "down");
    if (failed(sum))
      return failure();
    // The next layer's norm comes before its attention, which names the layer.
    if (!attends)
      ++layer;
    map.map(op.getResult(), *sum);
    return success();
  }
  return op.emitOpError("expected the result of a linear or moe that nothing "
                        "else uses");
}

/// The final norm and the output matrix become a function of their own, which
/// the runtime calls only for the rows whose logits it wants.
LogicalResult Fuser::head(func::FuncOp function, StringRef name) {
  auto ret = cast<func::ReturnOp>(function.getBody().front().getTerminator());
  if (ret.getNumOperands() != 1)
    return ret.emitOpError("expected the logits alone");
  auto output = ret.getOperand(0).getDefiningOp<model::LinearOp>();
  auto norm =
      output ? output.getX().getDefiningOp<model::RmsNormOp>() : nullptr;
  if (!norm)
    return ret.emitOpError("expected logits that are linear in a final norm");
  if (!finalNorm)
    finalNorm = norm;
  auto hidden = get(ret, norm.getX());
  if (failed(hidden))
    return failure();
  func::ReturnOp::create(b, ret.getLoc(), *hidden);
  body->getParentOp()->setAttr(
      "function_type", TypeAttr::get(b.getFunctionType(body->getArgumentTypes(),
                                                       {hidden->getType()})));

  b.setInsertionPointToEnd(module.getBody());
  auto logits = activation(model::widthOf(output.getResult()));
  auto func =
      func::FuncOp::create(b, function.getLoc(), name,
                           b.getFunctionType({hidden->getType()}, {logits}));
  b.setInsertionPointToStart(func.addEntryBlock());
  weights.startFunction();
  layer = -1;
  map.map(norm.getX(), func.getArgument(0));
  if (failed(this->norm(norm)))
    return failure();
  auto mapped = map.lookup(norm.getResult()).getDefiningOp<kernel::RmsNormOp>();
  mapped.setFromFirstRow(true);
  auto result = plainLinear(output, Value(), "head");
  if (failed(result))
    return failure();
  func::ReturnOp::create(b, ret.getLoc(), *result);
  return success();
}

bool Fuser::consumerTakes(model::RmsNormOp norm, model::LinearOp output) {
  auto linear = norm.getX().getDefiningOp<model::LinearOp>();
  return (output && output.getX() == norm.getResult()) ||
         (linear && !map.contains(linear.getResult()));
}

LogicalResult Fuser::concatLinear(model::LinearOp op, model::ConcatOp concat) {
  int64_t outputs = model::widthOf(op.getResult());
  Value sum;
  int64_t firstCol = 0;
  for (auto [part, role] :
       {std::pair<Value, StringRef>(concat.getLhs(), "lhs"),
        std::pair<Value, StringRef>(concat.getRhs(), "rhs")}) {
    auto x = get(op, part);
    if (failed(x))
      return failure();
    int64_t width = model::widthOf(part);
    auto w = weights.assembled(
        op, (op.getWeight() + "." + role).str(),
        {{.tensor = op.getWeight(), .count = outputs, .colShift = firstCol}},
        outputs, width);
    if (failed(w))
      return failure();
    Value bias;
    if (op.getBias() && !sum) {
      auto vector = weights.bias(op, *op.getBias(), {{*op.getBias(), {}}});
      if (failed(vector))
        return failure();
      bias = *vector;
    }
    auto linear =
        kernel::LinearOp::create(b, op.getLoc(), activation(outputs), *x, *w,
                                 bias, sum, kernel::Epilogue::None);
    label(linear, ("linear concat " + role).str(), layer);
    sum = linear.getResult();
    firstCol += width;
  }
  map.map(op.getResult(), sum);
  return success();
}

void Fuser::startBody(func::FuncOp func, StringRef name) {
  b.setInsertionPoint(func);
  auto made = func::FuncOp::create(
      b, func.getLoc(), name, b.getFunctionType(func.getArgumentTypes(), {}));
  body = made.addEntryBlock();
  b.setInsertionPointToStart(body);
  weights.startFunction();
  for (auto &[key, table] : tables)
    table = Value();
  layer = layersDone;
}

LogicalResult Fuser::translate(func::FuncOp func, StringRef headName) {
  auto ret = cast<func::ReturnOp>(func.getBody().front().getTerminator());
  model::LinearOp output;
  if (ret.getNumOperands() == 1)
    output = ret.getOperand(0).getDefiningOp<model::LinearOp>();

  for (Operation &op : func.getBody().front()) {
    LogicalResult done = success();
    if (auto e = dyn_cast<model::EmbeddingOp>(op))
      done = embedding(e);
    else if (auto n = dyn_cast<model::RmsNormOp>(op))
      done = consumerTakes(n, output) ? success() : norm(n);
    else if (auto a = dyn_cast<model::AttentionOp>(op))
      done = attention(a);
    else if (auto m = dyn_cast<model::MlaOp>(op))
      done = latentAttention(m);
    else if (auto s = dyn_cast<model::SwigluOp>(op))
      done = swiglu(s);
    else if (auto a = dyn_cast<model::AddOp>(op))
      done = add(a);
    else if (auto l = dyn_cast<model::LinearOp>(op)) {
      if (auto concat = l.getX().getDefiningOp<model::ConcatOp>())
        done = concatLinear(l, concat);
    } else if (!isa<model::RopeOp, model::MoeOp, model::ConcatOp,
                    func::ReturnOp>(op))
      done = op.emitOpError("expected an op of the model dialect");
    if (failed(done))
      return failure();
  }
  layersDone = layer;
  return head(func, headName);
}

LogicalResult Fuser::forward(func::FuncOp func) {
  startBody(func, "body");
  for (auto [from, to] : llvm::zip(func.getArguments(), body->getArguments()))
    map.map(from, to);
  return translate(func, "head");
}

LogicalResult Fuser::draft(func::FuncOp func) {
  if (func.getNumArguments() != 2 ||
      func.getArgument(1).getType() != finalNorm.getType())
    return func.emitOpError("expected token ids and what forward's output "
                            "matrix is given");
  startBody(func, "draft_body");
  // The runtime has the hidden states in front of the final norm.
  auto stored = activation(model::widthOf(finalNorm.getX()));
  body->getArgument(1).setType(stored);
  map.map(func.getArgument(0), body->getArgument(0));
  auto weight = weights.vector(finalNorm, finalNorm.getWeight());
  if (failed(weight))
    return failure();
  auto normed = kernel::RmsNormOp::create(
      b, finalNorm.getLoc(), stored, body->getArgument(1), *weight,
      finalNorm.getEpsAttr(), UnitAttr(), b.getI64IntegerAttr(0));
  label(normed, "rms_norm", layer);
  map.map(func.getArgument(1), normed.getResult());
  return translate(func, "draft_head");
}

namespace {

struct FuseLaunchesPass : impl::FuseLaunchesPassBase<FuseLaunchesPass> {
  using FuseLaunchesPassBase::FuseLaunchesPassBase;

  void runOnOperation() override {
    auto forward = getOperation().lookupSymbol<func::FuncOp>("forward");
    if (!forward || !forward.getBody().hasOneBlock()) {
      getOperation().emitError("expected a function 'forward' of one block");
      return signalPassFailure();
    }
    auto draft = getOperation().lookupSymbol<func::FuncOp>("draft");
    if (draft && !draft.getBody().hasOneBlock()) {
      draft.emitError("expected a function of one block");
      return signalPassFailure();
    }
    auto cacheElement = parseCacheElement(kv.getValue());
    if (!cacheElement) {
      getOperation().emitError("kv: expected f32, f16, bf16 or int8, found '")
          << kv.getValue() << "'";
      return signalPassFailure();
    }
    Fuser fuser(getOperation(), *cacheElement);
    if (failed(fuser.forward(forward)) || (draft && failed(fuser.draft(draft))))
      return signalPassFailure();
    numLaunches += fuser.launches;
    forward.erase();
    if (draft)
      draft.erase();
    for (auto weight :
         llvm::make_early_inc_range(getOperation().getOps<model::WeightOp>()))
      weight.erase();
  }
};

} // namespace
} // namespace retort
