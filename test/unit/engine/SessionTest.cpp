//===- SessionTest.cpp - Feeding tokens -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/engine/TestModel.h"

#include <gmock/gmock.h>
#include <thread>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

std::vector<float> toVector(std::span<const float> values) {
  return {values.begin(), values.end()};
}

/// Logits of every token, one row after the other.
std::vector<float> feedAll(Session &session, std::span<const int32_t> tokens) {
  std::vector<float> all;
  uint64_t next = 0;
  Status status = session.feed(tokens, [&](uint64_t first, uint64_t count,
                                           const float *rows, uint64_t stride) {
    EXPECT_EQ(first, next);
    EXPECT_LE(count, kHeadTokens);
    EXPECT_EQ(stride, kVocabStride);
    for (uint64_t i = 0; i < count; ++i)
      all.insert(all.end(), rows + i * stride, rows + i * stride + kVocab);
    next += count;
    return Status::ok();
  });
  EXPECT_TRUE(status.isOk()) << status.message();
  EXPECT_EQ(next, tokens.size());
  return all;
}

TEST(SessionTest, LogitsAreTheModels) {
  TestModel test;
  auto session = test.session();
  auto tokens = testTokens(29);
  ASSERT_TRUE(session->feed(tokens).isOk());
  EXPECT_EQ(toVector(session->logits()), expectedLogits(tokens));
  EXPECT_EQ(session->position(), 29u);
  EXPECT_EQ(toVector(session->logits()), expectedLogits(session->tokens()));
}

TEST(SessionTest, LogitsDontDependOnThreadsOrChunks) {
  TestModel test;
  auto tokens = testTokens(41);
  auto expected = expectedLogits(tokens);
  for (unsigned threads : {1u, 2u, 3u, 8u})
    for (uint32_t chunk : {1u, 2u, 3u, 5u, 7u, 8u}) {
      auto session = test.session(sessionOptions(threads, chunk));
      EXPECT_EQ(session->threads(), threads);
      ASSERT_TRUE(session->feed(tokens).isOk());
      EXPECT_EQ(toVector(session->logits()), expected)
          << threads << " threads, chunks of " << chunk;
    }
}

// The test model's caches hold the tokens, so what follows shows them.
TEST(SessionTest, ARepeatedContextIsThatOfItsTokens) {
  TestModel test;
  auto tokens = testTokens(64);
  auto session = test.session();
  ASSERT_TRUE(session->feed(tokens).isOk());
  Status repeated = session->repeatContext(90);
  ASSERT_TRUE(repeated.isOk()) << repeated.message();
  EXPECT_EQ(session->position(), 90u);
  ASSERT_TRUE(session->feed(testTokens(3)).isOk());
  EXPECT_EQ(toVector(session->logits()), expectedLogits(session->tokens()));
}

TEST(SessionTest, OnlyWholeContextsAreRepeated) {
  TestModel test;
  auto session = test.session();
  EXPECT_EQ(session->repeatContext(10).code(), Code::InvalidArgument);
  ASSERT_TRUE(session->feed(testTokens(63)).isOk());
  EXPECT_EQ(session->repeatContext(90).code(), Code::InvalidArgument);
  ASSERT_TRUE(session->feed(testTokens(1)).isOk());
  EXPECT_EQ(session->repeatContext(63).code(), Code::InvalidArgument);
  EXPECT_EQ(session->repeatContext(session->context() + 1).code(),
            Code::InvalidArgument);
  EXPECT_EQ(session->position(), 64u);
}

TEST(SessionTest, AllLogitsComeInOrder) {
  TestModel test;
  auto tokens = testTokens(21);
  for (uint32_t chunk : {1u, 4u, 5u, 8u}) {
    auto session = test.session(sessionOptions(2, chunk));
    auto all = feedAll(*session, tokens);
    for (size_t t = 0; t < tokens.size(); ++t)
      EXPECT_EQ(toVector(std::span(all).subspan(t * kVocab, kVocab)),
                expectedLogits(std::span(tokens).first(t + 1)))
          << "token " << t << ", chunks of " << chunk;
    EXPECT_EQ(toVector(session->logits()), expectedLogits(tokens));
  }
}

