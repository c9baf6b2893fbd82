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
  static constexpr int64_t kBlock = LatentAttentionTiling::kBlock;

  /// Registers that hold a value of each head.
  int64_t vectors() const { return kHeads / lanes; }
  /// Calls `body` for each token of the tile, with `scratch`, `token` and `end`
  /// its own.
  void forTokens(function_ref<void()> body);
  void loadQueries();
  /// Where the rows of the block's positions are as f32, in `rows`.
  Index blockRows(Index block) {
    return decodes ? k.index(0) : block * tiling.size;
  }
  void decode(Index block, Index valid);
  /// Stores dimensions `first` to `last` of the queries with heads in lanes;
  /// `load(head, i)` gives those from first + i on of one head.
  void storeQueries(int64_t first, int64_t last,
                    function_ref<Value(Index, Index)> load);
  void clear(Index from, Index to);
  void scores(Index block, Index valid);
  void addScores(Index block, Index p, Index first, Index last,
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
  Buffer rows; ///< of the cache in f32
  RowSink result;
  Index firstHead, heads, firstToken, numTokens;
  // Of the token at hand:
  Buffer scratch;
  Index token, end; ///< `end`: of the positions that it attends to
};

LatentAttention::LatentAttention(KernelBuilder &k, LatentAttentionOp op)
    : k(k), tiling(op, k.tokenClass()), lanes(k.lanes()), bytes(4 * k.lanes()),
      numHeads(op.getNumHeads()), rope(strideOf(op.getTable())),
      absorbedStride(strideOf(op.getAbsorbed())), qStride(strideOf(op.getQ())),
      qHead(op.getQHead()), qRope(op.getQRope()),
      resultHead(op.getResultHead()), scale(op.getScale().convertToDouble()),
      interleaved(op.getInterleaved()),
      decodes(op.getCache().getType().getElement() != CacheElement::F32),
      absorbed(k.buffer(0)), q(k.buffer(1)), table(k.buffer(2)),
      cache(k, op.getCache().getType(), k.buffer(3)),
      rows(decodes ? k.view(k.scratch(), k.index(4 * tiling.decoded), k.f32())
                   : cache.memory()),
      result(k, op.getResult(), k.buffer(4)),
      firstHead(k.tile() % tiling.tiles * kHeads),
      heads(min(k.index(numHeads) - firstHead, kHeads)),
      firstToken(k.tile() / tiling.tiles * tiling.tokens),
      numTokens(min(k.numTokens() - firstToken, tiling.tokens)),
      token(firstToken), end(firstToken) {}

void LatentAttention::forTokens(function_ref<void()> body) {
  k.forLoop(k.index(0), numTokens, 1, [&](Index t) {
    scratch = k.view(k.scratch(), t * (4 * tiling.token), k.f32());
    token = firstToken + t;
    end = k.position() + token + 1;
    body();
  });
}

void LatentAttention::clear(Index from, Index to) {
  k.forLoop(from, to, lanes,
            [&](Index i) { k.store(k.zero(k.vecF32()), scratch, i, bytes); });
}

void LatentAttention::storeQueries(int64_t first, int64_t last,
                                   function_ref<Value(Index, Index)> load) {
  // exp(x) = exp2(x log2 e)
  constexpr double kLog2E = 1.44269504088896340736;
  Value factor = k.constant(k.vecF32(), scale * kLog2E);
  k.forLoop(k.index(0), k.index(last - first), lanes, [&](Index i) {
    k.forLoop(k.index(0), k.index(kHeads), lanes, [&](Index h) {
      Values rows;
      for (int64_t lane = 0; lane < lanes; ++lane)
        // Behind the last head it stands in: what comes of it is not stored.
        rows.push_back(load(min(h + lane, heads - 1), i));
      k.transpose(rows);
      for (int64_t lane = 0; lane < lanes; ++lane)
        k.store(k.mul(rows[lane], factor), scratch,
                (i + (first + lane)) * kHeads + h + tiling.queries, bytes);
    });
  });
}

void LatentAttention::loadQueries() {
  storeQueries(0, tiling.rank, [&](Index h, Index i) {
    Index from = token * absorbedStride + (firstHead + h) * tiling.rank;
    return k.loadVector(absorbed, from + i);
  });
  k.forLoop(k.index(0), heads, 1, [&](Index h) {
    Index rotary = token * qStride + (firstHead + h) * qHead + qRope;
    emitRotation(k, q, rotary, table, token * rope, rope, interleaved,
                 [&](Index i, Value v) {
                   k.store(v, scratch, h * rope + i + tiling.results, bytes);
                 });
  });
  storeQueries(tiling.rank, tiling.size, [&](Index h, Index i) {
    return k.loadVector(scratch, h * rope + i + tiling.results);
  });
}

