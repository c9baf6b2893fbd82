//===- EmitLinearIntOne.cpp - Integer matrix times one token --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// ```
/// for each group of 32 columns
///   x = its words, each in all lanes       in registers
///   for each strip of the tile             distant streams, read side by side
///     for each step of columns
///       for each register of rows
///         products += quants * x           integers
///     for each register of rows
///       sums[strip] += scales * float(products - zero points * sum of x)
/// ```
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/Dot.h"
#include "compiler/lower/LinearKernel.h"

using namespace mlir;

namespace retort {
namespace {

using Values = KernelBuilder::Values;

class LinearIntOne {
public:
  LinearIntOne(LinearKernel &l, const LinearJob &job)
      : l(l), job(job), k(l.k), decode(k, l.weights, l.encoding),
        dot(k, l.encoding), sums(k.view(k.scratch(), k.index(0), k.f32())),
        input(l.quantizes ? k.scratch() : l.x),
        words(k.view(input, k.index(0), k.i32())),
        scales(k.view(input, k.index(0), k.f32())), row(prepareInput()) {}

  void emit();

private:
  /// Finds the input's quants, or makes them in scratch.
  LinearKernel::QuantizedRow prepareInput();
  /// A group of the input, in all lanes.
  struct Input {
    Values words;
    Value scale;
    Value negatedSums; ///< for narrow weights alone
  };
  Input loadInput(Index group);
  Value start(const Input &x, Index block, int64_t v) {
    return dot.start(
        x.negatedSums,
        l.encoding.zeroPoints
            ? dot.zeroPointWords(decode.loadZeroPointInts(block, v))
            : Value());
  }
  /// Adds a group's products to a strip's sums.
  void addStrip(const Input &x, Index block, Index groupInBlock,
                MutableArrayRef<Value> sums);
  /// Calls `body(input, byte of the block in its strip, group in the block,
  /// sums)` for each group; the sums are carried from one to the next.
  Values
  forGroups(Values sums,
            function_ref<void(const Input &, Index, Index, Values &)> body);
  void emitWhole(function_ref<Index(Index)> stripBase);
  void emitLoop(Index strips, function_ref<Index(Index)> stripBase);

