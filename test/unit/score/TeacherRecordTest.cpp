//===- TeacherRecordTest.cpp - Records and bounds -------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/TeacherRecord.h"
#include "test/unit/score/ScoreTestSupport.h"

#include <algorithm>

using namespace retort;
using namespace retort::score;
using namespace retort::test;

namespace {

std::vector<std::byte> encoded(const TeacherRecord &record, uint32_t vocab,
                               uint64_t seed = 7) {
  std::vector<std::byte> bytes(
      recordSize(vocab, static_cast<uint32_t>(record.ids.size())));
  encodeRecord(record, vocab, seed, bytes);
  return bytes;
}

TEST(TeacherRecord, KeepsTheLikeliest) {
  std::vector<float> logits = randomLogits(1000, 4);
  Distribution p = distribution(logits);
  TeacherRecord record = makeRecord(p, 20);
  std::vector<int32_t> expected = likeliest(logits, 20);
  EXPECT_EQ(record.top(),
            std::vector<int32_t>(expected.begin(), expected.begin() + 5));
  double listed = 0;
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_NEAR(-double(record.codes[i]) * kCodeStep, p.logProb(record.ids[i]),
                kCodeStep / 2 * 1.001);
    listed += std::exp(p.logProb(record.ids[i]));
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(record.ids, expected);
  EXPECT_NEAR(record.tailMass, 1 - listed, 1e-7);
}

TEST(TeacherRecord, TakesAKilobyteForARealVocabulary) {
  EXPECT_EQ(recordSize(151665, 256), 1158u);
  EXPECT_LT(recordSize(128256, 256), 1160u);
}

TEST(TeacherRecord, ComesBackAsItWas) {
  for (auto [vocab, k] :
       {std::pair(1u, 1u), std::pair(2u, 1u), std::pair(5u, 5u),
        std::pair(300u, 256u), std::pair(300u, 7u), std::pair(5000u, 33u),
        std::pair(70000u, 256u)}) {
    TeacherRecord record =
        makeRecord(distribution(randomLogits(vocab, vocab + k)), k);
    record.tokenLogProb = -1.5f;
    auto read = decodeRecord(encoded(record, vocab), vocab, k, 7);
    ASSERT_TRUE(read.isOk()) << read.status().message();
    EXPECT_EQ(*read, record) << vocab << " " << k;
  }
}

TEST(TeacherRecord, IdsAtBothEndsComeBack) {
  std::vector<float> logits(777, 0);
  logits[0] = logits[776] = logits[775] = 9;
  TeacherRecord record = makeRecord(distribution(logits), 3);
  EXPECT_EQ(record.ids, (std::vector<int32_t>{0, 775, 776}));
  EXPECT_EQ(*decodeRecord(encoded(record, 777), 777, 3, 7), record);
}

TEST(TeacherRecord, EveryFlippedBitIsFound) {
  TeacherRecord record = makeRecord(distribution(randomLogits(300, 1)), 9);
  std::vector<std::byte> bytes = encoded(record, 300);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= std::byte(1 << bit % 8);
    EXPECT_FALSE(decodeRecord(bytes, 300, 9, 7).isOk()) << bit;
    bytes[bit / 8] ^= std::byte(1 << bit % 8);
  }
  EXPECT_TRUE(decodeRecord(bytes, 300, 9, 7).isOk());
  // That of another place.
  EXPECT_FALSE(decodeRecord(bytes, 300, 9, 8).isOk());
  bytes.pop_back();
  EXPECT_FALSE(decodeRecord(bytes, 300, 9, 7).isOk());
}

