//===- BatchApiTest.cpp - Batches in the C API ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Sampler.h"
#include "test/unit/loader/ArtifactBuilder.h"
#include "tools/common/Api.h"

#include <atomic>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

using namespace retort;
using namespace retort::test;
using retort::tools::BatchHandle;
using retort::tools::ModelHandle;
using testing::HasSubstr;

namespace {

class BatchApiTest : public testing::Test {
protected:
  BatchApiTest() : bytes(ArtifactBuilder().build()) {
    retort_model *opened = nullptr;
    EXPECT_EQ(retort_model_open_memory(bytes.span().data(), bytes.span().size(),
                                       nullptr, &opened),
              RETORT_OK)
        << retort_last_error();
    model.reset(opened);
  }
  BatchHandle open(uint32_t sequences, uint32_t context = 0) {
    retort_batch_options options{};
    options.sequences = sequences;
    options.context = context;
    options.threads = 2;
    retort_batch *batch = nullptr;
    EXPECT_EQ(retort_batch_open(model.get(), &options, &batch), RETORT_OK)
        << retort_last_error();
    return BatchHandle(batch);
  }
  std::vector<float> logits(const BatchHandle &batch, uint32_t sequence) {
    auto out = tools::fetch<std::vector<float>>(
        [&](float *data, size_t n, size_t *length) {
          return retort_batch_logits(batch.get(), sequence, data, n, length);
        });
    EXPECT_TRUE(out.isOk());
    return *out;
  }
  std::vector<int32_t> tokens(const BatchHandle &batch, uint32_t sequence) {
    auto out = tools::fetch<std::vector<int32_t>>(
        [&](int32_t *data, size_t n, size_t *length) {
          return retort_batch_tokens(batch.get(), sequence, data, n, length);
        });
    EXPECT_TRUE(out.isOk());
    return *out;
  }
  AlignedBytes bytes;
  ModelHandle model;
};

const std::vector<int32_t> kPrompts[] = {
    {'H', 'e', 'l', 'l', 'o'}, {'y', 'o', 'u'}, {'!'}};

TEST_F(BatchApiTest, GeneratesAsSessionsDo) {
  auto batch = open(3);
  EXPECT_EQ(retort_batch_sequences(batch.get()), 3u);
  EXPECT_EQ(retort_batch_context(batch.get()), kMaxContext);
  for (uint32_t s = 0; s < 3; ++s) {
    EXPECT_TRUE(logits(batch, s).empty());
    ASSERT_EQ(retort_batch_feed(batch.get(), s, kPrompts[s].data(),
                                kPrompts[s].size()),
              RETORT_OK);
  }
  for (int i = 0; i < 10; ++i) {
    std::vector<retort_batch_token> next;
    for (uint32_t s = 0; s < 3; ++s) {
      next.push_back({s, -1});
      ASSERT_EQ(retort_batch_sample(batch.get(), s, &next.back().id),
                RETORT_OK);
      // Greedy, for want of a recommendation.
      EXPECT_EQ(next.back().id, *greedyToken(logits(batch, s)));
    }
    ASSERT_EQ(retort_batch_step(batch.get(), next.data(), next.size()),
              RETORT_OK)
        << retort_last_error();
    for (uint32_t s = 0; s < 3; ++s)
      EXPECT_EQ(logits(batch, s), expectedLogits(tokens(batch, s)));
  }
  for (uint32_t s = 0; s < 3; ++s)
    EXPECT_EQ(retort_batch_position(batch.get(), s), kPrompts[s].size() + 10);
}

TEST_F(BatchApiTest, RewindsOneSequence) {
  auto batch = open(2);
  for (uint32_t s = 0; s < 2; ++s)
    ASSERT_EQ(retort_batch_feed(batch.get(), s, kPrompts[0].data(), 5),
              RETORT_OK);
  ASSERT_EQ(retort_batch_rewind(batch.get(), 1, 2), RETORT_OK);
  EXPECT_EQ(retort_batch_rewind(batch.get(), 1, 3), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(tokens(batch, 0).size(), 5u);
  EXPECT_EQ(tokens(batch, 1), (std::vector<int32_t>{'H', 'e'}));
  int32_t token;
  EXPECT_EQ(retort_batch_sample(batch.get(), 1, &token),
            RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(retort_last_error(), HasSubstr("sequence 1: expected tokens"));
  EXPECT_EQ(retort_batch_sample(batch.get(), 0, &token), RETORT_OK);
}

TEST_F(BatchApiTest, SequencesHaveSamplersOfTheirOwn) {
  auto draw = [&](uint64_t seed, uint32_t sequence) {
    auto batch = open(2);
    retort_sampling sampling;
    retort_sampling_defaults(model.get(), &sampling);
    sampling.temperature = 8;
    sampling.seed = seed;
    EXPECT_EQ(retort_batch_set_sampling(batch.get(), sequence, &sampling),
              RETORT_OK);
    EXPECT_EQ(retort_batch_feed(batch.get(), sequence, kPrompts[0].data(), 5),
              RETORT_OK);
    std::vector<int32_t> drawn(8);
    for (int32_t &token : drawn)
      EXPECT_EQ(retort_batch_sample(batch.get(), sequence, &token), RETORT_OK);
    return drawn;
  };
  EXPECT_EQ(draw(1, 0), draw(1, 1));
  EXPECT_NE(draw(1, 0), draw(2, 0));
  auto batch = open(1);
  retort_sampling wrong;
  retort_sampling_defaults(model.get(), &wrong);
  wrong.top_p = 3;
  EXPECT_EQ(retort_batch_set_sampling(batch.get(), 0, &wrong),
            RETORT_INVALID_ARGUMENT);
}

TEST_F(BatchApiTest, RefusedStepsFeedNothing) {
  auto batch = open(2, 5);
  ASSERT_EQ(retort_batch_feed(batch.get(), 0, kPrompts[0].data(), 5),
            RETORT_OK);
  const std::vector<retort_batch_token> wrong[] = {
      {},               // none
      {{1, 5}, {1, 6}}, // twice
      {{1, 5}, {2, 6}}, // no such sequence
      {{1, kVocab}},    // no such token
      {{1, -1}},
      {{1, 5}, {0, 6}}, // context full
  };
  for (const auto &tokens : wrong) {
    EXPECT_EQ(retort_batch_step(batch.get(), tokens.data(), tokens.size()),
              RETORT_INVALID_ARGUMENT);
    EXPECT_EQ(retort_batch_position(batch.get(), 0), 5u);
    EXPECT_EQ(retort_batch_position(batch.get(), 1), 0u);
  }
  EXPECT_EQ(retort_batch_feed(batch.get(), 1, kPrompts[0].data(), 6),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_feed(batch.get(), 2, kPrompts[0].data(), 1),
            RETORT_INVALID_ARGUMENT);
}

TEST_F(BatchApiTest, OptionsOutOfRangeAreErrors) {
  retort_batch *batch = nullptr;
  for (uint32_t sequences : {0u, 1025u, UINT32_MAX}) {
    retort_batch_options options{};
    options.sequences = sequences;
    EXPECT_EQ(retort_batch_open(model.get(), &options, &batch),
              RETORT_INVALID_ARGUMENT);
    EXPECT_THAT(retort_last_error(), HasSubstr("expected 1 to 1024"));
  }
  retort_batch_options options{};
  options.sequences = 2;
  options.context = kMaxContext + 1;
  EXPECT_EQ(retort_batch_open(model.get(), &options, &batch),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(batch, nullptr);
}

TEST_F(BatchApiTest, NullArgumentsAreErrors) {
  auto batch = open(1);
  retort_batch_options options{};
  options.sequences = 1;
  retort_batch *opened = nullptr;
  size_t length;
  EXPECT_EQ(retort_batch_open(nullptr, &options, &opened),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_open(model.get(), nullptr, &opened),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_open(model.get(), &options, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_feed(nullptr, 0, kPrompts[0].data(), 1),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_feed(batch.get(), 0, nullptr, 1),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_step(batch.get(), nullptr, 1),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_step(nullptr, nullptr, 0), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_logits(batch.get(), 0, nullptr, 0, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_logits(batch.get(), 1, nullptr, 0, &length),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_tokens(batch.get(), 1, nullptr, 0, &length),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_rewind(nullptr, 0, 0), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_rewind(batch.get(), 1, 0), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_sample(batch.get(), 0, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_set_sampling(batch.get(), 0, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_batch_position(nullptr, 0), 0u);
  EXPECT_EQ(retort_batch_position(batch.get(), 1), 0u);
  EXPECT_EQ(retort_batch_sequences(nullptr), 0u);
  EXPECT_EQ(retort_batch_context(nullptr), 0u);
  retort_batch_close(nullptr);
  retort_batch_cancel(nullptr);
}

TEST_F(BatchApiTest, OutlivesItsModelsHandle) {
  auto batch = open(2);
  model.reset();
  const retort_batch_token next[] = {{1, 'a'}, {0, 'b'}};
  ASSERT_EQ(retort_batch_step(batch.get(), next, 2), RETORT_OK);
  EXPECT_EQ(logits(batch, 1), expectedLogits(std::vector<int32_t>{'a'}));
  EXPECT_EQ(logits(batch, 0), expectedLogits(std::vector<int32_t>{'b'}));
}

TEST_F(BatchApiTest, ThreadsShareABatch) {
  auto batch = open(4);
  std::vector<std::thread> threads;
  for (uint32_t s = 0; s < 4; ++s)
    threads.emplace_back([&, s] {
      for (int32_t i = 0; i < 20; ++i) {
        retort_batch_token next{s, i};
        EXPECT_EQ(retort_batch_step(batch.get(), &next, 1), RETORT_OK);
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  for (uint32_t s = 0; s < 4; ++s) {
    EXPECT_EQ(retort_batch_position(batch.get(), s), 20u);
    EXPECT_EQ(logits(batch, s), expectedLogits(tokens(batch, s)));
  }
}

TEST_F(BatchApiTest, CancelComesFromAnotherThread) {
  auto batch = open(2);
  std::thread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    retort_batch_cancel(batch.get());
  });
  const retort_batch_token next[] = {{0, 1}, {1, 2}};
  retort_status_code code = RETORT_OK;
  while (code == RETORT_OK) {
    code = retort_batch_step(batch.get(), next, 2);
    if (retort_batch_position(batch.get(), 0) > 90)
      for (uint32_t s = 0; s < 2; ++s)
        (void)retort_batch_rewind(batch.get(), s, 0);
  }
  canceller.join();
  EXPECT_EQ(code, RETORT_CANCELLED);
  EXPECT_EQ(retort_batch_step(batch.get(), next, 2), RETORT_OK);
}

} // namespace
