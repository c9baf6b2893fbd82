//===- KlBounds.cpp - Divergence from part of a distribution ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/TeacherRecord.h"

#include "runtime/support/ExactExp.h"

#include <algorithm>
#include <cmath>

namespace retort::score {
namespace {

/// Half a step, and what f64 may have added to it.
constexpr double kHalfStep = kCodeStep / 2 * (1 + 1e-6);

/// e^x, also where it underflows.
double expOf(double x) { return x < -700 ? 0 : exactExp(std::min(x, 0.0)); }

/// p log(p / q) for p = e^x.
double term(double x, double logQ) { return expOf(x) * (x - logQ); }

/// p log(p / q) over all p that a code stands for. With x = log p the term
/// falls up to x = log q - 1, where it is -q / e, and rises from there on.
Bounds termBounds(uint32_t code, double logQ) {
  double high = std::min(-double(code) * kCodeStep + kHalfStep, 0.0);
  double atHigh = term(high, logQ);
  double least = logQ - 1;
  if (code == kLastCode)
    return {least < high ? -expOf(least) : atHigh, std::max(atHigh, 0.0)};
  double low = -double(code) * kCodeStep - kHalfStep;
  double atLow = term(low, logQ);
  Bounds out = {std::min(atLow, atHigh), std::max(atLow, atHigh)};
  if (low < least && least < high)
    out.lower = -expOf(least);
  return out;
}

/// What a stored f32 may have been rounded from.
Bounds rounded(float value) {
  double slack = std::abs(double(value)) * 0x1p-23 + 1e-44;
  return {double(value) - slack, double(value) + slack};
}

/// t log(t / s) over t in an interval; it falls up to t = s / e.
double leastGrouped(Bounds t, double s) {
  auto at = [&](double x) { return x > 0 ? x * std::log(x / s) : 0.0; };
  double least = s / std::exp(1.0);
  if (t.lower < least && least < t.upper)
    return at(least);
  return std::min(at(std::max(t.lower, 0.0)), at(t.upper));
}

/// Sum of p_j (-log q_j) if the mass `t` goes to the ids that come first in
/// the order of `before`, `cap` to each. Reorders `tail`.
template <typename Before>
double crossEntropy(std::vector<float> &tail, double t, double cap,
                    double logSum, Before before) {
  if (!(t > 0) || !(cap > 0))
    return 0;
  size_t whole = static_cast<size_t>(
      std::min(std::floor(t / cap), static_cast<double>(tail.size())));
  if (whole < tail.size())
    std::nth_element(tail.begin(), tail.begin() + whole, tail.end(), before);
  double sum = 0;
  for (size_t i = 0; i < whole; ++i)
    sum += cap * (logSum - tail[i]);
  double rest = t - double(whole) * cap;
  if (whole < tail.size() && rest > 0)
    sum += rest * (logSum - tail[whole]);
  return sum;
}

} // namespace

Bounds KlBounder::bound(const TeacherRecord &record, const Distribution &q) {
  Bounds sum;
  for (size_t i = 0; i < record.ids.size(); ++i) {
    Bounds one = termBounds(record.codes[i], q.logProb(record.ids[i]));
    sum.lower += one.lower;
    sum.upper += one.upper;
  }
  tail.clear();
  size_t from = 0;
  auto add = [&](size_t to) {
    tail.insert(tail.end(), q.logits().begin() + from, q.logits().begin() + to);
  };
  for (int32_t id : record.ids) {
    add(static_cast<size_t>(id));
    from = static_cast<size_t>(id) + 1;
  }
  add(q.size());
  if (!tail.empty()) {
    double s = sumProbabilities(tail, q.logSum());
    Bounds t = rounded(record.tailMass), h = rounded(record.tailPlogP);
    uint32_t last = *std::max_element(record.codes.begin(), record.codes.end());
    double cap = expOf(-double(last) * kCodeStep + kHalfStep);
    double most = crossEntropy(tail, t.upper, cap, q.logSum(), std::less<>());
    double least = crossEntropy(tail, std::max(t.lower, 0.0), cap, q.logSum(),
                                std::greater<>());
    double grouped = s > 0 ? leastGrouped(t, s) : 0;
    sum.upper += h.upper + most;
    sum.lower += std::max(grouped, h.lower + least);
  }
  // What f64 may have rounded away.
  double slack = 1e-11 * (1 + std::abs(sum.upper));
  return {std::max(0.0, sum.lower - slack), std::max(0.0, sum.upper + slack)};
}

} // namespace retort::score
