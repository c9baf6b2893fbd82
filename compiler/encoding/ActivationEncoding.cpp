//===- ActivationEncoding.cpp - How quantized activations lie ---*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/encoding/ActivationEncoding.h"

#include <algorithm>
#include <cmath>

namespace retort {

void roundActivation(const ActivationEncoding &encoding, std::span<float> row) {
  auto limit = static_cast<float>(encoding.limit());
  for (size_t g = 0; g < row.size(); g += kActivationGroup) {
    std::span<float> group = row.subspan(g, kActivationGroup);
    float amax = 0;
    for (float x : group)
      amax = std::max(amax, std::abs(x));
    bool isSmall = amax < kSmallestActivation;
    float scale = isSmall ? 0 : amax / limit;
    float inverse = isSmall ? 0 : limit / amax;
    for (float &x : group)
      x = scale * std::nearbyint(x * inverse);
  }
}

} // namespace retort
