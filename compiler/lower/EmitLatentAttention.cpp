//===- EmitLatentAttention.cpp - Multi-head latent attention --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The absorbed form: all heads of a token attend to one row of latent and
/// shared key per position, so a tile is a small matrix product with heads in
/// the lanes.
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/CacheAccess.h"
#include "compiler/lower/Emitters.h"
#include "compiler/lower/LinearKernel.h"
#include "compiler/lower/NormKernel.h"
#include "compiler/lower/RopeKernel.h"
#include "compiler/lower/VectorMath.h"

#include <limits>

using namespace mlir;

namespace retort {

using namespace kernel;

LogicalResult emitHeadLinear(KernelBuilder &k, Operation *op) {
  auto launch = cast<HeadLinearOp>(op);
  HeadLinearTiling tiling(launch, k.tokenClass());
  LinearEpilogue epilogue{.result =
                              RowSink(k, launch.getResult(), k.buffer(2))};
  LinearKernel linear(k, launch.getWeight(), k.buffer(0),
                      strideOf(launch.getX()), k.buffer(1), tiling.linear);
  linear.quantizeInputs();
  Index head = k.tile() / tiling.linear.tiles;
  int64_t headBytes =
      tiling.linear.units * linear.encoding.stripBytes(linear.cols);
  int64_t xHead = launch.getXHead(), resultHead = launch.getResultHead();
  LinearJob job{.weightBase = head * headBytes,
                .tile = k.tile() % tiling.linear.tiles,
                .xBase = head * xHead,
                .rows = k.numTokens(),
                .xRow = nullptr,
                .finish = [&](Index unit, Index row, Buffer sums, Index at,
                              int64_t stripStride) {
                  epilogue.emit(k, linear.tiling, unit,
                                row * epilogue.result.stride() +
                                    head * resultHead,
                                sums, at, stripStride);
                }};
  emitLinearJob(linear, job);
  return success();
}

LogicalResult emitLatentCache(KernelBuilder &k, Operation *op) {
  auto launch = cast<LatentCacheOp>(op);
  Buffer kv = k.buffer(0), table = k.buffer(2);
  CacheType type = launch.getCache().getType();
  CacheAccess cache(k, type, k.buffer(3));
  // What isn't kept as it is goes through scratch.
  bool isPlain = type.getElement() == CacheElement::F32;
  Buffer row = isPlain ? k.buffer(3) : k.view(k.scratch(), k.index(0), k.f32());
  int64_t rank =
      cast<RankedTensorType>(launch.getNorm().getType()).getDimSize(0);
  int64_t rope = strideOf(launch.getTable());
  int64_t size = launch.getCache().getType().getHeadSize();
  int64_t latent = size - rope;
  NormKernel norm{.k = k,
                  .x = kv,
                  .weight = k.buffer(1),
                  .result = row,
                  .width = rank,
                  .stride = latent,
                  .eps = launch.getEps().convertToDouble()};
  int64_t tokensPerTile = getTiling(op, k.tokenClass()).tokensPerTile;
  Index first = k.tile() * tokensPerTile;
  Index end = min(first + tokensPerTile, k.numTokens());
  k.forLoop(first, end, 1, [&](Index t) {
    Index from =
        t * strideOf(launch.getKv()) + static_cast<int64_t>(launch.getOffset());
    Index position = k.position() + t;
    Index to = isPlain ? position * size : k.index(0);
    norm.normalize(from, to);
    emitRotation(k, kv, from + latent, table, t * rope, rope,
                 launch.getInterleaved(), [&](Index i, Value v) {
                   k.store(v, row, to + i + latent, 4 * k.lanes());
                 });
    if (!isPlain)
      cache.storeRow(row, to, position);
  });
  return success();
}

namespace {

using Values = KernelBuilder::Values;

class LatentAttention {
public:
  LatentAttention(KernelBuilder &k, LatentAttentionOp op);
  void emit();

private:
  static constexpr int64_t kHeads = LatentAttentionTiling::kHeads;

