//===- WeightSpec.h - What the packer is asked for --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A packed tensor described by where its rows and columns come from. The
/// planner writes these, the packer streams them.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_WEIGHTSPEC_H
#define RETORT_COMPILER_PACK_WEIGHTSPEC_H

#include "compiler/encoding/ActivationEncoding.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace retort {

/// `rows` consecutive rows of a checkpoint tensor, beginning with `srcRow`,
/// become packed rows from `dstRow` on: row srcRow + i goes to packed row
/// dstRow + (i / 32) * stripStride + i % 32. A stride of 64 interleaves two
/// tensors strip by strip.
struct RowRun {
  std::string tensor;
  int64_t srcRow = 0;
  int64_t rows = 0;
  int64_t dstRow = 0;
  int64_t stripStride = kStripRows; ///< a positive multiple of 32
  /// Added to the source column of every column run; 0 for vectors.
  int64_t colShift = 0;
  /// Rows of the packed matrix are columns of the tensor: packed element
  /// (dstRow + i, dstCol + j) = tensor[srcCol + colShift + j][srcRow + i], with
  /// strips strided as above. Not for vectors.
  bool transposed = false;

  /// From the first packed row to behind the last, gaps included.
  int64_t packedSpan() const {
    return rows == 0 ? 0
                     : (rows - 1) / kStripRows * stripStride +
                           (rows - 1) % kStripRows + 1;
  }
};

/// `cols` consecutive source columns become the packed columns from `dstCol`
/// on.
struct ColRun {
  int64_t srcCol = 0;
  int64_t cols = 0;
  int64_t dstCol = 0;
};

/// Whether column runs would bring elements of two source scales into a packed
/// block of `blockCols` columns. `scaleBlock` elements of a tensor row share a
/// scale (of a column, for transposed runs).
inline bool mixesScales(std::span<const ColRun> runs, int64_t colShift,
                        int64_t scaleBlock, int64_t blockCols = kFp8BlockCols) {
  std::map<int64_t, int64_t> scaleOf; // by packed block
  for (const ColRun &run : runs)
    for (int64_t j = 0; j < run.cols;) {
      int64_t dst = run.dstCol + j, src = run.srcCol + colShift + j;
      auto [it, isNew] = scaleOf.try_emplace(dst / blockCols, src / scaleBlock);
      if (it->second != src / scaleBlock)
        return true;
      j += std::min(blockCols - dst % blockCols, scaleBlock - src % scaleBlock);
    }
  return false;
}

enum class WeightForm : uint8_t {
  Matrix, ///< in PackedEncoding's layout
  Vector, ///< f32 elements in order; `rows` is 1, row runs read 1-D tensors:
          ///< srcRow, rows and dstRow count elements
  Literal ///< `literal` as it is
};

struct WeightSpec {
  std::string name;
  WeightForm form = WeightForm::Matrix;
  PackedEncoding encoding; ///< of a matrix
  int64_t rows = 0; ///< packed shape; rows and columns that no run covers are 0
  int64_t cols = 0;
  std::vector<RowRun> rowRuns;
  std::vector<ColRun> colRuns; ///< for matrices; the same for all row runs
  std::vector<std::byte> literal;
  /// How the rows that a matrix is multiplied with are quantized; plain if
  /// none. Not stored: it tells the reference how the kernels round.
  std::optional<ActivationEncoding> inputs = std::nullopt;

  /// Bytes in the weights section, without padding to the next tensor.
  int64_t bytes() const {
    switch (form) {
    case WeightForm::Matrix:
      return encoding.matrixBytes(rows, cols);
    case WeightForm::Vector:
      return cols * 4;
    case WeightForm::Literal:
      return static_cast<int64_t>(literal.size());
    }
    return 0;
  }
};

} // namespace retort

#endif // RETORT_COMPILER_PACK_WEIGHTSPEC_H
