//===- Suite.h - Problems with known answers --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Reads problems and sums up how many were solved.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_SUITE_H
#define RETORT_RUNTIME_SCORE_SUITE_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort::score {

struct Problem {
  std::string id;     ///< as the file has it, else its line number
  std::string text;   ///< what the model is asked
  std::string answer; ///< the right one
};

/// Reads a JSON object per line; blank lines are skipped. What is asked is
/// `problem`, `question` or `prompt`; the answer is `answer` or `final_answer`,
/// a string or a number, of which what follows `####` counts (GSM8K), or the
/// last box of `solution`. Names count in any case (AIME has `Problem`).
/// InvalidData names line and field; a file without problems is an error.
Result<std::vector<Problem>> parseSuite(std::string_view jsonl);

/// One reply.
struct Sample {
  std::optional<std::string> answer;
  bool right = false;
  bool cut = false; ///< it had not ended after the most tokens
  uint64_t tokens = 0;
};

struct Interval {
  double value = 0, low = 0, high = 0;
};

struct SuiteReport {
  uint64_t problems = 0, samples = 0; ///< of each problem
  Interval passAt1;                   ///< 95 percent
  std::map<uint64_t, double> passAt;  ///< k: 1, 2, 4, ... and samples
  double majority = 0;
  uint64_t noAnswer = 0, cut = 0, tokens = 0; ///< of all replies
};

/// The chance that k of n samples, drawn without replacement, hold one of the
/// c right ones: 1 - C(n - c, k) / C(n, k) (Chen et al., arXiv 2107.03374).
/// 1 <= k <= n, c <= n.
double passAtK(uint64_t n, uint64_t c, uint64_t k);

/// The mean of shares of right samples with a 95 percent interval (Wilson
/// 1927). Samples of a problem aren't independent, so the number of trials is
/// the one that gives the variance seen between problems: the number of
/// problems for one sample each.
Interval meanOfShares(std::span<const double> shares, uint64_t samples);

/// The index of the sample whose answer is the most frequent one, equivalent
/// answers counting together, the earliest among equals; nullopt if there is
/// no answer.
std::optional<size_t> majorityVote(std::span<const Sample> samples);

/// `replies` are the samples of each problem, equally many, at least one.
SuiteReport summarize(std::span<const std::vector<Sample>> replies);

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_SUITE_H
