//===- DistributionTest.cpp - Logits as probabilities ---------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/score/ScoreTestSupport.h"

#include "runtime/support/ExactExp.h"

#include <limits>

using namespace retort;
using namespace retort::score;
using namespace retort::test;

namespace {

TEST(ExactExp, IsNearTheLibrarys) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(-700, 0);
  for (int i = 0; i < 20000; ++i) {
    double x = i == 0 ? 0 : i == 1 ? -700 : uniform(random);
    EXPECT_NEAR(exactExp(x) / std::exp(x), 1, 4e-16) << x;
  }
  EXPECT_EQ(exactExp(0), 1);
}

TEST(Distribution, IsTheDefinitions) {
  for (size_t count : {1u, 7u, 8u, 9u, 1000u}) {
    std::vector<float> logits = randomLogits(count, count, 10);
    Distribution p = distribution(logits);
    std::vector<double> expected = exactLogProbs(logits);
    for (size_t i = 0; i < count; ++i)
      EXPECT_NEAR(p.logProb(i), expected[i], 1e-12);
  }
}

TEST(Distribution, HoldsForLargeLogits) {
  std::vector<float> logits = {3e38f, 3e38f, -3e38f};
  Distribution p = distribution(logits);
  EXPECT_NEAR(p.logProb(0), std::log(0.5), 1e-6 * 3e38);
  logits = {1000, 998};
  p = distribution(logits);
  EXPECT_NEAR(p.logProb(1), -2 - std::log1p(std::exp(-2.0)), 1e-12);
}

TEST(Distribution, ExtendedCountsWhatComesBehind) {
  for (float extra : {-50.0f, 0.0f, 50.0f}) {
    std::vector<float> whole = randomLogits(100, 5);
    whole[70] += extra;
    std::vector<float> front(whole.begin(), whole.begin() + 60);
    auto extended = distribution(front).extended(whole);
    ASSERT_TRUE(extended.isOk());
    EXPECT_NEAR(extended->logSum(), distribution(whole).logSum(), 1e-12);
  }
}

TEST(Distribution, RefusesWhatIsNoNumber) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                    std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits(40, 1);
    logits[33] = bad;
    auto made = Distribution::create(logits);
    ASSERT_FALSE(made.isOk());
    EXPECT_EQ(made.status().code(), Code::InvalidData);
    EXPECT_NE(made.status().message().find("token 33"), std::string::npos);
  }
  EXPECT_FALSE(Distribution::create({}).isOk());
}

TEST(KlDivergence, IsTheDefinitions) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::vector<float> p = randomLogits(333, 2 * seed, 1 + seed % 7);
    std::vector<float> q = randomLogits(333, 2 * seed + 1, 1 + seed % 5);
    double expected = exactKl(p, q);
    EXPECT_NEAR(klDivergence(distribution(p), distribution(q)), expected,
                1e-11 * (1 + expected));
  }
}

TEST(KlDivergence, OfNearlyTheSameIsSmallAndNeverNegative) {
  std::vector<float> p = randomLogits(5000, 3), q = p;
  EXPECT_EQ(klDivergence(distribution(p), distribution(q)), 0);
  for (float &logit : q)
    logit += 5; // the same distribution
  EXPECT_NEAR(klDivergence(distribution(p), distribution(q)), 0, 1e-6);
  for (size_t i = 0; i < q.size(); ++i)
    q[i] = p[i] + (i % 2 ? 1e-3f : -1e-3f);
  double kl = klDivergence(distribution(p), distribution(q));
  EXPECT_NEAR(kl / exactKl(p, q), 1, 1e-6);
}

TEST(Likeliest, OrdersByLogitThenId) {
  std::vector<float> logits = {1, 5, 3, 5, -2, 3};
  EXPECT_EQ(likeliest(logits, 4), (std::vector<int32_t>{1, 3, 2, 5}));
  EXPECT_EQ(likeliest(logits, 99).size(), 6u);
  EXPECT_TRUE(likeliest(logits, 0).empty());
}

TEST(Likeliest, SelectionAndInsertionAgree) {
  std::vector<float> logits = randomLogits(500, 9);
  for (float &logit : logits)
    logit = std::round(logit); // many ties
  std::vector<int32_t> many = likeliest(logits, 100);
  for (size_t count : {1u, 5u, 16u})
    EXPECT_EQ(likeliest(logits, count),
              std::vector<int32_t>(many.begin(), many.begin() + count));
}

TEST(CountShared, CountsCommonIds) {
  std::vector<int32_t> a = {1, 2, 3}, b = {3, 1, 9};
  EXPECT_EQ(countShared(a, b), 2u);
  EXPECT_EQ(countShared({}, b), 0u);
}

} // namespace
