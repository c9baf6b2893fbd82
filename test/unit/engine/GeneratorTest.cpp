//===- GeneratorTest.cpp - Prefill, decode and stopping ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Generator.h"
#include "test/unit/engine/TestModel.h"

using namespace retort;
using namespace retort::test;

namespace {

/// What greedy decoding must give, from the model's definition.
std::vector<int32_t> expectedGreedy(std::vector<int32_t> tokens, size_t count) {
  std::vector<int32_t> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back(*greedyToken(expectedLogits(tokens)));
    tokens.push_back(out.back());
  }
  return out;
}

/// Shows every token as "<id>".
TokenDecoder bracketDecoder() {
  return {[](int32_t id) { return "<" + std::to_string(id) + ">"; },
          [] { return std::string(); }};
}

TEST(GeneratorTest, GreedyFollowsTheModel) {
  TestModel test;
  auto prompt = testTokens(11);
  auto expected = expectedGreedy(prompt, 12);
  for (unsigned threads : {1u, 2u, 3u}) {
    auto session = test.session(sessionOptions(threads));
    Sampler sampler(SamplerOptions{});
    GenerateOptions options;
    options.maxTokens = 12;
    auto out = generate(*session, sampler, nullptr, prompt, options);
    ASSERT_TRUE(out.isOk()) << out.status().message();
    EXPECT_EQ(out->tokens, expected);
    EXPECT_EQ(out->reason, StopReason::Length);
    EXPECT_EQ(out->stats.promptTokens, 11u);
    EXPECT_EQ(out->stats.newTokens, 12u);
    EXPECT_EQ(out->stats.decodeSteps, 11u);
    EXPECT_GT(out->stats.decodeTps(), 0);
    EXPECT_GT(out->stats.bytesPerToken, 4u * kVocab * kHidden);
  }
}

TEST(GeneratorTest, GoesOnFromPresentLogits) {
  TestModel test;
  auto session = test.session();
  Sampler sampler(SamplerOptions{});
  auto prompt = testTokens(5);
  ASSERT_TRUE(session->feed(prompt).isOk());
  GenerateOptions options;
  options.maxTokens = 4;
  auto out = generate(*session, sampler, nullptr, {}, options);
  ASSERT_TRUE(out.isOk());
  EXPECT_EQ(out->tokens, expectedGreedy(prompt, 4));
}

TEST(GeneratorTest, NothingToGoOnFromIsAnError) {
  TestModel test;
  Sampler sampler(SamplerOptions{});
  auto out = generate(*test.session(), sampler, nullptr, {}, {});
  EXPECT_EQ(out.status().code(), Code::InvalidArgument);
}

TEST(GeneratorTest, EndTokenEndsAndIsNotShown) {
  TestModel test;
  auto prompt = testTokens(11);
  auto expected = expectedGreedy(prompt, 6);
  auto session = test.session();
  Sampler sampler(SamplerOptions{});
  GenerateOptions options;
  size_t at = 0; // the first whose id has not come before
  for (size_t i = 1; i < 6 && at == 0; ++i)
    if (std::find(expected.begin(), expected.begin() + i, expected[i]) ==
        expected.begin() + i)
      at = i;
  ASSERT_GT(at, 0u);
  options.endTokens = {9999, expected[at]};
  std::string text;
  TokenDecoder decoder = bracketDecoder();
  auto out = generate(*session, sampler, &decoder, prompt, options,
                      [&](std::string_view piece, int32_t) {
                        text += piece;
                        return true;
                      });
  ASSERT_TRUE(out.isOk());
  EXPECT_EQ(out->reason, StopReason::EndToken);
  EXPECT_EQ(out->tokens.size(), at);
  std::string shown;
  for (size_t i = 0; i < at; ++i)
    shown += "<" + std::to_string(expected[i]) + ">";
  EXPECT_EQ(text, shown);
  EXPECT_EQ(session->position(), 11 + at);
}

