//===- Generator.h - Fast reproducible random tensors -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Approximately normal values from a counter: element (row, col) of a tensor
/// is a function of the tensor's seed, row and col alone, so that any part can
/// be made by any thread in any order, on every processor the same.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_SYNTH_GENERATOR_H
#define RETORT_COMPILER_SYNTH_GENERATOR_H

#include "runtime/support/DType.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace retort::synth {

/// The seed of a tensor: of its name and the checkpoint's seed.
uint64_t tensorSeed(uint64_t seed, std::string_view name);

/// What the elements of a tensor look like: normal, cut off at 3.5 deviations.
struct Distribution {
  float mean = 0.0f;
  float deviation = 1.0f;
};

/// Elements [col, col + out.size()) of a row. A vector is one row.
void fillRow(uint64_t tensorSeed, const Distribution &distribution, int64_t row,
             int64_t col, std::span<float> out);

/// Stores f32 as F32, BF16 or F16, rounded to nearest even. `out` has
/// values.size() elements.
void encode(DType dtype, std::span<const float> values, std::byte *out);

/// Stores values[i] / scale as e4m3, rounded to nearest even. The magnitude of
/// a quotient must be at most 448, up to rounding.
void encodeF8(std::span<const float> values, float scale, std::byte *out);

/// The largest magnitude of finite values, 0 for none.
float largestMagnitude(std::span<const float> values);

} // namespace retort::synth

#endif // RETORT_COMPILER_SYNTH_GENERATOR_H
