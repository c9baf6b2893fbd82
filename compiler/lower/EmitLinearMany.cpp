//===- EmitLinearMany.cpp - Matrix times many tokens ----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// ```
/// for each block of tokens
///   for each block of columns
///     for each strip of the tile
///       panel = decoded weights [columns][32 rows]          scratch
///       for each register tile (rows x tokens)
///         sums[strip][token][row] += panel * x              registers
///   epilogue of each strip and token
/// ```
/// A sum adds its columns in order, whatever register tile it is in.
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/LinearKernel.h"

using namespace mlir;

namespace retort {
namespace {

using Values = KernelBuilder::Values;

/// Tokens of the small register tile, for those that are left. They may pass
/// the rows by one, which the activations' padding allows for.
constexpr int64_t kTailTokens = 2;

class LinearMany {
public:
  LinearMany(LinearKernel &l, const LinearJob &job)
      : l(l), job(job), k(l.k), decode(k, l.weights, l.encoding),
        layout(l.tiling, bool(job.xRow)),
        scratch(k.view(k.scratch(), k.index(0), k.f32())) {}

  void emit();

private:
  void decodePanel(Index strip, Index firstCol, Index numCols);
  void decodeFloats(Index block, Index at);
  void decodeIntegers(Index block, Index at);
  /// Where the inputs of a register tile lie: element of row 0, column 0 of the
  /// column block, and the elements between rows.
  struct Inputs {
    Buffer buffer;
    Index base;
    int64_t stride;
  };
  Inputs inputs(Index firstRow, Index numRows, Index firstCol, Index numCols);
  void multiply(const Inputs &in, Index sums, Index numTokens, Index numCols);
  void registerTile(const Inputs &in, int64_t vectors, int64_t tokens,
                    Index lane, Index sums, Index token, Index numCols);

  LinearKernel &l;
  const LinearJob &job;
  KernelBuilder &k;
  Decoder decode;
  LinearManyScratch layout;
  Buffer scratch;
};

void LinearMany::decodeFloats(Index block, Index at) {
  Values scales;
  if (l.encoding.hasScales())
    for (int64_t v = 0; v < l.vectors(); ++v)
      scales.push_back(decode.loadScales(block, v));
  k.forLoop(k.index(0), k.index(l.encoding.blockCols()), 1, [&](Index c) {
    for (int64_t v = 0; v < l.vectors(); ++v) {
      Value w = decode.loadFloats(block, c, v);
      if (!scales.empty())
        w = k.mul(w, scales[v]);
      k.store(w, scratch, at + c * kStripRows + v * k.lanes(), 4 * k.lanes());
    }
  });
}

void LinearMany::decodeIntegers(Index block, Index at) {
  Values scales, offsets;
  bool int4 = l.encoding.kind == EncodingKind::Int4;
  for (int64_t v = 0; v < l.vectors(); ++v) {
    scales.push_back(decode.loadScales(block, v));
    if (!int4)
      continue;
    // Scale and zero point have so few bits that scale * (q - zero point) comes
    // out exact.
    Value zeroPoint = l.encoding.zeroPoints ? decode.loadZeroPoints(block, v)
                                            : k.constant(k.vecF32(), 8);
    offsets.push_back(k.neg(k.mul(zeroPoint, scales[v])));
  }
  int64_t step = columnStep(l.encoding);
  k.forLoop(k.index(0), k.index(l.encoding.blockCols()), step, [&](Index c) {
    for (int64_t v = 0; v < l.vectors(); ++v) {
      Value words = decode.loadWords(block, c, v);
      for (int64_t i = 0; i < step; ++i) {
        Value q = decode.quant(words, i);
        Value w = int4 ? k.fma(q, scales[v], offsets[v]) : k.mul(q, scales[v]);
        k.store(w, scratch, at + (c + i) * kStripRows + v * k.lanes(),
                4 * k.lanes());
      }
    }
  });
}

void LinearMany::decodePanel(Index strip, Index firstCol, Index numCols) {
  int64_t size = l.encoding.blockCols();
  Index first = job.weightBase + strip * l.encoding.stripBytes(l.cols) +
                firstCol / size * l.encoding.blockBytes();
  k.forLoop(k.index(0), numCols / size, 1, [&](Index b) {
    Index block = first + b * l.encoding.blockBytes();
    Index at = b * (size * kStripRows) + layout.panel;
    if (l.encoding.isInteger())
      decodeIntegers(block, at);
    else
      decodeFloats(block, at);
  });
}

/// The rows of a token block: where they are if they follow each other, else
/// copied together, once for all strips of the tile.
LinearMany::Inputs LinearMany::inputs(Index firstRow, Index numRows,
                                      Index firstCol, Index numCols) {
  if (!job.xRow)
    return {l.x, job.xBase + firstRow * l.xStride + firstCol, l.xStride};
  k.forLoop(k.index(0), numRows, 1, [&](Index r) {
    Index from = job.xRow(firstRow + r) + firstCol;
    Index to = r * kLinearColBlock + layout.inputs;
    k.forLoop(k.index(0), numCols, k.lanes(), [&](Index c) {
      k.store(k.loadVector(l.x, from + c), scratch, to + c, 4 * k.lanes());
    });
  });
  return {scratch, k.index(layout.inputs), kLinearColBlock};
}

void LinearMany::registerTile(const Inputs &in, int64_t vectors, int64_t tokens,
                              Index lane, Index sums, Index token,
                              Index numCols) {
  constexpr int64_t kUnroll = 2;
  auto sumAt = [&](int64_t t, int64_t v) {
    return sums + (t * kStripRows + v * k.lanes());
  };
  Values acc;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t v = 0; v < vectors; ++v)
      acc.push_back(k.loadVector(scratch, sumAt(t, v)));
  Index x = in.base + token * in.stride;
  acc = k.forLoop(
      k.index(0), numCols, kUnroll, acc, [&](Index c, ValueRange carried) {
        Values next(carried.begin(), carried.end());
        for (int64_t u = 0; u < kUnroll; ++u) {
          Values w;
          for (int64_t v = 0; v < vectors; ++v)
            w.push_back(k.loadVector(
                scratch, lane + c * kStripRows +
                             (layout.panel + u * kStripRows + v * k.lanes())));
          for (int64_t t = 0; t < tokens; ++t) {
            Value xt = k.loadSplat(in.buffer, x + c + (t * in.stride + u));
            for (int64_t v = 0; v < vectors; ++v) {
              Value &a = next[t * vectors + v];
              a = k.fma(w[v], xt, a);
            }
          }
        }
        return next;
      });
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t v = 0; v < vectors; ++v)
      k.store(acc[t * vectors + v], scratch, sumAt(t, v), 4 * k.lanes());
}

