//===- fuzz_answers.cpp - Replies and suites from anywhere ----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An input is taken as a reply, as two answers and as a suite.
//
//===----------------------------------------------------------------------===//

#include "runtime/score/Answers.h"
#include "runtime/score/Suite.h"

#include <cstdlib>

using namespace retort::score;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text(reinterpret_cast<const char *>(data), size);
  (void)extractAnswer(text);
  (void)extractAnswer(text, true);
  std::string_view a = text.substr(0, size / 2), b = text.substr(size / 2);
  if (equivalentAnswers(a, b) != equivalentAnswers(b, a))
    std::abort();
  (void)parseSuite(text).isOk();
  return 0;
}
