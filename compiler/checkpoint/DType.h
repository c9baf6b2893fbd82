//===- DType.h - Exact conversions to f32 -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Conversion of stored elements to f32. Every value of f32, bf16, f16 and
/// fp8 e4m3 is a value of f32, so all of these are exact, but for the scales of
/// fp8 blocks: an element times its scale is rounded to f32 once.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_DTYPE_H
#define RETORT_COMPILER_CHECKPOINT_DTYPE_H

#include "compiler/checkpoint/Safetensors.h"
#include "runtime/support/DType.h"
#include "runtime/support/Status.h"

#include <span>

namespace retort::checkpoint {

/// True for the types that convertToF32 takes: F32, BF16, F16, F8E4M3.
bool isFloatWeight(DType dtype);

/// Converts `dst.size()` elements that lie, possibly unaligned, in `src`.
/// NaNs stay NaNs, signed zeros and subnormals are kept, whatever the
/// processor's denormal mode is. Errors: Unsupported for other types,
/// InvalidArgument if `src` is not `dst.size()` elements long.
Status convertToF32(DType dtype, std::span<const std::byte> src,
                    std::span<float> dst);

/// A rectangle of a matrix. A vector is a matrix of one column.
struct ElementRange {
  int64_t row = 0, rows = 0; ///< [row, row + rows)
  int64_t col = 0, cols = 0; ///< [col, col + cols)
};

/// Converts a rectangle of a vector or matrix to f32, with the scales of its
/// blocks applied: element (r, c) goes to
/// `out[(r - range.row) * stride + c - range.col]`; other elements of `out` are
/// kept. This is what the tensor means; use it wherever values are read.
/// Thread-safe. Errors: Unsupported for other types, InvalidArgument for a
/// range outside the tensor or another rank, InvalidData naming file, tensor,
/// row and column for an fp8 NaN.
Status readBlock(const TensorView &tensor, const ElementRange &range,
                 float *out, int64_t stride);

/// Converts rows [firstRow, firstRow + numRows), whole, one after the other;
/// elements of a vector are its rows. Errors as readBlock's, and
/// InvalidArgument if `out` has another size.
Status readRows(const TensorView &tensor, int64_t firstRow, int64_t numRows,
                std::span<float> out);

/// For a reader of raw fp8 bytes: refuses a NaN among rows
/// [firstRow, firstRow + numRows) as readBlock does; other types pass.
Status refuseF8NaN(const TensorView &tensor, int64_t firstRow, int64_t numRows);

/// IEEE binary16 to f32.
float f16ToF32(uint16_t bits);
/// bfloat16 to f32.
float bf16ToF32(uint16_t bits);
/// OCP FP8 E4M3 (bias 7, no infinities, S.1111.111 is NaN) to f32.
float f8e4m3ToF32(uint8_t bits);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_DTYPE_H
