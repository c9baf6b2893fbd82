//===- Generator.cpp - Fast reproducible random tensors ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/synth/Generator.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace retort::synth {
namespace {

/// The finalizer of SplitMix64.
constexpr uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/// The sum of four uniform bytes: its mean, and its deviation
/// sqrt(4 * (256^2 - 1) / 12).
constexpr float kSumMean = 510.0f;
constexpr float kSumDeviation = 147.80054127f;

// Loops are written once and compiled for two instruction sets; they hold no
// sum of products, so both give the same bits.
static inline __attribute__((always_inline)) void
fillLoop(uint32_t first, uint32_t second, uint32_t col, float mean, float scale,
         float *out, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    // A counter mixed as by the finalizer of MurmurHash3, with a second word of
    // the row's between the rounds.
    uint32_t x = (col + static_cast<uint32_t>(i)) * 0x9e3779b1u + first;
    x = (x ^ x >> 16) * 0x85ebca6bu + second;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    x ^= x >> 16;
    uint32_t pairs = (x & 0x00ff00ffu) + (x >> 8 & 0x00ff00ffu);
    auto sum = static_cast<int32_t>((pairs & 0xffffu) + (pairs >> 16));
    float centered = static_cast<float>(sum) - kSumMean;
    out[i] = centered * scale + mean;
  }
}

static inline __attribute__((always_inline)) void
encodeF8Loop(const float *values, float inverse, uint8_t *out, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits = std::bit_cast<uint32_t>(values[i] * inverse);
    uint32_t magnitude = std::min(bits & 0x7fffffffu, 0x43e00000u); // 448
    // Normal: round the mantissa to three bits, then move the exponent's bias
    // from 127 to 7.
    uint32_t normal =
        ((magnitude + 0x7ffffu + (magnitude >> 20 & 1)) >> 20) - (120u << 3);
    // Subnormal: beside 2^14 the last place is worth 2^-9.
    uint32_t subnormal =
        std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) -
        std::bit_cast<uint32_t>(0x1p14f);
    uint32_t code = magnitude < 0x3c800000u ? subnormal : normal; // 2^-6
    out[i] = static_cast<uint8_t>(code | (bits >> 24 & 0x80u));
  }
}

void fillBaseline(uint32_t first, uint32_t second, uint32_t col, float mean,
                  float scale, float *out, size_t count) {
  fillLoop(first, second, col, mean, scale, out, count);
}
void encodeF8Baseline(const float *values, float inverse, uint8_t *out,
                      size_t count) {
  encodeF8Loop(values, inverse, out, count);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void fillAVX2(uint32_t first, uint32_t second,
                                              uint32_t col, float mean,
                                              float scale, float *out,
                                              size_t count) {
  fillLoop(first, second, col, mean, scale, out, count);
}
__attribute__((target("avx2"))) void
encodeF8AVX2(const float *values, float inverse, uint8_t *out, size_t count) {
  encodeF8Loop(values, inverse, out, count);
}
#endif

bool hasAVX2() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
#else
  return false;
#endif
}

} // namespace

uint64_t tensorSeed(uint64_t seed, std::string_view name) {
  uint64_t hash = mix(seed);
  for (char c : name)
    hash = mix(hash ^ static_cast<unsigned char>(c));
  return hash;
}

void fillRow(uint64_t tensorSeed, const Distribution &distribution, int64_t row,
             int64_t col, std::span<float> out) {
  uint64_t words = mix(tensorSeed ^ mix(static_cast<uint64_t>(row)));
  auto fill = fillBaseline;
#if defined(__x86_64__)
  if (hasAVX2())
    fill = fillAVX2;
#endif
  fill(static_cast<uint32_t>(words), static_cast<uint32_t>(words >> 32),
       static_cast<uint32_t>(col), distribution.mean,
       distribution.deviation / kSumDeviation, out.data(), out.size());
}

void encode(DType dtype, std::span<const float> values, std::byte *out) {
  switch (dtype) {
  case DType::BF16:
    for (size_t i = 0; i < values.size(); ++i) {
      uint32_t bits = std::bit_cast<uint32_t>(values[i]);
      auto half =
          static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
      std::memcpy(out + 2 * i, &half, 2);
    }
    break;
  case DType::F16:
    for (size_t i = 0; i < values.size(); ++i) {
      auto half = static_cast<_Float16>(values[i]);
      std::memcpy(out + 2 * i, &half, 2);
    }
    break;
  default:
    std::memcpy(out, values.data(), values.size_bytes());
  }
}

void encodeF8(std::span<const float> values, float scale, std::byte *out) {
  auto *codes = reinterpret_cast<uint8_t *>(out);
  auto encodeLoop = encodeF8Baseline;
#if defined(__x86_64__)
  if (hasAVX2())
    encodeLoop = encodeF8AVX2;
#endif
  encodeLoop(values.data(), 1.0f / scale, codes, values.size());
}

float largestMagnitude(std::span<const float> values) {
  // As integers, magnitudes of finite floats have the same order.
  uint32_t most = 0;
  for (float value : values)
    most = std::max(most, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
  return std::bit_cast<float>(most);
}

} // namespace retort::synth
