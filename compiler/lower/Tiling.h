//===- Tiling.h - How a launch is cut into tiles ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The one place that decides what a tile of a launch computes, shared by the
/// planner, which writes tile counts and scratch sizes into the program, and by
/// the emitters. It depends on the launch and its token class alone, so that
/// one program serves the code of every target.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_TILING_H
#define RETORT_COMPILER_LOWER_TILING_H

#include "dialects/Kernel/Kernel.h"

#include <algorithm>

namespace retort {

/// A launch has `tiles * (tokensPerTile == 0 ? 1 : ceil(n_tokens /
/// tokensPerTile))` tiles, numbered with the token block as the slower index:
/// tile number = token block * tiles + tile within the block.
struct Tiling {
  int64_t tiles = 1;
  int64_t tokensPerTile = 0;
  int64_t scratchBytes = 0; ///< per worker
  /// Whether the kernel is called with tile -1 first (runtime/abi/Kernel.h).
  bool prepares = false;
};

Tiling getTiling(mlir::Operation *launch, kernel::TokenClass tokens);

/// Tokens of a launch of class `few`, at most. Its results are, bit by bit,
/// those of as many launches of one token: drafts can be verified together.
inline constexpr int64_t kFewTokens = 8;

/// The class of the entry that serves `tokens` of a launch: `any` if the code
/// would be the same for all, and `one` for few tokens of attention, whose
/// tiles cover a token each.
kernel::TokenClass entryClass(mlir::Operation *launch,
                              kernel::TokenClass tokens);

/// What a tile of a linear launch covers. A unit is what an output strip needs:
/// one strip of weight rows, or with swiglu a gate and an up strip.
struct LinearTiling {
  int64_t unitStrips; ///< 1, 2 with swiglu, or as many as a head has
  int64_t units;
  int64_t tiles;
  /// One or few tokens: tile i covers units i, i + tiles, i + 2 tiles ..., at
  /// most this many: distant streams of weights that are read side by side.
  /// Many tokens: tile i covers units i * unitsPerTile and those that follow.
  int64_t unitsPerTile;

