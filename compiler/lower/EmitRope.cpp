//===- EmitRope.cpp - Rotary embedding and the cache write ----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/CacheAccess.h"
#include "compiler/lower/Emitters.h"
#include "compiler/lower/RopeKernel.h"
#include "compiler/lower/Tiling.h"
#include "compiler/lower/VectorMath.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

namespace retort {

LogicalResult emitRopeTable(KernelBuilder &k, Operation *op) {
  auto table = cast<kernel::RopeTableOp>(op);
  auto frequencies = cast<RankedTensorType>(table.getInvFreq().getType());
  if (!frequencies.getElementType().isF64())
    return op->emitOpError("expected frequencies of f64, found ")
           << frequencies;
  int64_t half = frequencies.getDimSize(0);
  Buffer invFreq = k.buffer(0), result = k.buffer(1);
  int64_t tokensPerTile = getTiling(op, k.tokenClass()).tokensPerTile;
  Index first = k.tile() * tokensPerTile;
  Index end = min(first + tokensPerTile, k.numTokens());

  // f64 lanes of a register.
  int64_t lanes = k.lanes() / 2;
  VectorType type = k.vec(k.f64(), lanes);
  Value circle = k.constant(type, 6.283185307179586477);
  Value scale = k.constant(type, table.getScale().convertToDouble());
  k.forLoop(k.index(0), k.index(half), lanes, [&](Index i) {
    Value turnsPerPosition =
        k.div(k.loadVector(invFreq, i, lanes, 8 * lanes), circle);
    k.forLoop(first, end, 1, [&](Index t) {
      Value position = k.intToFloat(k.toI64(k.position() + t), k.f64());
      SinCos v = emitSinCosOfTurns(
          k, k.mul(k.splat(position, lanes), turnsPerPosition));
      Index row = t * (2 * half) + i;
      auto put = [&](Value value, Index at) {
        k.store(k.truncate(k.mul(value, scale), k.f32()), result, at,
                4 * lanes);
      };
      put(v.cos, row);
      put(v.sin, row + half);
    });
  });
  return success();
}

void emitRotation(KernelBuilder &k, Buffer x, Index head, Buffer table,
                  Index tableRow, int64_t size, bool interleaved,
                  function_ref<void(Index, Value)> put) {
  int64_t half = size / 2, lanes = k.lanes();
  SmallVector<int64_t> even, odd;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    even.push_back(2 * lane);
    odd.push_back(2 * lane + 1);
  }
  k.forLoop(k.index(0), k.index(half), k.lanes(), [&](Index i) {
    Value first, second;
    if (interleaved) {
      Value low = k.loadVector(x, head + i * 2);
      Value high = k.loadVector(x, head + i * 2 + lanes);
      first =
          vector::ShuffleOp::create(k.builder(), k.location(), low, high, even);
      second =
          vector::ShuffleOp::create(k.builder(), k.location(), low, high, odd);
    } else {
      first = k.loadVector(x, head + i);
      second = k.loadVector(x, head + i + half);
    }
    Value cos = k.loadVector(table, tableRow + i);
    Value sin = k.loadVector(table, tableRow + i + half);
    put(i, k.fma(k.neg(second), sin, k.mul(first, cos)));
    put(i + half, k.fma(first, sin, k.mul(second, cos)));
  });
}

namespace {

struct RopeCacheEmitter {
  KernelBuilder &k;
  Buffer qkv, table;
  CacheAccess keys, values;
  Buffer result, scratch; ///< scratch holds a head's rotated keys
  int64_t numHeads, kvHeads, size, qkvStride, qStride;

  void emitToken(Index t);
};

void RopeCacheEmitter::emitToken(Index t) {
  int64_t bytes = 4 * k.lanes();
  Index tableRow = t * size;
  Index row = t * qkvStride;
  Index queries = t * qStride;
  k.forLoop(k.index(0), k.index(numHeads), 1, [&](Index h) {
    emitRotation(k, qkv, row + h * size, table, tableRow, size,
                 /*interleaved=*/false, [&](Index i, Value v) {
                   k.store(v, result, queries + h * size + i, bytes);
                 });
  });
  // The row's padding, which the next launch may read.
  k.forLoop(k.index(numHeads * size), k.index(qStride), k.lanes(),
            [&](Index i) {
              k.store(k.zero(k.vecF32()), result, queries + i, bytes);
            });

  Index position = k.position() + t;
  Index slot = position % kernel::kCacheBlock;
  k.forLoop(k.index(0), k.index(kvHeads), 1, [&](Index h) {
    emitRotation(k, qkv, row + (h + numHeads) * size, table, tableRow, size,
                 /*interleaved=*/false,
                 [&](Index i, Value v) { k.store(v, scratch, i, bytes); });
    keys.storeHead(scratch, k.index(0), keys.block(position, h), slot);
    values.storeHead(qkv, row + (h + (numHeads + kvHeads)) * size,
                     values.block(position, h), slot);
  });
}

} // namespace

LogicalResult emitRopeCache(KernelBuilder &k, Operation *op) {
  auto rope = cast<kernel::RopeCacheOp>(op);
  kernel::CacheType cache = rope.getKeys().getType();
  RopeCacheEmitter emitter{
      .k = k,
      .qkv = k.buffer(0),
      .table = k.buffer(1),
      .keys = {k, cache, k.buffer(2)},
      .values = {k, rope.getValues().getType(), k.buffer(3)},
      .result = k.buffer(4),
      .scratch = k.view(k.scratch(), k.index(0), k.f32()),
      .numHeads = static_cast<int64_t>(rope.getNumHeads()),
      .kvHeads = cache.getNumHeads(),
      .size = cache.getHeadSize(),
      .qkvStride = kernel::strideOf(rope.getQkv()),
      .qStride = kernel::strideOf(rope.getQ())};
  int64_t tokensPerTile = getTiling(op, k.tokenClass()).tokensPerTile;
  Index first = k.tile() * tokensPerTile;
  Index end = min(first + tokensPerTile, k.numTokens());
  k.forLoop(first, end, 1, [&](Index t) { emitter.emitToken(t); });
  return success();
}

} // namespace retort
