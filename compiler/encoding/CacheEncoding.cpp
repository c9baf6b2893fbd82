//===- CacheEncoding.cpp - How cached keys and values lie -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/encoding/CacheEncoding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

namespace retort {
namespace {

constexpr std::pair<CacheElement, std::string_view> kNames[] = {
    {CacheElement::F32, "f32"},
    {CacheElement::F16, "f16"},
    {CacheElement::BF16, "bf16"},
    {CacheElement::Int8, "int8"}};

float toBF16(float x) {
  auto bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x))
    return x;
  bits += 0x7fff + ((bits >> 16) & 1);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

float toF16(float x) {
  if (std::isnan(x))
    return x;
  x = std::clamp(x, -kLargestF16, kLargestF16);
  // Numbers below 2^-14 have the spacing of those from there on; 10 bits of
  // mantissa are kept.
  int exponent = 0;
  std::frexp(x, &exponent);
  float spacing = std::ldexp(1.0f, std::max(exponent, -13) - 11);
  return std::nearbyint(x / spacing) * spacing;
}

void roundGroup(std::span<float> group) {
  float amax = 0;
  for (float x : group) {
    if (!std::isfinite(x)) {
      std::ranges::fill(group, std::numeric_limits<float>::quiet_NaN());
      return;
    }
    amax = std::max(amax, std::abs(x));
  }
  bool isSmall = amax < kSmallestCached;
  float scale = isSmall ? 0 : toBF16(amax / 127);
  float inverse = isSmall ? 0 : 1 / scale;
  for (float &x : group)
    x = scale * std::nearbyint(x * inverse);
}

} // namespace

std::string_view cacheElementName(CacheElement element) {
  for (auto [value, name] : kNames)
    if (value == element)
      return name;
  return {};
}

std::optional<CacheElement> parseCacheElement(std::string_view name) {
  for (auto [value, known] : kNames)
    if (known == name)
      return value;
  return std::nullopt;
}

void roundCached(CacheElement element, std::span<float> elements) {
  switch (element) {
  case CacheElement::F32:
    return;
  case CacheElement::F16:
    std::ranges::transform(elements, elements.begin(), toF16);
    return;
  case CacheElement::BF16:
    std::ranges::transform(elements, elements.begin(), toBF16);
    return;
  case CacheElement::Int8:
    for (size_t g = 0; g < elements.size(); g += kCacheGroup)
      roundGroup(elements.subspan(g, kCacheGroup));
    return;
  }
}

} // namespace retort