  int64_t stripsPerTile() const { return unitsPerTile * unitStrips; }
  void setUnitsPerTile(int64_t n) {
    unitsPerTile = n;
    tiles = ceilDiv(units, n);
  }
};

/// What `compile --tune` found: strips a tile for one, many and few tokens (the
/// numbers of these classes), 0 for the table's, and how much faster a kernel
/// is with them. On linear ops: arrays of i64 and f64.
inline constexpr llvm::StringLiteral kStripsAttr = "kernel.strips";
inline constexpr llvm::StringLiteral kGainsAttr = "kernel.gains";

/// The strips a tile that the attribute asks for; 0 if it doesn't.
int64_t tunedStrips(kernel::LinearOp op, kernel::TokenClass tokens);

LinearTiling getLinearTiling(kernel::LinearOp op, kernel::TokenClass tokens);
/// `strips` a tile, as a multiple of `unitStrips`; 0: as many as the table
/// says, or fewer where tiles would be too few.
LinearTiling getLinearTiling(int64_t rows, int64_t unitStrips,
                             kernel::TokenClass tokens, int64_t strips = 0);

/// Tokens whose sums are kept in scratch while the weights go by, and columns
/// of weights that are decoded at a time, in linear launches of many tokens.
inline constexpr int64_t kLinearTokenBlock = 96;
/// The same of integer launches, whose register tiles are faster.
inline constexpr int64_t kLinearIntTokenBlock = 128;
inline constexpr int64_t kLinearColBlock = 128;
static_assert(kLinearColBlock % kStrideMultiple == 0,
              "column blocks must hold whole blocks of every encoding");

/// Scratch of a linear launch of one or a few tokens, in f32 elements: for each
/// token the sums of the tile's strips, those of a block of columns with a
/// scale, the scaled activations, their sums over groups.
struct LinearOneScratch {
  int64_t sums = 0, blockSums, x, groupSums;
  int64_t row; ///< elements from one token's to the next one's
  int64_t end;
  LinearOneScratch(const LinearTiling &tiling, const PackedEncoding &encoding,
                   int64_t cols, int64_t tokens) {
    int64_t blocks = encoding.blocksPerStrip(cols);
    blockSums = tiling.stripsPerTile() * kStripRows;
    x = 2 * blockSums;
    groupSums = x + blocks * encoding.blockCols();
    row = groupSums + roundUp<int64_t>(blocks, 16);
    end = tokens * row;
  }
};

/// Scratch of a linear launch of many tokens, in f32 elements: decoded weights
/// [column][32 rows], then sums [strip][token][32 rows], then, where input rows
/// are gathered, a column block of them [token][column].
struct LinearManyScratch {
  int64_t panel = 0, sums, inputs, end;
  LinearManyScratch(const LinearTiling &tiling, bool gathers) {
    sums = kLinearColBlock * kStripRows;
    inputs = sums + tiling.stripsPerTile() * kLinearTokenBlock * kStripRows;
    // The last register tile may read a row more.
    end = inputs + (gathers ? (kLinearTokenBlock + 1) * kLinearColBlock : 0);
  }
};

/// Scratch of an integer linear launch of one token, in 32-bit elements: the
/// sums of the tile's strips, then, where the launch quantizes its inputs,
/// their row.
struct LinearIntOneScratch {
  int64_t quants, scales, sums, end;
  LinearIntOneScratch(const LinearTiling &tiling,
                      const ActivationEncoding &inputs,
                      const PackedEncoding &weights, int64_t cols) {
    int64_t padded = weights.blocksPerStrip(cols) * weights.blockCols();
    quants = tiling.stripsPerTile() * kStripRows;
    scales = quants + inputs.scalesOffset(padded) / 4;
    sums = quants + inputs.sumsOffset(padded) / 4;
    end = quants + inputs.rowBytes(padded) / 4;
  }
};

/// Tokens of those whose sums are kept at a time.
inline int64_t linearIntTokenBlock(kernel::TokenClass tokens) {
  return tokens == kernel::TokenClass::Few ? kFewTokens : kLinearIntTokenBlock;
}

/// Scratch of an integer linear launch of few or many tokens, of which
/// `tokens` are taken at a time, in 32-bit elements: a
/// group of a strip's weights [step][32 rows], its scales and zero points, sums
/// [strip][token][32 rows], then of a column block of inputs the quants
/// [group][token][words], scales and sums of quants [group][token], then room
/// for the products of a tile (DotTile.h).
struct LinearIntManyScratch {
  static constexpr int64_t kProductWords = 32 * kStripRows;
  int64_t panel = 0, rowScales, zeroPoints, sums, quants, scales, quantSums,
          products, end;
  LinearIntManyScratch(const LinearTiling &tiling,
                       const ActivationEncoding &inputs, int64_t tokens) {
    int64_t groups = groupsAtATime(inputs);
    rowScales = words(inputs) * kStripRows;
    zeroPoints = rowScales + kStripRows;
    sums = zeroPoints + kStripRows;
    quants = sums + tiling.stripsPerTile() * tokens * kStripRows;
    scales = quants + groups * tokens * words(inputs);
    quantSums = scales + groups * tokens;
    products = roundUp<int64_t>(quantSums + groups * tokens, 16);
    end = products + kProductWords;
  }
  /// Of inputs: as many bytes of either kind, so that those of a token block,
  /// with a strip's sums, stay in the first-level cache.
  static constexpr int64_t kIntColBytes = 256;
  static int64_t groupsAtATime(const ActivationEncoding &inputs) {
    return kIntColBytes / kActivationGroup / inputs.quantBytes();
  }
  /// 32-bit words of a group's quants, which meet as many steps of weights.
  static int64_t words(const ActivationEncoding &inputs) {
    return kActivationGroup * inputs.quantBytes() / 4;
  }
};

/// What a tile of a fused launch covers, and its scratch: that of the linear,
/// then the normalized row in f32, the same as the linear takes it, and two
/// heads, as they come from the sums and rotated.
struct FusedTiling {
  LinearTiling linear;
  int64_t row, input, head, rotated, end; ///< bytes
  FusedTiling(kernel::FusedOp op, kernel::TokenClass tokens);
};

/// Positions that an attention tile takes at a time, a multiple of what the
/// cache's blocks hold; the cache is readable up to a multiple of it
/// (kPositionPadding). Rows, each a query head of a token, that share its
/// reads.
inline constexpr int64_t kAttentionBlock = 64;
inline constexpr int64_t kAttentionRows = 96;

/// What a tile of an attention launch covers: one key/value head and the
/// `group` query heads that use it, for `tokensPerTile` tokens. With partials
/// and one token a head has `splits` tiles: tile number = split * heads + head,
/// and a split takes the blocks of positions of numbers split, split + splits,
/// ... Scratch, in f32 elements: queries and results [row][head], the weights
/// of a block of positions [row][kAttentionBlock], sums [row][16], maxima
/// [row], and, if keys and values are decoded before use, a block of either.
/// There are kSpareRows more rows than needed, so that register tiles may run
/// over the last.
struct AttentionTiling {
  static constexpr int64_t kSpareRows = 16;
  int64_t tiles, kvHeads, splits, group, tokensPerTile;
  bool decodes;
  int64_t queries = 0, results, weights, sums, maxima, decoded, end;

