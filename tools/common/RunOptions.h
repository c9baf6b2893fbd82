//===- RunOptions.h - The modes of the run command --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_COMMON_RUNOPTIONS_H
#define RETORT_TOOLS_COMMON_RUNOPTIONS_H

#include "tools/common/Api.h"
#include "tools/common/Cli.h"

#include <optional>

namespace retort::tools {

/// What was given on the command line.
struct RunOptions {
  std::string model;
  std::optional<std::string> prompt, promptFile, tokens, logits, system;
  bool chat = false, raw = false, selfTest = false;
  bool stats = false, json = false, ignoreEnd = false, special = false;
  std::optional<int64_t> maxTokens;
  std::optional<double> temperature, topP, minP, repeatPenalty;
  std::optional<int64_t> topK;
  std::optional<uint64_t> seed;
  std::vector<std::string> stops;
  uint32_t context = 0, threads = 0, prefillChunk = 0;
  std::string target;
  bool mtp = false;
  bool noVerify = false;
  Placement pin = Placement::Auto, interleave = Placement::Auto;
};

/// An open model with a session, and how long that took.
struct RunState {
  const RunOptions &options;
  ModelHandle model;
  SessionHandle session;
  retort_model_info info{};
  double loadSeconds = 0;
};

/// A generated answer.
struct Answer {
  std::string text;
  std::vector<int32_t> ids;
  retort_generate_stats stats{};
};

/// Generates from `prompt`, showing text on standard output as it comes if
/// `stream`. A signal cancels it.
Result<Answer> generateAnswer(RunState &state, std::span<const int32_t> prompt,
                              bool stream);

/// One line of statistics on standard error.
void printStats(const RunState &state, const retort_generate_stats &stats);

/// `--chat`: reads messages from standard input until it ends.
Status runChat(RunState &state);

/// `--tokens --logits`: writes the logits after each token, and greedy_ids.
Status writeLogits(RunState &state, std::span<const int32_t> tokens);

/// The value of an option for whole numbers of at least one.
inline const CLI::Range kPositiveCount(1, INT32_MAX);

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_RUNOPTIONS_H
