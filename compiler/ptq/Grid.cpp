//===- Grid.cpp - What weights are rounded to -----------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/Grid.h"

#include "compiler/checkpoint/DType.h"
#include "runtime/support/Threads.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

namespace retort::ptq {
namespace {

/// Ranges that fitWeighted() tries: 1, 1 - step, ...
constexpr int kShrinks = 40;
constexpr float kShrinkStep = 0.0125f;
constexpr float kLargestF8 = 448.0f;

int lowest(const GridForm &form) { return -(1 << (form.bits - 1)); }
int highest(const GridForm &form) { return (1 << (form.bits - 1)) - 1; }

/// The grid over [low, high], which holds 0.
Grid gridOver(const GridForm &form, float low, float high) {
  float largest = std::max(-low, high);
  Grid grid;
  if (!(largest > 0))
    return grid;
  auto steps = static_cast<float>((1 << form.bits) - 1);
  float scale = form.isFloat      ? largest / kLargestF8
                : form.zeroPoints ? (high - low) / steps
                                  : largest / (steps / 2);
  grid.scale = nearestBF16(scale);
  // A subnormal scale may round to 0.
  if (!(grid.scale > 0))
    grid.scale = std::bit_cast<float>(uint32_t(1) << 16);
  if (form.zeroPoints)
    grid.zero = std::clamp(
        lowest(form) - static_cast<int>(std::nearbyint(low / grid.scale)),
        lowest(form), highest(form));
  return grid;
}

} // namespace

Result<GridForm> parseGridForm(std::string_view name, int64_t groupSize) {
  GridForm form;
  if (name == "int4" || name == "int4-zero-points") {
    form.zeroPoints = name != "int4";
    form.groupSize = groupSize;
    return form;
  }
  form.bits = 8;
  form.isFloat = name == "fp8";
  if (name == "int8" || name == "fp8")
    return form;
  return Status::error(Code::InvalidArgument,
                       "expected int4, int4-zero-points, int8 or fp8, found '" +
                           std::string(name) + "'");
}

float nearestBF16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  bits += 0x7fff + (bits >> 16 & 1);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

uint8_t nearestF8(float value) {
  uint8_t sign = std::signbit(value) ? 0x80 : 0;
  float magnitude = std::min(std::abs(value), kLargestF8);
  // The step is 2^-3 of the power of two below, and 2^-9 for subnormals.
  int exponent = magnitude > 0 ? std::max(std::ilogb(magnitude), -6) : -6;
  float step = std::ldexp(1.0f, exponent - 3);
  auto count = static_cast<int>(std::nearbyint(magnitude / step));
  // A count of 16 is the next power of two; below 8 it is subnormal. Adding it
  // to the exponent's field does both.
  int bits = (exponent + 6) * 8 + count;
  return static_cast<uint8_t>(sign | bits);
}

Grid fitRange(const GridForm &form, std::span<const float> weights) {
  float low = 0, high = 0;
  for (float w : weights) {
    low = std::min(low, w);
    high = std::max(high, w);
  }
  return gridOver(form, low, high);
}

Grid fitWeighted(const GridForm &form, std::span<const float> weights,
                 std::span<const float> importance) {
  float low = 0, high = 0;
  for (float w : weights) {
    low = std::min(low, w);
    high = std::max(high, w);
  }
  Grid best;
  double least = -1;
  for (int i = 0; i < kShrinks; ++i) {
    float shrink = 1 - static_cast<float>(i) * kShrinkStep;
    Grid grid = gridOver(form, low * shrink, high * shrink);
    double sum = 0;
    for (size_t k = 0; k < weights.size(); ++k) {
      float error =
          weights[k] -
          valueOnGrid(form, grid, roundToGrid(form, grid, weights[k]));
      sum += double(importance[k]) * error * error;
    }
    if (least >= 0 && sum >= least)
      continue;
    least = sum;
    best = grid;
  }
  return best;
}

int8_t roundToGrid(const GridForm &form, const Grid &grid, float weight) {
  float scaled = weight / grid.scale;
  if (form.isFloat)
    return static_cast<int8_t>(nearestF8(scaled));
  // In floats, so that what is far off does not overflow.
  float quant = std::nearbyint(scaled) + static_cast<float>(grid.zero);
  return static_cast<int8_t>(std::clamp(quant, static_cast<float>(lowest(form)),
                                        static_cast<float>(highest(form))));
}

float valueOnGrid(const GridForm &form, const Grid &grid, int8_t quant) {
  if (form.isFloat)
    return grid.scale * checkpoint::f8e4m3ToF32(static_cast<uint8_t>(quant));
  return grid.scale * static_cast<float>(quant - grid.zero);
}

QuantizedResult roundToNearest(const GridForm &form,
                               std::span<const float> weights, int64_t rows,
                               int64_t cols, int threads) {
  QuantizedResult out(form, rows, cols);
  int64_t width = form.width(cols), groups = form.groups(cols);
  std::atomic<int64_t> next{0};
  runOnThreads(static_cast<size_t>(std::min<int64_t>(threads, rows)), [&] {
    for (int64_t row; (row = next.fetch_add(1)) < rows;)
      for (int64_t g = 0; g < groups; ++g) {
        auto at = static_cast<size_t>(row * cols + g * width);
        auto group = weights.subspan(at, static_cast<size_t>(width));
        Grid grid = fitRange(form, group);
        out.grids[static_cast<size_t>(row * groups + g)] = grid;
        for (size_t k = 0; k < group.size(); ++k)
          out.quants[at + k] = roundToGrid(form, grid, group[k]);
      }
  });
  return out;
}

} // namespace retort::ptq
