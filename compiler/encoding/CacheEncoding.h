//===- CacheEncoding.h - How cached keys and values lie ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The bytes of a key-value cache: the one contract between the launches that
/// write it, those that read it, the planner and the reference.
///
/// A head takes D elements, a multiple of 32 (dialects/Kernel: padded halves).
/// Keys and values come in blocks of 16 positions. With H heads the block of
/// position p and head h begins at byte `(p / 16 * H + h) * blockBytes(D)`. In
/// it, element i of position j = p % 16 is at
/// ```
///            keys                               values
/// floats     element i * 16 + j                 element j * D + i
/// int8       byte i / 4 * 64 + j * 4 + i % 4    byte i / 32 * 512 + j / 4 *
/// 128
///                                                    + i % 32 * 4 + j % 4
/// ```
/// so that a dot product with the keys of 16 positions and a weighted sum of 16
/// values both run along contiguous memory, with int8 in words of four that
/// integer dot products take. A latent cache is a row of D elements per
/// position, `positionBytes(D)` apart, in their order.
///
/// f16 saturates at 65504 in magnitude, bf16 rounds to even; what is no number
/// stays none. int8 quants have one scale for each 32 elements of a head at a
/// position, in bf16:
/// ```
/// scale = bf16(amax / 127)        amax: the largest of the 32 magnitudes
/// quant = round(x * (1 / scale)), ties to even
/// ```
/// in f32; both are 0 if amax is below `kSmallestCached`, and the scale is no
/// number if one of the elements isn't finite. Behind the 16 * D quants of a
/// block follow its scales, [D / 32][16 positions]; behind the D quants of a
/// latent row its D / 32, then zeros.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_ENCODING_CACHEENCODING_H
#define RETORT_COMPILER_ENCODING_CACHEENCODING_H

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace retort {

/// What a cache's elements are.
enum class CacheElement : uint8_t { F32, F16, BF16, Int8 };

/// "f32", "f16", "bf16" or "int8", and back.
std::string_view cacheElementName(CacheElement element);
std::optional<CacheElement> parseCacheElement(std::string_view name);

/// Positions of a block of keys or values.
inline constexpr int64_t kCachePositions = 16;
/// Elements that share a scale.
inline constexpr int64_t kCacheGroup = 32;
/// Groups without a larger magnitude become zeros: the reciprocal of a smaller
/// scale might overflow.
inline constexpr float kSmallestCached = 1e-30f;
/// The largest magnitude of f16.
inline constexpr float kLargestF16 = 65504;

struct CacheEncoding {
  CacheElement element = CacheElement::F32;

  bool isInt8() const { return element == CacheElement::Int8; }
  int64_t elementBytes() const {
    return element == CacheElement::F32 ? 4 : isInt8() ? 1 : 2;
  }
  /// Bytes of the scales of `elements`, a multiple of 32.
  int64_t scaleBytes(int64_t elements) const {
    return isInt8() ? elements / kCacheGroup * 2 : 0;
  }
  /// Of 16 positions of a head of keys or values.
  int64_t blockBytes(int64_t headSize) const {
    return kCachePositions * (headSize * elementBytes() + scaleBytes(headSize));
  }
  /// Where the scales of a block begin.
  int64_t scalesOffset(int64_t headSize) const {
    return kCachePositions * headSize;
  }
  /// From one row of a latent cache to the next: whole lines of 64 bytes.
  int64_t latentRowBytes(int64_t rowSize) const {
    int64_t bytes = rowSize * elementBytes() + scaleBytes(rowSize);
    return (bytes + 63) / 64 * 64;
  }
};

/// Replaces elements, whole groups of a head or row as it lies in the cache, by
/// what is kept of them: the plain statement of the rounding above.
void roundCached(CacheElement element, std::span<float> elements);

} // namespace retort

#endif // RETORT_COMPILER_ENCODING_CACHEENCODING_H
