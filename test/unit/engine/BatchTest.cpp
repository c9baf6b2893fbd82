//===- BatchTest.cpp - Sequences decoded together ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Batch.h"
#include "test/unit/engine/TestModel.h"

#include <gmock/gmock.h>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

std::vector<float> toVector(std::span<const float> values) {
  return {values.begin(), values.end()};
}

BatchOptions batchOptions(uint32_t sequences, unsigned threads = 2,
                          uint32_t context = 0, uint32_t chunk = 0) {
  BatchOptions options;
  options.sequences = sequences;
  options.threads = threads;
  options.context = context;
  options.prefillChunk = chunk;
  return options;
}

std::unique_ptr<Batch> makeBatch(const TestModel &test,
                                 const BatchOptions &options) {
  auto made = Batch::create(test.model, options);
  EXPECT_TRUE(made.isOk()) << made.status().message();
  return std::move(*made);
}

/// `count` tokens that differ from sequence to sequence.
std::vector<int32_t> tokensOf(uint32_t sequence, size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i)
    tokens.push_back(
        int32_t((i * i * 13 + i * 5 + 37 * sequence + 1) % kVocab));
  return tokens;
}

/// Every sequence has the logits that its tokens have alone.
void expectAlone(const Batch &batch) {
  for (uint32_t s = 0; s < batch.sequences(); ++s)
    if (!batch.logits(s).empty())
      EXPECT_EQ(toVector(batch.logits(s)), expectedLogits(batch.tokens(s)))
          << "sequence " << s;
}

TEST(BatchTest, SequencesOfDifferentLengthsAreAsAlone) {
  TestModel test;
  for (unsigned threads : {1u, 2u, 3u, 4u})
    // More than the lanes, too: steps are then made of several.
    for (uint32_t n : {1u, 2u, 3u, 4u, 7u, 8u}) {
      auto batch = makeBatch(test, batchOptions(n, threads));
      EXPECT_EQ(batch->sequences(), n);
      EXPECT_EQ(batch->threads(), threads);
      EXPECT_EQ(batch->lanes(), kHeadTokens);
      for (uint32_t s = 0; s < n; ++s)
        ASSERT_TRUE(batch->feed(s, tokensOf(s, 1 + 5 * s)).isOk());
      expectAlone(*batch);
      for (int i = 0; i < 12; ++i) {
        std::vector<BatchToken> tokens;
        for (uint32_t s = 0; s < n; ++s)
          tokens.push_back({s, int32_t((17 * i + 3 * s) % kVocab)});
        ASSERT_TRUE(batch->step(tokens).isOk());
        for (uint32_t s = 0; s < n; ++s) {
          ASSERT_EQ(batch->position(s), 2 + 5 * s + i);
          ASSERT_EQ(batch->tokens(s).back(), tokens[s].id);
          ASSERT_FALSE(batch->logits(s).empty());
        }
        expectAlone(*batch);
      }
    }
}

TEST(BatchTest, StepsNeedNoFeedBefore) {
  TestModel test;
  auto batch = makeBatch(test, batchOptions(3));
  for (int32_t i = 0; i < 5; ++i)
    ASSERT_TRUE(
        batch->step(std::vector<BatchToken>{{0, i}, {1, 9 - i}, {2, 7 * i}})
            .isOk());
  expectAlone(*batch);
  EXPECT_EQ(batch->position(2), 5u);
}

TEST(BatchTest, SequencesJoinLeaveAndComeInAnyOrder) {
  TestModel test;
  auto batch = makeBatch(test, batchOptions(5, 3));
  ASSERT_TRUE(batch->feed(0, tokensOf(0, 9)).isOk());
  ASSERT_TRUE(batch->feed(3, tokensOf(3, 20)).isOk());
  auto step = [&](std::vector<uint32_t> sequences, int32_t id) {
    std::vector<BatchToken> tokens;
    for (uint32_t s : sequences)
      tokens.push_back({s, id++});
    Status status = batch->step(tokens);
    EXPECT_TRUE(status.isOk()) << status.message();
    expectAlone(*batch);
  };
  step({3, 0}, 5);
  step({0, 3}, 50);
  ASSERT_TRUE(batch->feed(1, tokensOf(1, 13)).isOk());
  expectAlone(*batch);
  step({1, 0, 3}, 70);
  step({1, 3}, 90);
  // Another text in the place of one that has ended.
  ASSERT_TRUE(batch->rewind(3, 0).isOk());
  EXPECT_TRUE(batch->logits(3).empty());
  ASSERT_TRUE(batch->feed(3, tokensOf(8, 6)).isOk());
  step({3, 1, 0}, 110);
  step({4, 2, 3, 1, 0}, 120);
  step({2}, 130);
  step({0, 1, 2, 3, 4}, 140);
  EXPECT_EQ(batch->position(0), 9u + 6);
  EXPECT_EQ(batch->position(3), 6u + 3);
  EXPECT_EQ(batch->position(4), 2u);
}

