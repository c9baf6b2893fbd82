//===- Rope.cpp - Rotary frequencies of a configuration ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace retort::checkpoint {
namespace {

using Kind = RopeScaling::Kind;

/// Llama 3.1: wavelengths past a quarter (say) of the trained context are
/// stretched by the factor, short ones are kept, and those between are blended
/// linearly in the number of rotations that fit the trained context.
double scaleLlama3(double freq, const RopeScaling &scaling) {
  double context = static_cast<double>(scaling.originalMaxPosition);
  double wavelength = 2.0 * std::numbers::pi / freq;
  if (wavelength < context / scaling.highFreqFactor)
    return freq;
  if (wavelength > context / scaling.lowFreqFactor)
    return freq / scaling.factor;
  double smooth = (context / wavelength - scaling.lowFreqFactor) /
                  (scaling.highFreqFactor - scaling.lowFreqFactor);
  return (1.0 - smooth) * freq / scaling.factor + smooth * freq;
}

/// The dimension pairs between which YaRN blends from the unchanged frequency
/// (at `low`) to the interpolated one (at `high`).
struct YarnRamp {
  double low, high;

  explicit YarnRamp(const ModelConfig &config) {
    const RopeScaling &scaling = config.ropeScaling;
    double dim = static_cast<double>(config.headDim);
    // The dimension whose wave rotates `rotations` times in the trained
    // context.
    auto dimensionOf = [&](double rotations) {
      double context = static_cast<double>(scaling.originalMaxPosition);
      return dim * std::log(context / (rotations * 2.0 * std::numbers::pi)) /
             (2.0 * std::log(config.ropeTheta));
    };
    low = dimensionOf(scaling.betaFast);
    high = dimensionOf(scaling.betaSlow);
    if (scaling.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1.0);
    // The reference's guard against a division by zero; it shifts a value.
    if (low == high)
      high += 0.001;
  }

  double interpolatedShare(size_t pair) const {
    return std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0,
                      1.0);
  }
};

double yarnMagnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

} // namespace

std::vector<double> ropeInvFreq(const ModelConfig &config) {
  const RopeScaling &scaling = config.ropeScaling;
  std::vector<double> freqs(static_cast<size_t>(config.headDim) / 2);
  for (size_t i = 0; i < freqs.size(); ++i)
    freqs[i] =
        std::pow(config.ropeTheta, -2.0 * static_cast<double>(i) /
                                       static_cast<double>(config.headDim));
  switch (scaling.kind) {
  case Kind::None:
    break;
  case Kind::Linear:
    for (double &freq : freqs)
      freq /= scaling.factor;
    break;
  case Kind::Llama3:
    for (double &freq : freqs)
      freq = scaleLlama3(freq, scaling);
    break;
  case Kind::Yarn: {
    YarnRamp ramp(config);
    for (size_t i = 0; i < freqs.size(); ++i) {
      double share = ramp.interpolatedShare(i);
      freqs[i] = freqs[i] / scaling.factor * share + freqs[i] * (1.0 - share);
    }
    break;
  }
  }
  return freqs;
}

double ropeAttentionFactor(const ModelConfig &config) {
  const RopeScaling &scaling = config.ropeScaling;
  if (scaling.kind != Kind::Yarn)
    return 1.0;
  if (scaling.attentionFactor)
    return *scaling.attentionFactor;
  if (scaling.mscale && scaling.mscaleAllDim)
    return yarnMagnitude(scaling.factor, *scaling.mscale) /
           yarnMagnitude(scaling.factor, *scaling.mscaleAllDim);
  return yarnMagnitude(scaling.factor, 1.0);
}

} // namespace retort::checkpoint
