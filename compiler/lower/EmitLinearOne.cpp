//===- EmitLinearOne.cpp - Matrix times one or a few tokens ---------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// ```
/// for each block of columns
///   for each strip of the tile            distant streams, read side by side
///     for each token                      its block of weights is in L1 now
///       acc = -zero point * sum(x)        32 rows in registers
///       for each column: acc += quant * x
///       sums[token][strip] += scale * acc
/// ```
/// Floats but fp8 have no scales: acc is sums[token][strip] itself. A token's
/// sums are the same whatever other tokens there are.
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/LinearKernel.h"

using namespace mlir;

namespace retort {
namespace {

using Values = KernelBuilder::Values;

class LinearOne {
public:
  LinearOne(LinearKernel &l, const LinearJob &job)
      : l(l), job(job), k(l.k), decode(k, l.weights, l.encoding),
        layout(l.tiling, l.encoding, l.cols, 1),
        scratch(k.view(k.scratch(), k.index(0), k.f32())),
        chains(std::max<int64_t>(1, k.target().fmaChains / l.vectors())) {}

  void emit();

private:
  bool isInt4() const { return l.encoding.kind == EncodingKind::Int4; }
  /// Calls `body` for each token: a loop unless there is one by its class.
  void forRows(function_ref<void(Index row)> body);
  /// First element of a token's inputs in l.x, and of its part of the scratch.
  Index xOf(Index row);
  Index scratchOf(Index row) { return row * layout.row; }
  void scaleActivations(Index row);
  void addIntegers(Index block, Index blockNumber, Index row, Index at);
  void addFloats(Index block, Index first, Index x, Index at);
  /// Columns of a strip's block that are taken before another strip's: a
  /// kilobyte, so that the streams of all strips are read side by side.
  int64_t floatColumns() const {
    constexpr int64_t kBytes = 1024;
    return kBytes * l.encoding.blockCols() / l.encoding.blockQuantBytes();
  }
  Values loadSums(Index at);
  void storeSums(ArrayRef<Value> sums, Index at);
  Values integerBlock(Index block, Index blockNumber, Index row, Values sums);
  void int4Columns(Index block, Index within, Index x, Values &acc);
  void signedColumns(Index block, Index within, Index x, Values &acc);

