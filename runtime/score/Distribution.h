//===- Distribution.h - Logits as probabilities -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What finished logits say about the next token: log-probabilities, divergence
/// and order. In f64, in a fixed order of operations, so that figures are the
/// same on every machine.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_DISTRIBUTION_H
#define RETORT_RUNTIME_SCORE_DISTRIBUTION_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <span>
#include <vector>

namespace retort::score {

/// The softmax of a row of logits, which must outlive it.
class Distribution {
public:
  /// InvalidData if the row is empty or a logit isn't finite.
  static Result<Distribution> create(std::span<const float> logits);

  /// The softmax of `logits`, which begin with this one's.
  Result<Distribution> extended(std::span<const float> logits) const;

  size_t size() const { return row.size(); }
  std::span<const float> logits() const { return row; }
  /// Natural logarithm of the probability of token `id`.
  double logProb(size_t id) const { return double(row[id]) - logTotal; }
  /// The largest logit.
  double most() const { return largest; }
  /// Log of the sum of e^logit: logProb(id) is logits()[id] less this.
  double logSum() const { return logTotal; }

private:
  Distribution() = default;
  std::span<const float> row;
  double largest = 0, logTotal = 0;
};

/// KL(p || q) = sum of p (log p - log q) in nats, at least 0. Both have the
/// same size.
double klDivergence(const Distribution &p, const Distribution &q);

/// Sums over the ids behind the likeliest: those whose logit is less than
/// `cut`, or equals it with an id above `last`.
struct TailSums {
  double mass = 0;  ///< of p
  double plogp = 0; ///< of p log p
};
TailSums sumTail(const Distribution &p, float cut, int32_t last);

/// Sum of e^(logit - logSum); logits are at most logSum.
double sumProbabilities(std::span<const float> logits, double logSum);

/// The `count` likeliest ids (all if there are fewer), likeliest first, the
/// lower id first among equals.
std::vector<int32_t> likeliest(std::span<const float> logits, size_t count);

/// How many of `a` are in `b` too.
size_t countShared(std::span<const int32_t> a, std::span<const int32_t> b);

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_DISTRIBUTION_H
