//===- fuzz_tokenizer_json.cpp - Any bytes as tokenizer.json --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Detokenizer.h"

#include <cstdint>

using namespace retort::text;

/// Up to a zero byte the input is tokenizer.json, behind it a text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char *>(data), size);
  size_t zero = bytes.find('\0');
  auto tokenizer = Tokenizer::create(bytes.substr(0, zero));
  if (!tokenizer)
    return 0;
  std::string_view text =
      zero == std::string_view::npos ? "ab <s> 12" : bytes.substr(zero + 1);
  auto ids = tokenizer->encode(text, true);
  if (!ids)
    return 0;
  Detokenizer stream(*tokenizer, false);
  std::string streamed;
  for (int32_t id : *ids)
    streamed += stream.push(id);
  streamed += stream.finish();
  if (streamed != tokenizer->decode(*ids, false))
    __builtin_trap();
  return 0;
}
