//===- AnswersTest.cpp - Final answers and when they are right ------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/Answers.h"

#include <gtest/gtest.h>

using namespace retort::score;

namespace {

struct Extraction {
  const char *reply;
  const char *answer; ///< null: none
};

TEST(ExtractAnswer, FollowsTheRules) {
  const Extraction table[] = {
      // Boxes.
      {"so \\boxed{42}.", "42"},
      {"\\boxed{1} and then \\boxed{2}", "2"},
      {"\\boxed{\\frac{1}{\\sqrt{2}}} units", "\\frac{1}{\\sqrt{2}}"},
      {"\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"},
      {"$\\boxed {7}$", "7"},
      {"\\fbox{-3}", "-3"},
      {"\\boxed{5} or \\boxed{6", "5"},
      {"\\boxed{\\text{(A)}}", "\\text{(A)}"},
      // GSM8K's mark.
      {"10 eggs\n#### 18\nThanks 99", "18"},
      {"#### ", nullptr},
      // The last number.
      {"It is 12, then 1,234.50 dollars", "1,234.50"},
      {"x is -5", "-5"},
      {"10-5", "5"},
      {"costs -$5", "-5"},
      {"about 3/4 of it", "3/4"},
      {"The answer is 7.", "7"},
      {"numbers 1, 2, 3", "3"},
      {"12,34", "34"},
      {"none at all", nullptr},
      {"", nullptr},
      // Thoughts.
      {"<think>\\boxed{1}</think> it is 2", "2"},
      {"first 5</think>\n\\boxed{6}", "6"},
      {"<think>\\boxed{1}</think>", nullptr},
      {"<think>so \\boxed{1} but", nullptr},
      {"<think>a</think>1<think>b", nullptr},
  };
  for (const Extraction &row : table) {
    auto found = extractAnswer(row.reply);
    EXPECT_EQ(found.has_value(), row.answer != nullptr) << row.reply;
    if (found && row.answer)
      EXPECT_EQ(*found, row.answer) << row.reply;
  }
}

TEST(ExtractAnswer, KnowsOfAThoughtThatThePromptBegan) {
  EXPECT_EQ(extractAnswer("12</think>13", true), "13");
  EXPECT_EQ(extractAnswer("12", true), std::nullopt);
}

struct Pair {
  const char *a, *b;
};

TEST(EquivalentAnswers, MeanTheSame) {
  const Pair table[] = {
      {"42", "42"},
      {" 42 ", "$42$"},
      {"42.", "42"},
      {"42.0", "42"},
      {"+42", "42"},
      {"042", "42"},
      // Separators.
      {"1,234,567", "1234567"},
      {"1{,}234", "1234"},
      {"1\\,234.5", "1,234.50"},
      {"\\$18", "18"},
      {"$\\$1{,}000$", "1000"},
      // Fractions.
      {"0.5", "1/2"},
      {"\\frac{1}{2}", "0.5"},
      {"\\frac12", "\\dfrac{2}{4}"},
      {"-\\tfrac{1}{2}", "-0.5"},
      {"\\frac{-1}{2}", "-\\frac{1}{2}"},
      {"2\\frac{1}{2}", "2.5"},
      {"2 1/2", "5/2"},
      {"6/3", "2"},
      // Units and words.
      {"12 apples", "12"},
      {"12\\text{ cm}", "12"},
      {"12\\text{ cm}^2", "12"},
      {"5 m/s", "5"},
      {"50\\%", "50"},
      {"90^\\circ", "90"},
      {"90^{\\circ}", "90°"},
      {"x = 7", "7"},
      // What isn't a number.
      {"\\sqrt{2}", "\\sqrt2"},
      {"x^{2} + 1", "x^2+1"},
      {"\\left(3, \\frac{\\pi}{2}\\right)", "(3,\\frac{\\pi}{2})"},
      {"\\left( 3, \\dfrac{1}{2} \\right)", "(3, 0.5)"},
      {"(1, (2, 3))", "(1.0,(2,6/2))"},
      {"1, -2", "1,-2.0"},
      {"\\text{(B)}", "B"},
      {"\\text{East}", "east"},
      {"\\mathrm{even}", "even"},
      {"p - q", "p-q"},
      {"−5", "-5"},
  };
  for (const Pair &row : table) {
    EXPECT_TRUE(equivalentAnswers(row.a, row.b)) << row.a << " | " << row.b;
    EXPECT_TRUE(equivalentAnswers(row.b, row.a)) << row.b << " | " << row.a;
  }
}

TEST(EquivalentAnswers, MeanDifferentThings) {
  const Pair table[] = {
      {"42", "43"},
      {"-5", "5"},
      {"0.333", "1/3"},
      {"1/0", "1/0.0"},
      {"1,234", "1.234"},
      {"2x", "2"},
      {"x^2", "x^3"},
      {"(1,2)", "[1,2]"},
      {"(1,2)", "(2,1)"},
      {"(1,2)", "(1,2,3)"},
      {"(1,2)", "1,2"},
      {"\\sqrt{2}", "2"},
      {"\\frac{\\pi}{2}", "\\frac{\\pi}{3}"},
      {"", ""},
      {"$$", "5"},
      {"A", "B"},
      {"12 + 3", "12"},
      {"99999999999999999999999999", "99999999999999999999999998"},
  };
  for (const Pair &row : table)
    EXPECT_FALSE(equivalentAnswers(row.a, row.b)) << row.a << " | " << row.b;
}

TEST(EquivalentAnswers, SurviveAnything) {
  std::string deep(5000, '(');
  EXPECT_FALSE(equivalentAnswers(deep + "1", deep + "2"));
  EXPECT_TRUE(equivalentAnswers("\\frac{", "\\frac{"));
  EXPECT_FALSE(equivalentAnswers("\\frac", "\\frac1"));
  EXPECT_TRUE(equivalentAnswers("\\text{", "\\text{"));
  EXPECT_FALSE(equivalentAnswers(std::string(400, '9'), "9"));
  EXPECT_TRUE(equivalentAnswers(std::string(400, '9'), std::string(400, '9')));
}

TEST(LastNumber, TakesFractionsWhole) {
  EXPECT_EQ(lastNumber("a 1/2"), "1/2");
  EXPECT_EQ(lastNumber("a 1/"), "1");
  EXPECT_EQ(lastNumber("no"), std::nullopt);
}

TEST(NormalizeAnswer, IsEmptyForLayoutAlone) {
  EXPECT_EQ(normalizeAnswer(" $ $ "), "");
  EXPECT_EQ(normalizeAnswer("X = \\sqrt{A}"), "\\sqrta");
}

} // namespace