  LinearKernel &l;
  const LinearJob &job;
  KernelBuilder &k;
  Decoder decode;
  GroupDot dot;
  Buffer sums, input, words, scales;
  LinearKernel::QuantizedRow row;
};

LinearKernel::QuantizedRow LinearIntOne::prepareInput() {
  if (!l.quantizes)
    return l.quantizedRow(job.xBase);
  LinearIntOneScratch layout(l.tiling, *l.inputs, l.encoding, l.cols);
  LinearKernel::QuantizedRow to = {
      k.index(layout.quants), k.index(layout.scales), k.index(layout.sums)};
  k.forLoop(k.index(0), k.index(l.groups()), 1, [&](Index g) {
    l.quantizeGroup(job.xBase + g * kActivationGroup)
        .store(k, input, to.quants + g * dot.steps(), to.scales + g,
               to.sums + g);
  });
  return to;
}

LinearIntOne::Input LinearIntOne::loadInput(Index group) {
  Input x;
  for (int64_t i = 0; i < dot.steps(); ++i)
    x.words.push_back(k.loadSplat(words, row.quants + group * dot.steps() + i));
  for (int64_t i = 0; i < dot.steps(); i += 2)
    std::tie(x.words[i], x.words[i + 1]) =
        dot.prepare(x.words[i], x.words[i + 1]);
  x.scale = k.loadSplat(scales, row.scales + group);
  if (l.encoding.isNarrow())
    x.negatedSums = k.loadSplat(words, row.sums + group);
  return x;
}

void LinearIntOne::addStrip(const Input &x, Index block, Index groupInBlock,
                            MutableArrayRef<Value> sums) {
  Index first = groupInBlock * kActivationGroup;
  int64_t vectors = l.vectors();
  // All of a block in the order of memory: its stream is then one that the
  // processor runs ahead of. Zero points lie behind the rest.
  bool endsWithStart = l.encoding.isNarrow() && l.encoding.zeroPoints;
  Values acc(vectors);
  if (!endsWithStart)
    for (int64_t v = 0; v < vectors; ++v)
      acc[v] = start(x, block, v);
  for (int64_t i = 0; i < dot.steps() / 2; ++i)
    for (int64_t v = 0; v < vectors; ++v) {
      auto [w0, w1] = dot.load(decode, block, first, i, v);
      acc[v] = dot.addPair(acc[v], w0, x.words[2 * i], w1, x.words[2 * i + 1]);
    }
  for (int64_t v = 0; v < vectors; ++v) {
    Value rowScales = decode.loadScales(block, v);
    if (endsWithStart)
      acc[v] = k.add(acc[v], start(x, block, v));
    Value products = k.intToFloat(dot.finish(acc[v]), k.f32());
    sums[v] = k.fma(k.mul(rowScales, x.scale), products, sums[v]);
  }
}

Values LinearIntOne::forGroups(
    Values sums,
    function_ref<void(const Input &, Index, Index, Values &)> body) {
  int64_t perBlock = l.groupsPerBlock();
  return k.forLoop(k.index(0), k.index(l.groups()), 1, sums,
                   [&](Index g, ValueRange carried) {
                     Values sums(carried.begin(), carried.end());
                     body(loadInput(g), g / perBlock * l.encoding.blockBytes(),
                          g % perBlock, sums);
                     return sums;
                   });
}

/// All strips of a tile in one loop body.
void LinearIntOne::emitWhole(function_ref<Index(Index)> stripBase) {
  int64_t strips = l.tiling.stripsPerTile();
  SmallVector<Index> bases;
  for (int64_t s = 0; s < strips; ++s)
    bases.push_back(stripBase(k.index(s)));
  Values zeros(strips * l.vectors(), k.zero(k.vecF32()));
  Values results = forGroups(
      zeros, [&](const Input &x, Index block, Index group, Values &sums) {
        for (int64_t s = 0; s < strips; ++s)
          addStrip(x, bases[s] + block, group,
                   MutableArrayRef(sums).slice(s * l.vectors(), l.vectors()));
      });
  for (auto [i, sum] : llvm::enumerate(results))
    k.store(sum, sums, k.index(static_cast<int64_t>(i) * k.lanes()),
            4 * k.lanes());
}

/// Strips in a loop, with their sums in scratch.
void LinearIntOne::emitLoop(Index strips,
                            function_ref<Index(Index)> stripBase) {
  k.forLoop(k.index(0), strips * kStripRows, k.lanes(), [&](Index at) {
    k.store(k.zero(k.vecF32()), sums, at, 4 * k.lanes());
  });
  forGroups({}, [&](const Input &x, Index block, Index group, Values &) {
    k.forLoop(k.index(0), strips, 1, [&](Index s) {
      Index at = s * kStripRows;
      Values acc;
      for (int64_t v = 0; v < l.vectors(); ++v)
        acc.push_back(k.loadVector(sums, at + v * k.lanes()));
      addStrip(x, stripBase(s) + block, group, acc);
      for (int64_t v = 0; v < l.vectors(); ++v)
        k.store(acc[v], sums, at + v * k.lanes(), 4 * k.lanes());
    });
  });
}

void LinearIntOne::emit() {
  // Units tile, tile + tiles, tile + 2 tiles, ... below the number of units.
  const LinearTiling &t = l.tiling;
  Index units = (k.index(t.units + t.tiles - 1) - job.tile) / t.tiles;
  Index strips = units * t.unitStrips;
  auto unitOf = [&](Index n) { return n * t.tiles + job.tile; };
  auto stripBase = [&](Index n) {
    Index strip = unitOf(n / t.unitStrips) * t.unitStrips + n % t.unitStrips;
    return job.weightBase + strip * l.encoding.stripBytes(l.cols);
  };
  // A body of four blocks of wide weights is too long: LLVM would not leave its
  // loads in the order of memory. More strips have more sums than registers.
  constexpr int64_t kMostWhole = 4;
  if (!l.encoding.isNarrow())
    emitLoop(strips, stripBase);
  else if (t.stripsPerTile() > kMostWhole)
    emitLoop(strips, stripBase);
  else if (t.tiles * t.unitsPerTile == t.units)
    emitWhole(stripBase);
  else
    k.ifElse(
        strips == t.stripsPerTile(), [&] { emitWhole(stripBase); },
        [&] { emitLoop(strips, stripBase); });
  k.forLoop(k.index(0), units, 1, [&](Index n) {
    job.finish(unitOf(n), k.index(0), sums, n * (t.unitStrips * kStripRows),
               kStripRows);
  });
}

} // namespace

void emitLinearIntOne(LinearKernel &linear, const LinearJob &job) {
  LinearIntOne(linear, job).emit();
}

} // namespace retort
