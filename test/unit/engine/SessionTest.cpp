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

} // namespace