TEST(SessionTest, FeedsContinueEachOther) {
  TestModel test;
  auto session = test.session();
  auto tokens = testTokens(30);
  ASSERT_TRUE(session->feed(std::span(tokens).first(11)).isOk());
  ASSERT_TRUE(session->feed(std::span(tokens).subspan(11, 1)).isOk());
  ASSERT_TRUE(session->feed(std::span(tokens).subspan(12)).isOk());
  EXPECT_EQ(toVector(session->logits()), expectedLogits(tokens));
}

TEST(SessionTest, SessionsOfAModelAreApart) {
  TestModel test;
  auto a = test.session(), b = test.session();
  auto tokens = testTokens(10);
  ASSERT_TRUE(b->feed(std::span(tokens).first(5)).isOk());
  ASSERT_TRUE(a->feed(tokens).isOk());
  EXPECT_EQ(toVector(a->logits()), expectedLogits(tokens));
  EXPECT_EQ(toVector(b->logits()), expectedLogits(std::span(tokens).first(5)));
}

TEST(SessionTest, SessionsRunAtTheSameTime) {
  TestModel test;
  auto tokens = testTokens(60);
  auto expected = expectedLogits(tokens);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      auto session = test.session(sessionOptions(2));
      EXPECT_TRUE(session->feed(tokens).isOk());
      EXPECT_EQ(toVector(session->logits()), expected);
    });
  for (std::thread &thread : threads)
    thread.join();
}

TEST(SessionTest, RewindForgets) {
  TestModel test;
  auto session = test.session();
  auto tokens = testTokens(20);
  ASSERT_TRUE(session->feed(testTokens(35)).isOk());
  ASSERT_TRUE(session->rewind(12).isOk());
  EXPECT_EQ(session->position(), 12u);
  EXPECT_TRUE(session->logits().empty());
  ASSERT_TRUE(session->feed(std::span(tokens).subspan(12)).isOk());
  EXPECT_EQ(toVector(session->logits()), expectedLogits(tokens));
}

TEST(SessionTest, RewindToTheEndKeepsTheLogits) {
  TestModel test;
  auto session = test.session();
  ASSERT_TRUE(session->feed(testTokens(9)).isOk());
  ASSERT_TRUE(session->rewind(9).isOk());
  EXPECT_FALSE(session->logits().empty());
}

TEST(SessionTest, RewindForwardIsAnError) {
  TestModel test;
  auto session = test.session();
  ASSERT_TRUE(session->feed(testTokens(9)).isOk());
  EXPECT_EQ(session->rewind(10).code(), Code::InvalidArgument);
  EXPECT_EQ(session->position(), 9u);
}

TEST(SessionTest, ContextFillsUpExactly) {
  TestModel test;
  auto session = test.session(sessionOptions(1, 0, 20));
  auto tokens = testTokens(20);
  ASSERT_TRUE(session->feed(tokens).isOk());
  EXPECT_EQ(toVector(session->logits()), expectedLogits(tokens));
  Status full = session->feed(testTokens(1));
  EXPECT_EQ(full.code(), Code::InvalidArgument);
  EXPECT_THAT(full.message(), HasSubstr("context of 20 positions holds 20"));
  EXPECT_EQ(toVector(session->logits()), expectedLogits(tokens));
}

TEST(SessionTest, TooManyTokensFeedNothing) {
  TestModel test;
  auto session = test.session();
  Status status = session->feed(testTokens(kMaxContext + 1));
  EXPECT_EQ(status.code(), Code::InvalidArgument);
  EXPECT_EQ(session->position(), 0u);
}

TEST(SessionTest, NoTokensIsAnError) {
  TestModel test;
  EXPECT_EQ(test.session()->feed({}).code(), Code::InvalidArgument);
}

TEST(SessionTest, IdsOutsideOfTheVocabularyFeedNothing) {
  TestModel test;
  auto session = test.session();
  for (int32_t bad : {-1, int32_t(kVocab), INT32_MAX, INT32_MIN}) {
    std::vector<int32_t> tokens = {1, 2, bad};
    Status status = session->feed(tokens);
    EXPECT_EQ(status.code(), Code::InvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("token 2: id "));
    EXPECT_EQ(session->position(), 0u);
  }
}

TEST(SessionTest, OptionsOutOfRangeAreErrors) {
  TestModel test;
  for (SessionOptions options :
       {sessionOptions(1, kMaxChunk + 1), sessionOptions(100000),
        sessionOptions(1, 0, kMaxContext + 1)}) {
    auto session = Session::create(test.model, options);
    EXPECT_EQ(session.status().code(), Code::InvalidArgument);
  }
}

