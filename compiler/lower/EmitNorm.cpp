//===- EmitNorm.cpp - Root-mean-square normalization ----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Emitters.h"
#include "compiler/lower/NormKernel.h"
#include "compiler/lower/RowSink.h"
#include "compiler/lower/Tiling.h"

using namespace mlir;

namespace retort {
/// Four chains of lanes: short sums, so that f32 suffices, and the latency of
/// the FMAs is hidden.
Value NormKernel::sumOfSquares(Index row) {
  constexpr int64_t kChains = 4;
  int64_t lanes = k.lanes();
  int64_t unrolled = width / (kChains * lanes) * (kChains * lanes);
  KernelBuilder::Values sums(kChains, k.zero(k.vecF32()));
  auto square = [&](Index at, Value sum) {
    Value v = k.loadVector(x, at);
    return k.fma(v, v, sum);
  };
  sums = k.forLoop(k.index(0), k.index(unrolled), kChains * lanes, sums,
                   [&](Index i, ValueRange carried) {
                     KernelBuilder::Values next;
                     for (int64_t c = 0; c < kChains; ++c)
                       next.push_back(square(row + i + c * lanes, carried[c]));
                     return next;
                   });
  for (int64_t i = unrolled, c = 0; i < vectorized(); i += lanes, ++c)
    sums[c] = square(row + i, sums[c]);
  Value sum =
      k.reduceAdd(k.add(k.add(sums[0], sums[1]), k.add(sums[2], sums[3])));
  for (int64_t i = vectorized(); i < width; ++i) {
    Value v = k.load(x, row + i);
    sum = k.fma(v, v, sum);
  }
  return sum;
}

void NormKernel::normalize(Index from, Index to) {
  Value sum = k.extend(sumOfSquares(from), k.f64());
  Value mean = k.div(sum, k.constant(k.f64(), static_cast<double>(width)));
  Value root = k.sqrt(k.add(mean, k.constant(k.f64(), eps)));
  Value inverse = k.truncate(k.div(k.constant(k.f64(), 1.0), root), k.f32());

  Value splat = k.splat(inverse);
  int64_t bytes = 4 * k.lanes();
  k.forLoop(k.index(0), k.index(vectorized()), k.lanes(), [&](Index i) {
    Value scaled = k.mul(k.loadVector(x, from + i), splat);
    k.store(k.mul(scaled, k.loadVector(weight, i)), result, to + i, bytes);
  });
  for (int64_t i = vectorized(); i < width; ++i) {
    Value scaled = k.mul(k.load(x, from + i), inverse);
    k.store(k.mul(scaled, k.load(weight, k.index(i))), result, to + i);
  }
  int64_t i = width;
  for (; i % k.lanes(); ++i)
    k.store(k.zero(k.f32()), result, to + i);
  k.forLoop(k.index(i), k.index(stride), k.lanes(), [&](Index j) {
    k.store(k.zero(k.vecF32()), result, to + j, bytes);
  });
}

LogicalResult emitRmsNorm(KernelBuilder &k, Operation *op) {
  auto norm = cast<kernel::RmsNormOp>(op);
  auto weight = cast<RankedTensorType>(norm.getWeight().getType());
  if (!weight.getElementType().isF32())
    return op->emitOpError("expected a weight of f32, found ") << weight;
  // Without plain results, a row is normalized in scratch.
  bool isPlain = kernel::isPlainActivation(norm.getResult().getType());
  SmallVector<RowSink> quantized;
  for (OpResult result : norm->getResults())
    if (!kernel::isPlainActivation(result.getType()))
      quantized.emplace_back(k, result, k.buffer(2 + result.getResultNumber()));
  NormKernel emitter{.k = k,
                     .x = k.buffer(0),
                     .weight = k.buffer(1),
                     .result = isPlain
                                   ? k.buffer(2)
                                   : k.view(k.scratch(), k.index(0), k.f32()),
                     .width = weight.getDimSize(0),
                     .stride = kernel::strideOf(norm.getResult()),
                     .eps = norm.getEps().convertToDouble()};
  int64_t xStride = kernel::strideOf(norm.getX());
  int64_t tokensPerTile = getTiling(op, k.tokenClass()).tokensPerTile;
  Index first = k.tile() * tokensPerTile;
  Index end = min(first + tokensPerTile, k.numTokens());
  k.forLoop(first, end, 1, [&](Index t) {
    Index row = norm.getFromFirstRow() ? t + k.firstRow() : t;
    Index to = isPlain ? t * emitter.stride : k.index(0);
    emitter.normalize(row * xStride + static_cast<int64_t>(norm.getOffset()),
                      to);
    for (const RowSink &sink : quantized)
      sink.copy(emitter.result, to, emitter.stride, t * emitter.stride,
                [](Value v) { return v; });
  });
  return success();
}

} // namespace retort
