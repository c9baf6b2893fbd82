//===- BatchTest.cpp - Compiled models in batches -------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Sequences of compiled checkpoints that are decoded together get the bits
/// that each gets alone.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "runtime/engine/Batch.h"
#include "runtime/engine/Session.h"

#include <cstring>

using namespace retort;
using namespace retort::test;

namespace {

constexpr int kSteps = 5;

/// Same bits: NaN and the sign of zero count.
bool same(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && !a.empty() &&
         std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// A prompt and what follows it.
struct Text {
  std::vector<int32_t> prompt, next; ///< next: kSteps tokens
  /// After the prompt and after each of `next`, of a session of its own.
  std::vector<std::vector<float>> alone;
};

/// Checkpoint and the flags to compile it with.
class Batches : public ::testing::TestWithParam<
                    std::tuple<const char *, std::vector<std::string>>> {
protected:
  void SetUp() override {
    auto [name, flags] = GetParam();
    RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + name);
    auto artifact = Artifact::open(compiledOnce(dir, flags));
    ASSERT_TRUE(artifact) << artifact.status().message();
    auto loaded = Model::load(*artifact);
    ASSERT_TRUE(loaded) << loaded.status().message();
    model = *loaded;
    std::vector<int32_t> ids =
        readTensor(dir + "/golden.safetensors", "input_ids").integers;
    for (size_t i = 0; i < 11; ++i)
      texts.push_back(textOf(ids, i));
  }

  /// The i-th text: the golden's tokens from the i-th on, and prompts of very
  /// different lengths, about positions where cache blocks end too.
  Text textOf(const std::vector<int32_t> &ids, size_t i) {
    static const size_t lengths[] = {1, 40, 15, 3, 16, 31, 2, 70, 63, 9, 17};
    Text text;
    for (size_t j = 0; j < lengths[i % 11] + kSteps; ++j)
      (j < lengths[i % 11] ? text.prompt : text.next)
          .push_back(ids[(i * 5 + j) % ids.size()]);
    auto session = Session::create(model, sessionOptions());
    EXPECT_TRUE(session) << session.status().message();
    auto feed = [&](std::span<const int32_t> tokens) {
      EXPECT_TRUE((*session)->feed(tokens).isOk());
      auto logits = (*session)->logits();
      text.alone.emplace_back(logits.begin(), logits.end());
    };
    feed(text.prompt);
    for (const int32_t &token : text.next)
      feed({&token, 1});
    return text;
  }

  static SessionOptions sessionOptions() {
    SessionOptions options;
    options.context = 128;
    options.threads = 2;
    return options;
  }

  std::unique_ptr<Batch> makeBatch(uint32_t sequences, unsigned threads) {
    auto batch = Batch::create(model, {sequences, /*context=*/128, threads,
                                       /*pin=*/Placement::Auto,
                                       /*prefillChunk=*/0,
                                       /*ledger=*/false});
    EXPECT_TRUE(batch) << batch.status().message();
    return std::move(*batch);
  }

  std::shared_ptr<const Model> model;
  std::vector<Text> texts;
};

TEST_P(Batches, GiveEachSequenceTheBitsThatItGetsAlone) {
  std::pair<uint32_t, unsigned> cases[] = {{1, 2}, {2, 1}, {3, 3},
                                           {4, 2}, {8, 2}, {11, 4}};
  for (auto [n, threads] : cases) {
    auto batch = makeBatch(n, threads);
    EXPECT_EQ(batch->lanes(), 8u);
    for (uint32_t s = 0; s < n; ++s) {
      ASSERT_TRUE(batch->feed(s, texts[s].prompt).isOk());
      EXPECT_TRUE(same(batch->logits(s), texts[s].alone[0]));
    }
    for (int i = 0; i < kSteps; ++i) {
      std::vector<BatchToken> tokens;
      for (uint32_t s = 0; s < n; ++s)
        tokens.push_back({s, texts[s].next[i]});
      ASSERT_TRUE(batch->step(tokens).isOk());
      for (uint32_t s = 0; s < n; ++s)
        EXPECT_TRUE(same(batch->logits(s), texts[s].alone[i + 1]))
            << "sequence " << s << " of " << n << ", step " << i << ", "
            << threads << " threads";
    }
  }
}

TEST_P(Batches, LetSequencesJoinLeaveAndGoBack) {
  auto batch = makeBatch(3, 2);
  // Sequence s has text t; after `fed` of its tokens its logits are known.
  size_t textIn[] = {1, 4, 7};
  size_t fed[] = {0, 0, 0};
  auto begin = [&](uint32_t s, size_t t) {
    ASSERT_TRUE(batch->rewind(s, 0).isOk());
    ASSERT_TRUE(batch->feed(s, texts[t].prompt).isOk());
    textIn[s] = t;
    fed[s] = 0;
  };
  auto step = [&](std::vector<uint32_t> sequences) {
    std::vector<BatchToken> tokens;
    for (uint32_t s : sequences)
      tokens.push_back({s, texts[textIn[s]].next[fed[s]++]});
    ASSERT_TRUE(batch->step(tokens).isOk());
    for (uint32_t s : sequences)
      EXPECT_TRUE(same(batch->logits(s), texts[textIn[s]].alone[fed[s]]))
          << "sequence " << s << ", text " << textIn[s] << ", token " << fed[s];
  };
  begin(0, 1);
  begin(1, 4);
  step({1, 0});
  begin(2, 7);
  step({0, 2, 1});
  // Other tokens in between, then back to where they were not.
  uint32_t before = batch->position(1);
  ASSERT_TRUE(batch->step(std::vector<BatchToken>{{1, 5}, {0, 6}}).isOk());
  ASSERT_TRUE(batch->rewind(1, before).isOk());
  ASSERT_TRUE(batch->rewind(0, batch->position(0) - 1).isOk());
  step({1, 2, 0});
  step({2});
  begin(0, 9);
  step({2, 0});
  begin(2, 0);
  step({0, 2});
  step({1, 0, 2});
}

std::string
batchesName(const ::testing::TestParamInfo<Batches::ParamType> &info) {
  std::string name = std::get<0>(info.param);
  for (const std::string &flag : std::get<1>(info.param))
    if (!flag.starts_with("--"))
      name += "_" + flag;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

using Flags = std::vector<std::string>;
INSTANTIATE_TEST_SUITE_P(
    Checkpoints, Batches,
    ::testing::Combine(::testing::Values("qwen2-tied", "qwen2-untied", "llama3",
                                         "llama-f16", "deepseek-v3",
                                         "deepseek-v3-fp8"),
                       ::testing::Values(Flags{"--weights", "keep"},
                                         Flags{"--weights", "int8"},
                                         Flags{"--weights", "int4"})),
    batchesName);

} // namespace
