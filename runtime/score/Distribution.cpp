//===- Distribution.cpp - Logits as probabilities ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/Distribution.h"

#include "runtime/support/ExactExp.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

namespace retort::score {
namespace {

/// Sums are taken in so many chains, whatever the vector unit.
constexpr size_t kLanes = 8;

double addLanes(const double (&lanes)[kLanes]) {
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/// Sum over i of term(i), in kLanes chains.
template <typename Term> double sumOf(size_t count, Term term) {
  double lanes[kLanes] = {};
  size_t whole = count / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] += term(i + lane);
  for (size_t i = whole; i < count; ++i)
    lanes[i - whole] += term(i);
  return addLanes(lanes);
}

/// e^x for x <= 0; what e^-700 would be for anything less, which adds nothing.
double weight(double x) { return exactExp(x < -700.0 ? -700.0 : x); }

} // namespace

Result<Distribution> Distribution::create(std::span<const float> logits) {
  if (logits.empty())
    return Status::error(Code::InvalidData,
                         "logits: expected some, found none");
  float most = logits[0];
  bool finite = true;
  for (float logit : logits) {
    finite &= std::abs(logit) <= 3.402823466e38f;
    most = logit > most ? logit : most;
  }
  if (!finite) {
    size_t at = std::find_if_not(logits.begin(), logits.end(),
                                 [](float x) { return std::isfinite(x); }) -
                logits.begin();
    return Status::error(Code::InvalidData, "logits: the value of token " +
                                                std::to_string(at) + " is " +
                                                std::to_string(logits[at]) +
                                                ", expected a finite number");
  }
  Distribution out;
  out.row = logits;
  out.largest = most;
  const float *x = logits.data();
  double shift = most;
  double sum = sumOf(logits.size(),
                     [x, shift](size_t i) { return weight(x[i] - shift); });
  out.logTotal = shift + std::log(sum);
  return out;
}

Result<Distribution>
Distribution::extended(std::span<const float> logits) const {
  if (logits.size() == row.size())
    return *this;
  RETORT_ASSIGN_OR_RETURN(Distribution more, create(logits.subspan(size())));
  Distribution out;
  out.row = logits;
  out.largest = std::max(largest, more.largest);
  double high = std::max(logTotal, more.logTotal);
  double low = std::min(logTotal, more.logTotal);
  out.logTotal = high + std::log1p(weight(low - high));
  return out;
}

double klDivergence(const Distribution &p, const Distribution &q) {
  const float *a = p.logits().data(), *b = q.logits().data();
  double shift = p.most();
  // sum of e^(a - most) (a - b); the normalisers come in once.
  double sum = sumOf(p.size(), [a, b, shift](size_t i) {
    return weight(a[i] - shift) * (double(a[i]) - b[i]);
  });
  double mean = sum / std::exp(p.logSum() - shift);
  return std::max(0.0, mean - p.logSum() + q.logSum());
}

TailSums sumTail(const Distribution &p, float cut, int32_t last) {
  const float *x = p.logits().data();
  double logSum = p.logSum();
  auto prob = [x, logSum, cut, last](size_t i) {
    bool listed =
        (x[i] > cut) | ((x[i] == cut) & (static_cast<int32_t>(i) <= last));
    double w = weight(x[i] - logSum);
    return listed ? 0.0 : w;
  };
  return {sumOf(p.size(), prob),
          sumOf(p.size(), [&](size_t i) { return prob(i) * (x[i] - logSum); })};
}

double sumProbabilities(std::span<const float> logits, double logSum) {
  const float *x = logits.data();
  return sumOf(logits.size(), [x, logSum](size_t i) {
    double shifted = x[i] - logSum;
    return weight(shifted > 0 ? 0 : shifted);
  });
}

std::vector<int32_t> likeliest(std::span<const float> logits, size_t count) {
  count = std::min(count, logits.size());
  std::vector<int32_t> ids;
  if (count == 0)
    return ids;
  auto before = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  // A few are kept in order by insertion, many selected.
  if (count <= 16) {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (ids.size() == count && !(logits[i] > logits[ids.back()]))
        continue;
      int32_t id = static_cast<int32_t>(i);
      if (ids.size() == count)
        ids.pop_back();
      ids.insert(std::upper_bound(ids.begin(), ids.end(), id, before), id);
    }
    return ids;
  }
  std::vector<float> sorted(logits.begin(), logits.end());
  std::nth_element(sorted.begin(), sorted.begin() + (count - 1), sorted.end(),
                   std::greater<>());
  float cut = sorted[count - 1];
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > cut)
      ids.push_back(static_cast<int32_t>(i));
  for (size_t i = 0; i < logits.size() && ids.size() < count; ++i)
    if (logits[i] == cut)
      ids.push_back(static_cast<int32_t>(i));
  std::sort(ids.begin(), ids.end(), before);
  return ids;
}

size_t countShared(std::span<const int32_t> a, std::span<const int32_t> b) {
  size_t count = 0;
  for (int32_t id : a)
    count += std::find(b.begin(), b.end(), id) != b.end();
  return count;
}

} // namespace retort::score
