//===- DType.cpp - Exact conversions to f32 ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/DType.h"

#include <array>
#include <bit>
#include <cstring>
#include <string>

namespace retort::checkpoint {
namespace {

/// The value of a small floating-point format as f32 bits. Works in integers,
/// so that no denormal mode of the processor can flush a value.
constexpr uint32_t widen(uint32_t sign, uint32_t exponent, uint32_t mantissa,
                         uint32_t mantissaBits, uint32_t bias) {
  if (exponent == 0 && mantissa == 0)
    return sign << 31;
  if (exponent == 0) {
    // A subnormal is mantissa * 2^(1 - bias - mantissaBits); its leading one
    // becomes the implicit bit of the f32.
    uint32_t lead = std::bit_width(mantissa) - 1;
    uint32_t f32Exponent = 127 + lead + 1 - bias - mantissaBits;
    uint32_t fraction = (mantissa ^ (1u << lead)) << (23 - lead);
    return sign << 31 | f32Exponent << 23 | fraction;
  }
  return sign << 31 | (exponent + 127 - bias) << 23 |
         mantissa << (23 - mantissaBits);
}

constexpr std::array<uint32_t, 256> makeF8E4M3Table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t b = 0; b < 256; ++b)
    table[b] = (b & 0x7f) == 0x7f ? (b & 0x80) << 24 | 0x7fc00000u
                                  : widen(b >> 7, b >> 3 & 15, b & 7, 3, 7);
  return table;
}

constexpr std::array<uint32_t, 256> kF8E4M3 = makeF8E4M3Table();

/// Without branches, so that loops over it vectorise. A subnormal's mantissa is
/// put under the exponent of 2^-14 and that implicit one is subtracted again,
/// which is exact and never passes through an f32 subnormal.
inline uint32_t f16Bits(uint16_t h) {
  uint32_t magnitude = (h & 0x7fffu) << 13;
  uint32_t normal = magnitude + (112u << 23);
  uint32_t infOrNan = magnitude | 0x7f800000u;
  uint32_t subnormal = std::bit_cast<uint32_t>(
      std::bit_cast<float>(magnitude | 113u << 23) - 0x1p-14f);
  uint32_t bits = (h & 0x7c00u) == 0 ? subnormal : normal;
  bits = (h & 0x7c00u) == 0x7c00u ? infOrNan : bits;
  return bits | (h & 0x8000u) << 16;
}

/// Loads `From`s from unaligned bytes and stores what `toBits` makes of them.
template <typename From, typename ToBits>
void convertAll(std::span<const std::byte> src, std::span<float> dst,
                ToBits toBits) {
  const std::byte *from = src.data();
  float *to = dst.data();
  for (size_t i = 0, n = dst.size(); i < n; ++i) {
    From element;
    std::memcpy(&element, from + i * sizeof(From), sizeof(From));
    uint32_t bits = toBits(element);
    std::memcpy(to + i, &bits, sizeof(bits));
  }
}

} // namespace

bool isFloatWeight(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16 ||
         dtype == DType::F8E4M3;
}

float f16ToF32(uint16_t bits) { return std::bit_cast<float>(f16Bits(bits)); }

float bf16ToF32(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

float f8e4m3ToF32(uint8_t bits) { return std::bit_cast<float>(kF8E4M3[bits]); }

Status convertToF32(DType dtype, std::span<const std::byte> src,
                    std::span<float> dst) {
  if (!isFloatWeight(dtype))
    return Status::error(Code::Unsupported,
                         "expected elements of F32, BF16, F16 or F8_E4M3, "
                         "found " +
                             std::string(dtypeName(dtype)));
  if (src.size() / dtypeBytes(dtype) != dst.size() ||
      src.size() % dtypeBytes(dtype) != 0)
    return Status::error(Code::InvalidArgument,
                         "expected the bytes of " + std::to_string(dst.size()) +
                             " elements of " + std::string(dtypeName(dtype)) +
                             ", found " + std::to_string(src.size()));
  if (dst.empty())
    return Status::ok();
  switch (dtype) {
  case DType::F32:
    std::memcpy(dst.data(), src.data(), src.size());
    break;
  case DType::BF16:
    convertAll<uint16_t>(src, dst,
                         [](uint16_t b) { return uint32_t(b) << 16; });
    break;
  case DType::F16:
    convertAll<uint16_t>(src, dst, f16Bits);
    break;
  default:
    convertAll<uint8_t>(src, dst, [](uint8_t b) { return kF8E4M3[b]; });
  }
  return Status::ok();
}

} // namespace retort::checkpoint