TEST(TeacherRecord, RefusesNumbersThatNoRecordHas) {
  TeacherRecord good = makeRecord(distribution(randomLogits(300, 1)), 9);
  auto refused = [&](auto change) {
    TeacherRecord record = good;
    change(record);
    return !decodeRecord(encoded(record, 300), 300, 9, 7).isOk();
  };
  EXPECT_FALSE(refused([](TeacherRecord &) {}));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.tailMass = 1.5f; }));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.tailMass = -0.1f; }));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.tailMass = NAN; }));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.tailPlogP = 1; }));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.tailPlogP = -INFINITY; }));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.tokenLogProb = 1; }));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.ranked[4] = 9; }));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.ids[8] = 301; }));
  EXPECT_TRUE(refused([](TeacherRecord &r) { r.ids[3] = r.ids[4]; }));
}

/// Bounds of one pair, and what they should hold.
void expectHeld(const std::vector<float> &p, const std::vector<float> &q,
                uint32_t k) {
  TeacherRecord record = makeRecord(distribution(p), k);
  auto vocab = static_cast<uint32_t>(p.size());
  record = *decodeRecord(encoded(record, vocab), vocab, k, 7);
  KlBounder bounder;
  Bounds bounds = bounder.bound(record, distribution(q));
  double exact = exactKl(p, q);
  EXPECT_LE(bounds.lower, exact + 1e-12 * (1 + exact)) << k;
  EXPECT_GE(bounds.upper, exact - 1e-12 * (1 + exact)) << k;
  EXPECT_GE(bounds.lower, 0);
}

TEST(KlBounds, HoldTheExactOneOnRandomDistributions) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 3000; ++round) {
    uint32_t vocab = 2 + random() % 400;
    uint32_t k = 1 + random() % vocab;
    float sharp = static_cast<float>(random() % 120) / 10;
    std::vector<float> p = randomLogits(vocab, random(), sharp), q;
    switch (round % 4) {
    case 0:
      q = randomLogits(vocab, random(), sharp);
      break;
    case 1: // nearly the same
      q = p;
      for (float &logit : q)
        logit += static_cast<float>(random() % 1000) / 1e5f;
      break;
    case 2: // what the tail holds is turned around
      q = p;
      for (float &logit : q)
        logit = -logit;
      break;
    case 3: // steps, so that there are ties
      for (float &logit : p)
        logit = std::round(logit);
      q = randomLogits(vocab, random(), 1);
      break;
    }
    expectHeld(p, q, k);
  }
}

TEST(KlBounds, HoldWhereProbabilitiesVanish) {
  std::vector<float> p(50, -200), q(50, -90);
  p[3] = 10;
  q[4] = 10;
  for (uint32_t k : {1u, 2u, 10u, 50u}) {
    expectHeld(p, q, k);
    expectHeld(q, p, k);
    expectHeld(p, p, k);
  }
}

TEST(KlBounds, AreReachedByTheWorstTail) {
  // The tail's mass lies where q has least, as much as the smallest listed
  // probability allows: then the upper bound is exact.
  std::vector<float> p(12), q(12);
  std::vector<double> probabilities = {0.5, 0.2, 0.1, 0, 0,   0,
                                       0,   0,   0,   0, 0.1, 0.1};
  for (size_t i = 0; i < 12; ++i) {
    p[i] = static_cast<float>(std::log(std::max(probabilities[i], 1e-30)));
    q[i] = -static_cast<float>(i);
  }
  Bounds bounds =
      KlBounder().bound(makeRecord(distribution(p), 3), distribution(q));
  EXPECT_NEAR(bounds.upper, exactKl(p, q), 1e-4);
}

TEST(KlBounds, AreNarrowForAllIdsAndNarrowerWithMore) {
  std::vector<float> p = randomLogits(400, 1), q = randomLogits(400, 2);
  double last = 1e9;
  for (uint32_t k : {5u, 50u, 200u, 400u}) {
    Bounds bounds =
        KlBounder().bound(makeRecord(distribution(p), k), distribution(q));
    EXPECT_LT(bounds.upper - bounds.lower, last);
    last = bounds.upper - bounds.lower;
  }
  // A step of the codes, weighted by log-ratios of a few nats.
  EXPECT_LT(last, 10 * kCodeStep);
}

} // namespace
