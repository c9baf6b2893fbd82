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
};

Tiling getTiling(mlir::Operation *launch, kernel::TokenClass tokens);

/// What a tile of a linear launch covers. A unit is what an output strip needs:
/// one strip of weight rows, or with swiglu a gate and an up strip.
struct LinearTiling {
  int64_t unitStrips; ///< 1, or 2 with swiglu
  int64_t units;
  int64_t tiles;
  /// One token: tile i covers units i, i + tiles, i + 2 tiles ..., at most this
  /// many: distant streams of weights that are read side by side.
  /// Many tokens: tile i covers units i * unitsPerTile and those that follow.
  int64_t unitsPerTile;

  int64_t stripsPerTile() const { return unitsPerTile * unitStrips; }
};

LinearTiling getLinearTiling(kernel::LinearOp op, kernel::TokenClass tokens);

/// Tokens whose sums are kept in scratch while the weights go by, and columns
/// of weights that are decoded at a time, in linear launches of many tokens.
inline constexpr int64_t kLinearTokenBlock = 96;
inline constexpr int64_t kLinearColBlock = 256;

/// Scratch of a linear launch of one token, in f32 elements: a strip's sums for
/// each strip of the tile, the scaled activations, their sums over groups.
struct LinearOneScratch {
  int64_t sums = 0, x, groupSums, end;
  LinearOneScratch(const LinearTiling &tiling, const PackedEncoding &encoding,
                   int64_t cols) {
    int64_t blocks = encoding.blocksPerStrip(cols);
    x = tiling.stripsPerTile() * kStripRows;
    groupSums = x + blocks * encoding.blockCols();
    end = groupSums + roundUp<int64_t>(blocks, 16);
  }
};

/// Scratch of a linear launch of many tokens, in f32 elements: decoded weights
/// [column][32 rows], then sums [strip][token][32 rows].
struct LinearManyScratch {
  int64_t panel = 0, sums, end;
  explicit LinearManyScratch(const LinearTiling &tiling) {
    sums = kLinearColBlock * kStripRows;
    end = sums + tiling.stripsPerTile() * kLinearTokenBlock * kStripRows;
  }
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_TILING_H
