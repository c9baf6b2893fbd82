//===- RunChat.cpp - Talking to a model -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/RunOptions.h"

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;

/// Reads standard input line by line.
class LineReader {
public:
  /// The next line without its end; nullopt at the end of the input.
  std::optional<std::string> next() {
    size_t end;
    while ((end = buffer.find('\n')) == std::string::npos) {
      char chunk[4096];
      ssize_t n = ::read(STDIN_FILENO, chunk, sizeof chunk);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0) {
        if (buffer.empty())
          return std::nullopt;
        end = buffer.size();
        buffer += '\n';
        break;
      }
      buffer.append(chunk, static_cast<size_t>(n));
    }
    std::string line = buffer.substr(0, end);
    buffer.erase(0, end + 1);
    if (line.ends_with('\r'))
      line.pop_back();
    return line;
  }

private:
  std::string buffer;
};

/// Leaves in the session what it shares with `ids`, and returns the rest, of
/// which at least one token must be fed for the logits.
Result<std::span<const int32_t>>
keepSharedPrefix(RunState &state, std::span<const int32_t> ids) {
  retort_session *session = state.session.get();
  RETORT_ASSIGN_OR_RETURN(
      auto held,
      fetch<std::vector<int32_t>>([&](int32_t *out, size_t n, size_t *length) {
        return retort_session_tokens(session, out, n, length);
      }));
  size_t shared =
      std::mismatch(held.begin(), held.end(), ids.begin(), ids.end()).first -
      held.begin();
  if (shared == ids.size() && shared > 0)
    --shared;
  RETORT_RETURN_IF_ERROR(
      statusOf(retort_session_rewind(session, static_cast<uint32_t>(shared))));
  return ids.subspan(shared);
}

/// Answers the conversation so far and adds the answer to it.
Status answerTurn(RunState &state, Json &messages) {
  RETORT_ASSIGN_OR_RETURN(std::string text,
                          renderChat(state.model.get(), messages.dump()));
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                          tokenize(state.model.get(), text, false));
  uint32_t context = retort_session_context(state.session.get());
  if (ids.empty() || ids.size() > context)
    return Status::error(Code::InvalidArgument,
                         "the conversation has " + std::to_string(ids.size()) +
                             " tokens, expected 1 to " +
                             std::to_string(context) +
                             ", the size of the context");
  RETORT_ASSIGN_OR_RETURN(auto rest, keepSharedPrefix(state, ids));
  RETORT_ASSIGN_OR_RETURN(Answer answer, generateAnswer(state, rest, true));
  RETORT_RETURN_IF_ERROR(writeOut("\n"));
  messages.push_back({{"role", "assistant"}, {"content", answer.text}});
  if (answer.stats.reason == RETORT_STOP_CONTEXT_FULL)
    std::fprintf(stderr, "the context of %u positions is full\n", context);
  if (state.options.stats)
    printStats(state, answer.stats);
  return Status::ok();
}

} // namespace

Status runChat(RunState &state) {
  Json messages = Json::array();
  if (state.options.system) {
    RETORT_RETURN_IF_ERROR(checkUtf8("system prompt", *state.options.system));
    messages.push_back(
        {{"role", "system"}, {"content", *state.options.system}});
  }
  bool interactive = ::isatty(STDIN_FILENO);
  LineReader reader;
  while (true) {
    if (interactive)
      std::fputs("> ", stderr);
    std::optional<std::string> line = reader.next();
    if (!line)
      break;
    if (line->empty())
      continue;
    RETORT_RETURN_IF_ERROR(checkUtf8("message", *line));
    messages.push_back({{"role", "user"}, {"content", *line}});
    RETORT_RETURN_IF_ERROR(answerTurn(state, messages));
    // Control-C has ended this answer; the conversation goes on. A script's
    // input is not a conversation.
    if (interactive)
      CancelScope::takeSignal();
    else if (CancelScope::pendingSignal())
      break;
  }
  if (interactive)
    std::fputs("\n", stderr);
  return Status::ok();
}

} // namespace retort::tools
