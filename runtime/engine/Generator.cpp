//===- Generator.cpp - Prompt in, text out ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Generator.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace retort {
namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Length of the longest end of `text` that begins, but doesn't complete,
/// `stop`.
size_t pendingLength(std::string_view text, std::string_view stop) {
  size_t length = std::min(text.size(), stop.size() - 1);
  for (; length > 0; --length)
    if (text.substr(text.size() - length) == stop.substr(0, length))
      break;
  return length;
}

} // namespace

StopFilter::StopFilter(std::vector<std::string> list) : stops(std::move(list)) {
  std::erase_if(stops, [](const std::string &s) { return s.empty(); });
}

std::string StopFilter::push(std::string_view piece) {
  if (found)
    return {};
  held += piece;
  size_t cut = std::string::npos;
  for (const std::string &stop : stops)
    cut = std::min(cut, held.find(stop));
  size_t show;
  if (cut != std::string::npos) {
    found = true;
    show = cut;
  } else {
    size_t pending = 0;
    for (const std::string &stop : stops)
      pending = std::max(pending, pendingLength(held, stop));
    show = held.size() - pending;
  }
  std::string out = held.substr(0, show);
  held.erase(0, found ? held.size() : show);
  return out;
}

std::string StopFilter::flush() { return std::exchange(held, {}); }

std::string_view stopReasonName(StopReason reason) {
  switch (reason) {
  case StopReason::EndToken:
    return "end token";
  case StopReason::StopString:
    return "stop string";
  case StopReason::Length:
    return "length";
  case StopReason::ContextFull:
    return "context full";
  case StopReason::Cancelled:
    return "cancelled";
  }
  return "";
}

namespace {

/// Tokens that may still be generated.
uint64_t wanted(const GenerateOptions &options, const Generated &out) {
  if (options.maxTokens < 0)
    return UINT64_MAX;
  uint64_t most = static_cast<uint64_t>(options.maxTokens);
  return most - std::min<uint64_t>(most, out.tokens.size());
}

/// One step of decoding: feeds a token, and a guess at the one after it.
struct Step {
  Session &session;
  Sampler &sampler;
  /// Counts and shows a token; says why to stop, if so.
  const std::function<std::optional<StopReason>(int32_t)> &take;
  GenerateStats &stats;
  uint64_t &bytes;
  /// Set if a token that was guessed right ends the generation.
  std::optional<StopReason> stop = std::nullopt;

  const abi::Program &program() const {
    return *session.model().index().program();
  }

  /// Both give the token that comes next, sampled but not taken.
  Result<int32_t> plain(int32_t token) {
    bytes += stepWork(program(), 1, session.position()).bytes;
    RETORT_RETURN_IF_ERROR(session.feed({&token, 1}));
    ++stats.decodeSteps;
    return sampler.sample(session.logits(), session.tokens());
  }

  Result<int32_t> guess(int32_t token) {
    RETORT_ASSIGN_OR_RETURN(std::span<const float> logits,
                            session.draft(token));
    if (logits.empty())
      return plain(token);
    int32_t guessed = static_cast<int32_t>(
        std::max_element(logits.begin(), logits.end()) - logits.begin());
    uint64_t at = session.position();
    for (auto [kind, tokens] : {std::pair(abi::PhaseKind::DraftBody, 1),
                                std::pair(abi::PhaseKind::DraftHead, 1),
                                std::pair(abi::PhaseKind::Body, 2),
                                std::pair(abi::PhaseKind::Head, 2)})
      bytes += phaseWork(program(), kind, tokens, at).bytes;
    int32_t next = 0;
    int32_t tokens[] = {token, guessed};
    ++stats.drafted;
    RETORT_RETURN_IF_ERROR(session.speculate(
        tokens,
        [&](uint64_t row, std::span<const float> found) -> Result<bool> {
          ++stats.decodeSteps;
          RETORT_ASSIGN_OR_RETURN(next,
                                  sampler.sample(found, session.tokens()));
          if (row > 0 || next != guessed)
            return false;
          ++stats.accepted;
          stop = take(next);
          return !stop;
        }));
    return next;
  }
};

} // namespace

Result<Generated> generate(Session &session, Sampler &sampler,
                           const TokenDecoder *decoder,
                           std::span<const int32_t> prompt,
                           const GenerateOptions &options,
                           const TextSink &sink) {
  Generated out;
  StopFilter filter(options.stops);
  auto show = [&](std::string_view text, int32_t token) {
    return !sink || sink(text, token);
  };
  auto isEnd = [&](int32_t id) {
    return std::find(options.endTokens.begin(), options.endTokens.end(), id) !=
           options.endTokens.end();
  };

  if (!prompt.empty()) {
    Clock::time_point begin = Clock::now();
    Status fed = session.feed(prompt);
    out.stats.prefillSeconds = secondsSince(begin);
    if (fed.code() == Code::Cancelled) {
      out.reason = StopReason::Cancelled;
      return out;
    }
    RETORT_RETURN_IF_ERROR(std::move(fed));
    out.stats.promptTokens = prompt.size();
  }
  if (session.logits().empty())
    return Status::error(
        Code::InvalidArgument,
        "expected a prompt: there are no logits to go on from");

  Clock::time_point begin = Clock::now();
  // An end token is not fed: a chat goes on by feeding the template's own.
  std::function<std::optional<StopReason>(int32_t)> take =
      [&](int32_t token) -> std::optional<StopReason> {
    if (isEnd(token))
      return StopReason::EndToken;
    out.tokens.push_back(token);
    std::string text = decoder ? filter.push(decoder->push(token)) : "";
    if (!show(text, token))
      return StopReason::Cancelled;
    if (filter.stopped())
      return StopReason::StopString;
    if (wanted(options, out) == 0)
      return StopReason::Length;
    if (session.position() == session.context())
      return StopReason::ContextFull;
    return std::nullopt;
  };
  std::optional<StopReason> stop;
  if (wanted(options, out) == 0)
    stop = StopReason::Length;
  int32_t token = 0;
  if (!stop) {
    RETORT_ASSIGN_OR_RETURN(token,
                            sampler.sample(session.logits(), session.tokens()));
    stop = take(token);
  }
  uint64_t bytes = 0;
  while (!stop) {
    Step step{session, sampler, take, out.stats, bytes};
    bool guesses = options.draft && wanted(options, out) > 1 &&
                   session.context() - session.position() > 1;
    Result<int32_t> next = guesses ? step.guess(token) : step.plain(token);
    if (next.status().code() == Code::Cancelled) {
      stop = StopReason::Cancelled;
      break;
    }
    RETORT_RETURN_IF_ERROR(next.takeStatus());
    token = *next;
    stop = step.stop ? step.stop : take(token);
  }
  out.reason = *stop;
  out.stats.decodeSeconds = secondsSince(begin);
  out.stats.newTokens = out.tokens.size();
  if (out.stats.decodeSteps > 0)
    out.stats.bytesPerToken = bytes / out.stats.decodeSteps;
  if (decoder && !filter.stopped()) {
    std::string rest = filter.push(decoder->flush());
    if (!filter.stopped())
      rest += filter.flush();
    else
      out.reason = StopReason::StopString;
    if (!rest.empty() && out.reason != StopReason::Cancelled)
      show(rest, -1);
  }
  return out;
}

} // namespace retort
