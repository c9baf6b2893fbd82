//===- BlockKernels.cpp - Encoders of one block -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/BlockKernels.h"

#include "compiler/pack/Lanes.h"

#include <cmath>

// Contraction would make the bytes depend on whether the processor has fused
// multiply-add; the build compiles this file with -ffp-contract=off.

namespace retort::detail {
namespace {

using namespace lanes;

/// Rows are worked on 16 at a time: what the registers of AVX2 hold.
constexpr int kHalf = kStripVectors / 2;

/// One value per row of a half strip.
struct Half {
  F8 v[kHalf];
};

RETORT_INLINE void addError(const F8 &x, const F8 &decoded, D8 &error,
                            D8 &source) {
  D8 d = __builtin_convertvector(x - decoded, D8);
  D8 s = __builtin_convertvector(x, D8);
  error += d * d;
  source += s * s;
}

RETORT_INLINE double sumLanes(const D8 &x) {
  double sum = 0;
  for (int i = 0; i < 8; ++i)
    sum += x[i];
  return sum;
}

RETORT_INLINE void encodeF32(const Tile &tile, std::byte *out,
                             SquaredError &error) {
  D8 source = {};
  for (int64_t k = 0; k < 32; ++k)
    for (int v = 0; v < kStripVectors; ++v) {
      D8 s = __builtin_convertvector(tile.vector(k, v), D8);
      source += s * s;
      store(out + (k * kStripRows + v * 8) * 4, tile.vector(k, v));
    }
  error.source += sumLanes(source);
}

RETORT_INLINE void encodeBF16(const Tile &tile, std::byte *out,
                              SquaredError &error) {
  D8 err = {}, source = {};
  for (int64_t k = 0; k < 32; ++k)
    for (int v = 0; v < kStripVectors; ++v) {
      F8 rounded = tile.vector(k, v);
      roundToBF16(rounded);
      addError(tile.vector(k, v), rounded, err, source);
      H8 stored = __builtin_convertvector(((I8)rounded >> 16) & 0xffff, H8);
      store(out + (k * kStripRows + v * 8) * 2, stored);
    }
  error.error += sumLanes(err);
  error.source += sumLanes(source);
}

RETORT_INLINE void encodeF16(const Tile &tile, std::byte *out,
                             SquaredError &error) {
  D8 err = {}, source = {};
  for (int64_t k = 0; k < 32; ++k)
    for (int v = 0; v < kStripVectors; ++v) {
      const F8 &x = tile.vector(k, v);
      I8 sign = (I8)x & int32_t(0x80000000);
      I8 magnitude = (I8)x & 0x7fffffff;
      I8 normal = (magnitude + 0xfff + ((magnitude >> 13) & 1)) & ~0x1fff;
      // The last place of values in [0.5, 1) is 2^-24, that of f16 subnormals.
      F8 shifted = (F8)magnitude + 0.5f;
      I8 isSmall = magnitude < 0x38800000;
      I8 bits =
          isSmall ? (I8)shifted - 0x3f000000 : (normal >> 13) - (112 << 10);
      I8 decoded = sign | (isSmall ? (I8)(shifted - 0.5f) : normal);
      addError(x, (F8)decoded, err, source);
      H8 stored = __builtin_convertvector(
          (bits | ((sign >> 16) & 0x8000)) & 0xffff, H8);
      store(out + (k * kStripRows + v * 8) * 2, stored);
    }
  error.error += sumLanes(err);
  error.source += sumLanes(source);
}

/// What a group's search starts from: per row the extremes, and the power of
/// two that brings magnitudes to [1, 2), so that no product under- or
/// overflows. Scaling by it is exact.
struct GroupRange {
  Half min, max; ///< at most and at least 0
  Half up, down; ///< the power and its inverse
};

RETORT_INLINE void normalize(Tile &tile, int64_t cols, int half,
                             GroupRange &range) {
  for (int j = 0; j < kHalf; ++j) {
    int v = half * kHalf + j;
    F8 lo = {}, hi = {};
    for (int64_t k = 0; k < cols; ++k) {
      const F8 &x = tile.vector(k, v);
      lo = x < lo ? x : lo;
      hi = x > hi ? x : hi;
    }
    F8 most = -lo > hi ? -lo : hi;
    I8 exponent = ((I8)most >> 23) & 0xff;
    // 2^-100 is as good as 0 beside any other weight; from there on scales
    // are rounded to what bf16 has left.
    exponent = exponent < 27 ? exponent * 0 + 27 : exponent;
    range.down.v[j] = (F8)(exponent << 23);
    range.up.v[j] = (F8)((254 - exponent) << 23);
    range.min.v[j] = lo * range.up.v[j];
    range.max.v[j] = hi * range.up.v[j];
    for (int64_t k = 0; k < cols; ++k)
      tile.vector(k, v) *= range.up.v[j];
  }
}

/// The best scale so far, and the range of d = q - zeroPoint that goes with it.
struct Best {
  Half gain; ///< how much of the sum of squares the rounded values explain
  Half scale, lo, hi;
};

/// Rounds the group under the inverse scale `inv` to integers in [lo, hi] and
/// keeps the least-squares scale for them, if it is better than the best. Lanes
/// whose `inv` is not finite never are.
RETORT_INLINE void tryScale(const Tile &tile, int64_t cols, int half,
                            const Half &inv, const Half &lo, const Half &hi,
                            Best &best) {
  Half wd = {}, dd = {};
  for (int64_t k = 0; k < cols; ++k)
    for (int j = 0; j < kHalf; ++j) {
      const F8 &x = tile.vector(k, half * kHalf + j);
      F8 d = x * inv.v[j];
      d = d < lo.v[j] ? lo.v[j] : d;
      d = d > hi.v[j] ? hi.v[j] : d;
      d = (d + kRound) - kRound;
      wd.v[j] += x * d;
      dd.v[j] += d * d;
    }
  for (int j = 0; j < kHalf; ++j) {
    F8 scale = wd.v[j] / dd.v[j];
    roundToBF16(scale);
    F8 gain = scale * (2.0f * wd.v[j] - scale * dd.v[j]);
    I8 better = gain > best.gain.v[j];
    best.gain.v[j] = better ? gain : best.gain.v[j];
    best.scale.v[j] = better ? scale : best.scale.v[j];
    best.lo.v[j] = better ? lo.v[j] : best.lo.v[j];
    best.hi.v[j] = better ? hi.v[j] : best.hi.v[j];
  }
}

/// Candidates that the extreme lands on: -n first, then +n. Between them lie
/// the optima of nearly all groups; more candidates lower the error by less
/// than 0.1%.
constexpr float kExtremeAtMinus[] = {6.5f,  6.8f, 7.05f, 7.3f,  7.6f,  7.85f,
                                     8.15f, 8.4f, 8.7f,  8.95f, 9.25f, 9.5f};
constexpr float kExtremeAtPlus[] = {5.5f,  5.8f, 6.05f, 6.3f,  6.6f,  6.85f,
                                    7.15f, 7.4f, 7.7f,  7.95f, 8.25f, 8.5f};

RETORT_INLINE void searchSymmetric(const Tile &tile, int64_t cols, int half,
                                   const GroupRange &range, Best &best) {
  Half lo, hi, extreme;
  for (int j = 0; j < kHalf; ++j) {
    broadcast(lo.v[j], -8.0f);
    broadcast(hi.v[j], 7.0f);
    I8 isMax = range.max.v[j] >= -range.min.v[j];
    extreme.v[j] = isMax ? range.max.v[j] : range.min.v[j];
  }
  for (float n : kExtremeAtMinus) {
    Half inv;
    for (int j = 0; j < kHalf; ++j)
      inv.v[j] = -n / extreme.v[j];
    tryScale(tile, cols, half, inv, lo, hi, best);
  }
  for (float n : kExtremeAtPlus) {
    Half inv;
    for (int j = 0; j < kHalf; ++j)
      inv.v[j] = n / extreme.v[j];
    tryScale(tile, cols, half, inv, lo, hi, best);
  }
}

/// Fractions of the scale that just covers a group: clipping the extremes a
/// little costs less than it saves elsewhere.
constexpr float kCoverage[] = {0.98f, 1.02f, 1.06f, 1.1f, 1.15f, 1.2f, 1.26f};

RETORT_INLINE void searchZeroPoint(const Tile &tile, int64_t cols, int half,
                                   const GroupRange &range, Best &best) {
  for (float shift : {0.0f, -1.0f, 1.0f}) {
    Half lo, hi, cover;
    for (int j = 0; j < kHalf; ++j) {
      F8 width = range.max.v[j] - range.min.v[j];
      F8 zero = range.min.v[j] * -15.0f / width;
      zero = zero > 0.0f ? zero : zero * 0.0f;
      zero = ((zero + kRound) - kRound) + shift;
      F8 none = {}, all = none + 15.0f, least = none + 0.5f;
      zero = zero > none ? zero : none; // also for the NaN of an empty range
      zero = zero < all ? zero : all;
      lo.v[j] = -zero;
      hi.v[j] = 15.0f - zero;
      F8 below = range.min.v[j] / (lo.v[j] < -least ? lo.v[j] : -least);
      F8 above = range.max.v[j] / (hi.v[j] > least ? hi.v[j] : least);
      cover.v[j] = below > above ? below : above;
    }
    for (float f : kCoverage) {
      Half inv;
      for (int j = 0; j < kHalf; ++j)
        inv.v[j] = f / cover.v[j];
      tryScale(tile, cols, half, inv, lo, hi, best);
    }
  }
}

/// The largest q of int8; -128 is left out, because its magnitude has no byte.
constexpr float kInt8Max = 127.0f;
/// How many bf16 steps below and above max / 127 are tried.
constexpr int kInt8StepsDown = 2, kInt8StepsUp = 5;

/// The error of int8 is so small beside the sums of squares that it must be
/// summed itself. Scales are a few bf16 steps apart at most.
RETORT_INLINE void searchInt8(const Tile &tile, int64_t cols, int half,
                              const GroupRange &range, Best &best) {
  Half first, least;
  for (int j = 0; j < kHalf; ++j) {
    F8 most =
        -range.min.v[j] > range.max.v[j] ? -range.min.v[j] : range.max.v[j];
    first.v[j] = most / kInt8Max;
    roundToBF16(first.v[j]);
    broadcast(least.v[j], __builtin_inff());
  }
  for (int step = -kInt8StepsDown; step <= kInt8StepsUp; ++step) {
    Half scale, inv, error = {};
    for (int j = 0; j < kHalf; ++j) {
      scale.v[j] = (F8)((I8)first.v[j] + (step << 16));
      inv.v[j] = 1.0f / scale.v[j];
    }
    for (int64_t k = 0; k < cols; ++k)
      for (int j = 0; j < kHalf; ++j) {
        const F8 &x = tile.vector(k, half * kHalf + j);
        F8 d = x * inv.v[j];
        d = d < best.lo.v[j] ? best.lo.v[j] : d;
        d = d > best.hi.v[j] ? best.hi.v[j] : d;
        d = (d + kRound) - kRound;
        F8 miss = x - d * scale.v[j];
        error.v[j] += miss * miss;
      }
    for (int j = 0; j < kHalf; ++j) {
      I8 better = error.v[j] < least.v[j];
      least.v[j] = better ? error.v[j] : least.v[j];
      best.scale.v[j] = better ? scale.v[j] : best.scale.v[j];
    }
  }
}

/// Rounds the group under its scale and stores quants, scales and zero points.
/// `kBits` is 4 or 8; q is stored as d + zeroPoint for int4, d for int8.
template <int kBits>
RETORT_INLINE void storeGroup(const PackedEncoding &encoding, const Tile &tile,
                              int half, const GroupRange &range,
                              const Best &best, std::byte *out,
                              SquaredError &error) {
  int64_t cols = encoding.blockCols();
  constexpr int kColsPerWord = 32 / kBits;
  for (int j = 0; j < kHalf; ++j) {
    int row = (half * kHalf + j) * 8;
    F8 stored = best.scale.v[j] * range.down.v[j];
    roundToBF16(stored);
    store(out + encoding.scaleOffset() + row * 2,
          __builtin_convertvector(((I8)stored >> 16) & 0xffff, H8));
    F8 scale = stored * range.up.v[j];
    I8 isZero = scale == 0.0f;
    F8 inv = 1.0f / scale;
    inv = isZero ? scale : inv;
    I8 zeroPoint = __builtin_convertvector(-best.lo.v[j], I8);
    F8 err = {}, source = {};
    for (int64_t k = 0; k < cols; k += kColsPerWord) {
      I8 word = {};
      for (int i = 0; i < kColsPerWord; ++i) {
        const F8 &x = tile.vector(k + i, half * kHalf + j);
        F8 d = x * inv;
        d = d < best.lo.v[j] ? best.lo.v[j] : d;
        d = d > best.hi.v[j] ? best.hi.v[j] : d;
        d += kRound;
        I8 q = (I8)d - kRoundBits;
        d -= kRound;
        F8 miss = x - d * scale;
        err += miss * miss;
        source += x * x;
        if (kBits == 4)
          word |= (q + zeroPoint) << ((i & 3) * 8 + (i >> 2) * 4);
        else
          word |= (q & 0xff) << (i * 8);
      }
      store(out + k / kColsPerWord * 128 + row * 4, word);
    }
    for (int i = 0; i < 8; ++i) {
      double unit = double(range.down.v[j][i]) * double(range.down.v[j][i]);
      error.error += double(err[i]) * unit;
      error.source += double(source[i]) * unit;
      if (encoding.zeroPoints)
        out[encoding.zeroPointOffset() + row + i] = std::byte(zeroPoint[i]);
    }
  }
}

RETORT_INLINE void encodeInteger(const PackedEncoding &encoding, Tile &tile,
                                 std::byte *out, SquaredError &error) {
  int64_t cols = encoding.blockCols();
  bool isInt4 = encoding.kind == EncodingKind::Int4;
  for (int half = 0; half < 2; ++half) {
    GroupRange range;
    normalize(tile, cols, half, range);
    Best best = {};
    for (int j = 0; j < kHalf; ++j) {
      broadcast(best.lo.v[j], isInt4 ? -8.0f : -kInt8Max);
      broadcast(best.hi.v[j], isInt4 ? 7.0f : kInt8Max);
    }
    if (!isInt4)
      searchInt8(tile, cols, half, range, best);
    else if (encoding.zeroPoints)
      searchZeroPoint(tile, cols, half, range, best);
    else
      searchSymmetric(tile, cols, half, range, best);
    if (isInt4)
      storeGroup<4>(encoding, tile, half, range, best, out, error);
    else
      storeGroup<8>(encoding, tile, half, range, best, out, error);
  }
}

RETORT_INLINE bool encodeAny(const PackedEncoding &encoding, const float *rows,
                             int64_t stride, int32_t limitBits, std::byte *out,
                             SquaredError &error) {
  Tile tile;
  if (loadTile(rows, stride, encoding.blockCols(), tile) >= limitBits)
    return false;
  switch (encoding.kind) {
  case EncodingKind::F32:
    encodeF32(tile, out, error);
    break;
  case EncodingKind::F16:
    encodeF16(tile, out, error);
    break;
  case EncodingKind::BF16:
    encodeBF16(tile, out, error);
    break;
  case EncodingKind::Int8:
  case EncodingKind::Int4:
    encodeInteger(encoding, tile, out, error);
    break;
  case EncodingKind::Fp8: // its bits are copied, see encodeF8Strip
    return false;
  }
  return true;
}

bool encodeBaseline(const PackedEncoding &encoding, const float *rows,
                    int64_t stride, int32_t limitBits, std::byte *out,
                    SquaredError &error) {
  return encodeAny(encoding, rows, stride, limitBits, out, error);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) bool
encodeAVX2(const PackedEncoding &encoding, const float *rows, int64_t stride,
           int32_t limitBits, std::byte *out, SquaredError &error) {
  return encodeAny(encoding, rows, stride, limitBits, out, error);
}
#endif

} // namespace

BlockKernel baselineBlockKernel() { return encodeBaseline; }

BlockKernel blockKernel() {
#if defined(__x86_64__)
  static const BlockKernel best =
      __builtin_cpu_supports("avx2") ? encodeAVX2 : encodeBaseline;
  return best;
#else
  return encodeBaseline;
#endif
}

} // namespace retort::detail