TEST(SessionTest, ContextBeyondMemoryNamesTheBytes) {
  TestModel test([](retort::abi::IndexT &index) {
    index.program->buffers[3]->bytes_per_position = 1ull << 39;
  });
  auto session = Session::create(test.model, sessionOptions(1, 0, 100));
  EXPECT_EQ(session.status().code(), Code::OutOfMemory);
  EXPECT_THAT(session.status().message(), HasSubstr("needs 70.4 TB"));
  session = Session::create(test.model, sessionOptions(1));
  EXPECT_EQ(session.status().code(), Code::OutOfMemory);
}

TEST(SessionTest, CancelBeforeAFeedEndsIt) {
  TestModel test;
  auto session = test.session();
  session->cancel();
  EXPECT_EQ(session->feed(testTokens(30)).code(), Code::Cancelled);
  EXPECT_EQ(session->position(), 0u);
  EXPECT_TRUE(session->logits().empty());
  auto tokens = testTokens(30);
  ASSERT_TRUE(session->feed(tokens).isOk());
  EXPECT_EQ(toVector(session->logits()), expectedLogits(tokens));
}

TEST(SessionTest, CancelDuringAFeedKeepsWholeChunks) {
  TestModel test;
  auto session = test.session(sessionOptions(2, 4));
  auto tokens = testTokens(30);
  Status status = session->feed(
      tokens, [&](uint64_t first, uint64_t, const float *, uint64_t) {
        if (first >= 8)
          session->cancel();
        return Status::ok();
      });
  EXPECT_EQ(status.code(), Code::Cancelled);
  EXPECT_EQ(session->position(), 8u);
  ASSERT_TRUE(session->feed(std::span(tokens).subspan(8)).isOk());
  EXPECT_EQ(toVector(session->logits()), expectedLogits(tokens));
}

TEST(SessionTest, ErrorOfTheSinkEndsTheFeed) {
  TestModel test;
  auto session = test.session();
  Status status = session->feed(testTokens(9), [](auto...) {
    return Status::error(Code::Io, "disk full");
  });
  EXPECT_EQ(status.code(), Code::Io);
  EXPECT_TRUE(session->logits().empty());
}

TEST(LedgerTest, CountsLaunches) {
  TestModel test;
  SessionOptions options = sessionOptions(2);
  options.ledger = true;
  auto session = test.session(options);
  ASSERT_TRUE(session->feed(testTokens(10)).isOk()); // chunks of 8 and 2
  ASSERT_TRUE(session->feed(testTokens(1)).isOk());
  auto entries = session->ledger().entries();
  ASSERT_EQ(entries.size(), 7u); // 2 bodies of 3, 1 head of 1
  EXPECT_EQ(entries[0].runs, 1u);
  EXPECT_EQ(entries[3].runs, 2u);
  EXPECT_EQ(entries[6].runs, 2u);
  EXPECT_EQ(entries[6].bytes, 2u * 4 * kVocab * kHidden);
  // Pairs: 8 tokens from 0 and 2 from 8.
  EXPECT_EQ(entries[5].bytes, (36u + 19u) * 4 * kHidden);
  EXPECT_EQ(entries[5].flops, (36u + 19u) * 2 * kHidden);
  auto lines = summarize(session->ledger(), *test.model->index().program());
  ASSERT_EQ(lines.size(), 7u);
  EXPECT_EQ(lines[5].label, "mix");
  EXPECT_EQ(lines[5].phase, "body 2-8");
  session->resetLedger();
  EXPECT_TRUE(session->ledger().entries().empty());
}

TEST(LedgerTest, IsEmptyUnlessAskedFor) {
  TestModel test;
  auto session = test.session();
  ASSERT_TRUE(session->feed(testTokens(3)).isOk());
  EXPECT_TRUE(session->ledger().entries().empty());
}

SessionOptions withDraft(uint32_t chunk = 0) {
  SessionOptions options = sessionOptions(2, chunk);
  options.draft = true;
  return options;
}

void expectNear(std::span<const float> found,
                const std::vector<float> &expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], 1e-4) << i;
}

