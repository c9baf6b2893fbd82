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

int64_t tunedStrips(LinearOp op, TokenClass tokens) {
  auto strips = op->getAttrOfType<DenseI64ArrayAttr>(kStripsAttr);
  auto number = static_cast<int64_t>(tokens);
  return strips && number < strips.size() ? std::max<int64_t>(0, strips[number])
                                          : 0;
}

LinearTiling getLinearTiling(LinearOp op, TokenClass tokens) {
  return getLinearTiling(
      cast<RankedTensorType>(op.getWeight().getType()).getDimSize(0),
      op.getEpilogue() == Epilogue::Swiglu ? 2 : 1, tokens,
      tunedStrips(op, tokens));
}

/// Four streams of weights come closest to the memory's bandwidth; the sums of
/// sixteen strips for a token block stay in the second-level cache.
static int64_t stripsOfTile(TokenClass tokens) {
  return tokens == TokenClass::Many ? 16 : 4;
}

LinearTiling getLinearTiling(int64_t rows, int64_t unitStrips,
                             TokenClass tokens, int64_t strips) {
  // Enough tiles to even out the workers' speeds, if the matrix allows it.
  constexpr int64_t kMinTiles = 12;
  LinearTiling tiling;
  tiling.unitStrips = unitStrips;
  tiling.units = ceilDiv(ceilDiv(rows, kStripRows), unitStrips);
  tiling.unitsPerTile = std::max<int64_t>(
      1, (strips ? strips : stripsOfTile(tokens)) / unitStrips);
  while (strips == 0 && tiling.unitsPerTile > 1 &&
         ceilDiv(tiling.units, tiling.unitsPerTile) < kMinTiles)
    tiling.unitsPerTile /= 2;
  tiling.tiles = ceilDiv(tiling.units, tiling.unitsPerTile);
  return tiling;
}

namespace {

int64_t rowsOf(Value weight) {
  return cast<RankedTensorType>(weight.getType()).getDimSize(0);
}

int64_t linearScratchBytes(const LinearTiling &linear, Value x, Value weight,
                           TokenClass tokens, bool gathers,
                           bool quantizes = false) {
  auto type = cast<RankedTensorType>(weight.getType());
  PackedEncoding weights = *encoding::getPackedEncoding(type);
  auto inputs = quantizes ? ActivationEncoding::forWeights(weights)
                          : encoding::getActivationEncoding(x.getType());
  if (inputs)
    return 4 * (tokens == TokenClass::One
                    ? LinearIntOneScratch(linear, *inputs, weights,
                                          type.getDimSize(1))
                          .end
                    : LinearIntManyScratch(linear, *inputs,
                                           linearIntTokenBlock(tokens))
                          .end);
  int64_t elements =
      tokens == TokenClass::Many
          ? LinearManyScratch(linear, gathers).end
          : LinearOneScratch(linear, weights, type.getDimSize(1),
                             tokens == TokenClass::One ? 1 : kFewTokens)
                .end;
  return elements * 4;
}

Tiling linearTiling(LinearOp op, TokenClass tokens) {
  LinearTiling linear = getLinearTiling(op, tokens);
  return {.tiles = linear.tiles,
          .scratchBytes = linearScratchBytes(linear, op.getX(), op.getWeight(),
                                             tokens, /*gathers=*/false)};
}

Tiling headLinearTiling(HeadLinearOp op, TokenClass tokens) {
  HeadLinearTiling tiling(op, tokens);
  return {.tiles = tiling.heads * tiling.linear.tiles,
          .scratchBytes =
              linearScratchBytes(tiling.linear, op.getX(), op.getWeight(),
                                 tokens, /*gathers=*/false,
                                 /*quantizes=*/true)};
}

Tiling moeUpTiling(MoeUpOp op, TokenClass tokens) {
  MoeUpTiling tiling(op, tokens);
  bool one = tokens == TokenClass::One;
  return {.tiles = (one ? tiling.slots : tiling.experts) * tiling.linear.tiles,
          .scratchBytes =
              linearScratchBytes(tiling.linear, op.getX(), op.getWeight(),
                                 tokens, /*gathers=*/true)};
}

Tiling moeDownTiling(MoeDownOp op, TokenClass tokens) {
  MoeDownTiling tiling(op, tokens);
  return {.tiles = tiling.linear.tiles,
          .scratchBytes =
              linearScratchBytes(tiling.linear, op.getX(), op.getWeight(),
                                 tokens, /*gathers=*/true)};
}

} // namespace

HeadLinearTiling::HeadLinearTiling(HeadLinearOp op, TokenClass tokens)
    : heads(op.getHeads()) {
  linear = getLinearTiling(rowsOf(op.getWeight()) / heads, 1, tokens);
  // Heads are tiles enough.
  linear.setUnitsPerTile(std::min(stripsOfTile(tokens), linear.units));
}

MoeUpTiling::MoeUpTiling(MoeUpOp op, TokenClass tokens)
    : experts(op.getLists().getType().getNumExperts()),
      slots(op.getLists().getType().getSlots()) {
  linear = getLinearTiling(rowsOf(op.getWeight()) / experts, 2, tokens);
  // So are experts; the slots of one token may be few.
  if (tokens != TokenClass::One)
    linear.setUnitsPerTile(
        std::min(stripsOfTile(tokens) / linear.unitStrips, linear.units));
}

MoeDownTiling::MoeDownTiling(MoeDownOp op, TokenClass tokens)
    : experts(op.getLists().getType().getNumExperts()),
      slots(op.getLists().getType().getSlots()) {
  linear = getLinearTiling(rowsOf(op.getWeight()) / experts, 1, tokens);
}

