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
///     for each register of rows
///       products = sum of quants * x       integers
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
        words(k.view(l.x, k.index(0), k.i32())),
        scales(k.view(l.x, k.index(0), k.f32())),
        row(l.quantizedRow(job.xBase)) {}

  void emit();

private:
  /// A group of the input, in all lanes.
  struct Input {
    Values words;
    Value scale, sum;
  };
  Input loadInput(Index group);
  void addStrip(const Input &x, Index block, Index groupInBlock, Index at);
  template <typename Strips> void forGroups(Strips strips);

  LinearKernel &l;
  const LinearJob &job;
  KernelBuilder &k;
  Decoder decode;
  GroupDot dot;
  Buffer sums, words, scales;
  LinearKernel::QuantizedRow row;
};

LinearIntOne::Input LinearIntOne::loadInput(Index group) {
  Input x;
  for (int64_t i = 0; i < dot.steps(); ++i)
    x.words.push_back(
        k.loadSplat(words, row.quants + group * dot.steps() + i));
  x.scale = k.loadSplat(scales, row.scales + group);
  if (l.encoding.kind == EncodingKind::Int4)
    x.sum = k.loadSplat(words, row.sums + group);
  return x;
}

void LinearIntOne::addStrip(const Input &x, Index block, Index groupInBlock,
                            Index at) {
  Index first = groupInBlock * kActivationGroup;
  for (int64_t v = 0; v < l.vectors(); ++v) {
    Value acc;
    for (int64_t i = 0; i < dot.packedWords(); ++i) {
      Value packed = decode.loadWords(
          block, first + i * columnStep(l.encoding), v);
      auto [w0, w1] = dot.unpack(packed);
      acc = dot.addPair(acc, w0, x.words[2 * i], w1, x.words[2 * i + 1]);
    }
    Value products = decode.subtractZeroPoints(dot.finish(acc), x.sum, block, v);
    Value scale = k.mul(decode.loadScales(block, v), x.scale);
    Index to = at + v * k.lanes();
    k.store(k.fma(scale, k.intToFloat(products, k.f32()),
                  k.loadVector(sums, to)),
            sums, to, 4 * k.lanes());
  }
}

/// Calls `strips(input, byte of the block in its strip, group in the block)`.
template <typename Strips> void LinearIntOne::forGroups(Strips strips) {
  int64_t perBlock = l.groupsPerBlock();
  k.forLoop(k.index(0), k.index(l.encoding.blocksPerStrip(l.cols)), 1,
            [&](Index b) {
              Index block = b * l.encoding.blockBytes();
              if (perBlock == 1)
                return strips(loadInput(b), block, k.index(0));
              k.forLoop(k.index(0), k.index(perBlock), 1, [&](Index g) {
                strips(loadInput(b * perBlock + g), block, g);
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

  k.forLoop(k.index(0), strips * kStripRows, k.lanes(), [&](Index at) {
    k.store(k.zero(k.vecF32()), sums, at, 4 * k.lanes());
  });
  // Side by side in one loop body if the tile is whole.
  auto whole = [&] {
    SmallVector<Index> bases;
    for (int64_t s = 0; s < t.stripsPerTile(); ++s)
      bases.push_back(stripBase(k.index(s)));
    forGroups([&](const Input &x, Index block, Index group) {
      for (int64_t s = 0; s < t.stripsPerTile(); ++s)
        addStrip(x, bases[s] + block, group, k.index(s * kStripRows));
    });
  };
  auto rest = [&] {
    forGroups([&](const Input &x, Index block, Index group) {
      k.forLoop(k.index(0), strips, 1, [&](Index s) {
        addStrip(x, stripBase(s) + block, group, s * kStripRows);
      });
    });
  };
  if (t.units % t.unitsPerTile == 0 && t.tiles * t.unitsPerTile == t.units)
    whole();
  else
    k.ifElse(strips == t.stripsPerTile(), whole, rest);
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