TEST(SessionTest, DraftsAreTheDraftLayersWhateverTheChunks) {
  TestModel test = TestModel::withDraft();
  auto tokens = testTokens(30);
  for (uint32_t chunk : {1u, 2u, 3u, 7u, 8u}) {
    auto session = test.session(withDraft(chunk));
    size_t fed = 0;
    for (size_t part : {1u, 9u, 2u, 12u}) {
      ASSERT_TRUE(session->feed(std::span(tokens).subspan(fed, part)).isOk());
      fed += part;
      auto logits = session->draft(tokens[fed]);
      ASSERT_TRUE(logits.isOk()) << logits.status().message();
      expectNear(*logits, expectedDraft(std::span(tokens).first(fed + 1)));
      EXPECT_EQ(toVector(session->logits()),
                expectedLogits(std::span(tokens).first(fed)));
    }
  }
}

TEST(SessionTest, DraftsFollowARewindIntoTheLastFeed) {
  TestModel test = TestModel::withDraft();
  auto session = test.session(withDraft());
  auto tokens = testTokens(12);
  ASSERT_TRUE(session->feed(std::span(tokens).first(4)).isOk());
  ASSERT_TRUE(session->feed(std::span(tokens).subspan(4, 5)).isOk());
  ASSERT_TRUE(session->rewind(6).isOk());
  tokens[6] = 3;
  auto logits = session->draft(tokens[6]);
  ASSERT_TRUE(logits.isOk());
  expectNear(*logits, expectedDraft(std::span(tokens).first(7)));
  // What was fed before the last feed is gone: no draft, no harm.
  ASSERT_TRUE(session->rewind(3).isOk());
  logits = session->draft(1);
  ASSERT_TRUE(logits.isOk());
  EXPECT_TRUE(logits->empty());
}

TEST(SessionTest, DraftsNeedALayerAndToBeAskedFor) {
  TestModel plain, test = TestModel::withDraft();
  auto refused = Session::create(plain.model, withDraft());
  EXPECT_EQ(refused.status().code(), Code::Unsupported);
  EXPECT_THAT(refused.status().message(),
              HasSubstr("no multi-token-prediction layer"));
  auto session = test.session();
  ASSERT_TRUE(session->feed(testTokens(3)).isOk());
  EXPECT_EQ(session->draft(1).status().code(), Code::InvalidArgument);
  auto drafting = test.session(withDraft());
  ASSERT_TRUE(drafting->feed(testTokens(3)).isOk());
  EXPECT_EQ(drafting->draft(kVocab).status().code(), Code::InvalidArgument);
  EXPECT_EQ(drafting->draft(-1).status().code(), Code::InvalidArgument);
}

TEST(SessionTest, SpeculationKeepsWhatTheJudgeWants) {
  TestModel test;
  auto prompt = testTokens(9);
  const std::vector<int32_t> guesses = {7, 8, 9};
  for (size_t kept : {1u, 2u, 3u}) {
    auto session = test.session();
    ASSERT_TRUE(session->feed(prompt).isOk());
    uint64_t asked = 0;
    std::vector<int32_t> all = prompt;
    Status status = session->speculate(
        guesses,
        [&](uint64_t row, std::span<const float> logits) -> Result<bool> {
          EXPECT_EQ(row, asked++);
          all.push_back(guesses[row]);
          EXPECT_EQ(toVector(logits), expectedLogits(all));
          EXPECT_EQ(session->position(), all.size());
          return row + 1 < kept;
        });
    ASSERT_TRUE(status.isOk()) << status.message();
    EXPECT_EQ(asked, kept);
    EXPECT_EQ(toVector(session->logits()), expectedLogits(all));
    EXPECT_EQ(session->position(), 9 + kept);
    // What follows doesn't see the guesses that were dropped.
    int32_t next = 11;
    all.push_back(next);
    ASSERT_TRUE(session->feed({&next, 1}).isOk());
    EXPECT_EQ(toVector(session->logits()), expectedLogits(all));
  }
}

TEST(SessionTest, SpeculationIsBounded) {
  TestModel test;
  auto session = test.session();
  auto all = [](uint64_t, std::span<const float>) -> Result<bool> {
    return true;
  };
  auto tokens = testTokens(4);
  Status status = session->speculate(tokens, all);
  EXPECT_EQ(status.code(), Code::InvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("at most 3"));
  EXPECT_EQ(session->position(), 0u);
  tokens = {kVocab};
  EXPECT_EQ(session->speculate(tokens, all).code(), Code::InvalidArgument);
}

} // namespace
