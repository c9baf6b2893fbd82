//===- Sampler.cpp - Choosing the next token --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Sampler.h"

#include "runtime/support/ExactExp.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace retort {
namespace {

/// e^x for x <= 0; zero below 2^-60, which no draw of 53 bits can tell from it.
double expNonPositive(double x) { return x > -41.5 ? exactExp(x) : 0; }

Status invalidArgument(std::string message) {
  return Status::error(Code::InvalidArgument, std::move(message));
}

Status nanLogit(size_t id) {
  return Status::error(Code::InvalidData, "logits: the value of token " +
                                              std::to_string(id) +
                                              " is not a number");
}

} // namespace

Pcg32::Pcg32(uint64_t seed) {
  next();
  state += seed;
  next();
}

uint32_t Pcg32::next() {
  constexpr uint64_t kMultiplier = 6364136223846793005ull;
  constexpr uint64_t kIncrement = 1442695040888963407ull;
  uint64_t old = state;
  state = old * kMultiplier + kIncrement;
  uint32_t shifted = static_cast<uint32_t>(((old >> 18) ^ old) >> 27);
  uint32_t turn = static_cast<uint32_t>(old >> 59);
  return (shifted >> turn) | (shifted << (-turn & 31));
}

double Pcg32::uniform() {
  uint64_t high = next();
  uint64_t bits = (high << 32 | next()) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

Status Sampler::check(const SamplerOptions &o) {
  auto found = [](double value) { return ", found " + std::to_string(value); };
  if (!(o.temperature >= 0) || !std::isfinite(o.temperature))
    return invalidArgument("temperature: expected a number from 0 on" +
                           found(o.temperature));
  if (o.topK < 0)
    return invalidArgument("top-k: expected a number from 0 on, found " +
                           std::to_string(o.topK));
  if (!(o.topP > 0 && o.topP <= 1))
    return invalidArgument("top-p: expected a number above 0 and up to 1" +
                           found(o.topP));
  if (!(o.minP >= 0 && o.minP <= 1))
    return invalidArgument("min-p: expected a number from 0 to 1" +
                           found(o.minP));
  if (!(o.repeatPenalty > 0) || !std::isfinite(o.repeatPenalty))
    return invalidArgument("repeat penalty: expected a number above 0" +
                           found(o.repeatPenalty));
  return Status::ok();
}

Result<int32_t> greedyToken(std::span<const float> logits) {
  int32_t best = -1;
  float most = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]))
      return nanLogit(i);
    if (logits[i] > most) {
      most = logits[i];
      best = static_cast<int32_t>(i);
    }
  }
  if (best < 0 || std::isinf(most))
    return Status::error(Code::InvalidData,
                         "logits: expected a largest value that is finite");
  return best;
}

Result<int32_t> Sampler::sample(std::span<const float> logits,
                                std::span<const int32_t> seen) {
  if (opts.repeatPenalty != 1 && !seen.empty()) {
    penalised.assign(logits.begin(), logits.end());
    // From the original value: a token seen twice is penalised once.
    for (int32_t id : seen)
      if (id >= 0 && static_cast<size_t>(id) < logits.size())
        penalised[id] = static_cast<float>(
            logits[id] > 0 ? logits[id] / opts.repeatPenalty
                           : logits[id] * opts.repeatPenalty);
    logits = penalised;
  }
  RETORT_ASSIGN_OR_RETURN(int32_t greedy, greedyToken(logits));
  if (opts.temperature == 0)
    return greedy;

  candidates.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    candidates.push_back({logits[i], static_cast<int32_t>(i)});
  auto before = [](const Candidate &a, const Candidate &b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  size_t keep = candidates.size();
  if (opts.topK > 0 && static_cast<uint64_t>(opts.topK) < keep) {
    keep = static_cast<size_t>(opts.topK);
    std::nth_element(candidates.begin(), candidates.begin() + (keep - 1),
                     candidates.end(), before);
    candidates.resize(keep);
  }

  // From here on `logit` holds the unnormalised probability, 1 for the largest.
  double most = logits[greedy], total = 0;
  for (Candidate &c : candidates) {
    c.logit = expNonPositive((c.logit - most) / opts.temperature);
    total += c.logit;
  }
  // What min-p drops can't be among the fewest that reach top-p and survive, so
  // it may go first; top-p still counts it in the total.
  std::erase_if(candidates, [&](const Candidate &c) {
    return c.logit == 0 || c.logit < opts.minP;
  });
  std::sort(candidates.begin(), candidates.end(), before);
  if (opts.topP < 1) {
    double sum = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      sum += candidates[i].logit;
      if (sum >= opts.topP * total) {
        candidates.resize(i + 1);
        break;
      }
    }
  }

  total = 0;
  for (const Candidate &c : candidates)
    total += c.logit;
  double point = random.uniform() * total;
  for (const Candidate &c : candidates) {
    point -= c.logit;
    if (point < 0)
      return c.id;
  }
  return candidates.back().id;
}

} // namespace retort
