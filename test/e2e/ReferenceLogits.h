//===- ReferenceLogits.h - What the reference makes of tokens ---*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_E2E_REFERENCELOGITS_H
#define RETORT_TEST_E2E_REFERENCELOGITS_H

#include "compiler/reference/Reference.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace retort::test {

/// Logits [T, vocab] of the checkpoint in `directory` by the reference
/// interpreter. Empty, and the test fails, if it can't be read.
inline std::vector<float> referenceLogits(const std::string &directory,
                                          const std::vector<int32_t> &tokens) {
  auto checkpoint = checkpoint::Checkpoint::open(directory);
  if (!checkpoint) {
    ADD_FAILURE() << checkpoint.status().message();
    return {};
  }
  auto output = reference::runReference(*checkpoint, tokens);
  if (!output) {
    ADD_FAILURE() << output.status().message();
    return {};
  }
  return output->logits;
}

} // namespace retort::test

#endif // RETORT_TEST_E2E_REFERENCELOGITS_H
