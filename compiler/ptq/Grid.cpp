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
#include <cstring>

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

typedef float F8 __attribute__((vector_size(32)));

F8 splat(float x) { return F8{x, x, x, x, x, x, x, x}; }

/// The sum of squared errors of rounding to integers, each times the importance
/// of its column. The sums of eight lanes are added at the end, so that the
/// result does not depend on the width of vectors.
float weightedError(const GridForm &form, const Grid &grid,
                    std::span<const float> weights,
                    std::span<const float> importance) {
  // Added and taken away again, rounds to an integer, half to even.
  constexpr float kRounder = 0x1.8p23f;
  auto zero = static_cast<float>(grid.zero);
  F8 inverse = splat(1 / grid.scale), scale = splat(grid.scale);
  F8 least = splat(static_cast<float>(lowest(form)) - zero);
  F8 most = splat(static_cast<float>(highest(form)) - zero);
  F8 sums = {};
  size_t k = 0;
  auto add = [&](F8 w, F8 weight) {
    F8 quant = w * inverse;
    quant = quant < least ? least : quant;
    quant = quant > most ? most : quant;
    quant = (quant + kRounder) - kRounder;
    F8 error = w - quant * scale;
    sums += weight * (error * error);
  };
  F8 w, weight;
  for (; k + 8 <= weights.size(); k += 8) {
    std::memcpy(&w, weights.data() + k, sizeof(w));
    std::memcpy(&weight, importance.data() + k, sizeof(weight));
    add(w, weight);
  }
  if (k < weights.size()) {
    w = weight = F8{};
    size_t rest = (weights.size() - k) * sizeof(float);
    std::memcpy(&w, weights.data() + k, rest);
    std::memcpy(&weight, importance.data() + k, rest);
    add(w, weight);
  }
  float sum = 0;
  for (int lane = 0; lane < 8; ++lane)
    sum += sums[lane];
  return sum;
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
  // In this order NaN becomes the largest.
  float magnitude = std::min(kLargestF8, std::abs(value));
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
  // Steps of floats grow with the weights: a smaller range gains nothing.
  if (form.isFloat)
    return gridOver(form, low, high);
  Grid best;
  float least = 0;
  for (int i = 0; i < kShrinks; ++i) {
    float shrink = 1 - static_cast<float>(i) * kShrinkStep;
    Grid grid = gridOver(form, low * shrink, high * shrink);
    float sum = weightedError(form, grid, weights, importance);
    // A scale so small that its inverse is none gives no sum to compare.
    if (i > 0 && !(sum < least))
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
  // In this order NaN becomes the lowest.
  return static_cast<int8_t>(
      std::max(static_cast<float>(lowest(form)),
               std::min(quant, static_cast<float>(highest(form)))));
}

float valueOnGrid(const GridForm &form, const Grid &grid, int8_t quant) {
  if (form.isFloat)
    return grid.scale * checkpoint::f8e4m3ToF32(static_cast<uint8_t>(quant));
  return grid.scale * static_cast<float>(quant - grid.zero);
}

void fitRow(const GridForm &form, std::span<const float> row,
            std::span<const float> importance, std::span<const float> scales,
            std::span<Grid> grids) {
  auto width =
      static_cast<size_t>(form.width(static_cast<int64_t>(row.size())));
  std::vector<float> scaled, scaledImportance;
  for (size_t g = 0; g < grids.size(); ++g) {
    auto group = row.subspan(g * width, width);
    auto weight = importance.subspan(g * width, width);
    if (!scales.empty()) {
      scaled.assign(group.begin(), group.end());
      scaledImportance.assign(weight.begin(), weight.end());
      for (size_t k = 0; k < width; ++k) {
        float scale = scales[g * width + k];
        scaled[k] *= scale;
        scaledImportance[k] /= scale * scale;
      }
      group = scaled;
      weight = scaledImportance;
    }
    grids[g] = fitWeighted(form, group, weight);
  }
}

namespace {

template <typename Body>
void forRows(int64_t rows, int threads, const Body &body) {
  std::atomic<int64_t> next{0};
  runOnThreads(static_cast<size_t>(std::clamp<int64_t>(threads, 1, rows)), [&] {
    for (int64_t row; (row = next.fetch_add(1)) < rows;)
      body(row);
  });
}

} // namespace

QuantizedResult roundToNearest(const GridForm &form,
                               std::span<const float> weights, int64_t rows,
                               int64_t cols, int threads) {
  QuantizedResult out(form, rows, cols);
  int64_t width = form.width(cols), groups = form.groups(cols);
  forRows(rows, threads, [&](int64_t row) {
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

QuantizedResult roundWeighted(const GridForm &form,
                              std::span<const float> weights, int64_t rows,
                              std::span<const float> importance, int threads,
                              std::span<const float> scales) {
  auto cols = static_cast<int64_t>(importance.size());
  QuantizedResult out(form, rows, cols);
  auto width = static_cast<size_t>(form.width(cols));
  auto groups = static_cast<size_t>(form.groups(cols));
  forRows(rows, threads, [&](int64_t r) {
    auto at = static_cast<size_t>(r * cols);
    auto row = weights.subspan(at, static_cast<size_t>(cols));
    auto grids =
        std::span(out.grids).subspan(static_cast<size_t>(r) * groups, groups);
    fitRow(form, row, importance, scales, grids);
    for (size_t k = 0; k < row.size(); ++k)
      out.quants[at + k] = roundToGrid(
          form, grids[k / width], scales.empty() ? row[k] : row[k] * scales[k]);
  });
  return out;
}

} // namespace retort::ptq
