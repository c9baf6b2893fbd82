//===- EmitLinearIntMany.cpp - Integer matrix times several tokens --------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// ```
/// for each block of tokens                 sums stay in the caches
///   for each block of columns              its inputs are gathered in scratch
///     for each strip of the tile
///       for each group of 32 columns       unpacked to 8 or 16 bits a column
///         for each few tokens              a register tile: a strip's rows
/// ```
/// For few tokens the weights come from memory: groups come before strips,
/// which are then distant streams that are read side by side. Then a group is
/// unpacked in registers, some rows at a time, by each register tile: there are
/// too few of these to make up for writing it to scratch.
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/DotTile.h"
#include "compiler/lower/LinearKernel.h"

using namespace mlir;

namespace retort {
namespace {

using Values = KernelBuilder::Values;

/// Register tile of few tokens: registers of rows by tokens, so that sums and
/// the words of two steps fit sixteen registers.
constexpr int64_t kFewVectors = 2, kFewTileTokens = 4;
static_assert(kFewTokens % kFewTileTokens == 0);

class LinearIntMany {
public:
  LinearIntMany(LinearKernel &l, const LinearJob &job)
      : l(l), job(job), k(l.k), decode(k, l.weights, l.encoding),
        dot(k, l.encoding), isFew(k.tokenClass() == kernel::TokenClass::Few),
        tokenBlock(linearIntTokenBlock(k.tokenClass())),
        layout(l.tiling, *l.inputs, tokenBlock),
        floats(k.view(k.scratch(), k.index(0), k.f32())),
        words(k.view(k.scratch(), k.index(0), k.i32())),
        tile(k, l.encoding, words, layout.panel, layout.products) {
    if (l.quantizes)
      return;
    xWords = k.view(l.x, k.index(0), k.i32());
    xFloats = k.view(l.x, k.index(0), k.f32());
  }

  void emit();

private:
  bool usesTiles() const {
    return tile.isUsed() && tokenBlock % tile.tokens() == 0;
  }
  int64_t tileTokens() const {
    return usesTiles() ? tile.tokens() : k.target().dotTokens;
  }
  /// Whether sums begin with what zero points contribute, and whether these are
  /// stored.
  bool hasZeroPoints() const { return l.encoding.isNarrow(); }
  bool startsWithZeroPoints() const {
    return hasZeroPoints() && l.encoding.zeroPoints;
  }
  void gather(Index firstRow, Index numRows, Index firstGroup, Index numGroups);
  void unpackGroup(Index block, Index groupInBlock);
  void prefetchGroup(Index block, Index groupInBlock);
  void registerTile(Index group, Index token, Index sums);
  void fewTiles(Index block, Index groupInBlock, Index group, Index numTokens,
                Index sums);
  void fewTile(Index block, Index groupInBlock, Index at, int64_t firstVector,
               int64_t tokens, Index sums);
  /// The products of a register tile less what zero points contribute; what
  /// `dot.finish` takes unless the target has tiles.
  Values tileProducts(Index at);
  /// What the sums of a token begin with; `at` is its place in the gathered
  /// inputs.
  Value start(Index at, Value zeroPoints);
  void addProducts(Value products, Value tokenScale, Index sums, int64_t v,
                   Value rowScales);

