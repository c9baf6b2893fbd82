//===- ExactExp.h - The same exponential everywhere -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// An exponential whose bits don't depend on the machine or its C library.
/// Files that include it are compiled with `-ffp-contract=off`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_EXACTEXP_H
#define RETORT_RUNTIME_SUPPORT_EXACTEXP_H

#include <bit>
#include <cstdint>

namespace retort {

/// e^x for x in [-700, 0] within a few units of the last place, from operations
/// that IEEE 754 defines exactly and that compilers vectorise: e^x = 2^k e^r
/// with |r| <= ln(2)/2, and e^r by its Taylor series to r^13, whose remainder
/// is below 2^-57.
inline double exactExp(double x) {
  constexpr double kLog2e = 1.44269504088896340736;
  // Adding it rounds to a whole number, which the low bits then hold.
  constexpr double kRound = 0x1.8p52;
  // ln(2) in two parts; the first has trailing zeros, so k * high is exact.
  constexpr double kLn2High = 6.93147180369123816490e-01;
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  constexpr double kInverseFactorials[] = {1.0 / 6227020800,
                                           1.0 / 479001600,
                                           1.0 / 39916800,
                                           1.0 / 3628800,
                                           1.0 / 362880,
                                           1.0 / 40320,
                                           1.0 / 5040,
                                           1.0 / 720,
                                           1.0 / 120,
                                           1.0 / 24,
                                           1.0 / 6,
                                           0.5,
                                           1.0,
                                           1.0};
  double shifted = x * kLog2e + kRound;
  double k = shifted - kRound;
  double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = 0;
  for (double coefficient : kInverseFactorials)
    sum = sum * r + coefficient;
  return std::bit_cast<double>(std::bit_cast<uint64_t>(sum) +
                               (std::bit_cast<uint64_t>(shifted) << 52));
}

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_EXACTEXP_H
