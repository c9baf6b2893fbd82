//===- EmitAttention.cpp - Streaming grouped-query attention --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A tile is one key/value head with all query heads of its group, for some
/// tokens. Its rows are (token, query head) pairs, token by token. For each
/// block of positions up to the last one that a row sees:
///
/// 1. scores[row][position] = query . key, a matrix product over register tiles
///    of rows by keys;
/// 2. per row, the weights 2^(score - maximum so far), where the future is
/// masked;
///    the sums and results so far shrink when the maximum grows;
/// 3. results[row][dimension] += weights . values, a matrix product again.
///
/// Elements of f16 and bf16 become f32 as they are loaded with one token, and
/// block by block in scratch with many, as int8 does always.
///
/// With one token the memory would idle while the other matrix is multiplied:
/// the product with keys asks for the block's values as it goes, line by line,
/// and the product with values for the next block's keys.
///
/// At the end each row is divided by the sum of its weights. Softmax to base 2
/// gives what base e would, the queries being scaled by log2(e).
///
/// With partials a tile takes some of the blocks alone and leaves its results,
/// sums and maxima behind, all relative to its own maxima. Tiles count
/// themselves when they end, and the last of a head puts the parts together in
/// the order of their numbers: the bits depend neither on which is the last nor
/// on how many threads there are.
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/CacheAccess.h"
#include "compiler/lower/Emitters.h"
#include "compiler/lower/RowSink.h"
#include "compiler/lower/Tiling.h"
#include "compiler/lower/VectorMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

#include <limits>

using namespace mlir;

namespace retort {
namespace {

using Values = KernelBuilder::Values;

class AttentionEmitter {
public:
  AttentionEmitter(KernelBuilder &k, kernel::AttentionOp op);
  void emit();

private:
  void loadQueries();
  void initialize();
  void scoreKeys(Index block, Index valid);
  void maskRow(Index weightsOfRow, Index visible);
  void softmaxRow(Index row, Index visible);
  void softmax(Index block);
  void addValues(Index block, Index valid);
  void storeResults();
  void attend();

  /// Leaves what the tile has behind. True, an i1, if it was the last to do so:
  /// then scratch holds the whole result.
  Value joinParts(Index active);
  void combine(Index token, Index active);

  /// sums[row][v] += splat(row) * vector(v) for a register tile.
  void addProducts(MutableArrayRef<Value> sums, int64_t vectors,
                   function_ref<Value(int64_t)> splat,
                   function_ref<Value(int64_t)> vector);
  /// Vectors beside each other in a register tile of `tileRows` rows, at most
  /// `limit` and a divisor of it.
  int64_t vectorsPerTile(int64_t limit) const;
  /// With one token, asks for `elements` of a cache from `at` on, in lines.
  void prefetch(const CacheAccess &from, Index at, int64_t elements);
  /// Where the 16 positions are read from among which is the one `offset`
  /// positions after `block`: the cache or, if decoded, scratch.
  Index source(const CacheAccess &cache, Index block, Index offset) {
    if (tiling.decodes)
      return offset / kernel::kCacheBlock * (kernel::kCacheBlock * size) +
             tiling.decoded;
    return cache.block(block + offset, kvHead);
  }
  Value load(const CacheAccess &cache, Index at) {
    return tiling.decodes ? k.loadVector(scratch, at) : cache.load(at);
  }
  void decode(const CacheAccess &cache, Index block, Index valid);
  /// First element of a tile's record in the partials of a token.
  Index record(Index token, Index split) {
    return ((token * tiling.kvHeads + kvHead) * tiling.splits + split) *
               partials.recordSize() +
           partials.recordsOffset();
  }

  KernelBuilder &k;
  AttentionTiling tiling;
  int64_t size, qStride, numHeads;
  double scale;
  int64_t lanes, bytes;
  /// Rows of a register tile: as even a division of the rows as possible.
  int64_t tileRows;

