//===- CheckedMath.h - Overflow-checked sizes -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Arithmetic on counts that come from files. All counts are untrusted: an
/// overflow yields `nullopt` instead of a small number that passes a check.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_CHECKEDMATH_H
#define RETORT_RUNTIME_SUPPORT_CHECKEDMATH_H

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

namespace retort {

template <std::integral T> std::optional<T> checkedAdd(T a, T b) {
  T out;
  return __builtin_add_overflow(a, b, &out) ? std::nullopt : std::optional(out);
}

template <std::integral T> std::optional<T> checkedMul(T a, T b) {
  T out;
  return __builtin_mul_overflow(a, b, &out) ? std::nullopt : std::optional(out);
}

/// The product of all dimensions; 1 for a scalar.
template <std::integral T>
std::optional<T> checkedProduct(std::span<const T> dims) {
  T product = 1;
  for (T d : dims)
    if (__builtin_mul_overflow(product, d, &product))
      return std::nullopt;
  return product;
}

/// `a / b` rounded up; `b` must be positive.
template <std::integral T> constexpr T ceilDiv(T a, T b) {
  return a / b + (a % b != 0);
}

/// The least multiple of `step` that is not below `a`. Callers use it on sizes
/// that have passed their own bound, so that it can't overflow.
template <std::integral T> constexpr T roundUp(T a, T step) {
  return ceilDiv(a, step) * step;
}

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_CHECKEDMATH_H
