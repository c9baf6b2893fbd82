//===- SuiteRun.h - Answers to problems -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Lets a model answer the problems of a suite.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_SUITERUN_H
#define RETORT_RUNTIME_SCORE_SUITERUN_H

#include "runtime/score/LogitsSource.h"
#include "runtime/score/Suite.h"
#include "runtime/score/Windows.h"

namespace retort::score {

struct SuiteOptions {
  uint64_t samples = 1;
  SamplerOptions sampling; ///< the seed is one of all problems and samples
  uint64_t maxTokens = 2048;
  /// Positions; 0: what the longest prompt and maxTokens need, or the model
  /// has.
  uint32_t context = 0;
  unsigned threads = 0;
  std::optional<std::string> system;
  bool raw = false; ///< without the chat template
};

/// A reply as it was generated.
struct Reply {
  size_t problem = 0;
  uint64_t sample = 0;
  Sample result;
  std::string text;
  std::vector<int32_t> prompt, tokens; ///< tokens without an end token
};

struct SuiteRun {
  std::vector<std::vector<Sample>> replies; ///< [problem][sample]
  uint64_t decodeSteps = 0;
  double decodeSeconds = 0;
  double decodeTps() const {
    return decodeSeconds > 0 ? double(decodeSteps) / decodeSeconds : 0;
  }
};

/// Called after each reply; an error ends the run.
using ReplySink = std::function<Status(const Reply &reply)>;

/// Answers every problem. A sample depends on seed, problem and its own number
/// alone. `running`, if given, points to the session while it computes, so that
/// it can be cancelled. Errors: a model without tokenizer or compiled code; a
/// prompt that leaves no room for a token (it is named).
Result<SuiteRun> runSuite(const ScoreModel &model,
                          std::span<const Problem> problems,
                          const SuiteOptions &options, const ReplySink &sink,
                          std::atomic<Session *> *running = nullptr);

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_SUITERUN_H
