//===- ExactMath.h - The same functions everywhere --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What the reference needs of a C library, whose last bits differ from one
/// machine to the next: expected logits are stored in artifacts. As in
/// ExactExp.h, files that include it are compiled with `-ffp-contract=off`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_REFERENCE_EXACTMATH_H
#define RETORT_COMPILER_REFERENCE_EXACTMATH_H

#include "runtime/support/ExactExp.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace retort::reference {

/// e^x for x <= 0; what is below e^-700 becomes e^-700.
inline double expOfNegative(double x) { return exactExp(std::max(x, -700.0)); }

/// 1 / (1 + e^-x).
inline double sigmoid(double x) {
  if (x >= 0)
    return 1.0 / (1.0 + expOfNegative(-x));
  double e = expOfNegative(x);
  return e / (1.0 + e);
}

/// Sine and cosine of an angle within 1.6 million, to a few units of the last
/// place: of what is left of it after multiples of pi/2, by Taylor series whose
/// remainders are below 2^-56.
inline std::pair<double, double> sinCos(double angle) {
  // pi/2 in three parts. The first two have 33 bits, so that their products
  // with numbers of 20 bits are exact.
  constexpr double kHigh = 1.57079632673412561417e+00;
  constexpr double kMiddle = 6.07710050630396597660e-11;
  constexpr double kLow = 2.02226624879595063154e-21;
  constexpr double kTwoOverPi = 6.36619772367581382433e-01;
  double turns = std::nearbyint(angle * kTwoOverPi);
  if (!(std::abs(turns) < 0x1p52)) // also what isn't a number
    return {NAN, NAN};
  double x = ((angle - turns * kHigh) - turns * kMiddle) - turns * kLow;
  double squared = x * x;
  constexpr double kSine[] = {1.0 / 355687428096000,
                              -1.0 / 1307674368000,
                              1.0 / 6227020800,
                              -1.0 / 39916800,
                              1.0 / 362880,
                              -1.0 / 5040,
                              1.0 / 120,
                              -1.0 / 6};
  constexpr double kCosine[] = {
      1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800,
      1.0 / 40320,          -1.0 / 720,         1.0 / 24,        -0.5};
  double sine = 0, cosine = 0;
  for (double coefficient : kSine)
    sine = (sine + coefficient) * squared;
  for (double coefficient : kCosine)
    cosine = (cosine + coefficient) * squared;
  sine = x + x * sine;
  cosine += 1.0;
  switch (static_cast<int64_t>(turns) & 3) {
  case 0:
    return {sine, cosine};
  case 1:
    return {cosine, -sine};
  case 2:
    return {-sine, -cosine};
  default:
    return {-cosine, sine};
  }
}

} // namespace retort::reference

#endif // RETORT_COMPILER_REFERENCE_EXACTMATH_H
