//===- Lanes.h - Vectors of rows for the encoders ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Eight f32 or i32 lanes that the compiler maps to what the function's target
/// has, and the transposition that brings rows into lanes. Everything is
/// inlined, so that one source serves several instruction sets; vectors are
/// passed by reference, because their calling convention depends on the set.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_LANES_H
#define RETORT_COMPILER_PACK_LANES_H

#include "compiler/encoding/PackedEncoding.h"

#include <cstdint>
#include <cstring>

#define RETORT_INLINE static inline __attribute__((always_inline))

namespace retort::lanes {

typedef float F8 __attribute__((vector_size(32)));
typedef int32_t I8 __attribute__((vector_size(32)));
typedef double D8 __attribute__((vector_size(64)));
typedef uint16_t H8 __attribute__((vector_size(16)));

/// Vectors of a strip's 32 rows, and of the half that a register set holds.
inline constexpr int kStripVectors = kStripRows / 8;
inline constexpr int kMaxBlockCols = 128;

/// A block with rows in lanes: element (r, k) at [k * 32 + r].
struct alignas(64) Tile {
  float at[kMaxBlockCols * kStripRows];

  const F8 &vector(int64_t k, int v) const {
    return reinterpret_cast<const F8 *>(at)[k * kStripVectors + v];
  }
  F8 &vector(int64_t k, int v) {
    return reinterpret_cast<F8 *>(at)[k * kStripVectors + v];
  }
};

RETORT_INLINE void broadcast(F8 &to, float x) {
  to = F8{x, x, x, x, x, x, x, x};
}

template <typename V> RETORT_INLINE void store(std::byte *to, const V &v) {
  std::memcpy(to, &v, sizeof(v));
}

/// Adding and subtracting this rounds |x| < 2^22 to the nearest even integer,
/// and the sum's bits minus those of kRound are that integer.
inline constexpr float kRound = 12582912.0f;
inline constexpr int32_t kRoundBits = 0x4b400000;

/// Rounds to the nearest bf16, ties to even.
RETORT_INLINE void roundToBF16(F8 &x) {
  I8 bits = (I8)x;
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) & int32_t(0xffff0000);
  x = (F8)bits;
}

/// Eight columns of eight rows, transposed.
RETORT_INLINE void transpose8(const float *rows, int64_t stride, F8 (&out)[8]) {
  F8 r[8], t[8], u[8];
  for (int i = 0; i < 8; ++i)
    std::memcpy(&r[i], rows + i * stride, sizeof(F8));
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] =
        __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      u[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9,
                                             4, 5, 12, 13);
      u[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3,
                                                 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    out[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    out[i + 4] =
        __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/// Brings a block's rows into lanes. Returns the largest bits of a magnitude,
/// which order as magnitudes do, NaNs above all.
RETORT_INLINE int32_t loadTile(const float *rows, int64_t stride, int64_t cols,
                               Tile &tile) {
  I8 most = {};
  for (int v = 0; v < kStripVectors; ++v)
    for (int64_t k = 0; k < cols; k += 8) {
      F8 columns[8];
      transpose8(rows + v * 8 * stride + k, stride, columns);
      for (int i = 0; i < 8; ++i) {
        I8 magnitude = (I8)columns[i] & 0x7fffffff;
        most = magnitude > most ? magnitude : most;
        tile.vector(k + i, v) = columns[i];
      }
    }
  int32_t out = 0;
  for (int i = 0; i < 8; ++i)
    out = most[i] > out ? most[i] : out;
  return out;
}

} // namespace retort::lanes

#endif // RETORT_COMPILER_PACK_LANES_H
