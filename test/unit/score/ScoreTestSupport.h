//===- ScoreTestSupport.h - What tests of scoring share -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_SCORE_SCORETESTSUPPORT_H
#define RETORT_TEST_UNIT_SCORE_SCORETESTSUPPORT_H

#include "runtime/score/Distribution.h"
#include "runtime/score/LogitsSource.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <random>

namespace retort::test {

/// A directory for a test.
class ScratchDir {
public:
  ScratchDir() {
    dir = (std::filesystem::temp_directory_path() / "retort-score-XXXXXX")
              .string();
    EXPECT_NE(::mkdtemp(dir.data()), nullptr);
  }
  ScratchDir(const ScratchDir &) = delete;
  ScratchDir &operator=(const ScratchDir &) = delete;
  ~ScratchDir() {
    std::error_code ignored;
    std::filesystem::remove_all(dir, ignored);
  }
  std::string path(const std::string &name) const { return dir + "/" + name; }

private:
  std::string dir;
};

inline void writeBytes(const std::string &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// Logits that are normal with this deviation: a larger one is more certain.
inline std::vector<float> randomLogits(size_t count, uint64_t seed,
                                       float deviation = 3) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> logits(count);
  for (float &logit : logits)
    logit = normal(random);
  return logits;
}

/// Log-probabilities as their definition reads, in long double.
inline std::vector<double> exactLogProbs(const std::vector<float> &logits) {
  long double sum = 0;
  for (float logit : logits)
    sum += std::exp(static_cast<long double>(logit));
  std::vector<double> out;
  for (float logit : logits)
    out.push_back(static_cast<double>(logit - std::log(sum)));
  return out;
}

inline double exactKl(const std::vector<float> &p,
                      const std::vector<float> &q) {
  std::vector<double> a = exactLogProbs(p), b = exactLogProbs(q);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += std::exp(a[i]) * (a[i] - b[i]);
  return sum;
}

inline score::Distribution distribution(const std::vector<float> &logits) {
  auto made = score::Distribution::create(logits);
  EXPECT_TRUE(made.isOk()) << made.status().message();
  return *made;
}

/// A model whose logits are random numbers that the whole context determines.
class FakeModel : public score::LogitsSource {
public:
  FakeModel(uint32_t size, uint64_t seed, float deviation = 2)
      : size(size), seed(seed), deviation(deviation) {}
  uint32_t vocab() const override { return size; }
  uint32_t maxContext() const override { return 64; }
  Result<uint64_t> identity() const override { return seed; }
  Status open(uint32_t, uint32_t) override { return restart(); }
  Status restart() override {
    history.clear();
    return Status::ok();
  }
  Status feed(std::span<const int32_t> tokens,
              const LogitsSink &sink) override {
    EXPECT_LE(history.size() + tokens.size(), 64u);
    std::vector<float> rows;
    for (int32_t token : tokens) {
      history.push_back(token);
      std::vector<float> row = rowAfter(history);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    fed += tokens.size();
    if (failAfter && fed >= failAfter)
      return Status::error(Code::Cancelled, "as if killed");
    return sink ? sink(0, tokens.size(), rows.data(), size) : Status::ok();
  }
  void cancel() override {}

  std::vector<float> rowAfter(std::span<const int32_t> context) const {
    uint64_t hash = seed;
    for (int32_t token : context)
      hash = hash * 6364136223846793005ull + uint64_t(token) + 1;
    return randomLogits(size, hash, deviation);
  }

  uint64_t fed = 0, failAfter = 0;

private:
  uint32_t size;
  uint64_t seed;
  float deviation;
  std::vector<int32_t> history;
};

} // namespace retort::test

#endif // RETORT_TEST_UNIT_SCORE_SCORETESTSUPPORT_H
