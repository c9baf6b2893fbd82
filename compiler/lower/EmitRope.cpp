//===- EmitRope.cpp - Rotary embedding and the cache write ----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

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

RopeCacheKernel::RopeCacheKernel(KernelBuilder &k, kernel::RopeCacheOp op,
                                 Buffer table, Buffer keys, Buffer values,
                                 Buffer result, Buffer scratch)
    : k(k), table(table), result(result), scratch(scratch),
      keys(k, op.getKeys().getType(), keys),
      values(k, op.getValues().getType(), values),
      numHeads(static_cast<int64_t>(op.getNumHeads())),
      kvHeads(op.getKeys().getType().getNumHeads()),
      size(op.getKeys().getType().getHeadSize()),
      qStride(kernel::strideOf(op.getQ())) {}

void RopeCacheKernel::query(Index t, Index head, Buffer x, Index from) {
  Index to = t * qStride + head * size;
  emitRotation(
      k, x, from, table, t * size, size, /*interleaved=*/false,
      [&](Index i, Value v) { k.store(v, result, to + i, 4 * k.lanes()); });
}

void RopeCacheKernel::key(Index t, Index head, Buffer x, Index from) {
  emitRotation(
      k, x, from, table, t * size, size, /*interleaved=*/false,
      [&](Index i, Value v) { k.store(v, scratch, i, 4 * k.lanes()); });
  Index position = k.position() + t;
  keys.storeHead(scratch, k.index(0), keys.block(position, head),
                 position % kernel::kCacheBlock);
}

void RopeCacheKernel::value(Index t, Index head, Buffer x, Index from) {
  Index position = k.position() + t;
  values.storeHead(x, from, values.block(position, head),
                   position % kernel::kCacheBlock);
}

void RopeCacheKernel::clearPadding(Index t) {
  k.forLoop(
      k.index(numHeads * size), k.index(qStride), k.lanes(), [&](Index i) {
        k.store(k.zero(k.vecF32()), result, t * qStride + i, 4 * k.lanes());
      });
}

LogicalResult emitRopeCache(KernelBuilder &k, Operation *op) {
  auto rope = cast<kernel::RopeCacheOp>(op);
  RopeCacheKernel kernel(k, rope, k.buffer(1), k.buffer(2), k.buffer(3),
                         k.buffer(4), k.view(k.scratch(), k.index(0), k.f32()));
  Buffer qkv = k.buffer(0);
  int64_t stride = kernel::strideOf(rope.getQkv());
  int64_t tokensPerTile = getTiling(op, k.tokenClass()).tokensPerTile;
  Index first = k.tile() * tokensPerTile;
  Index end = min(first + tokensPerTile, k.numTokens());
  k.forLoop(first, end, 1, [&](Index t) {
    auto at = [&](Index head) { return t * stride + head * kernel.size; };
    k.forLoop(k.index(0), k.index(kernel.numHeads), 1,
              [&](Index h) { kernel.query(t, h, qkv, at(h)); });
    kernel.clearPadding(t);
    k.forLoop(k.index(0), k.index(kernel.kvHeads), 1, [&](Index h) {
      kernel.key(t, h, qkv, at(h + kernel.numHeads));
      kernel.value(t, h, qkv, at(h + (kernel.numHeads + kernel.kvHeads)));
    });
  });
  return success();
}

} // namespace retort
