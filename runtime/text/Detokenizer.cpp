//===- Detokenizer.cpp - Ids to text, as they come ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Detokenizer.h"

namespace retort::text {

std::string Detokenizer::push(int32_t id) {
  tokenizer->appendBytes(id, skipSpecial, pending);
  size_t complete = 0;
  std::string_view bytes = pending;
  while (complete < bytes.size()) {
    Utf8Step step = stepUtf8(bytes.substr(complete));
    if (step.kind == Utf8Step::Incomplete)
      break;
    complete += step.length;
  }
  std::string out = toValidUtf8(bytes.substr(0, complete));
  pending.erase(0, complete);
  return out;
}

std::string Detokenizer::finish() {
  std::string out = toValidUtf8(pending);
  pending.clear();
  return out;
}

} // namespace retort::text
