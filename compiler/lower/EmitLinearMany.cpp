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
///       panel = decoded weights [rows of a register tile][columns]   scratch
///       for each register tile (rows x tokens)
///         sums[strip][token][row] += panel * x              registers
///   epilogue of each strip and token
/// ```
/// A sum adds its columns in order, whatever register tile it is in.
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/LinearKernel.h"

#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/SmallVectorExtras.h"

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
        tileVectors(k.target().microVectors),
        tileTokens(k.target().microTokens), layout(l.tiling, bool(job.xRow)),
        scratch(k.view(k.scratch(), k.index(0), k.f32())) {}

  void emit();

private:
  Index weightsAt(Index strip, Index firstCol);
  void decodePanel(Index strip, Index firstCol, Index numCols);
  void storeWeights(Value w, Index at, int64_t v);
  void prefetchPanel(Index from, Index part);
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
  void multiply(const Inputs &in, Index sums, Index numTokens, Index numCols,
                Index nextPanel);
  void registerTile(const Inputs &in, int64_t vectors, int64_t tokens,
                    Index panel, Index sums, Index token, Index numCols);
  int64_t tileRows() const { return tileVectors * k.lanes(); }
  /// Of the weights of a strip's register v, from those of its column on.
  int64_t inPanel(int64_t v) const {
    return v / tileVectors * kLinearColBlock * tileRows() +
           v % tileVectors * k.lanes();
  }

  LinearKernel &l;
  const LinearJob &job;
  KernelBuilder &k;
  Decoder decode;
  int64_t tileVectors, tileTokens; ///< of a register tile
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
      storeWeights(w, at + c, v);
    }
  });
}

void LinearMany::decodeIntegers(Index block, Index at) {
  Values scales, offsets;
  bool isInt4 = l.encoding.kind == EncodingKind::Int4;
  for (int64_t v = 0; v < l.vectors(); ++v) {
    scales.push_back(decode.loadScales(block, v));
    if (!isInt4)
      continue;
    // Scale and zero point have so few bits that scale * (q - zero point) comes
    // out exact.
    Value zeroPoint = l.encoding.zeroPoints ? decode.loadZeroPoints(block, v)
                                            : k.constant(k.vecF32(), 8);
    offsets.push_back(k.neg(k.mul(zeroPoint, scales[v])));
  }
  int64_t step = decode.columnStep();
  k.forLoop(k.index(0), k.index(l.encoding.blockCols()), step, [&](Index c) {
    for (int64_t v = 0; v < l.vectors(); ++v) {
      if (isInt4) {
        Value words = decode.loadWords(block, c, v);
        for (int64_t i = 0; i < step; ++i)
          storeWeights(k.fma(decode.quant(words, i), scales[v], offsets[v]),
                       at + (c + i), v);
        continue;
      }
      for (int64_t i = 0; i < step; i += 4) {
        Value words = decode.loadSigned(block, c, i / 4, v);
        for (int64_t b = 0; b < 4; ++b)
          storeWeights(k.mul(decode.toFloat(words, b), scales[v]),
                       at + (c + (i + b)), v);
      }
    }
  });
}

/// Where a strip's columns lie in the weights.
Index LinearMany::weightsAt(Index strip, Index firstCol) {
  return job.weightBase + strip * l.encoding.stripBytes(l.cols) +
         firstCol / l.encoding.blockCols() * l.encoding.blockBytes();
}

/// Decoded weights of a column and of the strip's register v.
void LinearMany::storeWeights(Value w, Index column, int64_t v) {
  k.store(w, scratch, column * tileRows() + (layout.panel + inPanel(v)),
          4 * k.lanes());
}

/// Of the weights of the next panel, what one register tile of a whole token
/// block has to fetch so that all of it is at hand in the end.
void LinearMany::prefetchPanel(Index from, Index part) {
  constexpr int64_t kLine = 64;
  int64_t bytes = kLinearColBlock / l.encoding.blockCols() *
                  l.encoding.blockBytes(),
          parts = kStripRows / tileRows() * (kLinearTokenBlock / tileTokens),
          size = roundUp(ceilDiv(bytes, parts), kLine);
  for (int64_t at = 0; at < size; at += kLine)
    k.prefetch(l.weights, from + part * size + at, /*level=*/2);
}

void LinearMany::decodePanel(Index strip, Index firstCol, Index numCols) {
  int64_t size = l.encoding.blockCols();
  Index first = weightsAt(strip, firstCol);
  k.forLoop(k.index(0), numCols / size, 1, [&](Index b) {
    Index block = first + b * l.encoding.blockBytes();
    Index at = b * size;
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

/// Adds the products of some columns to sums of `vectors` registers of rows
/// whose weights begin at `panel`.
void LinearMany::registerTile(const Inputs &in, int64_t vectors, int64_t tokens,
                              Index panel, Index sums, Index token,
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
          auto weights = [&](int64_t v) {
            return k.loadVector(scratch, panel + c * tileRows() +
                                             (u * tileRows() + inPanel(v)));
          };
          auto input = [&](int64_t t) {
            return k.loadSplat(in.buffer, x + c + (t * in.stride + u));
          };
          auto add = [&](int64_t t, int64_t v, Value w, Value xt) {
            Value &a = next[t * vectors + v];
            a = k.fma(w, xt, a);
          };
          // What there is less of stays in registers, the other is loaded one
          // by one.
          if (tokens < vectors) {
            Values xs = llvm::map_to_vector(llvm::seq(tokens), input);
            for (int64_t v = 0; v < vectors; ++v) {
              Value w = weights(v);
              for (int64_t t = 0; t < tokens; ++t)
                add(t, v, w, xs[t]);
            }
          } else {
            Values ws = llvm::map_to_vector(llvm::seq(vectors), weights);
            for (int64_t t = 0; t < tokens; ++t) {
              Value xt = input(t);
              for (int64_t v = 0; v < vectors; ++v)
                add(t, v, ws[v], xt);
            }
          }
        }
        return next;
      });
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t v = 0; v < vectors; ++v)
      k.store(acc[t * vectors + v], scratch, sumAt(t, v), 4 * k.lanes());
}

/// The panel with the inputs of a token block; meanwhile what lies at
/// `nextPanel` of the weights is fetched.
void LinearMany::multiply(const Inputs &in, Index sums, Index numTokens,
                          Index numCols, Index nextPanel) {
  Index whole = numTokens / tileTokens * tileTokens;
  k.forLoop(k.index(0), k.index(kStripRows / tileRows()), 1, [&](Index part) {
    Index panel = part * (kLinearColBlock * tileRows()) + layout.panel;
    k.forLoop(k.index(0), whole, tileTokens, [&](Index t) {
      prefetchPanel(nextPanel,
                    part * (kLinearTokenBlock / tileTokens) + t / tileTokens);
      registerTile(in, tileVectors, tileTokens, panel,
                   sums + t * kStripRows + part * tileRows(), t, numCols);
    });
  });
  k.forLoop(whole, numTokens, kTailTokens, [&](Index t) {
    registerTile(in, l.vectors(), kTailTokens, k.index(layout.panel),
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
            // The next strip's columns, behind the last strip the next columns
            // of the first.
            Value isLast = strips < s + 2;
            auto either = [&](Index ifLast, Index otherwise) {
              return Index(k,
                           k.select(isLast, ifLast.value(), otherwise.value()));
            };
            multiply(in, sumsOf(s), tokens, cols,
                     weightsAt(firstStrip + either(k.index(0), s + 1),
                               either(col + kLinearColBlock, col)));
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
