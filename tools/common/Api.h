//===- Api.h - The C API with owning handles --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_COMMON_API_H
#define RETORT_TOOLS_COMMON_API_H

#include "runtime/api/retort.h"
#include "runtime/support/Status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace retort::tools {

struct HandleCloser {
  void operator()(retort_model *model) const { retort_model_close(model); }
  void operator()(retort_session *session) const {
    retort_session_close(session);
  }
  void operator()(retort_batch *batch) const { retort_batch_close(batch); }
};
using ModelHandle = std::unique_ptr<retort_model, HandleCloser>;
using SessionHandle = std::unique_ptr<retort_session, HandleCloser>;
using BatchHandle = std::unique_ptr<retort_batch, HandleCloser>;

/// The status of a call that has just returned on this thread.
inline Status statusOf(retort_status_code code) {
  if (code == RETORT_OK)
    return Status::ok();
  return Status::error(static_cast<Code>(code), retort_last_error());
}

/// Calls a function that fills a buffer twice: for the length and the contents.
template <typename Container, typename Fn> Result<Container> fetch(Fn &&call) {
  Container out;
  size_t length = 0;
  RETORT_RETURN_IF_ERROR(statusOf(call(nullptr, 0, &length)));
  out.resize(length);
  RETORT_RETURN_IF_ERROR(statusOf(call(out.data(), out.size(), &length)));
  return out;
}

inline Result<std::vector<int32_t>>
tokenize(const retort_model *model, std::string_view text, bool special) {
  return fetch<std::vector<int32_t>>([&](int32_t *ids, size_t n, size_t *len) {
    return retort_tokenize(model, text.data(), text.size(), special, ids, n,
                           len);
  });
}

inline Result<std::string> renderChat(const retort_model *model,
                                      std::string_view messages) {
  return fetch<std::string>([&](char *text, size_t n, size_t *len) {
    return retort_chat_render(model, messages.data(), messages.size(), 1, text,
                              n, len);
  });
}

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_API_H