  kernel::PartialsType partials; ///< null without
  Buffer q;
  CacheAccess keys, values;
  Buffer scratch;
  RowSink result;
  Index kvHead, split, firstToken, tokens, rows, rowTiles, end;
};

AttentionEmitter::AttentionEmitter(KernelBuilder &k, kernel::AttentionOp op)
    : k(k), tiling(op, k.tokenClass()),
      size(op.getKeys().getType().getHeadSize()),
      qStride(kernel::strideOf(op.getQ())),
      numHeads(static_cast<int64_t>(op.getNumHeads())),
      scale(op.getScale().convertToDouble()), lanes(k.lanes()),
      bytes(4 * k.lanes()),
      tileRows(ceilDiv(tiling.rows(),
                       ceilDiv(tiling.rows(), k.target().attentionRows))),
      partials(op.getPartials() ? op.getPartials().getType()
                                : kernel::PartialsType()),
      q(k.buffer(0)), keys(k, op.getKeys().getType(), k.buffer(1)),
      values(k, op.getValues().getType(), k.buffer(2)),
      scratch(k.view(k.scratch(), k.index(0), k.f32())),
      result(k, op.getResult(), k.buffer(partials ? 4 : 3)),
      kvHead(k.tile() % tiling.kvHeads),
      split(k.tile() / tiling.kvHeads % tiling.splits),
      firstToken(k.tile() / tiling.tiles * tiling.tokensPerTile),
      tokens(min(k.numTokens() - firstToken, tiling.tokensPerTile)),
      rows(tokens * tiling.group), rowTiles(ceilDiv(rows, tileRows)),
      end(k.position() + firstToken + tokens) {}

int64_t AttentionEmitter::vectorsPerTile(int64_t limit) const {
  auto registers = [&](int64_t vectors) {
    return tileRows * vectors + std::min(tileRows, vectors) + 1;
  };
  int64_t vectors = 1;
  while (limit % (2 * vectors) == 0 &&
         registers(2 * vectors) <= k.target().registers)
    vectors *= 2;
  return vectors;
}

void AttentionEmitter::addProducts(MutableArrayRef<Value> sums, int64_t vectors,
                                   function_ref<Value(int64_t)> splat,
                                   function_ref<Value(int64_t)> vector) {
  Values loaded;
  for (int64_t v = 0; v < vectors; ++v)
    loaded.push_back(vector(v));
  for (int64_t r = 0; r < tileRows; ++r) {
    Value factor = splat(r);
    for (int64_t v = 0; v < vectors; ++v) {
      Value &sum = sums[r * vectors + v];
      sum = k.fma(factor, loaded[v], sum);
    }
  }
}

// Into the second-level cache: the first does not hold a block of both.
void AttentionEmitter::prefetch(const CacheAccess &from, Index at,
                                int64_t elements) {
  if (k.tokenClass() != kernel::TokenClass::One || tiling.decodes)
    return;
  for (int64_t i = 0; i < elements; i += from.lineElements())
    memref::PrefetchOp::create(k.builder(), k.location(), from.memory().memref,
                               (at + i).value(), /*isWrite=*/false,
                               /*localityHint=*/2, /*isDataCache=*/true);
}

void AttentionEmitter::decode(const CacheAccess &cache, Index block,
                              Index valid) {
  k.forLoop(k.index(0), valid, kernel::kCacheBlock, [&](Index p) {
    cache.decodeBlock(cache.block(block + p, kvHead), scratch,
                      p * size + tiling.decoded);
  });
}

/// The rows of a token are next to each other in the activation as well.
void AttentionEmitter::loadQueries() {
  constexpr double kLog2E = 1.44269504088896340736;
  Value factor = k.constant(k.vecF32(), scale * kLog2E);
  int64_t width = tiling.group * size;
  k.forLoop(k.index(0), tokens, 1, [&](Index t) {
    Index from = (firstToken + t) * qStride + kvHead * width;
    Index to = t * width + tiling.queries;
    k.forLoop(k.index(0), k.index(width), lanes, [&](Index i) {
      k.store(k.mul(k.loadVector(q, from + i), factor), scratch, to + i, bytes);
    });
  });
}

void AttentionEmitter::initialize() {
  Value zero = k.zero(k.vecF32());
  Index padded = rowTiles * tileRows;
  auto clear = [&](Index from, Index to) {
    k.forLoop(from, to, lanes,
              [&](Index i) { k.store(zero, scratch, i, bytes); });
  };
  clear(rows * size + tiling.queries, padded * size + tiling.queries);
  clear(k.index(tiling.results), padded * size + tiling.results);
  Value lowest = k.constant(k.f32(), -std::numeric_limits<double>::infinity());
  k.forLoop(k.index(0), rows, 1, [&](Index r) {
    k.store(zero, scratch, r * 16 + tiling.sums, bytes);
    k.store(lowest, scratch, r + tiling.maxima);
  });
}

void AttentionEmitter::scoreKeys(Index block, Index valid) {
  constexpr int64_t kUnroll = 4;
  int64_t vectors = vectorsPerTile(kAttentionBlock / lanes);
  int64_t step = vectors * lanes;
  k.forLoop(k.index(0), roundUp(valid, step), step, [&](Index p) {
    SmallVector<Index> from;
    for (int64_t v = 0; v < vectors; ++v)
      from.push_back(source(keys, block, p + v * lanes) +
                     v * lanes % kernel::kCacheBlock);
    k.forLoop(k.index(0), rowTiles, 1, [&](Index tile) {
      Index row = tile * tileRows;
      Index query = row * size + tiling.queries;
      Values sums(tileRows * vectors, k.zero(k.vecF32()));
      sums = k.forLoop(
          k.index(0), k.index(size), kUnroll, sums,
          [&](Index i, ValueRange carried) {
            Values next(carried.begin(), carried.end());
            for (int64_t v = 0; v < vectors; v += kernel::kCacheBlock / lanes)
              prefetch(values, from[v] + i * kernel::kCacheBlock,
                       kUnroll * kernel::kCacheBlock);
            for (int64_t u = 0; u < kUnroll; ++u)
              addProducts(
                  next, vectors,
                  [&](int64_t r) {
                    return k.loadSplat(scratch, query + i + (r * size + u));
                  },
                  [&](int64_t v) {
                    return load(keys, from[v] + i * kernel::kCacheBlock +
                                          u * kernel::kCacheBlock);
                  });
            return next;
          });
      Index to = row * kAttentionBlock + p + tiling.weights;
      for (int64_t r = 0; r < tileRows; ++r)
        for (int64_t v = 0; v < vectors; ++v)
          k.store(sums[r * vectors + v], scratch,
                  to + (r * kAttentionBlock + v * lanes), bytes);
    });
  });
}

/// Also overwrites what `scoreKeys` did not write, beyond the last position.
void AttentionEmitter::maskRow(Index at, Index visible) {
  SmallVector<int32_t> numbers(lanes);
  Value limit = arith::IndexCastOp::create(k.builder(), k.location(), k.i32(),
                                           visible.value());
  Value limits = k.splat(limit);
  Value lowest =
      k.constant(k.vecF32(), -std::numeric_limits<double>::infinity());
  for (int64_t i = 0; i < kAttentionBlock; i += lanes) {
    for (int64_t lane = 0; lane < lanes; ++lane)
      numbers[lane] = static_cast<int32_t>(i + lane);
    Value positions = arith::ConstantOp::create(
        k.builder(), k.location(),
        DenseElementsAttr::get(k.vecI32(), ArrayRef<int32_t>(numbers)));
    Value seen =
        arith::CmpIOp::create(k.builder(), k.location(),
                              arith::CmpIPredicate::slt, positions, limits);
    Value score = k.loadVector(scratch, at + i);
    k.store(k.select(seen, score, lowest), scratch, at + i, bytes);
  }
}

void AttentionEmitter::softmaxRow(Index row, Index visible) {
  Index at = row * kAttentionBlock + tiling.weights;
  k.ifThen(visible < kAttentionBlock, [&] { maskRow(at, visible); });

  Values scores;
  for (int64_t i = 0; i < kAttentionBlock; i += lanes)
    scores.push_back(k.loadVector(scratch, at + i));
  Values tree = scores;
  for (size_t n = tree.size() / 2; n; n /= 2)
    for (size_t i = 0; i < n; ++i)
      tree[i] = k.max(tree[i], tree[i + n]);
  Value before = k.load(scratch, row + tiling.maxima);
  Value maximum = k.max(before, k.reduceMax(tree[0]));

  Index sumAt = row * 16 + tiling.sums;
  Value grown = arith::CmpFOp::create(
      k.builder(), k.location(), arith::CmpFPredicate::OGT, maximum, before);
  k.ifThen(grown, [&] {
    k.store(maximum, scratch, row + tiling.maxima);
    Value shrink = k.splat(emitExp2(k, k.sub(before, maximum)));
    auto rescale = [&](Index i) {
      k.store(k.mul(k.loadVector(scratch, i), shrink), scratch, i, bytes);
    };
    rescale(sumAt);
    Index from = row * size + tiling.results;
    k.forLoop(from, from + size, lanes, rescale);
  });

  // In each lane a sum of its own: no reduction until the end.
  Value splat = k.splat(maximum);
  Values weights;
  for (auto [i, score] : llvm::enumerate(scores)) {
    weights.push_back(emitExp2(k, k.sub(score, splat)));
    k.store(weights.back(), scratch, at + static_cast<int64_t>(i) * lanes,
            bytes);
  }
  for (size_t n = weights.size() / 2; n; n /= 2)
    for (size_t i = 0; i < n; ++i)
      weights[i] = k.add(weights[i], weights[i + n]);
  k.store(k.add(k.loadVector(scratch, sumAt), weights[0]), scratch, sumAt,
          bytes);
}

void AttentionEmitter::softmax(Index block) {
  k.forLoop(k.index(0), tokens, 1, [&](Index t) {
    Index visibleEnd = k.position() + firstToken + t + 1;
    Index visible = visibleEnd - min(visibleEnd, block);
    k.forLoop(t * tiling.group, t * tiling.group + tiling.group, 1,
              [&](Index row) { softmaxRow(row, visible); });
  });
}

void AttentionEmitter::addValues(Index block, Index valid) {
  constexpr int64_t kUnroll = 4;
  int64_t vectors = vectorsPerTile(size / lanes);
  // Weights beyond `valid` are zero.
  Index cacheBlocks = ceilDiv(valid, kernel::kCacheBlock);
  Index lastBlock = (end - 1) / kAttentionBlock * kAttentionBlock;
  Index nextBlock = min(block + kAttentionBlock * tiling.splits, lastBlock);
  auto add = [&](Index d, Index tile) {
    Index row = tile * tileRows;
    Values sums(tileRows * vectors, k.zero(k.vecF32()));
    sums = k.forLoop(
        k.index(0), cacheBlocks, 1, sums, [&](Index c, ValueRange carried) {
          Index nextKeys =
              keys.block(nextBlock + c * kernel::kCacheBlock, kvHead) +
              d * kernel::kCacheBlock;
          Index value = source(values, block, c * kernel::kCacheBlock) + d;
          Index weight =
              row * kAttentionBlock + c * kernel::kCacheBlock + tiling.weights;
          return k.forLoop(
              k.index(0), k.index(kernel::kCacheBlock), kUnroll, carried,
              [&](Index j, ValueRange carried) {
                Values next(carried.begin(), carried.end());
                prefetch(keys, nextKeys + j * (vectors * lanes),
                         kUnroll * vectors * lanes);
                for (int64_t u = 0; u < kUnroll; ++u)
                  addProducts(
                      next, vectors,
                      [&](int64_t r) {
                        return k.loadSplat(
                            scratch, weight + j + (r * kAttentionBlock + u));
                      },
                      [&](int64_t v) {
                        return load(values,
                                    value + j * size + (u * size + v * lanes));
                      });
                return next;
              });
        });
    Index to = row * size + d + tiling.results;
    for (int64_t r = 0; r < tileRows; ++r)
      for (int64_t v = 0; v < vectors; ++v) {
        Index at = to + (r * size + v * lanes);
        k.store(k.add(k.loadVector(scratch, at), sums[r * vectors + v]),
                scratch, at, bytes);
      }
  };
  k.forLoop(k.index(0), k.index(size), vectors * lanes, [&](Index d) {
    k.forLoop(k.index(0), rowTiles, 1, [&](Index tile) { add(d, tile); });
  });
}

void AttentionEmitter::storeResults() {
  Value one = k.constant(k.f32(), 1.0);
  k.forLoop(k.index(0), tokens, 1, [&](Index t) {
    Index token = (firstToken + t) * result.stride();
    k.forLoop(k.index(0), k.index(tiling.group), 1, [&](Index g) {
      Index row = t * tiling.group + g;
      Value sum = k.reduceAdd(k.loadVector(scratch, row * 16 + tiling.sums));
      Value inverse = k.splat(k.div(one, sum));
      Index from = row * size + tiling.results;
      Index to = token + (kvHead * tiling.group + g) * size;
      result.copy(scratch, from, size, to,
                  [&](Value v) { return k.mul(v, inverse); });
    });
    int64_t width = numHeads * size;
    if (width < result.stride())
      k.ifThen(kvHead == 0,
               [&] { result.clear(token + width, result.stride() - width); });
  });
}

void AttentionEmitter::attend() {
  loadQueries();
  initialize();
  k.forLoop(split * kAttentionBlock, end, kAttentionBlock * tiling.splits,
            [&](Index block) {
              Index valid = min(end - block, kAttentionBlock);
              if (tiling.decodes)
                decode(keys, block, valid);
              scoreKeys(block, valid);
              softmax(block);
              if (tiling.decodes)
                decode(values, block, valid);
              addValues(block, valid);
            });
}

void AttentionEmitter::combine(Index token, Index active) {
  Buffer parts = k.view(k.buffer(3), k.index(0), k.f32());
  Value lowest = k.constant(k.f32(), -std::numeric_limits<double>::infinity());
  auto maximumAt = [&](Index s, Index g) {
    return record(token, s) + partials.maximaOffset() + g;
  };
  k.forLoop(k.index(0), k.index(tiling.group), 1, [&](Index g) {
    Value maximum = k.forLoop(
        k.index(0), active, 1, {lowest}, [&](Index s, ValueRange carried) {
          return Values{k.max(carried[0], k.load(parts, maximumAt(s, g)))};
        })[0];
    Index weights = g * kAttentionBlock + tiling.weights;
    Value sum = k.forLoop(
        k.index(0), active, 1, {k.zero(k.f32())},
        [&](Index s, ValueRange carried) {
          Value weight =
              emitExp2(k, k.sub(k.load(parts, maximumAt(s, g)), maximum));
          k.store(weight, scratch, weights + s);
          Value part =
              k.load(parts, record(token, s) + partials.sumsOffset() + g);
          return Values{k.fma(weight, part, carried[0])};
        })[0];
    k.store(k.zero(k.vecF32()), scratch, g * 16 + tiling.sums, bytes);
    k.store(sum, scratch, g * 16 + tiling.sums);
    int64_t vectors = 8;
    while (size / lanes % vectors)
      --vectors;
    k.forLoop(k.index(0), k.index(size), vectors * lanes, [&](Index i) {
      Values sums(vectors, k.zero(k.vecF32()));
      sums = k.forLoop(
          k.index(0), active, 1, sums, [&](Index s, ValueRange carried) {
            Values next(carried.begin(), carried.end());
            Value weight = k.loadSplat(scratch, weights + s);
            for (int64_t v = 0; v < vectors; ++v)
              next[v] = k.fma(weight,
                              k.loadVector(parts, record(token, s) + g * size +
                                                      i + v * lanes),
                              next[v]);
            return next;
          });
      for (int64_t v = 0; v < vectors; ++v)
        k.store(sums[v], scratch, g * size + i + (tiling.results + v * lanes),
                bytes);
    });
  });
}

Value AttentionEmitter::joinParts(Index active) {
  Buffer parts = k.view(k.buffer(3), k.index(0), k.f32());
  Index token = firstToken, at = record(token, split);
  k.forLoop(k.index(0), k.index(tiling.group * size), lanes, [&](Index i) {
    k.store(k.loadVector(scratch, i + tiling.results), parts, at + i, bytes);
  });
  k.forLoop(k.index(0), k.index(tiling.group), 1, [&](Index g) {
    k.store(k.load(scratch, g + tiling.maxima), parts,
            at + partials.maximaOffset() + g);
    k.store(k.reduceAdd(k.loadVector(scratch, g * 16 + tiling.sums)), parts,
            at + partials.sumsOffset() + g);
  });
  Buffer counters = k.view(k.buffer(3), k.index(0), k.i32());
  Index counter = (token * tiling.kvHeads + kvHead) * 16;
  // Releases what is written above, acquires what others have written.
  Value before = memref::AtomicRMWOp::create(
      k.builder(), k.location(), arith::AtomicRMWKind::addi,
      k.constantInt(k.i32(), 1), counters.memref, ValueRange{counter.value()});
  Value isLast = k.toIndex(before) + 1 == active;
  k.ifThen(isLast, [&] {
    k.store(k.zero(k.i32()), counters, counter);
    combine(token, active);
  });
  return isLast;
}

void AttentionEmitter::emit() {
  if (tiling.splits == 1) {
    attend();
    storeResults();
    return;
  }
  Index active = min(ceilDiv(end, kAttentionBlock), tiling.splits);
  k.ifThen(split < active, [&] {
    attend();
    auto alone = [&]() -> Values {
      return {k.constantInt(k.builder().getI1Type(), 1)};
    };
    auto joined = [&]() -> Values { return {joinParts(active)}; };
    Value isDone = k.ifElse(active == 1, function_ref<Values()>(alone),
                            function_ref<Values()>(joined))[0];
    k.ifThen(isDone, [&] { storeResults(); });
  });
}

} // namespace

LogicalResult emitAttention(KernelBuilder &k, Operation *op) {
  AttentionEmitter(k, cast<kernel::AttentionOp>(op)).emit();
  return success();
}

} // namespace retort