  /// Registers that hold a value of each head.
  int64_t vectors() const { return kHeads / lanes; }
  void loadQueries();
  /// Where the rows of the block's positions are as f32, in `rows`.
  Index blockRows(Index block) {
    return decodes ? k.index(tiling.decoded) : block * tiling.size;
  }
  void decode(Index block, Index valid);
  /// Stores `value`, whose lanes are dimensions, as a column of the queries.
  void transpose(Value value, Index dimension, Index head);
  void clear(Index from, Index to);
  void scores(Index block, Index valid);
  void addScores(Index p, Index row, Index first, Index last,
                 int64_t positions);
  void softmax(Index valid);
  void addLatents(Index block, Index valid);
  void storeResults();

  KernelBuilder &k;
  LatentAttentionTiling tiling;
  int64_t lanes, bytes;
  int64_t numHeads, rope, absorbedStride, qStride, qHead, qRope, resultHead;
  double scale;
  bool interleaved, decodes;
  Buffer absorbed, q, table;
  CacheAccess cache;
  Buffer scratch;
  Buffer rows; ///< of the cache in f32
  RowSink result;
  Index token, firstHead, heads, end;
};

LatentAttention::LatentAttention(KernelBuilder &k, LatentAttentionOp op)
    : k(k), tiling(op), lanes(k.lanes()), bytes(4 * k.lanes()),
      numHeads(op.getNumHeads()), rope(strideOf(op.getTable())),
      absorbedStride(strideOf(op.getAbsorbed())), qStride(strideOf(op.getQ())),
      qHead(op.getQHead()), qRope(op.getQRope()),
      resultHead(op.getResultHead()), scale(op.getScale().convertToDouble()),
      interleaved(op.getInterleaved()),
      decodes(op.getCache().getType().getElement() != CacheElement::F32),
      absorbed(k.buffer(0)), q(k.buffer(1)), table(k.buffer(2)),
      cache(k, op.getCache().getType(), k.buffer(3)),
      scratch(k.view(k.scratch(), k.index(0), k.f32())),
      rows(decodes ? scratch : cache.memory()),
      result(k, op.getResult(), k.buffer(4)), token(k.tile() / tiling.tiles),
      firstHead(k.tile() % tiling.tiles * kHeads),
      heads(min(k.index(numHeads) - firstHead, kHeads)),
      end(k.position() + token + 1) {}

void LatentAttention::clear(Index from, Index to) {
  k.forLoop(from, to, lanes,
            [&](Index i) { k.store(k.zero(k.vecF32()), scratch, i, bytes); });
}

void LatentAttention::transpose(Value value, Index dimension, Index head) {
  Index to = dimension * kHeads + head + tiling.queries;
  for (int64_t lane = 0; lane < lanes; ++lane)
    k.store(k.extract(value, lane), scratch, to + lane * kHeads);
}

void LatentAttention::loadQueries() {
  // exp(x) = exp2(x log2 e)
  constexpr double kLog2E = 1.44269504088896340736;
  Value factor = k.constant(k.vecF32(), scale * kLog2E);
  k.ifThen(heads < kHeads,
           [&] { clear(k.index(tiling.queries), k.index(tiling.shares)); });
  k.forLoop(k.index(0), heads, 1, [&](Index h) {
    Index from = token * absorbedStride + (firstHead + h) * tiling.rank;
    k.forLoop(k.index(0), k.index(tiling.rank), lanes, [&](Index i) {
      transpose(k.mul(k.loadVector(absorbed, from + i), factor), i, h);
    });
    Index rotary = token * qStride + (firstHead + h) * qHead + qRope;
    emitRotation(k, q, rotary, table, token * rope, rope, interleaved,
                 [&](Index i, Value v) {
                   transpose(k.mul(v, factor), i + tiling.rank, h);
                 });
  });
}

/// The heads of the tile share the work. `scores` reads some positions more
/// than are valid.
void LatentAttention::decode(Index block, Index valid) {
  k.forLoop(k.index(0), roundUp(valid, 8), 1, [&](Index p) {
    cache.decodeRow(block + p, scratch, p * tiling.size + tiling.decoded);
  });
}

/// shares[p][h] = query[h] . cache[block + p], a chunk of dimensions after the
/// other, so that those of the queries stay in the first-level cache for all
/// positions.
void LatentAttention::scores(Index block, Index valid) {
  constexpr int64_t kChunk = 192;
  // Eight chains hide the latency of the FMAs.
  int64_t positions = std::max<int64_t>(4, 8 / vectors());
  Index rounded = roundUp(valid, positions);
  clear(k.index(tiling.shares), rounded * kHeads + tiling.shares);
  k.forLoop(k.index(0), k.index(tiling.size), kChunk, [&](Index first) {
    Index last = min(first + kChunk, tiling.size);
    k.forLoop(k.index(0), rounded, positions, [&](Index p) {
      addScores(p, blockRows(block) + p * tiling.size, first, last, positions);
    });
  });
}

/// Of `positions` positions from `p` on, whose rows begin at `row`.
void LatentAttention::addScores(Index p, Index row, Index first, Index last,
                                int64_t positions) {
  auto sumAt = [&](int64_t i) {
    return p * kHeads +
           (tiling.shares + i / vectors() * kHeads + i % vectors() * lanes);
  };
  Values sums;
  for (int64_t i = 0; i < positions * vectors(); ++i)
    sums.push_back(k.loadVector(scratch, sumAt(i)));
  constexpr int64_t kUnroll = 2;
  sums =
      k.forLoop(first, last, kUnroll, sums, [&](Index i, ValueRange carried) {
        Values next(carried.begin(), carried.end());
        for (int64_t u = 0; u < kUnroll; ++u) {
          Values query;
          for (int64_t v = 0; v < vectors(); ++v)
            query.push_back(k.loadVector(
                scratch,
                i * kHeads + (tiling.queries + u * kHeads + v * lanes)));
          for (int64_t j = 0; j < positions; ++j) {
            Value c = k.loadSplat(rows, row + i + (j * tiling.size + u));
            for (int64_t v = 0; v < vectors(); ++v) {
              Value &sum = next[j * vectors() + v];
              sum = k.fma(query[v], c, sum);
            }
          }
        }
        return next;
      });
  for (int64_t i = 0; i < positions * vectors(); ++i)
    k.store(sums[i], scratch, sumAt(i), bytes);
}

/// Turns the scores of a block into shares of the running sum, and rescales
/// what was summed so far to the new maxima.
void LatentAttention::softmax(Index valid) {
  for (int64_t v = 0; v < vectors(); ++v) {
    Index maxAt = k.index(tiling.maxima + v * lanes);
    Index sumAt = k.index(tiling.sums + v * lanes);
    auto shareAt = [&](Index p) {
      return p * kHeads + (tiling.shares + v * lanes);
    };
    Value before = k.loadVector(scratch, maxAt);
    Value maximum = k.forLoop(
        k.index(0), valid, 1, {before}, [&](Index p, ValueRange carried) {
          return Values{k.max(carried[0], k.loadVector(scratch, shareAt(p)))};
        })[0];
    k.store(maximum, scratch, maxAt, bytes);
    Value shrink = emitExp2(k, k.sub(before, maximum));
    Value sum = k.mul(k.loadVector(scratch, sumAt), shrink);
    sum = k.forLoop(
        k.index(0), valid, 1, {sum}, [&](Index p, ValueRange carried) {
          Value share =
              emitExp2(k, k.sub(k.loadVector(scratch, shareAt(p)), maximum));
          k.store(share, scratch, shareAt(p), bytes);
          return Values{k.add(carried[0], share)};
        })[0];
    k.store(sum, scratch, sumAt, bytes);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      Value factor = k.splat(k.extract(shrink, lane));
      Index row = k.index(tiling.results + (v * lanes + lane) * tiling.rank);
      k.forLoop(row, row + tiling.rank, lanes, [&](Index i) {
        k.store(k.mul(k.loadVector(scratch, i), factor), scratch, i, bytes);
      });
    }
  }
}

/// results[h] += shares[p][h] * cache[block + p]
void LatentAttention::addLatents(Index block, Index valid) {
  constexpr int64_t kTileHeads = 4;
  int64_t tileVectors = 8 / kTileHeads;
  while (tiling.rank % (tileVectors * lanes))
    tileVectors /= 2;
  auto addTile = [&](Index i, Index h) {
    Index to = h * tiling.rank + i + tiling.results;
    auto sumAt = [&](int64_t n) {
      return to + (n / tileVectors * tiling.rank + n % tileVectors * lanes);
    };
    Values sums;
    for (int64_t n = 0; n < kTileHeads * tileVectors; ++n)
      sums.push_back(k.loadVector(scratch, sumAt(n)));
    sums =
        k.forLoop(k.index(0), valid, 1, sums, [&](Index p, ValueRange carried) {
          Values next(carried.begin(), carried.end());
          Index row = blockRows(block) + p * tiling.size + i;
          Values latent;
          for (int64_t v = 0; v < tileVectors; ++v)
            latent.push_back(k.loadVector(rows, row + v * lanes));
          for (int64_t r = 0; r < kTileHeads; ++r) {
            Value share =
                k.loadSplat(scratch, p * kHeads + h + (tiling.shares + r));
            for (int64_t v = 0; v < tileVectors; ++v) {
              Value &sum = next[r * tileVectors + v];
              sum = k.fma(share, latent[v], sum);
            }
          }
          return next;
        });
    for (int64_t n = 0; n < kTileHeads * tileVectors; ++n)
      k.store(sums[n], scratch, sumAt(n), bytes);
  };
  // All heads for some dimensions, whose latents stay in the first-level cache.
  k.forLoop(k.index(0), k.index(tiling.rank), tileVectors * lanes,
            [&](Index i) {
              k.forLoop(k.index(0), roundUp(heads, kTileHeads), kTileHeads,
                        [&](Index h) { addTile(i, h); });
            });
}

void LatentAttention::storeResults() {
  Value one = k.constant(k.f32(), 1.0);
  k.forLoop(k.index(0), heads, 1, [&](Index h) {
    Value sum = k.load(scratch, h + tiling.sums);
    Value inverse = k.splat(k.div(one, sum));
    Index from = h * tiling.rank + tiling.results;
    Index to = token * result.stride() + (firstHead + h) * resultHead;
    result.copy(scratch, from, tiling.rank, to,
                [&](Value v) { return k.mul(v, inverse); });
    result.clear(to + tiling.rank, resultHead - tiling.rank);
  });
}

void LatentAttention::emit() {
  loadQueries();
  clear(k.index(tiling.sums), k.index(tiling.maxima));
  clear(k.index(tiling.results), k.index(tiling.end));
  Value lowest =
      k.constant(k.vecF32(), -std::numeric_limits<double>::infinity());
  for (int64_t v = 0; v < vectors(); ++v)
    k.store(lowest, scratch, k.index(tiling.maxima + v * lanes), bytes);
  k.forLoop(k.index(0), end, kAttentionBlock, [&](Index block) {
    Index valid = min(end - block, kAttentionBlock);
    if (decodes)
      decode(block, valid);
    scores(block, valid);
    softmax(valid);
    addLatents(block, valid);
  });
  storeResults();
}

} // namespace

LogicalResult emitLatentAttention(KernelBuilder &k, Operation *op) {
  LatentAttention(k, cast<LatentAttentionOp>(op)).emit();
  return success();
}

} // namespace retort
