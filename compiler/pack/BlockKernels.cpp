//===- BlockKernels.cpp - Encoders of one block -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/BlockKernels.h"

#include "compiler/pack/Lanes.h"

#include <array>
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

/// The value of a codebook that is nearest to x in units of the scale, and its
/// index; of two equally near the lower.
RETORT_INLINE void roundToCodebook(const int8_t *codebook, F8 x, F8 &value,
                                   I8 &index) {
  broadcast(value, codebook[0]);
  index = I8{};
  for (int i = 0; i < 15; ++i) {
    F8 middle, step;
    broadcast(middle, 0.5f * (codebook[i] + codebook[i + 1]));
    broadcast(step, static_cast<float>(codebook[i + 1] - codebook[i]));
    I8 above = x > middle;
    value += (F8)((I8)step & above);
    index -= above;
  }
}

/// Rounds the group under the inverse scale `inv` to integers in [lo, hi], or
/// to the codebook's, and keeps the least-squares scale for them, if it is
/// better than the best. Lanes whose `inv` is not finite never are.
template <bool kHasCodebook>
RETORT_INLINE void tryScale(const int8_t *codebook, const Tile &tile,
                            int64_t cols, int half, const Half &inv,
                            const Half &lo, const Half &hi, Best &best) {
  Half wd = {}, dd = {};
  for (int64_t k = 0; k < cols; ++k)
    for (int j = 0; j < kHalf; ++j) {
      const F8 &x = tile.vector(k, half * kHalf + j);
      F8 d = x * inv.v[j];
      if (kHasCodebook) {
        I8 index;
        roundToCodebook(codebook, d, d, index);
      } else {
        d = d < lo.v[j] ? lo.v[j] : d;
        d = d > hi.v[j] ? hi.v[j] : d;
        d = (d + kRound) - kRound;
      }
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

/// How far from the ends of the range, in its steps, the extreme lands.
/// Between these candidates lie the optima of nearly all groups of int4; more
/// lower the error by less than 0.1%.
constexpr double kExtremeOffsets[] = {-1.5, -1.2, -0.95, -0.7, -0.4, -0.15,
                                      0.15, 0.4,  0.7,   0.95, 1.25, 1.5};

RETORT_INLINE void extremes(const GroupRange &range, Half &extreme) {
  for (int j = 0; j < kHalf; ++j) {
    I8 isMax = range.max.v[j] >= -range.min.v[j];
    extreme.v[j] = isMax ? range.max.v[j] : range.min.v[j];
  }
}

/// Quants from -middle to middle - 1 under a signed scale: the extreme lands at
/// the lower end first, then at the upper.
RETORT_INLINE void searchSymmetric(int middle, const Tile &tile, int64_t cols,
                                   int half, const GroupRange &range,
                                   Best &best) {
  Half lo, hi, extreme;
  extremes(range, extreme);
  for (int j = 0; j < kHalf; ++j) {
    broadcast(lo.v[j], static_cast<float>(-middle));
    broadcast(hi.v[j], static_cast<float>(middle - 1));
  }
  for (int end : {-middle, middle - 1})
    for (double offset : kExtremeOffsets) {
      double n = end < 0 ? end - offset : end + offset;
      Half inv;
      for (int j = 0; j < kHalf; ++j)
        inv.v[j] = static_cast<float>(n) / extreme.v[j];
      tryScale<false>(nullptr, tile, cols, half, inv, lo, hi, best);
    }
}

/// The same for a codebook, whose ends are sparser than integers are.
RETORT_INLINE void searchCodebook(const int8_t *codebook, const Tile &tile,
                                  int64_t cols, int half,
                                  const GroupRange &range, Best &best) {
  Half extreme, none = {};
  extremes(range, extreme);
  for (int end : {int(codebook[0]), int(codebook[15])})
    for (double part : {0.7, 0.76, 0.82, 0.88, 0.92, 0.96, 1.0, 1.05, 1.12}) {
      Half inv;
      for (int j = 0; j < kHalf; ++j)
        inv.v[j] = static_cast<float>(end * part) / extreme.v[j];
      tryScale<true>(codebook, tile, cols, half, inv, none, none, best);
    }
}

/// Fractions of the scale that just covers a group: clipping the extremes a
/// little costs less than it saves elsewhere, the more so the fewer bits.
template <int kBits> constexpr auto coverage() {
  if constexpr (kBits >= 5)
    return std::array{0.985f, 0.995f, 1.005f, 1.02f, 1.04f, 1.07f, 1.1f};
  else if constexpr (kBits == 4)
    return std::array{0.98f, 1.02f, 1.06f, 1.1f, 1.15f, 1.2f, 1.26f};
  else
    return std::array{0.92f, 1.0f,  1.08f, 1.16f, 1.25f, 1.35f,
                      1.45f, 1.55f, 1.7f,  1.85f, 2.0f};
}

/// Quants from 0 on.
template <int kBits>
RETORT_INLINE void searchZeroPoint(const Tile &tile, int64_t cols, int half,
                                   const GroupRange &range, Best &best) {
  constexpr float levels = (1 << kBits) - 1;
  for (float shift : {0.0f, -1.0f, 1.0f}) {
    Half lo, hi, cover;
    for (int j = 0; j < kHalf; ++j) {
      F8 width = range.max.v[j] - range.min.v[j];
      F8 zero = range.min.v[j] * -levels / width;
      zero = zero > 0.0f ? zero : zero * 0.0f;
      zero = ((zero + kRound) - kRound) + shift;
      F8 none = {}, all = none + levels, least = none + 0.5f;
      zero = zero > none ? zero : none; // also for the NaN of an empty range
      zero = zero < all ? zero : all;
      lo.v[j] = -zero;
      hi.v[j] = levels - zero;
      F8 below = range.min.v[j] / (lo.v[j] < -least ? lo.v[j] : -least);
      F8 above = range.max.v[j] / (hi.v[j] > least ? hi.v[j] : least);
      cover.v[j] = below > above ? below : above;
    }
    for (float f : coverage<kBits>()) {
      Half inv;
      for (int j = 0; j < kHalf; ++j)
        inv.v[j] = f / cover.v[j];
      tryScale<false>(nullptr, tile, cols, half, inv, lo, hi, best);
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

/// Stores 32 columns' quants of eight rows, from row `row` on, in the planes of
/// their run.
template <int kBits, int kLowBits>
RETORT_INLINE void storePlanes(const I8 (&q)[32], int row, std::byte *run) {
  for (int shift = 0, bits = kLowBits; shift < kBits;
       shift += bits, bits = kBits - kLowBits) {
    int perByte = 8 / bits;
    for (int word = 0; word < bits; ++word) {
      I8 packed = {};
      for (int i = 0; i < perByte; ++i)
        for (int b = 0; b < 4; ++b)
          packed |=
              ((q[4 * (word * perByte + i) + b] >> shift) & ((1 << bits) - 1))
              << (8 * b + i * bits);
      store(run + word * 128 + row * 4, packed);
    }
    run += bits * 128;
  }
}

/// Rounds the group under its scale and stores quants, scales and zero points.
/// q is stored as d + zeroPoint, of int8 as d, of a codebook as its index.
template <int kBits, int kLowBits, bool kHasCodebook>
RETORT_INLINE void
storeGroup(const PackedEncoding &encoding, const int8_t *codebook,
           const Tile &tile, int half, const GroupRange &range,
           const Best &best, std::byte *out, SquaredError &error) {
  int64_t cols = encoding.blockCols();
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
    for (int64_t k = 0; k < cols; k += 32) {
      I8 quants[32];
      for (int i = 0; i < 32; ++i) {
        const F8 &x = tile.vector(k + i, half * kHalf + j);
        F8 d = x * inv;
        if (kHasCodebook) {
          roundToCodebook(codebook, d, d, quants[i]);
        } else {
          d = d < best.lo.v[j] ? best.lo.v[j] : d;
          d = d > best.hi.v[j] ? best.hi.v[j] : d;
          d += kRound;
          quants[i] = (I8)d - kRoundBits;
          if (kBits < 8)
            quants[i] += zeroPoint;
          d -= kRound;
        }
        F8 miss = x - d * scale;
        err += miss * miss;
        source += x * x;
      }
      storePlanes<kBits, kLowBits>(quants, row, out + k * kBits * 4);
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

/// The group's search and the storing, with the format as constants.
template <EncodingKind kKind>
RETORT_INLINE void encodeGroups(const PackedEncoding &encoding, Tile &tile,
                                std::byte *out, SquaredError &error) {
  int64_t cols = encoding.blockCols();
  constexpr const IntegerFormat &format = *integerFormat(kKind);
  constexpr int kBits = format.bits, kLowBits = format.lowBits;
  constexpr const int8_t *codebook = format.codebook;
  constexpr bool kHasCodebook = codebook != nullptr;
  int middle = encoding.middle();
  for (int half = 0; half < 2; ++half) {
    GroupRange range;
    normalize(tile, cols, half, range);
    Best best = {};
    for (int j = 0; j < kHalf; ++j) {
      broadcast(best.lo.v[j],
                kBits == 8 ? -kInt8Max : static_cast<float>(-middle));
      broadcast(best.hi.v[j],
                kBits == 8 ? kInt8Max : static_cast<float>(middle - 1));
    }
    if (kBits == 8)
      searchInt8(tile, cols, half, range, best);
    else if (kHasCodebook)
      searchCodebook(codebook, tile, cols, half, range, best);
    else if (encoding.zeroPoints)
      searchZeroPoint<kBits>(tile, cols, half, range, best);
    else
      searchSymmetric(middle, tile, cols, half, range, best);
    storeGroup<kBits, kLowBits, kHasCodebook>(encoding, codebook, tile, half,
                                              range, best, out, error);
  }
}

RETORT_INLINE void encodeInteger(const PackedEncoding &encoding, Tile &tile,
                                 std::byte *out, SquaredError &error) {
  switch (encoding.kind) {
  case EncodingKind::Int8:
    return encodeGroups<EncodingKind::Int8>(encoding, tile, out, error);
  case EncodingKind::Int6:
    return encodeGroups<EncodingKind::Int6>(encoding, tile, out, error);
  case EncodingKind::Int5:
    return encodeGroups<EncodingKind::Int5>(encoding, tile, out, error);
  case EncodingKind::Int4:
    return encodeGroups<EncodingKind::Int4>(encoding, tile, out, error);
  case EncodingKind::NF4:
    return encodeGroups<EncodingKind::NF4>(encoding, tile, out, error);
  case EncodingKind::Int3:
    return encodeGroups<EncodingKind::Int3>(encoding, tile, out, error);
  case EncodingKind::Int2:
    return encodeGroups<EncodingKind::Int2>(encoding, tile, out, error);
  default:
    return;
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
  case EncodingKind::Fp8: // its bits are copied, see encodeF8Strip
    return false;
  default:
    encodeInteger(encoding, tile, out, error);
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
