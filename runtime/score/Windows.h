//===- Windows.h - Which tokens are scored behind which ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Long texts are cut into windows that fit in a context, so that each token is
/// scored once.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_WINDOWS_H
#define RETORT_RUNTIME_SCORE_WINDOWS_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace retort::score {

/// Tokens whose loss is asked for.
struct Text {
  std::string name;
  std::vector<int32_t> tokens; ///< without what the tokenizer puts in front
  uint64_t firstScored = 0;    ///< tokens before it are only context
  bool operator==(const Text &) const = default;
};

/// Texts and how they are cut.
struct TextPlan {
  std::vector<Text> texts;
  /// Begins every window: what the tokenizer puts in front of a text, such as a
  /// beginning-of-sequence token.
  std::vector<int32_t> prefix;
  uint32_t context = 0; ///< tokens of a window at most, with the prefix
  uint32_t stride = 0;  ///< from the start of a window to that of the next
};

/// Tokens [begin, end) of a text are fed behind the prefix; those from
/// firstScored on are scored. Of an empty prefix follows firstScored > begin,
/// as nothing predicts a first token.
struct Window {
  size_t text = 0;
  uint64_t begin = 0, end = 0, firstScored = 0;
  uint64_t scored() const { return end - firstScored; }
  bool operator==(const Window &) const = default;
};

/// InvalidArgument unless context holds the prefix and two tokens more and
/// stride is in [1, context - prefix - 1]: windows share at least one token, so
/// that none is without a predecessor.
Status checkPlan(const TextPlan &plan);

/// The windows of a plan that checkPlan() has accepted, in order.
std::vector<Window> planWindows(const TextPlan &plan);

/// Tokens that the windows score together.
uint64_t countScored(std::span<const Window> windows);

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_WINDOWS_H
