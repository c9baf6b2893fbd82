//===- Grid.h - What weights are rounded to ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The grids that post-training quantization rounds weights to: what the
/// compressed-tensors format can store. Scales are bf16 values, and integers
/// are chosen under the rounded scale.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_GRID_H
#define RETORT_COMPILER_PTQ_GRID_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort::ptq {

struct GridForm {
  int bits = 4;         ///< 4 or 8
  bool isFloat = false; ///< fp8 e4m3
  bool zeroPoints = false;
  int64_t groupSize = 0; ///< inputs that share a scale; 0: a whole row

  int64_t groups(int64_t cols) const {
    return groupSize == 0 ? 1 : cols / groupSize;
  }
  int64_t width(int64_t cols) const {
    return groupSize == 0 ? cols : groupSize;
  }
};

/// "int4", "int4-zero-points", "int8" (per row) and "fp8" (per row).
/// `groupSize` is int4's. InvalidArgument for another name.
Result<GridForm> parseGridForm(std::string_view name, int64_t groupSize);

/// What a (row, group) is rounded with.
struct Grid {
  float scale = 1; ///< positive, a bf16 value
  int zero = 0;    ///< in the range of the integers
};

/// The grid from the smallest to the largest weight, as round-to-nearest takes
/// it: symmetric, or through zero points.
Grid fitRange(const GridForm &form, std::span<const float> weights);

/// Of grids over shrunken ranges the one with the least sum of squared errors,
/// each times the importance of its column.
Grid fitWeighted(const GridForm &form, std::span<const float> weights,
                 std::span<const float> importance);

/// The grids of a row [cols], one per group, by fitWeighted(). With `scales`,
/// one per column, they are those of weights times scales, of which each
/// matters by its importance over the square of its scale.
void fitRow(const GridForm &form, std::span<const float> row,
            std::span<const float> importance, std::span<const float> scales,
            std::span<Grid> grids);

/// The integer, or the bits of the fp8 element, that is nearest to a weight.
int8_t roundToGrid(const GridForm &form, const Grid &grid, float weight);
/// What an integer or fp8 element means.
float valueOnGrid(const GridForm &form, const Grid &grid, int8_t quant);

/// A matrix on its grids.
struct QuantizedResult {
  int64_t rows = 0, cols = 0;
  std::vector<int8_t> quants; ///< [rows, cols]
  std::vector<Grid> grids;    ///< [rows, groups]

  QuantizedResult(const GridForm &form, int64_t rows, int64_t cols)
      : rows(rows), cols(cols), quants(static_cast<size_t>(rows * cols)),
        grids(static_cast<size_t>(rows * form.groups(cols))) {}
};

/// Rounds each weight to the nearest value of its grid.
QuantizedResult roundToNearest(const GridForm &form,
                               std::span<const float> weights, int64_t rows,
                               int64_t cols, int threads);

/// Rounds each weight times the scale of its column, if there are scales, to
/// the nearest value of the grid that fitRow() takes.
QuantizedResult roundWeighted(const GridForm &form,
                              std::span<const float> weights, int64_t rows,
                              std::span<const float> importance, int threads,
                              std::span<const float> scales = {});

/// The e4m3 element nearest to a value; magnitudes past 448 become 448.
uint8_t nearestF8(float value);
/// The bf16 value nearest to a positive number.
float nearestBF16(float value);

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_GRID_H
