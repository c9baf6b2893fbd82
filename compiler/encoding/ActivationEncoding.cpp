//===- ActivationEncoding.cpp - How quantized activations lie ---*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/encoding/ActivationEncoding.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

namespace retort {
namespace {

/// What a group is divided by, and multiplied with to get quants.
struct GroupScale {
  float scale = 0, inverse = 0;

  GroupScale(const ActivationEncoding &encoding, std::span<const float> group) {
    auto limit = static_cast<float>(encoding.limit());
    float amax = 0;
    for (float x : group)
      amax = std::max(amax, std::abs(x));
    if (amax < kSmallestActivation)
      return;
    scale = amax / limit;
    inverse = limit / amax;
  }
};

/// Where the quant of element k of a row is.
size_t quantOffset(const ActivationEncoding &encoding, size_t k) {
  constexpr size_t kOrder[] = {0, 2, 1, 3};
  if (encoding.kind == ActivationKind::Int8)
    return k;
  return (k / 4 * 4 + kOrder[k % 4]) * sizeof(int16_t);
}

} // namespace

void roundActivation(const ActivationEncoding &encoding, std::span<float> row) {
  for (size_t g = 0; g < row.size(); g += kActivationGroup) {
    std::span<float> group = row.subspan(g, kActivationGroup);
    GroupScale scale(encoding, group);
    for (float &x : group)
      x = scale.scale * std::nearbyint(x * scale.inverse);
  }
}

void encodeActivation(const ActivationEncoding &encoding,
                      std::span<const float> row, std::span<std::byte> bytes) {
  auto stride = static_cast<int64_t>(row.size());
  bool isInt8 = encoding.kind == ActivationKind::Int8;
  assert(bytes.size() >= static_cast<size_t>(encoding.usedBytes(stride)));
  auto limit = static_cast<float>(encoding.limit());
  auto put = [&](int64_t at, const auto &value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  };
  for (size_t g = 0; g < row.size(); g += kActivationGroup) {
    GroupScale scale(encoding, row.subspan(g, kActivationGroup));
    int16_t negatedSums[2] = {};
    for (size_t k = g; k < g + kActivationGroup; ++k) {
      // Not a number where the row isn't: any quant will do.
      float product = std::nearbyint(row[k] * scale.inverse);
      auto quant = static_cast<int16_t>(
          std::isnan(product) ? 0 : std::clamp(product, -limit, limit));
      auto at = static_cast<int64_t>(quantOffset(encoding, k));
      if (isInt8)
        put(at, static_cast<int8_t>(quant));
      else
        put(at, quant);
      negatedSums[k % 4 / 2] = static_cast<int16_t>(
          negatedSums[k % 4 / 2] - (isInt8 ? quant : int16_t(0)));
    }
    auto offset = static_cast<int64_t>(g / kActivationGroup * sizeof(float));
    put(encoding.scalesOffset(stride) + offset, scale.scale);
    if (isInt8)
      put(encoding.sumsOffset(stride) + offset, negatedSums);
  }
}

void decodeActivation(const ActivationEncoding &encoding,
                      std::span<const std::byte> bytes, std::span<float> row) {
  auto stride = static_cast<int64_t>(row.size());
  assert(bytes.size() >= static_cast<size_t>(encoding.usedBytes(stride)));
  for (size_t k = 0; k < row.size(); ++k) {
    const std::byte *at = bytes.data() + quantOffset(encoding, k);
    int16_t quant = 0;
    if (encoding.kind == ActivationKind::Int8)
      quant = static_cast<int8_t>(*at);
    else
      std::memcpy(&quant, at, sizeof quant);
    float scale;
    std::memcpy(&scale,
                bytes.data() + encoding.scalesOffset(stride) +
                    static_cast<int64_t>(k / kActivationGroup * sizeof(float)),
                sizeof scale);
    row[k] = scale * quant;
  }
}

} // namespace retort