TEST(BatchTest, ThoseThatAreNotSteppedKeepTheirLogits) {
  TestModel test;
  auto batch = makeBatch(test, batchOptions(3));
  for (uint32_t s = 0; s < 3; ++s)
    ASSERT_TRUE(batch->feed(s, tokensOf(s, 4 + s)).isOk());
  ASSERT_TRUE(batch->step(std::vector<BatchToken>{{0, 1}, {2, 2}}).isOk());
  EXPECT_EQ(toVector(batch->logits(1)), expectedLogits(tokensOf(1, 5)));
}

TEST(BatchTest, RewoundSequencesForget) {
  TestModel test;
  auto batch = makeBatch(test, batchOptions(2));
  for (uint32_t s = 0; s < 2; ++s)
    ASSERT_TRUE(batch->feed(s, tokensOf(s, 30)).isOk());
  ASSERT_TRUE(batch->rewind(1, 12).isOk());
  EXPECT_EQ(batch->position(1), 12u);
  EXPECT_TRUE(batch->logits(1).empty());
  EXPECT_FALSE(batch->logits(0).empty());
  for (int32_t i = 0; i < 4; ++i)
    ASSERT_TRUE(
        batch->step(std::vector<BatchToken>{{0, 3 * i}, {1, 7 * i}}).isOk());
  expectAlone(*batch);
  EXPECT_EQ(batch->position(1), 16u);
  // To where it is: nothing is lost.
  ASSERT_TRUE(batch->rewind(1, 16).isOk());
  EXPECT_FALSE(batch->logits(1).empty());
  Status beyond = batch->rewind(1, 17);
  EXPECT_EQ(beyond.code(), Code::InvalidArgument);
  EXPECT_THAT(beyond.message(), HasSubstr("sequence 1: cannot rewind"));
}

TEST(BatchTest, FeedsAreInChunks) {
  TestModel test;
  for (uint32_t chunk : {1u, 3u, 8u}) {
    auto batch = makeBatch(test, batchOptions(2, 2, 0, chunk));
    ASSERT_TRUE(batch->feed(1, tokensOf(1, 29)).isOk());
    ASSERT_TRUE(batch->feed(0, tokensOf(0, 11)).isOk());
    ASSERT_TRUE(batch->feed(1, tokensOf(4, 10)).isOk());
    expectAlone(*batch);
  }
}

/// A step that is refused must leave all as it was.
void expectRefused(Batch &batch, std::vector<BatchToken> tokens,
                   const char *message) {
  std::vector<uint32_t> before;
  for (uint32_t s = 0; s < batch.sequences(); ++s)
    before.push_back(batch.position(s));
  Status status = batch.step(tokens);
  EXPECT_EQ(status.code(), Code::InvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(message));
  for (uint32_t s = 0; s < batch.sequences(); ++s)
    EXPECT_EQ(batch.position(s), before[s]);
  expectAlone(batch);
}

TEST(BatchTest, RefusedStepsFeedNothing) {
  TestModel test;
  auto batch = makeBatch(test, batchOptions(4, 2, 20));
  for (uint32_t s = 0; s < 4; ++s)
    ASSERT_TRUE(batch->feed(s, tokensOf(s, 17 + s)).isOk());
  expectRefused(*batch, {}, "at least one sequence");
  expectRefused(*batch, {{0, 1}, {4, 1}}, "sequence 4: expected one of 4");
  expectRefused(*batch, {{0, 1}, {1, 1}, {0, 2}}, "sequence 0: expected one");
  for (int32_t id : {-1, int32_t(kVocab), INT32_MAX, INT32_MIN})
    expectRefused(*batch, {{0, 1}, {1, id}}, "sequence 1: token 0: id ");
  expectRefused(*batch, {{0, 1}, {3, 1}},
                "sequence 3: the context of 20 positions holds 20");
  // Up to the end of the context.
  EXPECT_TRUE(
      batch->step(std::vector<BatchToken>{{0, 1}, {1, 2}, {2, 3}}).isOk());
  expectAlone(*batch);
}

TEST(BatchTest, RefusedFeedsFeedNothing) {
  TestModel test;
  auto batch = makeBatch(test, batchOptions(2, 1, 20));
  EXPECT_EQ(batch->feed(2, tokensOf(0, 1)).code(), Code::InvalidArgument);
  EXPECT_EQ(batch->feed(0, {}).code(), Code::InvalidArgument);
  Status large = batch->feed(1, tokensOf(0, 21));
  EXPECT_EQ(large.code(), Code::InvalidArgument);
  EXPECT_THAT(large.message(), HasSubstr("sequence 1: the context of 20"));
  std::vector<int32_t> bad = {1, 2, kVocab};
  EXPECT_EQ(batch->feed(0, bad).code(), Code::InvalidArgument);
  EXPECT_EQ(batch->position(0), 0u);
  EXPECT_EQ(batch->position(1), 0u);
  EXPECT_EQ(batch->rewind(2, 0).code(), Code::InvalidArgument);
}

