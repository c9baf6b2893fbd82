//===- ActivationEncoding.h - How quantized activations lie -----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The bytes of an activation that integer matrices are multiplied with: the
/// one contract between the launches that quantize, those that multiply, the
/// planner and the reference.
///
/// A row of N elements (a multiple of 128) is cut into groups of 32. It holds
/// ```
/// N quants         signed, 1 byte (int8) or 2 bytes (int16)
/// N / 32 scales    f32
/// N / 32 sums      int8 alone, of a group's quants, negated: what weights'
///                  zero points need. i16 each, of columns 0 and 1 of every
///                  four, then of columns 2 and 3: the sums of weights start
///                  with the two times the zero point
/// ```
/// and padding up to an odd number of 64-byte lines, so that the rows of a
/// token block do not fall on the same few sets of a cache. Element k of a
/// group is `scale * quant[k]` with
/// ```
/// scale = amax / limit        amax: the group's largest magnitude
/// quant = round(x * (limit / amax)), ties to even
/// ```
/// in f32; both are 0 if amax is below `kSmallestActivation`. int8 quants keep
/// the order of the elements. Of every four int16 quants the order is 0, 2, 1,
/// 3: the pairs that int8 weights, four to a word, widen to.
///
/// Weights of up to 4 bits are multiplied with int8 quants, whose limit of 127
/// keeps the products of a group within 16 bits for each two columns of four:
/// 8 * 2 * 15 * 127 = 30480. Those of more bits, and of a codebook, become
/// signed bytes that are multiplied with int16 quants, whose error is as good
/// as none; a group's sum stays within 32 bits: 32 * 128 * 32767 < 2^27.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_ENCODING_ACTIVATIONENCODING_H
#define RETORT_COMPILER_ENCODING_ACTIVATIONENCODING_H

#include "compiler/encoding/PackedEncoding.h"

#include <span>

namespace retort {

/// Elements that share a scale.
inline constexpr int64_t kActivationGroup = 32;
/// Groups without a larger magnitude become zeros: the reciprocal of a smaller
/// one might overflow.
inline constexpr float kSmallestActivation = 1e-30f;

enum class ActivationKind : uint8_t { Int8, Int16 };

struct ActivationEncoding {
  ActivationKind kind = ActivationKind::Int8;

  bool operator==(const ActivationEncoding &) const = default;

  int64_t quantBytes() const { return kind == ActivationKind::Int8 ? 1 : 2; }
  /// The largest magnitude of a quant.
  int64_t limit() const { return kind == ActivationKind::Int8 ? 127 : 32767; }

  /// Offsets in a row of `stride` elements, and its size, in bytes.
  int64_t scalesOffset(int64_t stride) const { return stride * quantBytes(); }
  int64_t sumsOffset(int64_t stride) const {
    return scalesOffset(stride) + stride / kActivationGroup * 4;
  }
  /// Without the padding.
  int64_t usedBytes(int64_t stride) const {
    bool hasSums = kind == ActivationKind::Int8;
    return sumsOffset(stride) + (hasSums ? stride / kActivationGroup * 4 : 0);
  }
  int64_t rowBytes(int64_t stride) const {
    constexpr int64_t kLine = 64;
    return (ceilDiv(usedBytes(stride), kLine) | 1) * kLine;
  }

  /// What weights of that encoding are multiplied with; none for floats.
  static std::optional<ActivationEncoding>
  forWeights(const PackedEncoding &weights) {
    if (!weights.isInteger())
      return std::nullopt;
    return ActivationEncoding{weights.isNarrow() ? ActivationKind::Int8
                                                 : ActivationKind::Int16};
  }

  /// "int8<32>" or "int16<32>".
  std::string str() const {
    return std::string(kind == ActivationKind::Int8 ? "int8" : "int16") + "<" +
           std::to_string(kActivationGroup) + ">";
  }
};

/// Replaces a row, a whole number of groups, by what its quants stand for: the
/// plain statement of the rounding above.
void roundActivation(const ActivationEncoding &encoding, std::span<float> row);

/// Writes a row of `row.size()` elements, a multiple of 128, in the layout
/// above, without the padding; `bytes` holds at least usedBytes().
void encodeActivation(const ActivationEncoding &encoding,
                      std::span<const float> row, std::span<std::byte> bytes);

/// Reads such a row.
void decodeActivation(const ActivationEncoding &encoding,
                      std::span<const std::byte> bytes, std::span<float> row);

} // namespace retort

#endif // RETORT_COMPILER_ENCODING_ACTIVATIONENCODING_H