void LinearMany::multiply(const Inputs &in, Index sums, Index numTokens,
                          Index numCols) {
  int64_t tokens = k.target().microTokens, vectors = k.target().microVectors;
  Index whole = numTokens / tokens * tokens;
  k.forLoop(k.index(0), k.index(kStripRows), vectors * k.lanes(),
            [&](Index lane) {
              k.forLoop(k.index(0), whole, tokens, [&](Index t) {
                registerTile(in, vectors, tokens, lane,
                             sums + t * kStripRows + lane, t, numCols);
              });
            });
  k.forLoop(whole, numTokens, kTailTokens, [&](Index t) {
    registerTile(in, l.vectors(), kTailTokens, k.index(0),
                 sums + t * kStripRows, t, numCols);
  });
}

void LinearMany::emit() {
  const LinearTiling &t = l.tiling;
  Index firstUnit = job.tile * t.unitsPerTile;
  Index units = min(k.index(t.units) - firstUnit, t.unitsPerTile);
  Index strips = units * t.unitStrips;
  Index firstStrip = firstUnit * t.unitStrips;
  constexpr int64_t kSumsPerStrip = kLinearTokenBlock * kStripRows;
  auto sumsOf = [&](Index strip) {
    return strip * kSumsPerStrip + layout.sums;
  };

  k.forLoop(k.index(0), job.rows, kLinearTokenBlock, [&](Index token) {
    Index tokens = min(job.rows - token, kLinearTokenBlock);
    k.forLoop(k.index(0), strips * kSumsPerStrip, k.lanes(), [&](Index at) {
      k.store(k.zero(k.vecF32()), scratch, at + layout.sums, 4 * k.lanes());
    });
    k.forLoop(
        k.index(0), k.index(l.paddedCols()), kLinearColBlock, [&](Index col) {
          Index cols = min(k.index(l.paddedCols()) - col, kLinearColBlock);
          Inputs in = inputs(token, tokens, col, cols);
          k.forLoop(k.index(0), strips, 1, [&](Index s) {
            decodePanel(firstStrip + s, col, cols);
            multiply(in, sumsOf(s), tokens, cols);
          });
        });
    k.forLoop(k.index(0), units, 1, [&](Index u) {
      k.forLoop(k.index(0), tokens, 1, [&](Index n) {
        job.finish(firstUnit + u, token + n, scratch,
                   sumsOf(u * t.unitStrips) + n * kStripRows, kSumsPerStrip);
      });
    });
  });
}

} // namespace

void emitLinearMany(LinearKernel &linear, const LinearJob &job) {
  if (linear.inputs)
    return emitLinearIntMany(linear, job);
  LinearMany(linear, job).emit();
}

} // namespace retort