/// The heads of the tile share the work.
void LatentAttention::decode(Index block, Index valid) {
  k.forLoop(k.index(0), valid, 1, [&](Index p) {
    cache.decodeRow(block + p, rows, p * tiling.size);
  });
}

/// shares[p][h] = query[h] . cache[block + p], a chunk of dimensions after the
/// other, so that those of the queries stay in the first-level cache for all
/// positions.
void LatentAttention::scores(Index block, Index valid) {
  constexpr int64_t kChunk = 192;
  // Twelve chains hide the latency of the FMAs.
  int64_t positions = std::max<int64_t>(1, 12 / vectors());
  Index whole = valid / positions * positions;
  // The last may read a position that isn't valid; its scores are not used.
  constexpr int64_t kTail = 2;
  clear(k.index(tiling.shares), roundUp(valid, kTail) * kHeads + tiling.shares);
  k.forLoop(k.index(0), k.index(tiling.size), kChunk, [&](Index first) {
    Index last = min(first + kChunk, tiling.size);
    k.forLoop(k.index(0), whole, positions,
              [&](Index p) { addScores(block, p, first, last, positions); });
    k.forLoop(whole, valid, kTail,
              [&](Index p) { addScores(block, p, first, last, kTail); });
  });
}

/// Of `positions` positions from `p` on.
void LatentAttention::addScores(Index block, Index p, Index first, Index last,
                                int64_t positions) {
  Index row = blockRows(block) + p * tiling.size;
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
  int64_t tileVectors = 2;
  while (tiling.rank % (tileVectors * lanes))
    tileVectors /= 2;
  // Twelve chains, as above.
  int64_t tileHeads = 12 / tileVectors;
  auto addTile = [&](Index i, Index h, int64_t tileHeads, bool isFirst) {
    Index to = h * tiling.rank + i + tiling.results;
    auto sumAt = [&](int64_t n) {
      return to + (n / tileVectors * tiling.rank + n % tileVectors * lanes);
    };
    Values sums;
    for (int64_t n = 0; n < tileHeads * tileVectors; ++n)
      sums.push_back(k.loadVector(scratch, sumAt(n)));
    sums =
        k.forLoop(k.index(0), valid, 1, sums, [&](Index p, ValueRange carried) {
          Values next(carried.begin(), carried.end());
          Index row = blockRows(block) + p * tiling.size + i;
          Values latent;
          if (isFirst)
            k.prefetch(rows, row + tileVectors * lanes);
          for (int64_t v = 0; v < tileVectors; ++v)
            latent.push_back(k.loadVector(rows, row + v * lanes));
          for (int64_t r = 0; r < tileHeads; ++r) {
            Value share =
                k.loadSplat(scratch, p * kHeads + h + (tiling.shares + r));
            for (int64_t v = 0; v < tileVectors; ++v) {
              Value &sum = next[r * tileVectors + v];
              sum = k.fma(share, latent[v], sum);
            }
          }
          return next;
        });
    for (int64_t n = 0; n < tileHeads * tileVectors; ++n)
      k.store(sums[n], scratch, sumAt(n), bytes);
  };
  // All heads for some dimensions, whose latents stay in the first-level cache.
  k.forLoop(
      k.index(0), k.index(tiling.rank), tileVectors * lanes, [&](Index i) {
        for (int64_t h = 0; h < kHeads; h += tileHeads)
          k.ifThen(k.index(h) < heads, [&] {
            addTile(i, k.index(h), std::min(tileHeads, kHeads - h), h == 0);
          });
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
  Value lowest =
      k.constant(k.vecF32(), -std::numeric_limits<double>::infinity());
  forTokens([&] {
    loadQueries();
    clear(k.index(tiling.sums), k.index(tiling.maxima));
    clear(k.index(tiling.results), k.index(tiling.token));
    for (int64_t v = 0; v < vectors(); ++v)
      k.store(lowest, scratch, k.index(tiling.maxima + v * lanes), bytes);
  });
  Index last = k.position() + firstToken + numTokens;
  k.forLoop(k.index(0), last, kBlock, [&](Index block) {
    if (decodes)
      decode(block, min(last - block, kBlock));
    forTokens([&] {
      // The block may hold positions of later tokens alone.
      k.ifThen(block < end, [&] {
        Index valid = min(end - block, kBlock);
        scores(block, valid);
        softmax(valid);
        addLatents(block, valid);
      });
    });
  });
  forTokens([&] { storeResults(); });
}

} // namespace

LogicalResult emitLatentAttention(KernelBuilder &k, Operation *op) {
  LatentAttention(k, cast<LatentAttentionOp>(op)).emit();
  return success();
}

} // namespace retort