  LinearKernel &l;
  const LinearJob &job;
  KernelBuilder &k;
  Decoder decode;
  LinearOneScratch layout;
  Buffer scratch;
  int64_t chains; ///< accumulators of one register of rows
};

/// int4 quants stay where they are in their word, multiplied by a power of 2
/// that the activations make up for. Their sums per block, times -8 unless zero
/// points are stored, account for the zero points.
void LinearOne::scaleActivations(Index row) {
  SmallVector<float> factors;
  for (int64_t i = 0; i < 8; ++i)
    factors.push_back(static_cast<float>(1.0 / Decoder::inPlaceScale(i)));
  Value factor = k.constantVector(factors);
  Value zero = k.zero(factor.getType());
  Value minus = k.constant(k.f32(), l.encoding.zeroPoints ? -1 : -8);
  int64_t size = l.encoding.blockCols();
  Index from = xOf(row), to = scratchOf(row);
  k.forLoop(k.index(0), k.index(l.paddedCols() / size), 1, [&](Index b) {
    Values sum = k.forLoop(
        b * size, b * size + size, 8, {zero}, [&](Index c, ValueRange s) {
          Value x = k.loadVector(l.x, from + c, 8, 32);
          k.store(k.mul(x, factor), scratch, to + c + layout.x, 32);
          return Values{k.add(s[0], x)};
        });
    k.store(k.mul(k.reduceAdd(sum[0]), minus), scratch,
            to + b + layout.groupSums);
  });
}

void LinearOne::forRows(function_ref<void(Index row)> body) {
  if (k.tokenClass() == kernel::TokenClass::One)
    return body(k.index(0));
  k.forLoop(k.index(0), job.rows, 1, body);
}

Index LinearOne::xOf(Index row) {
  if (job.xRow)
    return job.xRow(row);
  if (k.tokenClass() == kernel::TokenClass::One)
    return job.xBase;
  return job.xBase + row * l.xStride;
}

Values LinearOne::loadSums(Index at) {
  Values sums;
  for (int64_t v = 0; v < l.vectors(); ++v)
    sums.push_back(k.loadVector(scratch, at + v * k.lanes()));
  return sums;
}

void LinearOne::storeSums(ArrayRef<Value> sums, Index at) {
  for (int64_t v = 0; v < l.vectors(); ++v)
    k.store(sums[v], scratch, at + v * k.lanes(), 4 * k.lanes());
}

/// Adds the products of some columns of a block of floats to the 32 sums that
/// lie at `at`: of the row or, if there are scales, of its block. `x` is where
/// the block's inputs begin, here and below.
void LinearOne::addFloats(Index block, Index first, Index x, Index at) {
  Values acc = loadSums(at);
  for (int64_t c = 0; c < floatColumns(); ++c) {
    Value xs = k.loadSplat(l.x, x + first + c);
    for (int64_t v = 0; v < l.vectors(); ++v)
      acc[v] = k.fma(decode.loadFloats(block, first + c, v), xs, acc[v]);
  }
  storeSums(acc, at);
}

void LinearOne::int4Columns(Index block, Index within, Index x, Values &acc) {
  Values words;
  for (int64_t v = 0; v < l.vectors(); ++v)
    words.push_back(decode.loadWords(block, within, v));
  auto columns = [&](ArrayRef<int64_t> list) {
    for (auto [n, i] : llvm::enumerate(list)) {
      Value xs = k.loadSplat(scratch, x + within + i);
      for (int64_t v = 0; v < l.vectors(); ++v) {
        Value &a = acc[v * chains + static_cast<int64_t>(n) % chains];
        a = k.fma(decode.quantInPlace(words[v], i), xs, a);
      }
    }
  };
  columns({0, 1, 4, 5});
  for (Value &word : words)
    word = decode.upperHalf(word);
  columns({2, 3, 6, 7});
}

/// All integers but int4: what may be walked at a time, from signed bytes.
void LinearOne::signedColumns(Index block, Index within, Index x, Values &acc) {
  for (int64_t word = 0; word < decode.columnStep() / 4; ++word) {
    Values words;
    for (int64_t v = 0; v < l.vectors(); ++v)
      words.push_back(decode.loadSigned(block, within, word, v));
    for (int64_t i = 0; i < 4; ++i) {
      Value xs = k.loadSplat(l.x, x + within + (4 * word + i));
      for (int64_t v = 0; v < l.vectors(); ++v) {
        Value &a = acc[v * chains + i % chains];
        a = k.fma(decode.toFloat(words[v], i), xs, a);
      }
    }
  }
}

Values LinearOne::integerBlock(Index block, Index blockNumber, Index row,
                               Values sums) {
  int64_t size = l.encoding.blockCols();
  Index x =
      (isInt4() ? scratchOf(row) + layout.x : xOf(row)) + blockNumber * size;
  Values acc(l.vectors() * chains, k.zero(k.vecF32()));
  if (isInt4()) {
    Value start =
        k.loadSplat(scratch, scratchOf(row) + blockNumber + layout.groupSums);
    for (int64_t v = 0; v < l.vectors(); ++v)
      acc[v * chains] = l.encoding.zeroPoints
                            ? k.mul(decode.loadZeroPoints(block, v), start)
                            : start;
  }
  acc = k.forLoop(k.index(0), k.index(size), columnStep(l.encoding), acc,
                  [&](Index c, ValueRange carried) {
                    Values next(carried.begin(), carried.end());
                    if (isInt4())
                      int4Columns(block, c, x, next);
                    else
                      signedColumns(block, c, x, next);
                    return next;
                  });
  for (int64_t v = 0; v < l.vectors(); ++v) {
    Value sum = acc[v * chains];
    for (int64_t i = 1; i < chains; ++i)
      sum = k.add(sum, acc[v * chains + i]);
    sums[v] = k.fma(decode.loadScales(block, v), sum, sums[v]);
  }
  return sums;
}

/// Adds a block's products to the 32 sums of a token that lie at `at`.
void LinearOne::addIntegers(Index block, Index blockNumber, Index row,
                            Index at) {
  storeSums(integerBlock(block, blockNumber, row, loadSums(at)), at);
}

void LinearOne::emit() {
  if (isInt4())
    forRows([&](Index row) { scaleActivations(row); });

  // Units tile, tile + tiles, tile + 2 tiles, ... below the number of units.
  const LinearTiling &t = l.tiling;
  Index units = (k.index(t.units + t.tiles - 1) - job.tile) / t.tiles;
  Index strips = units * t.unitStrips;
  auto unitOf = [&](Index n) { return n * t.tiles + job.tile; };
  auto stripOf = [&](Index n) {
    return unitOf(n / t.unitStrips) * t.unitStrips + n % t.unitStrips;
  };

  auto blockOf = [&](Index n, Index b) {
    return job.weightBase + stripOf(n) * l.encoding.stripBytes(l.cols) +
           b * l.encoding.blockBytes();
  };
  auto forSums = [&](int64_t area,
                     function_ref<void(Index n, Index row, Index at)> body) {
    k.forLoop(k.index(0), strips, 1, [&](Index n) {
      forRows([&](Index row) {
        body(n, row, scratchOf(row) + n * kStripRows + area);
      });
    });
  };
  auto clear = [&](int64_t area) {
    forSums(area, [&](Index, Index, Index at) {
      storeSums(Values(l.vectors(), k.zero(k.vecF32())), at);
    });
  };

  clear(layout.sums);
  bool isScaled = l.encoding.hasScales();
  int64_t blockCols = l.encoding.blockCols();
  k.forLoop(
      k.index(0), k.index(l.encoding.blocksPerStrip(l.cols)), 1, [&](Index b) {
        if (l.encoding.isInteger())
          return forSums(layout.sums, [&](Index n, Index row, Index at) {
            addIntegers(blockOf(n, b), b, row, at);
          });
        int64_t area = isScaled ? layout.blockSums : layout.sums;
        if (isScaled)
          clear(area);
        k.forLoop(
            k.index(0), k.index(blockCols), floatColumns(), [&](Index first) {
              forSums(area, [&](Index n, Index row, Index at) {
                addFloats(blockOf(n, b), first, xOf(row) + b * blockCols, at);
              });
            });
        if (isScaled)
          forSums(layout.sums, [&](Index n, Index row, Index at) {
            Values sums = loadSums(at);
            Values inBlock = loadSums(at + (layout.blockSums - layout.sums));
            for (int64_t v = 0; v < l.vectors(); ++v)
              sums[v] = k.fma(decode.loadScales(blockOf(n, b), v), inBlock[v],
                              sums[v]);
            storeSums(sums, at);
          });
      });
  k.forLoop(k.index(0), units, 1, [&](Index n) {
    forRows([&](Index row) {
      job.finish(unitOf(n), row, scratch,
                 scratchOf(row) + n * (t.unitStrips * kStripRows) + layout.sums,
                 kStripRows);
    });
  });
}

} // namespace

void emitLinearOne(LinearKernel &linear, const LinearJob &job) {
  if (linear.inputs && linear.k.tokenClass() == kernel::TokenClass::One)
    return emitLinearIntOne(linear, job);
  if (linear.inputs)
    return emitLinearIntMany(linear, job);
  LinearOne(linear, job).emit();
}

} // namespace retort
