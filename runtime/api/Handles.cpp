//===- Handles.cpp - What the C API's files share ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/api/Handles.h"

#include <algorithm>
#include <string>

namespace retort::api {

static_assert(RETORT_INTERNAL == static_cast<int>(Code::Internal));

namespace {

/// Fixed storage: the message of a failed allocation must not need one.
thread_local char lastError[2048] = "";

} // namespace

retort_status_code fail(Code code, std::string_view message) {
  size_t length = std::min(message.size(), sizeof lastError - 1);
  // Cut between characters, not within one.
  while (length < message.size() && length > 0 &&
         (static_cast<unsigned char>(message[length]) & 0xc0) == 0x80)
    --length;
  std::memcpy(lastError, message.data(), length);
  lastError[length] = '\0';
  return static_cast<retort_status_code>(code);
}

retort_status_code report(const Status &status) {
  return status.isOk() ? RETORT_OK : fail(status.code(), status.message());
}

Status nullArgument(const char *name) {
  return Status::error(Code::InvalidArgument,
                       std::string(name) + ": expected a pointer, found null");
}

Result<std::span<const int32_t>> tokenSpan(const int32_t *tokens,
                                           size_t count) {
  if (!tokens && count > 0)
    return nullArgument("tokens");
  return std::span<const int32_t>(tokens, count);
}

SamplerOptions fromC(const retort_sampling &sampling) {
  SamplerOptions out;
  out.temperature = sampling.temperature;
  out.topK = sampling.top_k;
  out.topP = sampling.top_p;
  out.minP = sampling.min_p;
  out.repeatPenalty = sampling.repeat_penalty;
  out.seed = sampling.seed;
  return out;
}

} // namespace retort::api

const char *retort_last_error(void) { return retort::api::lastError; }
