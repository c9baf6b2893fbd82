//===- Quantizer.h - Encoding of weight strips ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Encodes strips of 32 rows into the blocks of PackedEncoding.h, and decodes
/// them. Results are the same on every processor: only operations that IEEE 754
/// defines are used, in a fixed order and without contraction.
///
/// Integers are rounded to nearest under a scale that minimises the squared
/// error of each (row, group):
/// - int8: q in -127..127; the bf16 scales around max / 127 are tried and the
///   one with the least error is kept.
/// - int2 to int6: of B bits, q in -2^(B-1)..2^(B-1)-1 under a signed scale, or
///   with zero points q in 0..2^B-1; nf4: the nearest value of the codebook.
///   Each candidate scale rounds the group to integers d = q - zeroPoint, for
///   which the best scale is sum(w d) / sum(d d); rounded to bf16 it is kept if
///   the error is the least, and the group is rounded again under it.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_QUANTIZER_H
#define RETORT_COMPILER_PACK_QUANTIZER_H

#include "compiler/encoding/PackedEncoding.h"

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace retort {

/// Integer encodings take weights of magnitudes below this one, so that scales
/// and decoded weights stay finite.
inline constexpr float kMaxQuantizable = 0x1p120f;

/// Sums over weights, from which the relative error of a tensor follows.
struct SquaredError {
  double error = 0;  ///< of (decoded - source)^2
  double source = 0; ///< of source^2

  void add(const SquaredError &other) {
    error += other.error;
    source += other.source;
  }
  /// RMS of (decoded - source) over RMS of source; 0 if exact.
  float relative() const;
};

/// A weight that an encoding can't hold.
struct BadWeight {
  int64_t row; ///< within the strip
  int64_t col;
  float value;
  std::string_view expected; ///< e.g. "a finite value"
};

/// Floats between the beginnings of two rows of a strip of `cols` columns that
/// encodeStrip reads: at least roundUp(cols, kStrideMultiple), and not a
/// multiple of a large power of two, which would make rows fight for cache
/// sets.
constexpr int64_t stripStride(int64_t cols) {
  return roundUp(cols, kStrideMultiple) + 16;
}

/// Encodes 32 rows, `rows[r * stride + k]`, of `cols` columns to
/// `encoding.stripBytes(cols)` bytes at `out`, and adds to `error`.
/// Columns from `cols` to the end of its block must hold zeros. Returns the
/// first weight, by block and then by row, that the encoding can't hold; `out`
/// is then unspecified. Floats are rounded to nearest even and keep subnormals;
/// a value that would round to infinity is an error.
std::optional<BadWeight> encodeStrip(const PackedEncoding &encoding,
                                     const float *rows, int64_t stride,
                                     int64_t cols, std::byte *out,
                                     SquaredError &error);

/// The same for one block: `rows` points to its first column.
std::optional<BadWeight> encodeBlock(const PackedEncoding &encoding,
                                     const float *rows, int64_t stride,
                                     std::byte *out, SquaredError &error);

/// Lays 32 rows of fp8 bits, `bits[r * stride + k]`, and their scales,
/// `scales[r * blocks + b]` (see SpecReader::readF8Strip), out as fp8 blocks.
/// Bits behind the last column must be 0.
void encodeF8Strip(const uint8_t *bits, int64_t stride, const float *scales,
                   int64_t cols, std::byte *out);

/// Marks an integer that has no source.
inline constexpr int16_t kNoQuant = INT16_MIN;

/// Lays 32 rows of a checkpoint's integers out as blocks of an integer encoding
/// that holds them exactly: `quants[r * stride + k]`, signed or kNoQuant, with
/// `scales[r * blocks + b]` and signed `zeros[r * blocks + b]` per block (see
/// SpecReader::readIntegerStrip). Integers behind the last column must be
/// kNoQuant, which decodes to 0.
void encodeIntegerStrip(const PackedEncoding &encoding, const int16_t *quants,
                        int64_t stride, const float *scales,
                        const int8_t *zeros, int64_t cols, std::byte *out);

/// Decodes rows [firstRow, firstRow + numRows) of a packed matrix of `cols`
/// columns into `out[i * cols + k]`. `packed` must hold the strips they lie in.
void decodeRows(const PackedEncoding &encoding,
                std::span<const std::byte> packed, int64_t cols,
                int64_t firstRow, int64_t numRows, std::span<float> out);

/// One element of a packed matrix of `cols` columns.
float decodeElement(const PackedEncoding &encoding,
                    std::span<const std::byte> packed, int64_t cols,
                    int64_t row, int64_t col);

/// Decodes a whole matrix to row-major [rows, cols].
inline void decodeMatrix(const PackedEncoding &encoding,
                         std::span<const std::byte> packed, int64_t rows,
                         int64_t cols, std::span<float> out) {
  decodeRows(encoding, packed, cols, 0, rows, out);
}

} // namespace retort

#endif // RETORT_COMPILER_PACK_QUANTIZER_H