TEST(GeneratorTest, StopsWhenTheContextIsFull) {
  TestModel test;
  auto session = test.session(sessionOptions(1, 0, 20));
  Sampler sampler(SamplerOptions{});
  auto out = generate(*session, sampler, nullptr, testTokens(15), {});
  ASSERT_TRUE(out.isOk());
  EXPECT_EQ(out->reason, StopReason::ContextFull);
  EXPECT_EQ(out->tokens.size(), 6u); // five fit, the sixth is known
  EXPECT_EQ(session->position(), 20u);
}

TEST(GeneratorTest, StopStringAcrossTokensNeverLeaks) {
  TestModel test;
  auto prompt = testTokens(11);
  auto ids = expectedGreedy(prompt, 8);
  std::string first = "<" + std::to_string(ids[0]) + ">";
  // Ends in the middle of one token and begins in the middle of another.
  std::string second = "<" + std::to_string(ids[1]) + ">";
  std::string stop = first.substr(2) + second.substr(0, 2);
  auto session = test.session();
  Sampler sampler(SamplerOptions{});
  GenerateOptions options;
  options.maxTokens = 8;
  options.stops = {"", stop, "never"};
  std::string text;
  TokenDecoder decoder = bracketDecoder();
  auto out = generate(*session, sampler, &decoder, prompt, options,
                      [&](std::string_view piece, int32_t) {
                        text += piece;
                        return true;
                      });
  ASSERT_TRUE(out.isOk());
  EXPECT_EQ(out->reason, StopReason::StopString);
  EXPECT_EQ(text, first.substr(0, 2));
  EXPECT_EQ(out->tokens.size(), 2u);
}

TEST(GeneratorTest, SinkCanEndIt) {
  TestModel test;
  auto session = test.session();
  Sampler sampler(SamplerOptions{});
  int calls = 0;
  auto out = generate(*session, sampler, nullptr, testTokens(5), {},
                      [&](std::string_view, int32_t) { return ++calls < 3; });
  ASSERT_TRUE(out.isOk());
  EXPECT_EQ(out->reason, StopReason::Cancelled);
  EXPECT_EQ(out->tokens.size(), 3u);
}

TEST(GeneratorTest, CancelIsAReasonNotAnError) {
  TestModel test;
  auto session = test.session();
  Sampler sampler(SamplerOptions{});
  session->cancel();
  auto out = generate(*session, sampler, nullptr, testTokens(5), {});
  ASSERT_TRUE(out.isOk());
  EXPECT_EQ(out->reason, StopReason::Cancelled);
  out = generate(*session, sampler, nullptr, testTokens(5), {},
                 [&](std::string_view, int32_t) {
                   session->cancel();
                   return true;
                 });
  ASSERT_TRUE(out.isOk());
  EXPECT_EQ(out->reason, StopReason::Cancelled);
  EXPECT_EQ(out->tokens.size(), 1u);
}

TEST(GeneratorTest, PromptLongerThanTheContextIsAnError) {
  TestModel test;
  Sampler sampler(SamplerOptions{});
  auto out = generate(*test.session(), sampler, nullptr,
                      testTokens(kMaxContext + 1), {});
  EXPECT_EQ(out.status().code(), Code::InvalidArgument);
}

TEST(GeneratorTest, ZeroTokensOnlyPrefills) {
  TestModel test;
  auto session = test.session();
  Sampler sampler(SamplerOptions{});
  GenerateOptions options;
  options.maxTokens = 0;
  auto out = generate(*session, sampler, nullptr, testTokens(5), options);
  ASSERT_TRUE(out.isOk());
  EXPECT_TRUE(out->tokens.empty());
  EXPECT_EQ(session->position(), 5u);
}

std::string filtered(StopFilter &filter, std::vector<std::string> pieces) {
  std::string out;
  for (const std::string &piece : pieces)
    out += filter.push(piece) + "|";
  return out + filter.flush();
}

