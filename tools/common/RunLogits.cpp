//===- RunLogits.cpp - Logits of given tokens -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/SafetensorsWriter.h"
#include "runtime/text/Sampler.h"
#include "tools/common/RunOptions.h"

namespace retort::tools {
namespace {

struct LogitsFile {
  SafetensorsWriter writer;
  Status status;
};

int appendRow(void *user, size_t, const float *logits, size_t vocab) {
  LogitsFile &file = *static_cast<LogitsFile *>(user);
  file.status = file.writer.append(std::span(logits, vocab));
  return file.status.isOk() ? 0 : 1;
}

/// The continuation of what has been fed, past end tokens.
Result<std::vector<int32_t>> greedyIds(RunState &state, size_t count) {
  std::vector<int32_t> ids;
  std::vector<float> logits(state.info.vocab_size);
  while (ids.size() < count) {
    size_t length = 0;
    RETORT_RETURN_IF_ERROR(statusOf(retort_session_logits(
        state.session.get(), logits.data(), logits.size(), &length)));
    RETORT_ASSIGN_OR_RETURN(int32_t id, greedyToken(logits));
    ids.push_back(id);
    if (ids.size() < count)
      RETORT_RETURN_IF_ERROR(
          statusOf(retort_session_feed(state.session.get(), &id, 1)));
  }
  return ids;
}

} // namespace

Status writeLogits(RunState &state, std::span<const int32_t> tokens) {
  const RunOptions &o = state.options;
  int64_t rows = static_cast<int64_t>(tokens.size());
  int64_t more = o.maxTokens.value_or(0);
  uint32_t context = retort_session_context(state.session.get());
  if (more > 0 && rows + more - 1 > int64_t(context))
    return Status::error(Code::InvalidArgument,
                         std::to_string(rows) + " tokens and " +
                             std::to_string(more) +
                             " more don't fit in the context of " +
                             std::to_string(context) + " positions");
  std::vector<SafetensorsWriter::Tensor> tensors = {
      {"logits", DType::F32, {rows, int64_t(state.info.vocab_size)}}};
  if (more > 0)
    tensors.push_back({"greedy_ids", DType::I32, {more}});
  RETORT_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                          SafetensorsWriter::create(*o.logits, tensors));
  LogitsFile file{std::move(writer), {}};
  CancelScope scope(
      [](void *session) {
        retort_session_cancel(static_cast<retort_session *>(session));
      },
      state.session.get());
  Status fed = statusOf(retort_session_feed_all(
      state.session.get(), tokens.data(), tokens.size(), appendRow, &file));
  RETORT_RETURN_IF_ERROR(std::move(file.status));
  RETORT_RETURN_IF_ERROR(std::move(fed));
  if (more > 0) {
    RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids, greedyIds(state, more));
    RETORT_RETURN_IF_ERROR(file.writer.append(std::span<const int32_t>(ids)));
  }
  return file.writer.commit();
}

} // namespace retort::tools
