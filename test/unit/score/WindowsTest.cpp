//===- WindowsTest.cpp - Which tokens are scored behind which -------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/Windows.h"

#include <gtest/gtest.h>
#include <map>
#include <random>

using namespace retort;
using namespace retort::score;

namespace {

TextPlan planOf(size_t tokens, uint32_t context, uint32_t stride,
                size_t prefix = 0, uint64_t firstScored = 0) {
  TextPlan plan;
  plan.texts.push_back({"t", std::vector<int32_t>(tokens, 1), firstScored});
  plan.prefix.assign(prefix, 0);
  plan.context = context;
  plan.stride = stride;
  return plan;
}

TEST(Windows, ShareOneTokenByDefault) {
  EXPECT_EQ(planWindows(planOf(10, 4, 3)),
            (std::vector<Window>{{0, 0, 4, 1}, {0, 3, 7, 4}, {0, 6, 10, 7}}));
}

TEST(Windows, BehindAPrefixTheFirstTokenIsScoredToo) {
  EXPECT_EQ(planWindows(planOf(5, 4, 2, 1)),
            (std::vector<Window>{{0, 0, 3, 0}, {0, 2, 5, 3}}));
}

TEST(Windows, SkipWhatScoresNothing) {
  EXPECT_EQ(planWindows(planOf(20, 5, 2, 0, 17)),
            (std::vector<Window>{{0, 14, 19, 17}, {0, 16, 20, 19}}));
  EXPECT_TRUE(planWindows(planOf(1, 4, 3)).empty());
  EXPECT_TRUE(planWindows(planOf(0, 4, 3)).empty());
  EXPECT_TRUE(planWindows(planOf(9, 4, 3, 0, 9)).empty());
  EXPECT_TRUE(planWindows(planOf(9, 4, 3, 0, UINT64_MAX)).empty());
}

TEST(Windows, ScoreEachTokenOnceInsideTheContext) {
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    uint32_t prefix = random() % 3, context = prefix + 2 + random() % 20;
    uint32_t stride = 1 + random() % (context - prefix - 1);
    uint64_t tokens = random() % 100, first = random() % 30;
    TextPlan plan = planOf(tokens, context, stride, prefix, first);
    ASSERT_TRUE(checkPlan(plan).isOk());
    uint64_t next = std::max<uint64_t>(first, prefix ? 0 : 1);
    for (const Window &w : planWindows(plan)) {
      ASSERT_EQ(w.firstScored, next);
      ASSERT_GT(w.end, w.firstScored);
      ASSERT_LE(w.end - w.begin + prefix, context);
      ASSERT_TRUE(prefix > 0 || w.firstScored > w.begin);
      next = w.end;
    }
    ASSERT_EQ(next, std::max<uint64_t>(tokens, next));
  }
}

TEST(CheckPlan, RefusesWindowsWithoutRoomOrOverlap) {
  EXPECT_TRUE(checkPlan(planOf(9, 2, 1)).isOk());
  EXPECT_FALSE(checkPlan(planOf(9, 1, 1)).isOk());
  EXPECT_FALSE(checkPlan(planOf(9, 3, 1, 2)).isOk());
  EXPECT_FALSE(checkPlan(planOf(9, 4, 0)).isOk());
  EXPECT_NE(checkPlan(planOf(9, 4, 4)).message().find("1 to 3"),
            std::string::npos);
}

} // namespace
