//===- Tiling.cpp - How a launch is cut into tiles ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Tiling.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace retort {

using namespace kernel;

LinearTiling getLinearTiling(LinearOp op, TokenClass tokens) {
  // Enough tiles to even out the workers' speeds, if the matrix allows it.
  constexpr int64_t kMinTiles = 12;
  LinearTiling tiling;
  tiling.unitStrips = op.getEpilogue() == Epilogue::Swiglu ? 2 : 1;
  int64_t strips = ceilDiv<int64_t>(
      cast<RankedTensorType>(op.getWeight().getType()).getDimSize(0),
      kStripRows);
  tiling.units = ceilDiv(strips, tiling.unitStrips);
  // Four streams of weights come closest to the memory's bandwidth; the sums of
  // eight strips for a token block stay in the second-level cache.
  tiling.unitsPerTile = (tokens == TokenClass::One ? 4 : 8) / tiling.unitStrips;
  while (tiling.unitsPerTile > 1 &&
         ceilDiv(tiling.units, tiling.unitsPerTile) < kMinTiles)
    tiling.unitsPerTile /= 2;
  tiling.tiles = ceilDiv(tiling.units, tiling.unitsPerTile);
  return tiling;
}

static Tiling linearTiling(LinearOp op, TokenClass tokens) {
  LinearTiling linear = getLinearTiling(op, tokens);
  auto type = cast<RankedTensorType>(op.getWeight().getType());
  int64_t elements =
      tokens == TokenClass::One
          ? LinearOneScratch(linear, *encoding::getPackedEncoding(type),
                             type.getDimSize(1))
                .end
          : LinearManyScratch(linear).end;
  return {.tiles = linear.tiles, .scratchBytes = elements * 4};
}

static Tiling attentionTiling(AttentionOp op, TokenClass tokens) {
  AttentionTiling tiling(op, tokens);
  return {.tiles = tiling.tiles,
          .tokensPerTile = tiling.tokensPerTile,
          .scratchBytes = tiling.end * 4};
}

Tiling getTiling(Operation *launch, TokenClass tokens) {
  return TypeSwitch<Operation *, Tiling>(launch)
      .Case([&](LinearOp op) { return linearTiling(op, tokens); })
      .Case([&](EmbedOp) { return Tiling{.tokensPerTile = 1}; })
      .Case([&](RmsNormOp) { return Tiling{.tokensPerTile = 8}; })
      .Case([&](RopeTableOp) { return Tiling{.tokensPerTile = 16}; })
      // The tokens of a cache block, so that two tiles seldom write one line.
      .Case([&](RopeCacheOp) { return Tiling{.tokensPerTile = kCacheBlock}; })
      .Case([&](AttentionOp op) { return attentionTiling(op, tokens); })
      .Default([](Operation *) { return Tiling{}; });
}

} // namespace retort
