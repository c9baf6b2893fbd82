//===- PackedEncoding.h - How packed weights are laid out -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The byte layout of a packed matrix: the one contract between the packer,
/// which writes it, the kernels, which read it, and the reference decoder in
/// the tests. It is the same for every CPU target.
///
/// A matrix W of R rows (outputs) and K columns (inputs) is cut into strips of
/// 32 rows, and each strip along K into blocks of `blockCols` columns: 32 for
/// floating-point encodings, 128 for fp8, the group size for integers. Blocks
/// of a strip follow each other along K, then comes the next strip. R is padded
/// to strips and K to blocks, and the padding decodes to 0.
///
/// Within a block, `k` counts the block's columns and `r` the strip's rows:
/// ```
/// f32, f16, bf16   element (r, k) at k * 32 + r
/// fp8              the same, bits of OCP e4m3 ("fn")
/// int8             for each 4 columns: 32 rows x 4 bytes, signed:
///                  byte (k / 4) * 128 + r * 4 + k % 4
/// int4             for each 8 columns: 32 rows x 4 bytes; byte b of a row
/// holds
///                  column b in its low nibble and column 4 + b in its high
///                  one: byte (k / 8) * 128 + r * 4 + k % 4, high if k % 8 >= 4
///                  stored value q is unsigned, 0..15
/// ```
/// so that rows end up in vector lanes, whatever their number, and 4
/// consecutive columns in a 32-bit lane. After the quants of an integer block
/// come 32 scales, one per row, and with zero points 32 bytes, one per row:
/// ```
/// int8:  w = scale * q                int4:  w = scale * (q - zeroPoint)
/// ```
/// where zeroPoint is 8 if none are stored. Scales are bf16, or f16 or f32 for
/// what a checkpoint brings along and bf16 would round. After the elements of
/// an fp8 block come 32 f32 scales, one per row: w = scale * element.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_ENCODING_PACKEDENCODING_H
#define RETORT_COMPILER_ENCODING_PACKEDENCODING_H

#include "runtime/support/CheckedMath.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace retort {

enum class EncodingKind : uint8_t { F32, F16, BF16, Int8, Int4, Fp8 };

/// How the scales of integers are stored.
enum class ScaleKind : uint8_t { BF16, F16, F32 };

/// Columns of an fp8 block, which share a scale in each row.
inline constexpr int64_t kFp8BlockCols = 128;

/// Rows of a strip.
inline constexpr int64_t kStripRows = 32;
/// Row strides of activations, and padded row counts of packed matrices that
/// activations are read with, are multiples of this; it is a multiple of every
/// encoding's blockCols.
inline constexpr int64_t kStrideMultiple = 128;

struct PackedEncoding {
  EncodingKind kind = EncodingKind::F32;
  int32_t groupSize = 0;   ///< 32, 64 or 128 for integers; 0 for floats
  bool zeroPoints = false; ///< int4 only
  ScaleKind scales = ScaleKind::BF16; ///< of integers

  bool operator==(const PackedEncoding &) const = default;

  bool isInteger() const {
    return kind == EncodingKind::Int8 || kind == EncodingKind::Int4;
  }
  bool hasScales() const { return isInteger() || kind == EncodingKind::Fp8; }
  int64_t blockCols() const {
    if (kind == EncodingKind::Fp8)
      return kFp8BlockCols;
    return isInteger() ? groupSize : 32;
  }
  /// Bytes of the quants or elements of one block.
  int64_t blockQuantBytes() const {
    int64_t elements = kStripRows * blockCols();
    switch (kind) {
    case EncodingKind::F32:
      return elements * 4;
    case EncodingKind::F16:
    case EncodingKind::BF16:
      return elements * 2;
    case EncodingKind::Int8:
    case EncodingKind::Fp8:
      return elements;
    case EncodingKind::Int4:
      return elements / 2;
    }
    return 0;
  }
  /// Bytes of one scale of an encoding that has some; f32 for fp8.
  int64_t scaleBytes() const {
    return isInteger() && scales != ScaleKind::F32 ? 2 : 4;
  }
  /// Bytes of the 32 scales of a block.
  int64_t blockScaleBytes() const {
    return hasScales() ? kStripRows * scaleBytes() : 0;
  }
  /// Offset of the scales in a block that has them.
  int64_t scaleOffset() const { return blockQuantBytes(); }
  /// Offset of the 32 zero points in a block that has them.
  int64_t zeroPointOffset() const {
    return blockQuantBytes() + blockScaleBytes();
  }
  int64_t blockBytes() const {
    return blockQuantBytes() + blockScaleBytes() +
           (zeroPoints ? kStripRows : 0);
  }
  int64_t blocksPerStrip(int64_t cols) const {
    return ceilDiv(cols, blockCols());
  }
  int64_t stripBytes(int64_t cols) const {
    return blocksPerStrip(cols) * blockBytes();
  }
  /// Bytes of a whole matrix; `rows` and `cols` need not be padded.
  int64_t matrixBytes(int64_t rows, int64_t cols) const {
    return ceilDiv(rows, kStripRows) * stripBytes(cols);
  }

  /// "f32", "f16", "bf16", "fp8", "int8<32>", "int4<128>", "int4<32,
  /// zero_points>", "int4<128, zero_points, f16_scales>".
  std::string str() const;
  static std::optional<PackedEncoding> parse(std::string_view text);
};

} // namespace retort

#endif // RETORT_COMPILER_ENCODING_PACKEDENCODING_H
