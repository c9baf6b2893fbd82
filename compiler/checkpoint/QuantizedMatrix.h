//===- QuantizedMatrix.h - Integers with scales -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A matrix of integers with scales, as GPTQ, AWQ and compressed-tensors tools
/// store it, behind one way to read it: element (r, c) of the [outputs, inputs]
/// matrix is
/// ```
/// scale(r, g) * (quant(r, c) - zero(r, g))     g = group(c)
/// ```
/// with signed integers of 4 or 8 bits, whatever offset the file has them with.
/// The difference is exact; the product is rounded to f32 once, which f16 and
/// bf16 scales don't need.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_QUANTIZEDMATRIX_H
#define RETORT_COMPILER_CHECKPOINT_QUANTIZEDMATRIX_H

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/Safetensors.h"

#include <cstdint>
#include <functional>
#include <optional>

namespace retort::checkpoint {

/// How files lay out integers. Words are 32 bits, elements in them lie from the
/// lowest bits on; a word has 8 elements of 4 bits or 4 of 8.
enum class QuantLayout : uint8_t {
  /// Words [inputs / n, outputs] of neighbouring inputs; zero points
  /// [groups, outputs / n], scales [groups, outputs].
  Gptq,
  /// Words [inputs, outputs / 8]; the nibbles of a word belong to outputs
  /// 0, 2, 4, 6, 1, 3, 5, 7. Zero points and scales are as Gptq's, with the
  /// nibbles' order.
  Awq,
  /// Words [outputs, ceil(inputs / n)] of neighbouring inputs; zero points
  /// [ceil(outputs / n), groups], scales [outputs, groups].
  Packed,
  /// Bytes [outputs, inputs], signed; zero points and scales [outputs, groups].
  Plain,
};

struct QuantizedMatrix {
  QuantLayout layout = QuantLayout::Plain;
  int bits = 4;              ///< 4 or 8
  int64_t rows = 0;          ///< outputs
  int64_t cols = 0;          ///< inputs
  int64_t groupSize = 0;     ///< inputs that share a scale, 1 to cols
  int64_t groups = 0;        ///< ceil(cols / groupSize)
  bool oneScale = false;     ///< one for the whole matrix; one group
  bool zerosLessOne = false; ///< zero points are stored less one, modulo 2^bits
  /// Some zero point is not 0: QuantizedMatrix::zero is not constant.
  bool hasZeros = false;
  /// Column c has group groupIndex[c], in any order, else c / groupSize.
  bool actOrder = false;

  /// As the file has them. `weights` and `scales` have bytes unless the
  /// checkpoint was opened without weights.
  TensorView weights, scales;
  std::optional<TensorView> zeros;
  std::optional<TensorView> groupIndex;

  int64_t groupOf(int64_t col) const {
    if (!actOrder)
      return col / groupSize;
    int32_t group;
    std::memcpy(&group, groupIndex->bytes.data() + static_cast<size_t>(col) * 4,
                4);
    return group;
  }
  float scale(int64_t row, int64_t group) const;
  /// In [-2^(bits - 1), 2^(bits - 1)), as quants are.
  int zero(int64_t row, int64_t group) const;
  /// The quant of (r, c) goes to `out[(r - range.row) * stride + c -
  /// range.col]`. The range must lie within the matrix.
  void readQuants(const ElementRange &range, int16_t *out,
                  int64_t stride) const;
  /// The same for what the elements mean.
  void readValues(const ElementRange &range, float *out, int64_t stride) const;

  /// The tensors that the matrix consists of.
  void forEachPart(const std::function<void(const TensorView &)> &visit) const;
  /// Their bytes.
  uint64_t storedBytes() const;
};

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_QUANTIZEDMATRIX_H
