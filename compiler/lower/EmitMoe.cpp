//===- EmitMoe.cpp - Mixture of experts -----------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Routing, and the products of the experts that fire. One token takes its
/// slots in order; many tokens are gathered by expert, so that each expert's
/// weights are read once. Either way a token adds its experts in ascending
/// order.
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/Emitters.h"
#include "compiler/lower/LinearKernel.h"
#include "compiler/lower/VectorMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <limits>

using namespace mlir;

namespace retort {

using namespace kernel;

namespace {

using Values = KernelBuilder::Values;

class RouteEmitter {
public:
  RouteEmitter(KernelBuilder &k, MoeRouteOp op);
  void emitToken(Index t);

private:
  Value greater(Value a, Value b) {
    return arith::CmpFOp::create(k.builder(), k.location(),
                                 arith::CmpFPredicate::OGT, a, b);
  }
  /// The index of the first maximum of `count` elements from `at` on.
  Index argmax(Index at, int64_t count);
  void computeScores(Index t);
  void chooseGroups();
  void chooseExperts();
  void writeSlots(Index t);

  KernelBuilder &k;
  MoeRouteOp op;
  int64_t experts, padded, groups, groupSize, topK, shared;
  Buffer logits, ids, weights, scratch, marks;
  std::optional<Buffer> bias;
  Value lowest;
  /// Elements of the scratch: sigmoids, what the choice goes by, whether an
  /// expert fires (i32), the groups' scores.
  int64_t scores = 0, choice, fires, groupScores;
};

RouteEmitter::RouteEmitter(KernelBuilder &k, MoeRouteOp op)
    : k(k), op(op), experts(op.getExperts()),
      padded(roundUp<int64_t>(op.getExperts(), 16)), groups(op.getGroups()),
      groupSize(experts / groups), topK(op.getTopK()), shared(op.getShared()),
      logits(k.buffer(0)), ids(k.buffer(op.getBias() ? 3 : 2)),
      weights(k.buffer(op.getBias() ? 2 : 1)),
      scratch(k.view(k.scratch(), k.index(0), k.f32())),
      marks(k.view(k.scratch(), k.index(0), k.i32())),
      lowest(k.constant(k.f32(), -std::numeric_limits<double>::infinity())),
      choice(padded), fires(2 * padded), groupScores(3 * padded) {
  if (op.getBias())
    bias = k.buffer(1);
}

Index RouteEmitter::argmax(Index at, int64_t count) {
  Values best =
      k.forLoop(k.index(0), k.index(count), 1, {lowest, k.index(0).value()},
                [&](Index i, ValueRange carried) {
                  Value value = k.load(scratch, at + i);
                  Value better = greater(value, carried[0]);
                  return Values{k.select(better, value, carried[0]),
                                k.select(better, i.value(), carried[1])};
                });
  return Index(k, best[1]);
}

void RouteEmitter::computeScores(Index t) {
  // Rows of logits are padded, so whole vectors may be read.
  Index row = t * strideOf(op.getLogits());
  k.forLoop(k.index(0), k.index(padded), k.lanes(), [&](Index e) {
    Value x = k.loadVector(logits, row + e);
    Value one = k.constant(x.getType(), 1.0);
    Value sigmoid = k.div(one, k.add(one, emitExp(k, k.neg(x))));
    k.store(sigmoid, scratch, e + scores, 4 * k.lanes());
  });
  k.forLoop(k.index(0), k.index(experts), 1, [&](Index e) {
    Value score = k.load(scratch, e + scores);
    if (bias)
      score = k.add(score, k.load(*bias, e));
    k.store(score, scratch, e + choice);
    k.store(k.constantInt(k.i32(), 0), marks, e + fires);
  });
}

/// Excludes the experts of all groups but the best.
void RouteEmitter::chooseGroups() {
  int64_t topGroups = op.getTopGroups();
  if (topGroups == groups)
    return;
  k.forLoop(k.index(0), k.index(groups), 1, [&](Index g) {
    Values best = k.forLoop(
        k.index(0), k.index(groupSize), 1, {lowest, lowest},
        [&](Index i, ValueRange carried) {
          Value value = k.load(scratch, g * groupSize + i + choice);
          Value first = greater(value, carried[0]);
          Value second = greater(value, carried[1]);
          return Values{
              k.select(first, value, carried[0]),
              k.select(first, carried[0], k.select(second, value, carried[1]))};
        });
    k.store(k.add(best[0], best[1]), scratch, g + groupScores);
  });
  // The best groups are marked by the score that no group can have.
  Value chosen = k.constant(k.f32(), std::numeric_limits<double>::infinity());
  Value unchosen = lowest;
  k.forLoop(k.index(0), k.index(topGroups), 1, [&](Index) {
    // A marked group must not win again: it takes part as the lowest.
    Values best = k.forLoop(
        k.index(0), k.index(groups), 1, {unchosen, k.index(0).value()},
        [&](Index g, ValueRange carried) {
          Value value = k.load(scratch, g + groupScores);
          Value marked =
              arith::CmpFOp::create(k.builder(), k.location(),
                                    arith::CmpFPredicate::OEQ, value, chosen);
          value = k.select(marked, unchosen, value);
          Value better = greater(value, carried[0]);
          return Values{k.select(better, value, carried[0]),
                        k.select(better, g.value(), carried[1])};
        });
    k.store(chosen, scratch, Index(k, best[1]) + groupScores);
  });
  k.forLoop(k.index(0), k.index(groups), 1, [&](Index g) {
    Value score = k.load(scratch, g + groupScores);
    Value marked = arith::CmpFOp::create(
        k.builder(), k.location(), arith::CmpFPredicate::OEQ, score, chosen);
    k.ifElse(
        marked, [] {},
        [&] {
          k.forLoop(k.index(0), k.index(groupSize), 1, [&](Index i) {
            k.store(lowest, scratch, g * groupSize + i + choice);
          });
        });
  });
}

void RouteEmitter::chooseExperts() {
  k.forLoop(k.index(0), k.index(topK), 1, [&](Index) {
    Index best = argmax(k.index(choice), experts);
    k.store(k.constantInt(k.i32(), 1), marks, best + fires);
    k.store(lowest, scratch, best + choice);
  });
}

void RouteEmitter::writeSlots(Index t) {
  Index idRow = t * strideOf(op.getIds());
  Index weightRow = t * strideOf(op.getWeights());
  // Should all scores be NaN, fewer than topK experts are marked.
  for (int64_t s = 0; s < topK; ++s) {
    k.store(k.constantInt(k.i32(), 0), ids, idRow + s);
    k.store(k.constant(k.f32(), 0), weights, weightRow + s);
  }
  Value zero = k.constant(k.f32(), 0);
  Values filled = k.forLoop(
      k.index(0), k.index(experts), 1, {k.index(0).value(), zero},
      [&](Index e, ValueRange carried) {
        Value mark = k.load(marks, e + fires);
        Value marked = arith::CmpIOp::create(k.builder(), k.location(),
                                             arith::CmpIPredicate::ne, mark,
                                             k.constantInt(k.i32(), 0));
        auto fill = [&]() -> Values {
          Index slot(k, carried[0]);
          Value score = k.load(scratch, e + scores);
          Value id = arith::IndexCastOp::create(k.builder(), k.location(),
                                                k.i32(), e.value());
          k.store(id, ids, idRow + slot);
          k.store(score, weights, weightRow + slot);
          return Values{(slot + 1).value(), k.add(carried[1], score)};
        };
        auto skip = [&]() -> Values { return Values{carried[0], carried[1]}; };
        return k.ifElse(marked, function_ref<Values()>(fill),
                        function_ref<Values()>(skip));
      });
  Value factor = k.constant(k.f32(), op.getScale().convertToDouble());
  if (op.getNormalize())
    factor = k.div(factor, k.add(filled[1], k.constant(k.f32(), 1e-20)));
  for (int64_t s = 0; s < topK; ++s)
    k.store(k.mul(k.load(weights, weightRow + s), factor), weights,
            weightRow + s);
  for (int64_t s = 0; s < shared; ++s) {
    k.store(k.constantInt(k.i32(), experts + s), ids, idRow + (topK + s));
    k.store(k.constant(k.f32(), 1), weights, weightRow + (topK + s));
  }
}

void RouteEmitter::emitToken(Index t) {
  computeScores(t);
  chooseGroups();
  chooseExperts();
  writeSlots(t);
}

Index loadIndex(KernelBuilder &k, Buffer from, Index at) {
  return k.toIndex(k.load(from, at));
}

} // namespace

LogicalResult emitMoeRoute(KernelBuilder &k, Operation *op) {
  RouteEmitter emitter(k, cast<MoeRouteOp>(op));
  int64_t tokensPerTile = getTiling(op, k.tokenClass()).tokensPerTile;
  Index first = k.tile() * tokensPerTile;
  Index end = min(first + tokensPerTile, k.numTokens());
  k.forLoop(first, end, 1, [&](Index t) { emitter.emitToken(t); });
  return success();
}

/// A counting sort of the slots by expert.
LogicalResult emitMoeGroup(KernelBuilder &k, Operation *op) {
  auto launch = cast<MoeGroupOp>(op);
  ExpertListsType type = launch.getLists().getType();
  int64_t experts = type.getNumExperts(), slots = type.getSlots();
  int64_t stride = strideOf(launch.getIds());
  Buffer ids = k.buffer(0), lists = k.buffer(1);
  Buffer next = k.view(k.scratch(), k.index(0), k.i32());
  Value zero = k.constantInt(k.i32(), 0), one = k.constantInt(k.i32(), 1);
  auto forSlots = [&](function_ref<void(Index t, Index s, Index expert)> body) {
    k.forLoop(k.index(0), k.numTokens(), 1, [&](Index t) {
      k.forLoop(k.index(0), k.index(slots), 1, [&](Index s) {
        body(t, s, loadIndex(k, ids, t * stride + s));
      });
    });
  };
  k.forLoop(k.index(0), k.index(experts), 1,
            [&](Index e) { k.store(zero, next, e); });
  forSlots([&](Index, Index, Index e) {
    k.store(k.add(k.load(next, e), one), next, e);
  });
  Values total = k.forLoop(k.index(0), k.index(experts), 1, {zero},
                           [&](Index e, ValueRange carried) {
                             Value count = k.load(next, e);
                             k.store(carried[0], lists, e);
                             k.store(carried[0], next, e);
                             return Values{k.add(carried[0], count)};
                           });
  k.store(total[0], lists, k.index(experts));
  forSlots([&](Index t, Index s, Index e) {
    Value at = k.load(next, e);
    Value entry = arith::IndexCastOp::create(k.builder(), k.location(), k.i32(),
                                             (t * slots + s).value());
    k.store(entry, lists, k.toIndex(at) + type.entriesOffset());
    k.store(k.add(at, one), next, e);
  });
  return success();
}

LogicalResult emitMoeUp(KernelBuilder &k, Operation *op) {
  auto launch = cast<MoeUpOp>(op);
  MoeUpTiling tiling(launch, k.tokenClass());
  ExpertListsType type = launch.getLists().getType();
  Buffer ids = k.buffer(2), lists = k.buffer(3);
  int64_t slots = tiling.slots, resultSlot = launch.getResultSlot();
  int64_t resultStride = strideOf(launch.getResult());
  LinearEpilogue epilogue{
      .swiglu = true, .result = RowSink(k, launch.getResult(), k.buffer(4))};
  LinearKernel linear(k, launch.getWeight(), k.buffer(0),
                      strideOf(launch.getX()), k.buffer(1), tiling.linear);
  int64_t expertBytes = tiling.linear.units * tiling.linear.unitStrips *
                        linear.encoding.stripBytes(linear.cols);
  Index tile = k.tile() % tiling.linear.tiles;
  Index group = k.tile() / tiling.linear.tiles;

  if (k.tokenClass() == TokenClass::One) {
    LinearJob job{.weightBase = loadIndex(k, ids, group) * expertBytes,
                  .tile = tile,
                  .xBase = k.index(0),
                  .rows = k.index(1),
                  .xRow = nullptr,
                  .finish = [&](Index unit, Index, Buffer sums, Index at,
                                int64_t stripStride) {
                    epilogue.emit(k, linear.tiling, unit, group * resultSlot,
                                  sums, at, stripStride);
                  }};
    emitLinearOne(linear, job);
    return success();
  }
  Index first = loadIndex(k, lists, group);
  auto entry = [&](Index row) {
    return loadIndex(k, lists, first + row + type.entriesOffset());
  };
  LinearJob job{
      .weightBase = group * expertBytes,
      .tile = tile,
      .xBase = k.index(0),
      .rows = loadIndex(k, lists, group + 1) - first,
      .xRow = [&](Index row) { return entry(row) / slots * linear.xStride; },
      .finish =
          [&](Index unit, Index row, Buffer sums, Index at,
              int64_t stripStride) {
            Index slot = entry(row);
            epilogue.emit(k, linear.tiling, unit,
                          slot / slots * resultStride +
                              slot % slots * resultSlot,
                          sums, at, stripStride);
          }};
  emitLinearJob(linear, job);
  return success();
}

LogicalResult emitMoeDown(KernelBuilder &k, Operation *op) {
  auto launch = cast<MoeDownOp>(op);
  MoeDownTiling tiling(launch, k.tokenClass());
  ExpertListsType type = launch.getLists().getType();
  Buffer ids = k.buffer(2), weights = k.buffer(3), lists = k.buffer(4);
  Buffer residual = k.buffer(5), result = k.buffer(6);
  int64_t slots = tiling.slots, xSlot = launch.getXSlot();
  int64_t resultStride = strideOf(launch.getResult());
  int64_t weightStride = strideOf(launch.getWeights());
  LinearKernel linear(k, launch.getWeight(), k.buffer(0),
                      strideOf(launch.getX()), k.buffer(1), tiling.linear);
  int64_t expertBytes =
      tiling.linear.units * linear.encoding.stripBytes(linear.cols);

  /// Adds a unit's sums times a slot's weight to a token's row.
  auto addTo = [&](Index token, Index slot, Index unit, Buffer sums, Index at) {
    Value weight = k.loadSplat(weights, token * weightStride + slot);
    Index to = token * resultStride + unit * kStripRows;
    for (int64_t lane = 0; lane < kStripRows; lane += k.lanes())
      k.store(k.fma(weight, k.loadVector(sums, at + lane),
                    k.loadVector(result, to + lane)),
              result, to + lane, 4 * k.lanes());
  };
  auto copyResidual = [&](Index token, Index unit) {
    Index at = token * resultStride + unit * kStripRows;
    for (int64_t lane = 0; lane < kStripRows; lane += k.lanes())
      k.store(k.loadVector(residual, at + lane), result, at + lane,
              4 * k.lanes());
  };

  if (k.tokenClass() == TokenClass::One) {
    const LinearTiling &t = tiling.linear;
    k.forLoop(k.tile(), k.index(t.units), t.tiles,
              [&](Index unit) { copyResidual(k.index(0), unit); });
    k.forLoop(k.index(0), k.index(slots), 1, [&](Index slot) {
      LinearJob job{
          .weightBase = loadIndex(k, ids, slot) * expertBytes,
          .tile = k.tile(),
          .xBase = slot * xSlot,
          .rows = k.index(1),
          .xRow = nullptr,
          .finish = [&](Index unit, Index, Buffer sums, Index at, int64_t) {
            addTo(k.index(0), slot, unit, sums, at);
          }};
      emitLinearOne(linear, job);
    });
    return success();
  }
  Index firstUnit = k.tile() * tiling.linear.unitsPerTile;
  Index endUnit =
      min(firstUnit + tiling.linear.unitsPerTile, tiling.linear.units);
  k.forLoop(k.index(0), k.numTokens(), 1, [&](Index token) {
    k.forLoop(firstUnit, endUnit, 1,
              [&](Index unit) { copyResidual(token, unit); });
  });
  k.forLoop(k.index(0), k.index(tiling.experts), 1, [&](Index expert) {
    Index first = loadIndex(k, lists, expert);
    auto entry = [&](Index row) {
      return loadIndex(k, lists, first + row + type.entriesOffset());
    };
    LinearJob job{
        .weightBase = expert * expertBytes,
        .tile = k.tile(),
        .xBase = k.index(0),
        .rows = loadIndex(k, lists, expert + 1) - first,
        .xRow =
            [&](Index row) {
              Index slot = entry(row);
              return slot / slots * linear.xStride + slot % slots * xSlot;
            },
        .finish =
            [&](Index unit, Index row, Buffer sums, Index at, int64_t) {
              Index slot = entry(row);
              addTo(slot / slots, slot % slots, unit, sums, at);
            }};
    emitLinearJob(linear, job);
  });
  return success();
}

} // namespace retort