  LinearKernel &l;
  const LinearJob &job;
  KernelBuilder &k;
  Decoder decode;
  GroupDot dot;
  bool isFew;
  int64_t tokenBlock;
  LinearIntManyScratch layout;
  Buffer floats, words, xWords, xFloats;
  DotTile tile;
};

/// Columns of a token block as the register tiles go through them.
void LinearIntMany::gather(Index firstRow, Index numRows, Index firstGroup,
                           Index numGroups) {
  int64_t steps = dot.steps();
  k.forLoop(k.index(0), numRows, 1, [&](Index r) {
    Index element = job.xRow ? job.xRow(firstRow + r)
                             : job.xBase + (firstRow + r) * l.xStride;
    auto arrange = [&](Index to) {
      if (usesTiles())
        tile.arrangeQuants(to * steps + layout.quants);
    };
    if (l.quantizes)
      return k.forLoop(k.index(0), numGroups, 1, [&](Index g) {
        Index to = g * tokenBlock + r;
        l.quantizeGroup(element + (firstGroup + g) * kActivationGroup)
            .store(k, k.scratch(), to * steps + layout.quants,
                   to + layout.scales, to + layout.quantSums);
        arrange(to);
      });
    LinearKernel::QuantizedRow row = l.quantizedRow(element);
    // Rows are far apart: those of the next columns are wanted when these have
    // been multiplied.
    if (!isFew) {
      constexpr int64_t kLineWords = 16;
      int64_t groups = LinearIntManyScratch::groupsAtATime(*l.inputs);
      Index next = firstGroup + groups;
      auto prefetch = [&](Index at) { k.prefetch(xWords, at, /*level=*/2); };
      for (int64_t i = 0; i < groups * steps; i += kLineWords)
        prefetch(row.quants + next * steps + i);
      prefetch(row.scales + next);
      if (hasZeroPoints())
        prefetch(row.sums + next);
    }
    k.forLoop(k.index(0), numGroups, 1, [&](Index g) {
      Index from = firstGroup + g;
      Index to = g * tokenBlock + r;
      for (int64_t i = 0; i < steps; i += k.lanes()) {
        int64_t n = std::min<int64_t>(k.lanes(), steps);
        k.store(k.loadVector(xWords, row.quants + from * steps + i, n,
                             std::min<int64_t>(4 * n, 32)),
                words, to * steps + (layout.quants + i), n * 4);
      }
      arrange(to);
      k.store(k.load(xFloats, row.scales + from), floats, to + layout.scales);
      if (hasZeroPoints())
        k.store(k.load(xWords, row.sums + from), words, to + layout.quantSums);
    });
  });
}

void LinearIntMany::unpackGroup(Index block, Index groupInBlock) {
  int64_t bytes = 4 * k.lanes();
  Index first = groupInBlock * kActivationGroup;
  for (int64_t v = 0; v < l.vectors(); ++v) {
    int64_t lane = v * k.lanes();
    if (usesTiles())
      tile.storeWeights(dot.signedWords(decode, block, first, v), v);
    for (int64_t i = 0; i < dot.steps() / 2 && !usesTiles(); ++i) {
      auto [w0, w1] = dot.load(decode, block, first, i, v);
      k.store(w0, words, k.index(layout.panel + 2 * i * kStripRows + lane),
              bytes);
      k.store(w1, words,
              k.index(layout.panel + (2 * i + 1) * kStripRows + lane), bytes);
    }
    k.store(decode.loadScales(block, v), floats,
            k.index(layout.rowScales + lane), bytes);
    if (startsWithZeroPoints() && !usesTiles())
      k.store(dot.zeroPointWords(decode.loadZeroPointInts(block, v)), words,
              k.index(layout.zeroPoints + lane), bytes);
  }
}

void LinearIntMany::prefetchGroup(Index block, Index groupInBlock) {
  constexpr int64_t kLine = 64;
  int64_t bytes = l.encoding.blockQuantBytes() / l.groupsPerBlock();
  for (int64_t at = 0; at < bytes; at += kLine)
    k.prefetch(l.weights, block + groupInBlock * bytes + at);
  k.prefetch(l.weights, block + l.encoding.scaleOffset());
}

Values LinearIntMany::tileProducts(Index at) {
  int64_t tokens = tileTokens(), lanes = k.lanes(), steps = dot.steps();
  if (usesTiles())
    return tile.products(at * steps + layout.quants);
  Values acc;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t v = 0; v < l.vectors(); ++v) {
      Value zeroPoints;
      if (startsWithZeroPoints())
        zeroPoints =
            k.loadVector(words, k.index(layout.zeroPoints + v * lanes));
      acc.push_back(start(at + t, zeroPoints));
    }
  for (int64_t i = 0; i < steps; ++i) {
    Values x;
    for (int64_t t = 0; t < tokens; ++t)
      x.push_back(
          k.loadSplat(words, at * steps + (layout.quants + t * steps + i)));
    for (int64_t v = 0; v < l.vectors(); ++v) {
      Value w = k.loadVector(
          words, k.index(layout.panel + i * kStripRows + v * lanes));
      for (int64_t t = 0; t < tokens; ++t) {
        Value &a = acc[t * l.vectors() + v];
        a = dot.add(a, w, x[t]);
      }
    }
  }
  return acc;
}

void LinearIntMany::registerTile(Index group, Index token, Index sums) {
  int64_t tokens = tileTokens();
  Index at = group * tokenBlock + token;
  Values products = tileProducts(at);
  // Before anything is stored, so that all rows of a token share one load.
  Values tokenScales;
  for (int64_t t = 0; t < tokens; ++t)
    tokenScales.push_back(k.loadSplat(floats, at + (t + layout.scales)));
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t v = 0; v < l.vectors(); ++v) {
      Value rowScales =
          k.loadVector(floats, k.index(layout.rowScales + v * k.lanes()));
      Value p = products[t * l.vectors() + v];
      addProducts(usesTiles() ? p : dot.finish(p), tokenScales[t],
                  sums + (token + t) * kStripRows, v, rowScales);
    }
}

