//===- SuiteTest.cpp - Problems and how many were solved ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/Suite.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace retort;
using namespace retort::score;

namespace {

Problem only(const std::string &line) {
  auto read = parseSuite(line);
  EXPECT_TRUE(read.isOk()) << read.status().message();
  EXPECT_EQ(read.isOk() ? read->size() : 0, 1u);
  return read.isOk() ? read->at(0) : Problem();
}

TEST(ParseSuite, ReadsGsm8k) {
  Problem p = only(
      R"({"question": "How many?", "answer": "She has 6 * 7 = <<6*7=42>>42.\n#### 1,042"})");
  EXPECT_EQ(p.text, "How many?");
  EXPECT_EQ(p.answer, " 1,042");
}

TEST(ParseSuite, ReadsMath500) {
  Problem p = only(
      R"~({"problem": "P", "solution": "so \\boxed{1}", "answer": "\\left( 3, \\frac{\\pi}{2} \\right)", "subject": "Precalculus", "level": 2, "unique_id": "test/precalculus/807.json"})~");
  EXPECT_EQ(p.answer, "\\left( 3, \\frac{\\pi}{2} \\right)");
  EXPECT_EQ(p.id, "test/precalculus/807.json");
}

TEST(ParseSuite, ReadsAimesSpellings) {
  Problem p = only(
      R"({"ID": "2024-II-4", "Problem": "P", "Solution": "S", "Answer": 33})");
  EXPECT_EQ(p.answer, "33");
  EXPECT_EQ(p.id, "2024-II-4");
  p = only(R"({"id": 60, "problem": "P", "answer": "204", "url": "u"})");
  EXPECT_EQ(p.answer, "204");
  EXPECT_EQ(p.id, "60");
}

TEST(ParseSuite, TakesABoxWhereThereIsNoAnswer) {
  Problem p = only(
      R"({"problem": "P", "solution": "\\boxed{1} or \\boxed{\\frac{1}{2}}"})");
  EXPECT_EQ(p.answer, "\\frac{1}{2}");
}

TEST(ParseSuite, SkipsBlankLinesAndCountsThem) {
  auto read = parseSuite("\n{\"problem\": \"a\", \"answer\": 1}\r\n  \n"
                         "{\"problem\": \"b\", \"answer\": 2.5}");
  ASSERT_TRUE(read.isOk());
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ(read->at(0).id, "2");
  EXPECT_EQ(read->at(1).id, "4");
  EXPECT_EQ(read->at(1).answer, "2.5");
}

TEST(ParseSuite, NamesLineAndFieldOfWhatIsWrong) {
  auto message = [](const char *line) {
    auto read =
        parseSuite(std::string("{\"problem\": \"a\", \"answer\": 1}\n") + line);
    return read.isOk() ? std::string("read") : read.status().message();
  };
  auto has = [&](const char *line, const char *part) {
    std::string text = message(line);
    return text.find("line 2") != std::string::npos &&
           text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has("{", "")) << message("{");
  EXPECT_TRUE(has("[1]", "an object"));
  EXPECT_TRUE(has("{}", "'problem'"));
  EXPECT_TRUE(has(R"({"problem": ""})", "'problem'"));
  EXPECT_TRUE(has(R"({"problem": 3, "answer": 1})", "'problem'"));
  EXPECT_TRUE(has(R"({"problem": "p"})", "'answer'"));
  EXPECT_TRUE(has(R"({"problem": "p", "answer": null})", "'answer'"));
  EXPECT_TRUE(has(R"({"problem": "p", "answer": [1]})", "'answer'"));
  EXPECT_TRUE(has(R"({"problem": "p", "answer": "  "})", "'answer'"));
  EXPECT_TRUE(has(R"({"problem": "p", "answer": "so ####"})", "'answer'"));
  EXPECT_TRUE(has(R"({"problem": "p", "solution": "none"})", "'solution'"));
  EXPECT_FALSE(parseSuite("").isOk());
  EXPECT_FALSE(parseSuite("\n \n").isOk());
}

/// The share of subsets of k of n samples, the first c being right, that hold
/// a right one.
double countedPassAtK(unsigned n, unsigned c, unsigned k) {
  unsigned all = 0, hit = 0;
  for (unsigned set = 0; set < 1u << n; ++set) {
    if (static_cast<unsigned>(__builtin_popcount(set)) != k)
      continue;
    ++all;
    hit += (set & ((1u << c) - 1)) != 0;
  }
  return double(hit) / all;
}

TEST(PassAtK, IsWhatCountingSubsetsGives) {
  for (unsigned n = 1; n <= 10; ++n)
    for (unsigned c = 0; c <= n; ++c)
      for (unsigned k = 1; k <= n; ++k)
        EXPECT_NEAR(passAtK(n, c, k), countedPassAtK(n, c, k), 1e-12)
            << n << " " << c << " " << k;
}

TEST(MeanOfShares, IsWilsonsForOneSampleEach) {
  // Wilson's interval of 8 in 10, as tables have it.
  std::vector<double> shares(10, 1.0);
  shares[0] = shares[5] = 0;
  Interval interval = meanOfShares(shares, 1);
  EXPECT_NEAR(interval.value, 0.8, 1e-12);
  EXPECT_NEAR(interval.low, 0.4902, 1e-4);
  EXPECT_NEAR(interval.high, 0.9433, 1e-4);
  interval = meanOfShares(std::vector<double>(10, 1.0), 1);
  EXPECT_NEAR(interval.low, 0.7225, 1e-4);
  EXPECT_NEAR(interval.high, 1, 1e-12);
}

TEST(MeanOfShares, CountsProblemsWhereTheirSamplesAgree) {
  // Eight samples that all do the same are as good as one.
  std::vector<double> shares = {1, 1, 0, 1, 0, 1, 1, 1};
  Interval one = meanOfShares(shares, 1), eight = meanOfShares(shares, 8);
  EXPECT_DOUBLE_EQ(one.low, eight.low);
  // Where they differ by chance alone, the interval is narrower.
  Interval mixed = meanOfShares(std::vector<double>{0.75, 0.75, 0.75, 0.75}, 8);
  EXPECT_LT(mixed.high - mixed.low, 0.35);
}

TEST(MeanOfShares, HoldsTheTruthNineteenTimesInTwenty) {
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> uniform;
  int held = 0, rounds = 2000;
  for (int round = 0; round < rounds; ++round) {
    // Problems differ in how hard they are: 0.6 on average.
    std::vector<double> shares;
    for (int problem = 0; problem < 100; ++problem) {
      double chance = problem % 2 ? 0.9 : 0.3, right = 0;
      for (int sample = 0; sample < 4; ++sample)
        right += uniform(random) < chance;
      shares.push_back(right / 4);
    }
    Interval interval = meanOfShares(shares, 4);
    held += interval.low <= 0.6 && 0.6 <= interval.high;
  }
  // The problems are fixed here, so it is held more often.
  EXPECT_GT(held, 0.94 * rounds);
}

Sample sample(const char *answer, bool right = false) {
  Sample out;
  if (answer)
    out.answer = answer;
  out.right = right;
  out.tokens = 10;
  return out;
}

TEST(MajorityVote, CountsEquivalentAnswersTogether) {
  EXPECT_EQ(majorityVote(std::vector{sample("3"), sample("1/2"), sample("0.5"),
                                     sample(nullptr)}),
            1u);
  EXPECT_EQ(majorityVote(std::vector{sample("3"), sample("4")}), 0u);
  EXPECT_EQ(majorityVote(std::vector{sample(nullptr)}), std::nullopt);
}

TEST(Summarize, AddsUp) {
  std::vector<std::vector<Sample>> replies = {
      {sample("1", true), sample("1", true), sample("2"), sample("2")},
      {sample("7"), sample("8"), sample("9", true), sample("8")},
      {sample(nullptr), sample(nullptr), sample(nullptr), sample(nullptr)}};
  replies[2][1].cut = true;
  SuiteReport report = summarize(replies);
  EXPECT_EQ(report.problems, 3u);
  EXPECT_EQ(report.samples, 4u);
  EXPECT_NEAR(report.passAt1.value, (0.5 + 0.25) / 3, 1e-12);
  EXPECT_NEAR(report.passAt[1], report.passAt1.value, 1e-12);
  EXPECT_NEAR(report.passAt[2],
              (countedPassAtK(4, 2, 2) + countedPassAtK(4, 1, 2)) / 3, 1e-12);
  EXPECT_NEAR(report.passAt[4], 2.0 / 3, 1e-12);
  EXPECT_NEAR(report.majority, 1.0 / 3, 1e-12);
  EXPECT_EQ(report.noAnswer, 4u);
  EXPECT_EQ(report.cut, 1u);
  EXPECT_EQ(report.tokens, 120u);
}

} // namespace
