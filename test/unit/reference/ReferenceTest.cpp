//===- ReferenceTest.cpp - The oracle against goldens -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/reference/Reference.h"
#include "compiler/reference/Linear.h"
#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace retort::reference {
namespace {

using checkpoint::Checkpoint;
using checkpoint::SafetensorsFile;
using checkpoint::TensorView;
using test::CheckpointBuilder;
using test::TempDir;
using test::TinyModel;
using testing::HasSubstr;

template <typename T>
std::vector<T> load(const SafetensorsFile &file, std::string_view name) {
  const TensorView *view = file.find(name);
  if (!view)
    throw std::out_of_range("no tensor " + std::string(name));
  std::vector<T> out(view->bytes.size() / sizeof(T));
  std::memcpy(out.data(), view->bytes.data(), view->bytes.size());
  return out;
}

double relativeRms(std::span<const float> found,
                   std::span<const float> expected) {
  if (found.size() != expected.size())
    return INFINITY;
  double error = 0, size = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    double d = double(found[i]) - expected[i];
    error += d * d;
    size += double(expected[i]) * expected[i];
  }
  return std::sqrt(error / size);
}

Checkpoint openModel(const TempDir &dir, const TinyModel &model) {
  CheckpointBuilder(model).write(dir.path());
  auto opened = Checkpoint::open(dir.path());
  if (!opened)
    throw std::runtime_error(opened.status().message());
  return std::move(*opened);
}

class GoldenTest : public testing::TestWithParam<const char *> {};

TEST_P(GoldenTest, AgreesWithDoublePrecision) {
  const char *shared = std::getenv("RETORT_SHARED");
  std::string dir =
      std::string(shared ? shared : RETORT_SOURCE_DIR "/../shared") +
      "/goldens/" + GetParam();
  if (!std::filesystem::exists(dir))
    GTEST_SKIP() << "test data is absent: set RETORT_SHARED (looked for " << dir
                 << ")";
  auto opened = Checkpoint::open(dir);
  ASSERT_TRUE(opened) << opened.status().message();
  auto golden = SafetensorsFile::open(dir + "/golden.safetensors");
  ASSERT_TRUE(golden) << golden.status().message();

  auto ids = load<int32_t>(*golden, "input_ids");
  ReferenceOptions options;
  options.keepHiddenStates = true;
  auto out = runReference(*opened, ids, options);
  ASSERT_TRUE(out) << out.status().message();
  EXPECT_LE(relativeRms(out->logits, load<float>(*golden, "logits")), 1e-6);
  EXPECT_LE(
      relativeRms(out->hiddenStates, load<float>(*golden, "hidden_states")),
      1e-6);
  auto greedy = load<int32_t>(*golden, "greedy_ids");
  auto generated =
      generateGreedy(*opened, ids, static_cast<int>(greedy.size()));
  ASSERT_TRUE(generated) << generated.status().message();
  EXPECT_EQ(*generated, greedy);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest,
                         testing::Values("qwen2-tied", "qwen2-untied", "llama3",
                                         "llama-f16", "deepseek-v3",
                                         "deepseek-v3-fp8"),
                         [](const auto &info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(LinearTest, MultipliesByHand) {
  // Two tokens of three columns, five rows: one more than a tile holds.
  std::vector<float> x = {1, 2, 3, -1, 0, 0.5f};
  std::vector<float> rows = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 2, -2, 4};
  std::vector<float> out(10);
  std::vector<double> scratch;
  multiplyRows(rows.data(), 5, Panels(x, 2, 3), out.data(), 5, scratch);
  EXPECT_THAT(out, testing::ElementsAre(1, 2, 3, 6, 10, -1, 0, 0.5f, -0.5f, 0));
}

TEST(ReferenceTest, DoesNotDependOnThreadsAndPieces) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, {});
  std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8};
  ReferenceOptions options;
  options.threads = 1;
  auto one = runReference(checkpoint, tokens, options);
  ASSERT_TRUE(one) << one.status().message();
  options.threads = 3;
  auto three = runReference(checkpoint, tokens, options);
  ASSERT_TRUE(three) << three.status().message();
  EXPECT_EQ(one->logits, three->logits);

  options.lastLogitsOnly = true;
  auto last = runReference(checkpoint, tokens, options);
  ASSERT_TRUE(last) << last.status().message();
  EXPECT_EQ(last->logits,
            std::vector<float>(one->logits.end() - 48, one->logits.end()));

  // Greedy generation feeds pieces; the first of them ends like the whole.
  auto next = generateGreedy(checkpoint, tokens, 3, options);
  ASSERT_TRUE(next) << next.status().message();
  for (int32_t token : *next) {
    auto whole = runReference(checkpoint, tokens, options);
    ASSERT_TRUE(whole) << whole.status().message();
    auto best = std::max_element(whole->logits.begin(), whole->logits.end());
    EXPECT_EQ(best - whole->logits.begin(), token);
    tokens.push_back(token);
  }
}

