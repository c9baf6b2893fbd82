//===- PackedView.h - Packed weights by their source ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Reads checkpoint tensors back as their packed form decodes, so that compiled
/// code can be compared with a reference that computes with the same weights.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_PACKEDVIEW_H
#define RETORT_COMPILER_PACK_PACKEDVIEW_H

#include "compiler/pack/WeightSpec.h"
#include "runtime/support/Status.h"

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

/// Packed tensors indexed by the checkpoint tensors they were made from. Specs
/// and bytes must outlive it. Thread-safe.
class PackedView {
public:
  /// `section` holds the weights section of the specs in order (see
  /// packWeights).
  static Result<PackedView> create(std::span<const WeightSpec> specs,
                                   std::span<const std::byte> section);

  /// Decodes rows [firstRow, firstRow + numRows) of a two-dimensional tensor
  /// with `cols` columns, or elements of a vector with `cols` = 1. Specs
  /// may share the columns of a row. Of several that hold a row whole the first
  /// counts, or with `last` the last: a tied embedding may be packed once as
  /// embedding, once as output projection. False if no spec holds the rows.
  bool read(std::string_view tensor, int64_t firstRow, int64_t numRows,
            int64_t cols, std::span<float> out, bool last = false) const;

  /// Rounds a row of inputs of a matrix, in the order of the tensor's columns,
  /// as the launches round it that multiply packed matrices with them. Leaves
  /// what those take as it is.
  void roundInputs(std::string_view tensor, std::span<float> row) const;

private:
  /// What a spec holds of a tensor: consecutive rows, or if the run is
  /// transposed the rows of a column run.
  struct Run {
    const WeightSpec *spec;
    const RowRun *run;
    const ColRun *cols; ///< of a transposed run
    std::span<const std::byte> bytes;
    int64_t src, rows; ///< of the tensor
  };
  int64_t readRow(const Run &run, int64_t row, std::vector<float> &decoded,
                  std::span<float> out) const;
  std::map<std::string, std::vector<Run>, std::less<>> byTensor;
};

} // namespace retort

#endif // RETORT_COMPILER_PACK_PACKEDVIEW_H
