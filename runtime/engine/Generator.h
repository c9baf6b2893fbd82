//===- Generator.h - Prompt in, text out ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The loop of prefill and decode: sampling, end tokens, stop strings, streamed
/// text and statistics.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_GENERATOR_H
#define RETORT_RUNTIME_ENGINE_GENERATOR_H

#include "runtime/engine/Session.h"
#include "runtime/text/Sampler.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

/// Finds stop strings in text that arrives in pieces. Text that may be the
/// beginning of a stop string is held back until that is decided.
class StopFilter {
public:
  explicit StopFilter(std::vector<std::string> stops);
  /// Adds a piece and returns what may be shown. Once a stop string has been
  /// found, the text before it is the last that is returned.
  std::string push(std::string_view piece);
  /// What is still held back, at the end of the text.
  std::string flush();
  bool stopped() const { return found; }

private:
  std::vector<std::string> stops;
  std::string held;
  bool found = false;
};

/// Turns ids into text as they come. `push` may return less than a token's
/// text while a character is incomplete; `flush` returns the rest.
struct TokenDecoder {
  std::function<std::string(int32_t)> push;
  std::function<std::string()> flush;
};

enum class StopReason { EndToken, StopString, Length, ContextFull, Cancelled };
std::string_view stopReasonName(StopReason reason);

struct GenerateOptions {
  int64_t maxTokens = -1; ///< -1: until something else ends it
  std::vector<int32_t> endTokens;
  std::vector<std::string> stops; ///< empty strings are ignored
  /// Guess a token ahead with the draft layer (the session must keep it) and
  /// check the guess together with the token before it. What is generated is
  /// the same, bit by bit.
  bool draft = false;
};

struct GenerateStats {
  uint64_t promptTokens = 0;
  uint64_t newTokens = 0; ///< sampled ones, without an end token
  double prefillSeconds = 0;
  double decodeSeconds = 0;
  uint64_t decodeSteps = 0;   ///< tokens fed within decodeSeconds
  uint64_t drafted = 0;       ///< guesses that were checked ...
  uint64_t accepted = 0;      ///< ... and those that were right
  uint64_t bytesPerToken = 0; ///< read per token fed in decoding, on average
  double prefillTps() const {
    return prefillSeconds > 0 ? promptTokens / prefillSeconds : 0;
  }
  double decodeTps() const {
    return decodeSeconds > 0 ? decodeSteps / decodeSeconds : 0;
  }
  /// 10^9 bytes per second that decoding has read.
  double readGbps() const { return bytesPerToken * decodeTps() / 1e9; }
};

struct Generated {
  std::vector<int32_t> tokens; ///< without an end token
  StopReason reason = StopReason::Length;
  GenerateStats stats;
};

/// Receives text, or each token with the text that it completed (possibly
/// none). Returning false ends the generation as Cancelled.
using TextSink = std::function<bool(std::string_view text, int32_t token)>;

/// Feeds `prompt` and then what is sampled, until an end. The repetition
/// penalty counts all tokens of the context. `decoder` may be null: then there
/// is no text and stop strings don't apply. With an empty prompt generation
/// goes on from the session's logits.
Result<Generated> generate(Session &session, Sampler &sampler,
                           const TokenDecoder *decoder,
                           std::span<const int32_t> prompt,
                           const GenerateOptions &options,
                           const TextSink &sink = {});

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_GENERATOR_H
