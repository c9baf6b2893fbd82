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
/// ```
/// so that rows end up in vector lanes, whatever their number. Integers, and
/// indices of a codebook, lie in planes: 8 bits are one plane of 8, 6 bits one
/// of the low 4 and one of the high 2, 5 bits 4 and 1, 4 bits one of 4, 3 bits
/// 2 and 1, 2 bits one of 2. Of every 32 columns come the planes one after the
/// other; a plane of p bits takes p words of 4 bytes for a row, each word of
/// all 32 rows before the next:
/// ```
/// column 4 j + b   (b < 4, j < 8) is in byte b of word j / (8 / p), from bit
///                  p * (j % (8 / p)) on:
///                  byte word * 128 + r * 4 + b of the plane
/// ```
/// so that 4 consecutive columns are the bytes of a 32-bit lane after one shift
/// and one mask. For 4 bits a byte thus holds column b in its low and column
/// 4 + b in its high nibble, for 8 bits one column.
///
/// After the quants of an integer block come 32 scales, one per row, and with
/// zero points 32 bytes, one per row:
/// ```
/// int8         w = scale * q                 q signed
/// int2 - int6  w = scale * (q - zeroPoint)   q unsigned
/// nf4          w = scale * kNF4[q]
/// ```
/// where zeroPoint is the middle, 2^(bits - 1), if none are stored. Scales are
/// bf16, or f16 or f32 for what a checkpoint brings along and bf16 would round.
/// After the elements of an fp8 block come 32 f32 scales, one per row:
/// w = scale * element.
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

enum class EncodingKind : uint8_t {
  F32,
  F16,
  BF16,
  Int8,
  Int4,
  Fp8,
  Int2,
  Int3,
  Int5,
  Int6,
  NF4
};

/// The sixteen values of NormalFloat (QLoRA, arXiv 2305.14314, appendix E) in
/// units of 1 / 127, rounded: quantiles of a normal distribution.
inline constexpr int8_t kNF4[16] = {-127, -88, -67, -50, -36, -23, -12, 0,
                                    10,   20,  31,  43,  56,  71,  92,  127};

/// What sets the encodings of integers apart. Packer, kernels, reference and
/// options go by this table.
struct IntegerFormat {
  EncodingKind kind;
  std::string_view name;
  int bits;
  int lowBits; ///< of the first plane; the rest are in the second
  /// Unsigned, less a zero point that may be stored.
  bool hasZeroPoint;
  /// Fits a byte so far from its limits that a group's products with bytes sum
  /// up in 16 bits: multiplied with int8 activations, the others with int16.
  bool isNarrow;
  const int8_t *codebook; ///< of 2^bits values; null: q itself

  int numPlanes() const { return lowBits < bits ? 2 : 1; }
  int planeBits(int plane) const { return plane ? bits - lowBits : lowBits; }
  /// Of a quant's bits, the first that a plane holds.
  int planeShift(int plane) const { return plane ? lowBits : 0; }
};

inline constexpr IntegerFormat kIntegerFormats[] = {
    {EncodingKind::Int8, "int8", 8, 8, false, false, nullptr},
    {EncodingKind::Int6, "int6", 6, 4, true, false, nullptr},
    {EncodingKind::Int5, "int5", 5, 4, true, false, nullptr},
    {EncodingKind::Int4, "int4", 4, 4, true, true, nullptr},
    {EncodingKind::NF4, "nf4", 4, 4, false, false, kNF4},
    {EncodingKind::Int3, "int3", 3, 2, true, true, nullptr},
    {EncodingKind::Int2, "int2", 2, 2, true, true, nullptr},
};

/// Null for floats.
constexpr const IntegerFormat *integerFormat(EncodingKind kind) {
  for (const IntegerFormat &format : kIntegerFormats)
    if (format.kind == kind)
      return &format;
  return nullptr;
}

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
  bool zeroPoints = false; ///< of integers that have some
  ScaleKind scales = ScaleKind::BF16; ///< of integers

  bool operator==(const PackedEncoding &) const = default;

  /// Null for floats.
  const IntegerFormat *integers() const { return integerFormat(kind); }
  bool isInteger() const { return integers() != nullptr; }
  /// Whether quants are multiplied as they are with int8 activations.
  bool isNarrow() const { return isInteger() && integers()->isNarrow; }
  /// What is subtracted from quants where no zero points are stored: 0 if they
  /// are signed, or indices.
  int middle() const {
    return isInteger() && integers()->hasZeroPoint ? 1 << (integers()->bits - 1)
                                                   : 0;
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
    case EncodingKind::Fp8:
      return elements;
    default:
      return elements * integers()->bits / 8;
    }
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
  /// zero_points>", "int4<128, zero_points, f16_scales>", "nf4<64>".
  std::string str() const;
  static std::optional<PackedEncoding> parse(std::string_view text);
};

} // namespace retort

#endif // RETORT_COMPILER_ENCODING_PACKEDENCODING_H