/// A group of a strip's block and tokens from place `at` of the gathered
/// inputs on: kFewVectors registers of rows.
void LinearIntMany::fewTile(Index block, Index groupInBlock, Index at,
                            int64_t firstVector, int64_t tokens, Index sums) {
  int64_t vectors = std::min(kFewVectors, l.vectors()), steps = dot.steps();
  Index first = groupInBlock * kActivationGroup;
  Values acc;
  for (int64_t v = 0; v < vectors; ++v) {
    Value zeroPoints;
    if (startsWithZeroPoints())
      zeroPoints =
          dot.zeroPointWords(decode.loadZeroPointInts(block, firstVector + v));
    for (int64_t t = 0; t < tokens; ++t)
      acc.push_back(start(at + t, zeroPoints));
  }
  for (int64_t i = 0; i < steps / 2; ++i) {
    SmallVector<std::pair<Value, Value>> w;
    for (int64_t v = 0; v < vectors; ++v)
      w.push_back(dot.load(decode, block, first, i, firstVector + v));
    for (int64_t t = 0; t < tokens; ++t) {
      auto input = [&](int64_t step) {
        return k.loadSplat(words,
                           at * steps + (layout.quants + t * steps + step));
      };
      Value x0 = input(2 * i), x1 = input(2 * i + 1);
      for (int64_t v = 0; v < vectors; ++v) {
        Value &a = acc[v * tokens + t];
        a = dot.add(dot.add(a, w[v].first, x0), w[v].second, x1);
      }
    }
  }
  for (int64_t v = 0; v < vectors; ++v) {
    Value rowScales = decode.loadScales(block, firstVector + v);
    for (int64_t t = 0; t < tokens; ++t)
      addProducts(dot.finish(acc[v * tokens + t]),
                  k.loadSplat(floats, at + (t + layout.scales)),
                  sums + t * kStripRows, firstVector + v, rowScales);
  }
}

/// A group of a strip for all tokens. The last tile may take rows of the token
/// block that hold none.
void LinearIntMany::fewTiles(Index block, Index groupInBlock, Index group,
                             Index numTokens, Index sums) {
  auto tile = [&](Index token, int64_t tokens) {
    for (int64_t v = 0; v < l.vectors(); v += kFewVectors)
      fewTile(block, groupInBlock, group * tokenBlock + token, v, tokens,
              sums + token * kStripRows);
  };
  constexpr int64_t kHalf = kFewTileTokens / 2;
  Index whole = (numTokens + (kHalf - 1)) / kFewTileTokens * kFewTileTokens;
  k.forLoop(k.index(0), whole, kFewTileTokens,
            [&](Index n) { tile(n, kFewTileTokens); });
  k.forLoop(whole, numTokens, kHalf, [&](Index n) { tile(n, kHalf); });
}

Value LinearIntMany::start(Index at, Value zeroPoints) {
  return hasZeroPoints()
             ? dot.start(k.loadSplat(words, at + layout.quantSums), zeroPoints)
             : Value();
}

