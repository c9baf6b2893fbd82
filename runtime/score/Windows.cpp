//===- Windows.cpp - Which tokens are scored behind which -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/Windows.h"

#include <algorithm>

namespace retort::score {

Status checkPlan(const TextPlan &plan) {
  uint64_t least = uint64_t(plan.prefix.size()) + 2;
  if (plan.context < least)
    return Status::error(Code::InvalidArgument,
                         "context: expected at least " + std::to_string(least) +
                             " tokens, found " + std::to_string(plan.context));
  uint64_t most = plan.context - plan.prefix.size() - 1;
  if (plan.stride < 1 || plan.stride > most)
    return Status::error(Code::InvalidArgument,
                         "stride: expected 1 to " + std::to_string(most) +
                             " tokens, found " + std::to_string(plan.stride));
  return Status::ok();
}

std::vector<Window> planWindows(const TextPlan &plan) {
  std::vector<Window> windows;
  uint64_t room = plan.context - plan.prefix.size();
  for (size_t t = 0; t < plan.texts.size(); ++t) {
    const Text &text = plan.texts[t];
    uint64_t total = text.tokens.size();
    uint64_t next =
        std::max<uint64_t>(text.firstScored, plan.prefix.empty() ? 1 : 0);
    // The first window that holds a token to score; none is fed for nothing.
    uint64_t begin =
        next < room ? 0 : (next - room) / plan.stride * plan.stride;
    for (; next < total; begin += plan.stride) {
      uint64_t end = std::min(begin + room, total);
      if (end <= next)
        continue;
      windows.push_back({t, begin, end, next});
      next = end;
    }
  }
  return windows;
}

uint64_t countScored(std::span<const Window> windows) {
  uint64_t count = 0;
  for (const Window &window : windows)
    count += window.scored();
  return count;
}

} // namespace retort::score
