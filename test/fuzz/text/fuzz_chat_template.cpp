//===- fuzz_chat_template.cpp - Any bytes as a chat template --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Template.h"

#include <cstdint>

using namespace retort::text;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto parsed = Template::parse({reinterpret_cast<const char *>(data), size});
  if (!parsed)
    return 0;
  static const auto inputs = nlohmann::ordered_json::parse(R"({
    "messages": [{"role": "user", "content": "hi"},
                 {"role": "assistant", "content": "a", "tool_calls": []}],
    "tools": null, "add_generation_prompt": true, "bos_token": "<s>"})");
  TemplateLimits limits;
  limits.steps = 50'000;
  limits.outputBytes = 1 << 16;
  auto rendered = parsed->render(inputs, std::tm{}, limits);
  return rendered ? 0 : 0;
}