FusedTiling::FusedTiling(FusedOp op, TokenClass tokens) {
  LinearOp launch = op.getLinear();
  RopeCacheOp rope = op.getRope();
  int64_t headSize = rope ? rope.getKeys().getType().getHeadSize() : 0;
  linear =
      rope ? getLinearTiling(rowsOf(launch.getWeight()), headSize / kStripRows,
                             tokens, tunedStrips(launch, tokens))
           : getLinearTiling(launch, tokens);
  auto line = [](int64_t bytes) { return roundUp<int64_t>(bytes, 64); };
  row = line(linearScratchBytes(linear, launch.getX(), launch.getWeight(),
                                tokens, /*gathers=*/false));
  bool hasNorm = op.getNorm() != nullptr;
  int64_t stride = strideOf(launch.getX());
  input = row + (hasNorm ? line(4 * stride) : 0);
  auto inputs = encoding::getActivationEncoding(launch.getX().getType());
  head = input + (hasNorm && inputs ? line(inputs->rowBytes(stride)) : 0);
  rotated = head + line(4 * headSize);
  end = rotated + line(4 * headSize);
}

LatentAttentionTiling::LatentAttentionTiling(LatentAttentionOp op,
                                             TokenClass tokenClass)
    : tiles(ceilDiv<int64_t>(op.getNumHeads(), kHeads)),
      // Few enough for their part to stay in the second-level cache.
      tokens(tokenClass == TokenClass::Many ? 4 : 1),
      size(op.getCache().getType().getHeadSize()), rank(op.getRank()) {
  shares = size * kHeads;
  sums = shares + kBlock * kHeads;
  maxima = sums + kHeads;
  results = maxima + kHeads;
  // The rotary parts of the queries pass through the results' place.
  token = results + kHeads * std::max(rank, size - rank);
  decoded = token * tokens;
  bool decodes = op.getCache().getType().getElement() != CacheElement::F32;
  end = decoded + (decodes ? kBlock * size : 0);
}

static Tiling attentionTiling(AttentionOp op, TokenClass tokens) {
  AttentionTiling tiling(op, tokens);
  return {.tiles = tiling.tiles,
          .tokensPerTile = tiling.tokensPerTile,
          .scratchBytes = tiling.end * 4};
}

TokenClass entryClass(Operation *launch, TokenClass tokens) {
  if (isa<LinearOp, FusedOp, HeadLinearOp, MoeUpOp, MoeDownOp>(launch))
    return tokens;
  if (isa<AttentionOp, LatentAttentionOp>(launch))
    return tokens == TokenClass::Many ? tokens : TokenClass::One;
  return TokenClass::Any;
}

Tiling getTiling(Operation *launch, TokenClass tokens) {
  return TypeSwitch<Operation *, Tiling>(launch)
      .Case([&](LinearOp op) { return linearTiling(op, tokens); })
      .Case([&](FusedOp op) {
        FusedTiling tiling(op, tokens);
        return Tiling{.tiles = tiling.linear.tiles,
                      .scratchBytes = tiling.end,
                      .prepares = op.getNorm() != nullptr};
      })
      .Case([&](EmbedOp) { return Tiling{.tokensPerTile = 1}; })
      .Case([&](RmsNormOp op) {
        // A row on its way to its quants.
        bool isPlain = isPlainActivation(op.getResult().getType());
        return Tiling{.tokensPerTile = 8,
                      .scratchBytes =
                          isPlain ? 0 : strideOf(op.getResult()) * 4};
      })
      .Case([&](RopeTableOp) { return Tiling{.tokensPerTile = 16}; })
      // The tokens of a cache block, so that two tiles seldom write one line.
      .Case([&](RopeCacheOp op) {
        return Tiling{.tokensPerTile = kCacheBlock,
                      .scratchBytes = op.getKeys().getType().getHeadSize() * 4};
      })
      .Case([&](AttentionOp op) { return attentionTiling(op, tokens); })
      .Case([&](HeadLinearOp op) { return headLinearTiling(op, tokens); })
      .Case([&](LatentCacheOp op) {
        CacheType cache = op.getCache().getType();
        bool isPlain = cache.getElement() == CacheElement::F32;
        return Tiling{.tokensPerTile = 8,
                      .scratchBytes = isPlain ? 0 : cache.getHeadSize() * 4};
      })
      .Case([&](LatentAttentionOp op) {
        LatentAttentionTiling tiling(op, tokens);
        return Tiling{.tiles = tiling.tiles,
                      .tokensPerTile = tiling.tokens,
                      .scratchBytes = tiling.end * 4};
      })
      .Case([&](MoeRouteOp op) {
        // Scores, the choice, the groups' scores, and marks: all f32 or i32.
        int64_t padded = roundUp<int64_t>(op.getExperts(), 16);
        return Tiling{.tokensPerTile = 4,
                      .scratchBytes =
                          (3 * padded + roundUp<int64_t>(op.getGroups(), 16)) *
                          4};
      })
      .Case([&](MoeGroupOp op) {
        return Tiling{.scratchBytes =
                          op.getLists().getType().entriesOffset() * 4};
      })
      .Case([&](MoeUpOp op) { return moeUpTiling(op, tokens); })
      .Case([&](MoeDownOp op) { return moeDownTiling(op, tokens); })
      .Default([](Operation *) { return Tiling{}; });
}

} // namespace retort
