//===- SamplerTest.cpp - Choosing tokens ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Sampler.h"

#include <array>
#include <bit>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using testing::HasSubstr;

namespace {

constexpr float kInf = INFINITY;

SamplerOptions warm(double temperature = 1) {
  SamplerOptions options;
  options.temperature = temperature;
  options.seed = 42;
  return options;
}

/// How often each of four tokens is drawn in 20000.
std::array<double, 4> frequencies(const SamplerOptions &options,
                                  std::vector<float> logits,
                                  std::vector<int32_t> seen = {}) {
  Sampler sampler(options);
  std::array<double, 4> counts{};
  for (int i = 0; i < 20000; ++i) {
    auto token = sampler.sample(logits, seen);
    EXPECT_TRUE(token.isOk()) << token.status().message();
    counts.at(*token) += 1 / 20000.0;
  }
  return counts;
}

std::vector<float> logsOf(std::vector<double> probabilities) {
  std::vector<float> out;
  for (double p : probabilities)
    out.push_back(float(std::log(p)));
  return out;
}

TEST(SamplerTest, GreedyTakesTheLargest) {
  Sampler sampler(SamplerOptions{});
  EXPECT_EQ(*sampler.sample(std::vector<float>{1, 5, 3}), 1);
  EXPECT_EQ(*sampler.sample(std::vector<float>{-kInf, -7, -9}), 1);
}

TEST(SamplerTest, GreedyTakesTheLowestIdOfEqualOnes) {
  Sampler sampler(SamplerOptions{});
  EXPECT_EQ(*sampler.sample(std::vector<float>{1, 5, 5, 5}), 1);
  EXPECT_EQ(*sampler.sample(std::vector<float>{-0.0f, 0.0f}), 0);
}

TEST(SamplerTest, NanIsAnError) {
  std::vector<float> logits = {1, 2, NAN, 3};
  for (double temperature : {0.0, 1.0}) {
    Sampler sampler(warm(temperature));
    auto token = sampler.sample(logits);
    EXPECT_EQ(token.status().code(), Code::InvalidData);
    EXPECT_THAT(token.status().message(), HasSubstr("token 2"));
  }
}

TEST(SamplerTest, NoFiniteLogitIsAnError) {
  Sampler sampler(SamplerOptions{});
  for (std::vector<float> logits :
       {std::vector<float>{}, {-kInf, -kInf}, {1, kInf}})
    EXPECT_EQ(sampler.sample(logits).status().code(), Code::InvalidData);
}

TEST(SamplerTest, DrawsFromTheSoftmax) {
  auto f = frequencies(warm(), logsOf({0.5, 0.3, 0.15, 0.05}));
  EXPECT_NEAR(f[0], 0.5, 0.015);
  EXPECT_NEAR(f[1], 0.3, 0.015);
  EXPECT_NEAR(f[2], 0.15, 0.015);
  EXPECT_NEAR(f[3], 0.05, 0.01);
}

TEST(SamplerTest, TemperatureSharpens) {
  // At 0.5 probabilities are squared: 0.64 and 0.04 of 0.68.
  auto f = frequencies(warm(0.5), logsOf({0.8, 0.2}));
  EXPECT_NEAR(f[0], 0.941, 0.01);
}

TEST(SamplerTest, TopKKeepsTheLargest) {
  SamplerOptions options = warm();
  options.topK = 2;
  auto f = frequencies(options, logsOf({0.1, 0.3, 0.2, 0.4}));
  EXPECT_EQ(f[0] + f[2], 0);
  EXPECT_NEAR(f[1], 3.0 / 7, 0.015);
}

TEST(SamplerTest, TopKOfOneIsGreedy) {
  SamplerOptions options = warm(100);
  options.topK = 1;
  EXPECT_NEAR(frequencies(options, {1, 2, 2, 1})[1], 1, 1e-9);
}

TEST(SamplerTest, TopPKeepsTheFewestThatReachIt) {
  SamplerOptions options = warm();
  options.topP = 0.75;
  auto f = frequencies(options, logsOf({0.5, 0.3, 0.15, 0.05}));
  EXPECT_NEAR(f[0], 0.625, 0.015);
  EXPECT_EQ(f[2] + f[3], 0);
  options.topP = 1e-9; // one always stays
  EXPECT_NEAR(frequencies(options, logsOf({0.5, 0.3, 0.15, 0.05}))[0], 1, 1e-9);
}

TEST(SamplerTest, MinPDropsTheUnlikely) {
  SamplerOptions options = warm();
  options.minP = 0.35;
  auto f = frequencies(options, logsOf({0.5, 0.3, 0.15, 0.05}));
  EXPECT_NEAR(f[0], 0.625, 0.015);
  EXPECT_EQ(f[2] + f[3], 0);
}

TEST(SamplerTest, RepeatPenaltyCountsEachTokenOnce) {
  SamplerOptions options;
  options.repeatPenalty = 2;
  Sampler sampler(options);
  std::vector<float> logits = {3, 2, -1};
  EXPECT_EQ(*sampler.sample(logits, std::vector<int32_t>{0, 0, 0}), 1);
  EXPECT_EQ(
      *sampler.sample(std::vector<float>{-1, -1.5}, std::vector<int32_t>{0}),
      1);
  // 3 / 2 stays above 2 / 2.
  EXPECT_EQ(*sampler.sample(logits, std::vector<int32_t>{0, 1}), 0);
}

TEST(SamplerTest, RepeatPenaltySkipsForeignIds) {
  SamplerOptions options;
  options.repeatPenalty = 2;
  Sampler sampler(options);
  EXPECT_EQ(*sampler.sample(std::vector<float>{3, 2},
                            std::vector<int32_t>{-1, 7, INT32_MAX}),
            0);
}

TEST(SamplerTest, SameSeedSameTokens) {
  std::vector<float> logits = logsOf({0.25, 0.25, 0.25, 0.25});
  std::vector<int32_t> a, b, c;
  Sampler first(warm()), second(warm());
  SamplerOptions other = warm();
  other.seed = 43;
  Sampler third(other);
  for (int i = 0; i < 50; ++i) {
    a.push_back(*first.sample(logits));
    b.push_back(*second.sample(logits));
    c.push_back(*third.sample(logits));
  }
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

/// The first numbers of the reference implementation (pcg32_srandom_r with
/// state 42 and the default increment), worked out from the paper's recurrence.
TEST(Pcg32Test, FollowsTheRecurrence) {
  uint64_t state = 0;
  auto step = [&] {
    uint64_t old = state;
    state = old * 6364136223846793005ull + 1442695040888963407ull;
    uint32_t x = uint32_t(((old >> 18) ^ old) >> 27);
    return std::rotr(x, int(old >> 59));
  };
  step();
  state += 42;
  step();
  Pcg32 random(42);
  for (int i = 0; i < 1000; ++i)
    ASSERT_EQ(random.next(), step());
}

TEST(Pcg32Test, UniformStaysBelowOne) {
  Pcg32 random(7);
  for (int i = 0; i < 10000; ++i) {
    double u = random.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
  }
}

TEST(SamplerTest, OptionsOutOfRange) {
  auto bad = [](auto edit, const char *name) {
    SamplerOptions options;
    edit(options);
    Status status = Sampler::check(options);
    EXPECT_EQ(status.code(), Code::InvalidArgument) << name;
    EXPECT_THAT(status.message(), HasSubstr(name));
  };
  bad([](auto &o) { o.temperature = -1; }, "temperature");
  bad([](auto &o) { o.temperature = NAN; }, "temperature");
  bad([](auto &o) { o.temperature = INFINITY; }, "temperature");
  bad([](auto &o) { o.topK = -1; }, "top-k");
  bad([](auto &o) { o.topP = 0; }, "top-p");
  bad([](auto &o) { o.topP = 1.5; }, "top-p");
  bad([](auto &o) { o.topP = NAN; }, "top-p");
  bad([](auto &o) { o.minP = -0.1; }, "min-p");
  bad([](auto &o) { o.minP = 2; }, "min-p");
  bad([](auto &o) { o.repeatPenalty = 0; }, "repeat penalty");
  bad([](auto &o) { o.repeatPenalty = INFINITY; }, "repeat penalty");
  EXPECT_TRUE(Sampler::check(warm()).isOk());
}

} // namespace