  AttentionTiling(kernel::AttentionOp op, kernel::TokenClass tokens) {
    kernel::CacheType cache = op.getKeys().getType();
    bool isMany = tokens == kernel::TokenClass::Many;
    kvHeads = cache.getNumHeads();
    group = static_cast<int64_t>(op.getNumHeads()) / kvHeads;
    splits = op.getPartials() && !isMany
                 ? op.getPartials().getType().getSplits()
                 : 1;
    tiles = kvHeads * splits;
    tokensPerTile = isMany ? std::max<int64_t>(1, kAttentionRows / group) : 1;
    // One token's rows use an element too seldom for a pass of its own.
    decodes = cache.getEncoding().isInt8() ||
              (isMany && cache.getElement() != CacheElement::F32);
    int64_t padded = roundUp(rows() + kSpareRows, kSpareRows);
    results = padded * cache.getHeadSize();
    weights = 2 * results;
    sums = weights + padded * kAttentionBlock;
    maxima = sums + padded * 16;
    decoded = maxima + padded;
    end = decoded + (decodes ? kAttentionBlock * cache.getHeadSize() : 0);
  }
  /// Of a full tile.
  int64_t rows() const { return tokensPerTile * group; }
};

/// A head_linear tile covers some units of one head: tile number =
/// head * linear.tiles + tile of the head.
struct HeadLinearTiling {
  LinearTiling linear; ///< of one head's matrix
  int64_t heads;
  HeadLinearTiling(kernel::HeadLinearOp op, kernel::TokenClass tokens);
};

/// A moe_up tile covers some units of one expert. One token: tile number = slot
/// * linear.tiles + tile of the slot's expert; more: the same with experts in
/// place of slots.
struct MoeUpTiling {
  LinearTiling linear; ///< of one expert's matrix
  int64_t experts, slots;
  MoeUpTiling(kernel::MoeUpOp op, kernel::TokenClass tokens);
};

/// A moe_down tile covers some units of all experts that fire.
struct MoeDownTiling {
  LinearTiling linear; ///< of one expert's matrix
  int64_t experts, slots;
  MoeDownTiling(kernel::MoeDownOp op, kernel::TokenClass tokens);
};

/// A latent attention tile covers kHeads heads of some tokens, which share the
/// cache's rows. Scratch, in f32 elements: for each token queries
/// [dimension][head], shares of a block of positions [position][head], sums and
/// maxima [head] and results [head][rank]; then, if the cache isn't of f32, the
/// block's rows.
struct LatentAttentionTiling {
  static constexpr int64_t kHeads = 16;
  /// Positions of a block: whole register tiles, and rows that stay in the
  /// second-level cache.
  static constexpr int64_t kBlock = 48;
  int64_t tiles, tokens, size, rank;
  int64_t queries = 0, shares, sums, maxima, results;
  int64_t token; ///< elements of one
  int64_t decoded, end;
  LatentAttentionTiling(kernel::LatentAttentionOp op,
                        kernel::TokenClass tokens);
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_TILING_H