TEST(BatchTest, OptionsOutOfRangeAreErrors) {
  TestModel test;
  for (BatchOptions options :
       {batchOptions(0), batchOptions(Batch::kMaxSequences + 1),
        batchOptions(UINT32_MAX), batchOptions(2, 100000),
        batchOptions(2, 1, kMaxContext + 1),
        batchOptions(2, 1, 0, kMaxChunk + 1)})
    EXPECT_EQ(Batch::create(test.model, options).status().code(),
              Code::InvalidArgument);
}

TEST(BatchTest, AsManySequencesAsMayBe) {
  TestModel test;
  auto batch = makeBatch(test, batchOptions(Batch::kMaxSequences));
  std::vector<BatchToken> tokens;
  for (uint32_t s = 0; s < Batch::kMaxSequences; ++s)
    tokens.push_back({s, int32_t(s % kVocab)});
  ASSERT_TRUE(batch->step(tokens).isOk());
  ASSERT_TRUE(batch->step(tokens).isOk());
  expectAlone(*batch);
}

/// All caches are counted.
TEST(BatchTest, MemoryThatIsNotThereIsAnError) {
  TestModel test([](retort::abi::IndexT &index) {
    index.program->buffers[3]->bytes_per_position = 1ull << 30;
  });
  // 128 positions each.
  auto refused = Batch::create(test.model, batchOptions(512, 1, 100));
  EXPECT_EQ(refused.status().code(), Code::OutOfMemory);
  EXPECT_THAT(refused.status().message(),
              HasSubstr("512 sequences of 100 positions each need 70.4 TB"));
  EXPECT_THAT(refused.status().message(), HasSubstr("are available"));
  refused = Batch::create(test.model, batchOptions(512, 1));
  EXPECT_EQ(refused.status().code(), Code::OutOfMemory);
  EXPECT_THAT(refused.status().message(), HasSubstr("512 sequences need 35.2"));
}

TEST(BatchTest, ContextIsWhatMemoryHoldsForAll) {
  uint64_t perPosition = availableMemory() / 6 / 64;
  TestModel test([&](retort::abi::IndexT &index) {
    index.program->buffers[3]->bytes_per_position = perPosition;
  });
  EXPECT_EQ(makeBatch(test, batchOptions(2))->context(), kMaxContext);
  EXPECT_EQ(makeBatch(test, batchOptions(4))->context(), 64u);
}

/// An artifact of before there were batches.
TEST(BatchTest, NeedsLaunchesThatSayWhatTheyRead) {
  TestModel test([](retort::abi::IndexT &index) {
    for (auto &phase : index.program->phases)
      for (auto &launch : phase->launches)
        launch->reads_position = false;
  });
  auto refused = Batch::create(test.model, batchOptions(2));
  EXPECT_EQ(refused.status().code(), Code::Unsupported);
  EXPECT_THAT(refused.status().message(), HasSubstr("compile the model anew"));
  auto session = test.session();
  ASSERT_TRUE(session->feed(tokensOf(0, 20)).isOk());
  EXPECT_EQ(toVector(session->logits()), expectedLogits(tokensOf(0, 20)));
  // One alone needs nothing.
  auto batch = makeBatch(test, batchOptions(1));
  ASSERT_TRUE(batch->step(std::vector<BatchToken>{{0, 5}}).isOk());
  ASSERT_TRUE(batch->feed(0, tokensOf(0, 20)).isOk());
  expectAlone(*batch);
}

TEST(BatchTest, CancelEndsAStepBeforeItBegins) {
  TestModel test;
  auto batch = makeBatch(test, batchOptions(4));
  std::vector<BatchToken> tokens = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
  batch->cancel();
  Status status = batch->step(tokens);
  EXPECT_EQ(status.code(), Code::Cancelled);
  EXPECT_THAT(status.message(), HasSubstr("after 0 of 4 sequences"));
  batch->cancel();
  EXPECT_EQ(batch->feed(0, tokensOf(0, 3)).code(), Code::Cancelled);
  for (uint32_t s = 0; s < 4; ++s)
    EXPECT_EQ(batch->position(s), 0u);
  ASSERT_TRUE(batch->step(tokens).isOk());
  expectAlone(*batch);
}

TEST(BatchTest, LedgerCountsWeightsOnceAndPairsOfEach) {
  TestModel test;
  BatchOptions options = batchOptions(3);
  options.ledger = true;
  auto batch = makeBatch(test, options);
  for (uint32_t s = 0; s < 3; ++s)
    ASSERT_TRUE(batch->feed(s, tokensOf(s, 10 * s + 1)).isOk());
  batch->resetLedger();
  ASSERT_TRUE(
      batch->step(std::vector<BatchToken>{{0, 1}, {1, 1}, {2, 1}}).isOk());
  auto lines = summarize(batch->ledger(), test.model->program());
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[2].label, "mix");
  EXPECT_EQ(lines[2].sum.runs, 1u);
  EXPECT_EQ(lines[2].sum.bytes, (2u + 12 + 22) * 4 * kHidden);
  EXPECT_EQ(lines[3].label, "logits");
  EXPECT_EQ(lines[3].sum.bytes, 4u * kVocab * kHidden);
  EXPECT_EQ(lines[3].sum.flops, 3 * 2u * kVocab * kHidden);
}

} // namespace