/// Adds a register's finished products to a token's sums.
void LinearIntMany::addProducts(Value products, Value tokenScale, Index sums,
                                int64_t v, Value rowScales) {
  Index to = sums + v * k.lanes();
  k.store(k.fma(k.mul(rowScales, tokenScale), k.intToFloat(products, k.f32()),
                k.loadVector(floats, to)),
          floats, to, 4 * k.lanes());
}

void LinearIntMany::emit() {
  const LinearTiling &t = l.tiling;
  // Units of the tile: neighbours, or as far apart as there are tiles.
  Index firstUnit = isFew ? job.tile : job.tile * t.unitsPerTile;
  Index units = isFew ? (k.index(t.units + t.tiles - 1) - job.tile) / t.tiles
                      : min(k.index(t.units) - firstUnit, t.unitsPerTile);
  auto unitOf = [&](Index n) { return firstUnit + (isFew ? n * t.tiles : n); };
  Index strips = units * t.unitStrips;
  auto stripOf = [&](Index n) {
    return unitOf(n / t.unitStrips) * t.unitStrips + n % t.unitStrips;
  };
  int64_t sumsPerStrip = tokenBlock * kStripRows;
  int64_t groupsAtATime = LinearIntManyScratch::groupsAtATime(*l.inputs);
  int64_t perBlock = l.groupsPerBlock();
  auto sumsOf = [&](Index strip) { return strip * sumsPerStrip + layout.sums; };

  k.forLoop(k.index(0), job.rows, tokenBlock, [&](Index token) {
    Index tokens = min(job.rows - token, tokenBlock);
    k.forLoop(k.index(0), strips * sumsPerStrip, k.lanes(), [&](Index at) {
      k.store(k.zero(k.vecF32()), floats, at + layout.sums, 4 * k.lanes());
    });
    k.forLoop(k.index(0), k.index(l.groups()), groupsAtATime, [&](Index first) {
      Index groups = min(k.index(l.groups()) - first, groupsAtATime);
      gather(token, tokens, first, groups);
      auto addGroup = [&](Index s, Index g) {
        Index strip =
            job.weightBase + stripOf(s) * l.encoding.stripBytes(l.cols);
        Index group = first + g;
        Index block = strip + group / perBlock * l.encoding.blockBytes();
        bool inRegisters = isFew && !usesTiles();
        if (!inRegisters)
          unpackGroup(block, group % perBlock);
        // What is wanted next of the weights: of few tokens this strip's next
        // group, which comes when all strips have had this one, else the next
        // strip's, which is far from this one in memory.
        Index next = s, ahead = group + 1;
        if (!isFew) {
          Value isLast = strips < s + 2;
          next =
              Index(k, k.select(isLast, k.index(0).value(), (s + 1).value()));
          ahead = Index(k, k.select(isLast, (group + groupsAtATime).value(),
                                    group.value()));
        }
        prefetchGroup(job.weightBase +
                          stripOf(next) * l.encoding.stripBytes(l.cols) +
                          ahead / perBlock * l.encoding.blockBytes(),
                      ahead % perBlock);
        if (inRegisters)
          return fewTiles(block, group % perBlock, g, tokens, sumsOf(s));
        // The last tile may take rows of the block that hold no token.
        k.forLoop(k.index(0), tokens, tileTokens(),
                  [&](Index n) { registerTile(g, n, sumsOf(s)); });
      };
      if (isFew)
        k.forLoop(k.index(0), groups, 1, [&](Index g) {
          k.forLoop(k.index(0), strips, 1, [&](Index s) { addGroup(s, g); });
        });
      else
        k.forLoop(k.index(0), strips, 1, [&](Index s) {
          k.forLoop(k.index(0), groups, 1, [&](Index g) { addGroup(s, g); });
        });
    });
    k.forLoop(k.index(0), units, 1, [&](Index u) {
      k.forLoop(k.index(0), tokens, 1, [&](Index n) {
        job.finish(unitOf(u), token + n, floats,
                   sumsOf(u * t.unitStrips) + n * kStripRows, sumsPerStrip);
      });
    });
  });
}

} // namespace

void emitLinearIntMany(LinearKernel &linear, const LinearJob &job) {
  LinearIntMany(linear, job).emit();
}

} // namespace retort
