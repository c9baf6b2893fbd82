//===- Generator.cpp - Prompt in, text out ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Generator.h"

#include <algorithm>
#include <chrono>

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

  const abi::Program &program = *session.model().index().program();
  uint64_t bytes = 0;
  Clock::time_point begin = Clock::now();
  // An end token is not fed: a chat goes on by feeding the template's own.
  while (true) {
    if (options.maxTokens >= 0 &&
        out.tokens.size() >= static_cast<uint64_t>(options.maxTokens)) {
      out.reason = StopReason::Length;
      break;
    }
    RETORT_ASSIGN_OR_RETURN(int32_t token,
                            sampler.sample(session.logits(), session.tokens()));
    if (isEnd(token)) {
      out.reason = StopReason::EndToken;
      break;
    }
    out.tokens.push_back(token);
    std::string text = decoder ? filter.push(decoder->push(token)) : "";
    if (!show(text, token)) {
      out.reason = StopReason::Cancelled;
      break;
    }
    if (filter.stopped()) {
      out.reason = StopReason::StopString;
      break;
    }
    if (options.maxTokens >= 0 &&
        out.tokens.size() >= static_cast<uint64_t>(options.maxTokens)) {
      out.reason = StopReason::Length;
      break;
    }
    if (session.position() == session.context()) {
      out.reason = StopReason::ContextFull;
      break;
    }
    bytes += stepWork(program, 1, session.position()).bytes;
    Status fed = session.feed({&token, 1});
    if (fed.code() == Code::Cancelled) {
      out.reason = StopReason::Cancelled;
      break;
    }
    RETORT_RETURN_IF_ERROR(std::move(fed));
    ++out.stats.decodeSteps;
  }
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
