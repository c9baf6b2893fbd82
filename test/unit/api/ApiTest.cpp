//===- ApiTest.cpp - The C API ----------------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Api.h"
#include "runtime/text/Sampler.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <atomic>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

using namespace retort;
using namespace retort::test;
using retort::tools::ModelHandle;
using retort::tools::SessionHandle;
using testing::HasSubstr;

namespace {

Bytes withTokenizer() {
  ArtifactBuilder builder;
  builder.addTokenizer();
  return builder.build();
}

class ApiTest : public testing::Test {
protected:
  explicit ApiTest(const Bytes &file = withTokenizer()) : bytes(file) {
    retort_model *opened = nullptr;
    EXPECT_EQ(retort_model_open_memory(bytes.span().data(), bytes.span().size(),
                                       nullptr, &opened),
              RETORT_OK)
        << retort_last_error();
    model.reset(opened);
  }
  SessionHandle open(retort_session_options options = {}) {
    retort_session *session = nullptr;
    EXPECT_EQ(retort_session_open(model.get(), &options, &session), RETORT_OK)
        << retort_last_error();
    return SessionHandle(session);
  }
  std::vector<float> logits(const SessionHandle &session) {
    auto out = tools::fetch<std::vector<float>>(
        [&](float *data, size_t n, size_t *length) {
          return retort_session_logits(session.get(), data, n, length);
        });
    EXPECT_TRUE(out.isOk());
    return *out;
  }
  AlignedBytes bytes;
  ModelHandle model;
};

class ApiWithoutTextTest : public ApiTest {
protected:
  ApiWithoutTextTest() : ApiTest(ArtifactBuilder().build()) {}
};

const std::vector<int32_t> kPrompt = {'H', 'e', 'l', 'l', 'o'};

TEST_F(ApiTest, DescribesTheModel) {
  retort_model_info info;
  retort_model_get_info(model.get(), &info);
  EXPECT_STREQ(info.family, "test");
  EXPECT_STREQ(info.target, "host");
  EXPECT_EQ(info.vocab_size, kVocab);
  EXPECT_EQ(info.max_context, kMaxContext);
  EXPECT_TRUE(info.has_tokenizer);
  EXPECT_TRUE(info.has_chat_template);
  EXPECT_STRNE(retort_version(), "");
}

TEST_F(ApiTest, FeedsAndCopiesLogits) {
  auto session = open();
  EXPECT_TRUE(logits(session).empty());
  ASSERT_EQ(retort_session_feed(session.get(), kPrompt.data(), kPrompt.size()),
            RETORT_OK);
  EXPECT_EQ(logits(session), expectedLogits(kPrompt));
  EXPECT_EQ(retort_session_position(session.get()), 5u);
  EXPECT_EQ(retort_session_context(session.get()), kMaxContext);
  float one = 7;
  size_t length = 0;
  ASSERT_EQ(retort_session_logits(session.get(), &one, 1, &length), RETORT_OK);
  EXPECT_EQ(length, kVocab);
  EXPECT_EQ(one, 7) << "nothing is written to a buffer that is too small";
}

TEST_F(ApiTest, FeedAllCallsForEachToken) {
  auto session = open();
  std::vector<std::vector<float>> rows;
  auto collect = [](void *user, size_t index, const float *logits,
                    size_t vocab) -> int {
    auto &rows = *static_cast<std::vector<std::vector<float>> *>(user);
    EXPECT_EQ(index, rows.size());
    rows.emplace_back(logits, logits + vocab);
    return rows.size() == 20;
  };
  ASSERT_EQ(retort_session_feed_all(session.get(), kPrompt.data(),
                                    kPrompt.size(), collect, &rows),
            RETORT_OK);
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[2], expectedLogits(std::span(kPrompt).first(3)));
}