TEST(StopFilterTest, HoldsBackOnlyWhatMayBeAStop) {
  StopFilter filter({"abc"});
  EXPECT_EQ(filtered(filter, {"xa", "b", "x", "ab"}), "x||abx||ab");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopFilterTest, FindsAStopInPieces) {
  StopFilter filter({"abc"});
  EXPECT_EQ(filtered(filter, {"xa", "b", "cd", "more"}), "x||||");
  EXPECT_TRUE(filter.stopped());
}

TEST(StopFilterTest, FindsOverlappingBeginnings) {
  StopFilter filter({"aab"});
  EXPECT_EQ(filtered(filter, {"a", "a", "a", "b"}), "||a||");
  EXPECT_TRUE(filter.stopped());
}

TEST(StopFilterTest, TakesTheFirstOfSeveral) {
  StopFilter filter({"cd", "bcd", ""});
  EXPECT_EQ(filtered(filter, {"abcde"}), "a|");
}

TEST(StopFilterTest, WithoutStopsPassesEverything) {
  StopFilter filter({});
  EXPECT_EQ(filtered(filter, {"a", "", "b"}), "a||b|");
}

/// What a generation left behind.
struct Outcome {
  std::vector<int32_t> tokens, context;
  std::vector<float> logits;
  StopReason reason;
  uint64_t accepted = 0, drafted = 0;
};

Outcome generateWith(TestModel &test, bool draft, SamplerOptions sampling,
                     const GenerateOptions &given, uint32_t context) {
  SessionOptions sessions = sessionOptions(2, 5, context);
  sessions.draft = draft;
  auto session = test.session(sessions);
  Sampler sampler(sampling);
  GenerateOptions options = given;
  options.draft = draft;
  TokenDecoder decoder = bracketDecoder();
  auto out = generate(*session, sampler, &decoder, testTokens(11), options);
  EXPECT_TRUE(out.isOk()) << out.status().message();
  return {out->tokens,
          {session->tokens().begin(), session->tokens().end()},
          {session->logits().begin(), session->logits().end()},
          out->reason,
          out->stats.accepted,
          out->stats.drafted};
}

/// Drafts change speed alone: tokens, context and logits are the same, however
/// the generation ends.
TEST(GeneratorTest, DraftsChangeNothing) {
  TestModel test = TestModel::withDraft();
  SamplerOptions greedy, random;
  random.temperature = 0.7;
  random.repeatPenalty = 1.3;
  random.seed = 5;
  uint64_t accepted = 0, refused = 0;
  for (const SamplerOptions &sampling : {greedy, random}) {
    GenerateOptions full;
    std::vector<int32_t> tokens =
        generateWith(test, false, sampling, full, 60).tokens;
    ASSERT_EQ(tokens.size(), 50u); // until the context is full
    std::vector<GenerateOptions> cases = {full};
    for (int64_t most : {0, 1, 2, 3, 4, 9, 10})
      cases.emplace_back().maxTokens = most;
    for (size_t end = 1; end < 20; ++end) {
      cases.emplace_back().endTokens = {tokens[end]};
      cases.emplace_back().stops = {"<" + std::to_string(tokens[end]) + ">"};
    }
    for (const GenerateOptions &options : cases)
      for (uint32_t context : {60u, 61u}) {
        Outcome plain = generateWith(test, false, sampling, options, context);
        Outcome drafted = generateWith(test, true, sampling, options, context);
        EXPECT_EQ(drafted.tokens, plain.tokens);
        EXPECT_EQ(drafted.context, plain.context);
        EXPECT_EQ(drafted.logits, plain.logits);
        EXPECT_EQ(drafted.reason, plain.reason);
        EXPECT_EQ(plain.drafted, 0u);
        accepted += drafted.accepted;
        refused += drafted.drafted - drafted.accepted;
      }
  }
  EXPECT_GT(accepted, 0u);
  EXPECT_GT(refused, 0u);
}

} // namespace