TEST(ReferenceTest, UsesEveryBiasOfALlama) {
  TempDir dir;
  TinyModel model;
  model.modelType = "llama";
  model.extra = {{"attention_bias", true}, {"mlp_bias", true}};
  Checkpoint checkpoint = openModel(dir, model);
  std::vector<int32_t> tokens = {7, 8};
  auto plain = runReference(checkpoint, tokens);
  ASSERT_TRUE(plain) << plain.status().message();
  for (const char *part :
       {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
        "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
    ReferenceOptions options;
    options.weights = [&](const TensorView &tensor, WeightUse, int64_t first,
                          int64_t rows, std::span<float> out) {
      size_t rowBytes = tensor.bytes.size() / size_t(tensor.shape[0]);
      Status status = checkpoint::convertToF32(
          tensor.dtype,
          tensor.bytes.subspan(size_t(first) * rowBytes,
                               size_t(rows) * rowBytes),
          out);
      if (tensor.name ==
          checkpoint::layerTensorName(0, std::string(part) + ".bias"))
        for (float &value : out)
          value = -value;
      return status;
    };
    auto changed = runReference(checkpoint, tokens, options);
    ASSERT_TRUE(changed) << changed.status().message();
    EXPECT_NE(changed->logits, plain->logits) << part;
  }
}

TEST(ReferenceTest, TellsASourceWhatWeightsAreFor) {
  TempDir dir;
  TinyModel model;
  model.tied = true;
  Checkpoint checkpoint = openModel(dir, model);
  std::atomic<int> embeddings = 0, projections = 0;
  ReferenceOptions options;
  options.weights = [&](const TensorView &tensor, WeightUse use, int64_t,
                        int64_t rows, std::span<float> out) {
    if (tensor.name == "model.embed_tokens.weight")
      (use == WeightUse::Embedding ? embeddings : projections) +=
          static_cast<int>(rows);
    std::fill(out.begin(), out.end(), 0.5f);
    return Status::ok();
  };
  auto out = runReference(checkpoint, std::vector<int32_t>{1, 2, 3}, options);
  ASSERT_TRUE(out) << out.status().message();
  EXPECT_EQ(embeddings, 3);
  EXPECT_EQ(projections, 48);
}

/// Doubling the inputs of the output projection doubles the logits; rounding
/// happens on a copy, so that other layers see what was there.
TEST(ReferenceTest, RoundsTheInputsOfLinearLayers) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, {});
  std::vector<int32_t> tokens = {3, 1, 4};
  auto plain = runReference(checkpoint, tokens);
  ASSERT_TRUE(plain) << plain.status().message();
  std::map<std::string, int> rows;
  ReferenceOptions options;
  options.inputs = [&](const TensorView &weight, std::span<float> row) {
    ++rows[weight.name];
    EXPECT_EQ(static_cast<int64_t>(row.size()), weight.shape[1]);
    if (weight.name == "lm_head.weight")
      for (float &x : row)
        x *= 2;
  };
  auto doubled = runReference(checkpoint, tokens, options);
  ASSERT_TRUE(doubled) << doubled.status().message();
  for (size_t i = 0; i < plain->logits.size(); ++i)
    EXPECT_EQ(doubled->logits[i], 2 * plain->logits[i]);
  EXPECT_EQ(rows["lm_head.weight"], 3);
  EXPECT_EQ(rows[checkpoint::layerTensorName(0, "mlp.down_proj.weight")], 3);
  EXPECT_EQ(rows.count("model.embed_tokens.weight"), 0u);
}

TEST(ReferenceTest, PassesOnTheErrorOfASource) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, {});
  ReferenceOptions options;
  options.weights = [](const TensorView &tensor, WeightUse, int64_t, int64_t,
                       std::span<float>) {
    return Status::error(Code::InvalidData, tensor.name + ": is broken");
  };
  auto out = runReference(checkpoint, std::vector<int32_t>{1}, options);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.status().message(), "model.embed_tokens.weight: is broken");
}

TEST(ReferenceTest, RefusesNoTokens) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, {});
  auto out = runReference(checkpoint, {});
  ASSERT_FALSE(out);
  EXPECT_EQ(out.status().code(), Code::InvalidArgument);
}

TEST(ReferenceTest, RefusesTokensOutsideTheVocabulary) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, {});
  for (int32_t bad : {-1, 48}) {
    auto out = runReference(checkpoint, std::vector<int32_t>{0, bad});
    ASSERT_FALSE(out);
    EXPECT_THAT(out.status().message(), HasSubstr("token 1: expected an id"));
    EXPECT_FALSE(generateGreedy(checkpoint, std::vector<int32_t>{bad}, 1));
  }
}

TEST(ReferenceTest, StopsWhenCancelled) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, {});
  std::atomic<bool> cancel = true;
  ReferenceOptions options;
  options.cancel = &cancel;
  auto out = runReference(checkpoint, std::vector<int32_t>{1, 2}, options);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.status().code(), Code::Cancelled);
}

} // namespace
} // namespace retort::reference