TEST_F(ApiTest, FeedAllEndsWhenTheCallbackSaysSo) {
  auto session = open();
  EXPECT_EQ(retort_session_feed_all(
                session.get(), kPrompt.data(), kPrompt.size(),
                [](void *, size_t, const float *, size_t) { return 1; },
                nullptr),
            RETORT_CANCELLED);
}

TEST_F(ApiTest, SamplesGreedilyByDefault) {
  auto session = open();
  int32_t token = -1;
  EXPECT_EQ(retort_session_sample(session.get(), &token),
            RETORT_INVALID_ARGUMENT);
  ASSERT_EQ(retort_session_feed(session.get(), kPrompt.data(), kPrompt.size()),
            RETORT_OK);
  ASSERT_EQ(retort_session_sample(session.get(), &token), RETORT_OK);
  EXPECT_EQ(token, *greedyToken(expectedLogits(kPrompt)));
}

TEST_F(ApiTest, SamplingOptionsAreChecked) {
  auto session = open();
  retort_sampling sampling;
  retort_sampling_defaults(model.get(), &sampling);
  EXPECT_EQ(sampling.temperature, 0);
  sampling.top_p = 3;
  EXPECT_EQ(retort_session_set_sampling(session.get(), &sampling),
            RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(retort_last_error(), HasSubstr("top-p"));
}

TEST_F(ApiTest, RewindsAndReportsTokens) {
  auto session = open();
  ASSERT_EQ(retort_session_feed(session.get(), kPrompt.data(), kPrompt.size()),
            RETORT_OK);
  ASSERT_EQ(retort_session_rewind(session.get(), 2), RETORT_OK);
  EXPECT_EQ(retort_session_rewind(session.get(), 3), RETORT_INVALID_ARGUMENT);
  int32_t tokens[8];
  size_t length = 0;
  ASSERT_EQ(retort_session_tokens(session.get(), tokens, 8, &length),
            RETORT_OK);
  ASSERT_EQ(length, 2u);
  EXPECT_EQ(tokens[1], 'e');
}

struct Collected {
  std::string text;
  std::vector<int32_t> ids;
};

int collectText(void *user, const char *text, size_t length, int32_t token) {
  auto &out = *static_cast<Collected *>(user);
  out.text.append(text, length);
  if (token >= 0)
    out.ids.push_back(token);
  return 0;
}

TEST_F(ApiTest, GeneratesTextThatIsItsTokens) {
  auto session = open();
  retort_generate_options options{};
  options.max_tokens = 20;
  options.ignore_end_tokens = 1;
  options.special = 1;
  Collected out;
  retort_generate_stats stats;
  ASSERT_EQ(retort_session_generate(session.get(), kPrompt.data(),
                                    kPrompt.size(), &options, collectText, &out,
                                    &stats),
            RETORT_OK)
      << retort_last_error();
  EXPECT_EQ(out.ids.size(), 20u);
  EXPECT_EQ(stats.new_tokens, 20u);
  EXPECT_EQ(stats.reason, RETORT_STOP_LENGTH);
  auto text =
      tools::fetch<std::string>([&](char *data, size_t n, size_t *length) {
        return retort_detokenize(model.get(), out.ids.data(), out.ids.size(), 1,
                                 data, n, length);
      });
  ASSERT_TRUE(text.isOk());
  EXPECT_EQ(out.text, *text);
}

TEST_F(ApiTest, GenerateRejectsNegativeLimit) {
  auto session = open();
  retort_generate_options options{};
  options.max_tokens = -1;
  EXPECT_EQ(retort_session_generate(session.get(), kPrompt.data(), 5, &options,
                                    nullptr, nullptr, nullptr),
            RETORT_INVALID_ARGUMENT);
}

TEST_F(ApiTest, TokenizesBothWays) {
  auto ids = tools::tokenize(model.get(), "h\xc3\xa9<|end|>", true);
  ASSERT_TRUE(ids.isOk()) << ids.status().message();
  EXPECT_EQ(*ids, (std::vector<int32_t>{'h', 0xc3, 0xa9, kEndToken}));
  char text[16];
  size_t length = 0;
  ASSERT_EQ(retort_detokenize(model.get(), ids->data(), ids->size(), 0, text,
                              sizeof text, &length),
            RETORT_OK);
  EXPECT_EQ(std::string(text, length), "h\xc3\xa9");
  EXPECT_TRUE(retort_is_end_token(model.get(), kEndToken));
  EXPECT_FALSE(retort_is_end_token(model.get(), 'h'));
}

TEST_F(ApiTest, InvalidUtf8IsAnError) {
  EXPECT_FALSE(tools::tokenize(model.get(), "a\xff", true).isOk());
}

TEST_F(ApiTest, RendersChats) {
  auto text =
      tools::renderChat(model.get(), R"([{"role": "user", "content": "hi"}])");
  ASSERT_TRUE(text.isOk()) << text.status().message();
  EXPECT_EQ(*text, "<|role|>user:hi<|end|><|role|>assistant:");
}

TEST_F(ApiTest, BrokenMessagesAreErrors) {
  for (const char *messages : {"", "{", "{}", "3", "[{\"role\": ]"})
    EXPECT_FALSE(tools::renderChat(model.get(), messages).isOk()) << messages;
}

TEST_F(ApiTest, NullArgumentsAreErrors) {
  retort_model *opened = nullptr;
  size_t length = 0;
  auto session = open();
  EXPECT_EQ(retort_model_open(nullptr, nullptr, &opened),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_open("x", nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_open_memory(nullptr, 5, nullptr, &opened),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_session_open(nullptr, nullptr, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_session_feed(session.get(), nullptr, 3),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_session_feed(nullptr, kPrompt.data(), 3),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_session_feed_all(session.get(), kPrompt.data(), 3, nullptr,
                                    nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_session_logits(session.get(), nullptr, 0, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_tokenize(model.get(), nullptr, 3, 0, nullptr, 0, &length),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_session_sample(session.get(), nullptr),
            RETORT_INVALID_ARGUMENT);
  retort_model_close(nullptr);
  retort_session_close(nullptr);
  retort_session_cancel(nullptr);
}

TEST_F(ApiTest, ErrorsAreKeptPerThread) {
  retort_model *opened = nullptr;
  EXPECT_EQ(retort_model_open("/nonexistent/a", nullptr, &opened),
            RETORT_NOT_FOUND);
  std::thread([] { EXPECT_STREQ(retort_last_error(), ""); }).join();
  EXPECT_THAT(retort_last_error(), HasSubstr("/nonexistent/a"));
  EXPECT_EQ(opened, nullptr);
}

TEST_F(ApiTest, LongMessagesAreCut) {
  std::string path(5000, 'x');
  retort_model *opened = nullptr;
  EXPECT_NE(retort_model_open(path.c_str(), nullptr, &opened), RETORT_OK);
  EXPECT_LT(strlen(retort_last_error()), 2048u);
}

TEST_F(ApiTest, SessionOutlivesItsModelsHandle) {
  auto session = open();
  model.reset();
  ASSERT_EQ(retort_session_feed(session.get(), kPrompt.data(), kPrompt.size()),
            RETORT_OK);
  EXPECT_EQ(logits(session), expectedLogits(kPrompt));
}

TEST_F(ApiTest, ThreadsShareASession) {
  auto session = open();
  std::vector<std::thread> threads;
  std::atomic<int> fed{0};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < 20; ++j)
        fed +=
            retort_session_feed(session.get(), kPrompt.data(), 1) == RETORT_OK;
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(fed.load(), 80);
  EXPECT_EQ(retort_session_position(session.get()), 80u);
}

TEST_F(ApiTest, CancelComesFromAnotherThread) {
  auto session = open();
  std::thread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    retort_session_cancel(session.get());
  });
  retort_status_code code = RETORT_OK;
  while (code == RETORT_OK) {
    code = retort_session_feed(session.get(), kPrompt.data(), 5);
    if (retort_session_position(session.get()) > 90)
      (void)retort_session_rewind(session.get(), 0);
  }
  canceller.join();
  EXPECT_EQ(code, RETORT_CANCELLED);
}

TEST_F(ApiTest, SelfTestPasses) {
  retort_selftest_result result;
  ASSERT_EQ(retort_model_selftest(model.get(), 2, &result), RETORT_OK);
  EXPECT_TRUE(result.passed);
  EXPECT_EQ(result.greedy, result.expected_greedy);
  EXPECT_LT(result.relative_error, 1e-6);
}

TEST_F(ApiWithoutTextTest, RunsOnIdsAlone) {
  auto session = open();
  retort_generate_options options{};
  options.max_tokens = 5;
  Collected out;
  ASSERT_EQ(retort_session_generate(session.get(), kPrompt.data(), 5, &options,
                                    collectText, &out, nullptr),
            RETORT_OK);
  EXPECT_FALSE(out.ids.empty());
  EXPECT_EQ(out.text, "");
}

TEST_F(ApiWithoutTextTest, TextFunctionsAreNotFound) {
  size_t length;
  EXPECT_EQ(retort_tokenize(model.get(), "a", 1, 0, nullptr, 0, &length),
            RETORT_NOT_FOUND);
  EXPECT_EQ(
      retort_detokenize(model.get(), kPrompt.data(), 1, 0, nullptr, 0, &length),
      RETORT_NOT_FOUND);
  EXPECT_EQ(retort_chat_render(model.get(), "[]", 2, 0, nullptr, 0, &length),
            RETORT_NOT_FOUND);
}

/// The result of a self test that stores a tolerance and logits 1% too large.
retort_selftest_result selfTestWithin(float tolerance) {
  AlignedBytes bytes(ArtifactBuilder().build([&](retort::abi::IndexT &index) {
    for (float &logit : index.self_test->last_logits)
      logit *= 1.01f;
    index.self_test->tolerance = tolerance;
  }));
  retort_model *model = nullptr;
  retort_selftest_result result{};
  EXPECT_EQ(retort_model_open_memory(bytes.span().data(), bytes.span().size(),
                                     nullptr, &model),
            RETORT_OK);
  ModelHandle handle(model);
  EXPECT_EQ(retort_model_selftest(model, 1, &result), RETORT_OK);
  return result;
}

TEST(ApiSelfTest, WrongLogitsDontPass) {
  retort_selftest_result result = selfTestWithin(1e-3f);
  EXPECT_FALSE(result.passed);
  EXPECT_NEAR(result.relative_error, 0.0099, 1e-4);
}

TEST(ApiSelfTest, TheArtifactSaysHowFarLogitsMayBe) {
  EXPECT_TRUE(selfTestWithin(0.02f).passed);
  EXPECT_FALSE(selfTestWithin(0.005f).passed);
}

TEST(ApiOpenTest, BrokenTokenizerIsAnErrorNamingTheFile) {
  ArtifactBuilder builder;
  builder.addText("text/tokenizer.json", "{");
  AlignedBytes bytes(builder.build());
  retort_model *model = nullptr;
  EXPECT_EQ(retort_model_open_memory(bytes.span().data(), bytes.span().size(),
                                     nullptr, &model),
            RETORT_INVALID_DATA);
  EXPECT_THAT(retort_last_error(), HasSubstr("tokenizer.json"));
}

TEST(ApiOpenTest, UnknownTargetIsAnError) {
  AlignedBytes bytes(ArtifactBuilder().build());
  retort_model *model = nullptr;
  retort_model_options options{};
  options.target = "pdp-11";
  EXPECT_EQ(retort_model_open_memory(bytes.span().data(), bytes.span().size(),
                                     &options, &model),
            RETORT_INVALID_ARGUMENT);
}

} // namespace
