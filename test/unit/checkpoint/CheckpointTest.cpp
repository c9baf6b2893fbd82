//===- CheckpointTest.cpp - Opening checkpoint directories ------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Checkpoint.h"

#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::checkpoint;
using retort::test::CheckpointBuilder;
using retort::test::TempDir;
using retort::test::TinyModel;
using testing::HasSubstr;

namespace {

TinyModel tiny(const std::string &type, bool tied = false) {
  TinyModel model;
  model.modelType = type;
  model.tied = tied;
  return model;
}

std::string openError(const std::string &dir) {
  auto checkpoint = Checkpoint::open(dir);
  EXPECT_FALSE(checkpoint.isOk());
  std::string message = checkpoint.status().message();
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message;
}

/// What a written checkpoint is refused with.
std::string errorOf(const CheckpointBuilder &builder, size_t shards = 1) {
  TempDir dir;
  builder.write(dir.path(), shards);
  return openError(dir.path());
}

CheckpointBuilder::Tensor copyAs(CheckpointBuilder::Tensor tensor,
                                 const std::string &name) {
  tensor.name = name;
  return tensor;
}

TEST(Checkpoint, OpensEveryTypeAndFamily) {
  for (const char *type : {"qwen2", "llama"})
    for (DType dtype : {DType::F32, DType::BF16, DType::F16, DType::F8E4M3})
      for (bool tied : {false, true}) {
        TinyModel model = tiny(type, tied);
        model.dtype = dtype;
        CheckpointBuilder builder(model);
        TempDir dir;
        builder.write(dir.path());
        auto checkpoint = Checkpoint::open(dir.path());
        ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().message();
        auto expected = expectedTensors(checkpoint->config());
        ASSERT_EQ(checkpoint->tensors().size(), expected.size());
        uint64_t total = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
          const TensorView &view = checkpoint->tensors()[i];
          EXPECT_EQ(view.name, expected[i].name);
          EXPECT_EQ(view.shape, expected[i].shape);
          EXPECT_EQ(view.dtype, dtype);
          EXPECT_EQ(checkpoint->find(view.name), &view);
          EXPECT_TRUE(
              std::ranges::equal(view.bytes, builder.tensor(view.name).bytes));
          total += view.bytes.size();
          checkpoint->dropResident(view, 0, view.bytes.size());
        }
        EXPECT_EQ(checkpoint->totalBytes(), total);
        EXPECT_EQ(checkpoint->find("none"), nullptr);
      }
}

TEST(Checkpoint, StaysValidWhenMoved) {
  TempDir dir;
  CheckpointBuilder().write(dir.path(), 3);
  auto opened = Checkpoint::open(dir.path());
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  std::optional<Checkpoint> moved(std::move(*opened));
  opened = Status::error(Code::Internal, "gone");
  const TensorView *view = moved->find("model.norm.weight");
  ASSERT_NE(view, nullptr);
  EXPECT_THAT(std::string(view->file), HasSubstr("-of-00003"));
  moved->dropResident(*view, 0, 64);
}

TEST(Checkpoint, KeepsTheTextsBeside) {
  CheckpointBuilder builder;
  builder.files = {{"generation_config.json", R"({"eos_token_id": [4, 5]})"},
                   {"tokenizer.json", "not parsed here"},
                   {"tokenizer_config.json", "{}"},
                   {"chat_template.jinja", "{{ x }}"}};
  TempDir dir;
  builder.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->config().eosTokenIds, (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(checkpoint->tokenizerText(), "not parsed here");
  EXPECT_EQ(checkpoint->tokenizerConfigText(), "{}");
  EXPECT_EQ(checkpoint->chatTemplateText(), "{{ x }}");
  EXPECT_THAT(checkpoint->configText(), HasSubstr("qwen2"));

  TempDir bare;
  CheckpointBuilder().write(bare.path());
  auto plain = Checkpoint::open(bare.path());
  ASSERT_TRUE(plain.isOk());
  EXPECT_EQ(plain->tokenizerText(), std::nullopt);
  EXPECT_EQ(plain->generationConfigText(), std::nullopt);
}

TEST(Checkpoint, OpensOneFileOfAnotherName) {
  CheckpointBuilder builder;
  for (auto &tensor : builder.tensors)
    tensor.shard = "model.fp16.safetensors";
  TempDir dir;
  builder.write(dir.path());
  EXPECT_TRUE(Checkpoint::open(dir.path()).isOk());
}

TEST(Checkpoint, RotaryBuffersAreIgnored) {
  CheckpointBuilder builder(tiny("llama"));
  std::mt19937_64 random(1);
  builder.add("model.layers.0.self_attn.rotary_emb.inv_freq", DType::F32, {4},
              random);
  TempDir dir;
  builder.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->find("model.layers.0.self_attn.rotary_emb.inv_freq"),
            nullptr);
}

TEST(Checkpoint, EqualHeadOfATiedModelIsDropped) {
  CheckpointBuilder builder(tiny("qwen2", true));
  builder.tensors.push_back(
      copyAs(builder.tensor("model.embed_tokens.weight"), "lm_head.weight"));
  TempDir dir;
  builder.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().message();
  EXPECT_TRUE(checkpoint->config().tieWordEmbeddings);
  EXPECT_EQ(checkpoint->find("lm_head.weight"), nullptr);
}

TEST(Checkpoint, DifferentHeadOfATiedModelUntiesIt) {
  CheckpointBuilder builder(tiny("qwen2", true));
  builder.tensors.push_back(
      copyAs(builder.tensor("model.embed_tokens.weight"), "lm_head.weight"));
  builder.tensors.back().bytes.back() ^= std::byte{1};
  TempDir dir;
  builder.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().message();
  EXPECT_FALSE(checkpoint->config().tieWordEmbeddings);
  EXPECT_NE(checkpoint->find("lm_head.weight"), nullptr);
  EXPECT_EQ(checkpoint->notes().size(), 1u);
}

TEST(Checkpoint, HeadAloneOfATiedModelIsTheEmbedding) {
  CheckpointBuilder builder(tiny("llama", true));
  auto bytes = builder.tensor("model.embed_tokens.weight").bytes;
  builder.tensor("model.embed_tokens.weight").name = "lm_head.weight";
  TempDir dir;
  builder.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().message();
  const TensorView *view = checkpoint->find("model.embed_tokens.weight");
  ASSERT_NE(view, nullptr);
  EXPECT_TRUE(std::ranges::equal(view->bytes, bytes));
}

TEST(Checkpoint, MisshapenHeadOfATiedModelIsRefused) {
  CheckpointBuilder builder(tiny("llama", true));
  std::mt19937_64 random(1);
  builder.add("lm_head.weight", DType::BF16, {48, 31}, random);
  EXPECT_THAT(errorOf(builder),
              HasSubstr("tensor 'lm_head.weight': expected shape [48, 32], "
                        "found [48, 31]"));
}

TEST(Checkpoint, WithoutWeightsHasWhatTheConfigurationSays) {
  TempDir dir;
  TinyModel model;
  CheckpointBuilder builder(model);
  test::writeText(dir.path("config.json"), builder.config.dump());
  EXPECT_FALSE(Checkpoint::hasWeights(dir.path()));
  auto bare = Checkpoint::openWithoutWeights(dir.path());
  ASSERT_TRUE(bare.isOk()) << bare.status().message();
  EXPECT_FALSE(bare->holdsWeights());
  builder.write(dir.path());
  EXPECT_TRUE(Checkpoint::hasWeights(dir.path()));
  auto whole = Checkpoint::open(dir.path());
  ASSERT_TRUE(whole.isOk()) << whole.status().message();
  EXPECT_TRUE(whole->holdsWeights());
  EXPECT_EQ(bare->totalBytes(), whole->totalBytes());
  ASSERT_EQ(bare->tensors().size(), whole->tensors().size());
  for (const TensorView &tensor : whole->tensors()) {
    const TensorView *found = bare->find(tensor.name);
    ASSERT_TRUE(found) << tensor.name;
    EXPECT_EQ(found->shape, tensor.shape) << tensor.name;
    EXPECT_EQ(found->dtype, tensor.dtype) << tensor.name;
    EXPECT_EQ(found->elements(), tensor.elements()) << tensor.name;
    EXPECT_TRUE(found->bytes.empty());
  }
}

TEST(Checkpoint, WithoutWeightsFp8HasTheBlocksOfTheConfiguration) {
  auto r1 = Checkpoint::openWithoutWeights(RETORT_SOURCE_DIR
                                           "/examples/configs/DeepSeek-R1");
  ASSERT_TRUE(r1.isOk()) << r1.status().message();
  const TensorView *o = r1->find("model.layers.3.self_attn.o_proj.weight");
  ASSERT_TRUE(o && o->scales);
  EXPECT_EQ(o->dtype, DType::F8E4M3);
  EXPECT_EQ(o->scales->blockRows, 128);
  EXPECT_EQ(o->scales->cols, 16384 / 128);
  EXPECT_FALSE(r1->find("lm_head.weight")->scales);
}

TEST(Checkpoint, MissingDirectoryIsNotFound) {
  auto checkpoint = Checkpoint::open("/nonexistent/model");
  EXPECT_EQ(checkpoint.status().code(), Code::NotFound);
  EXPECT_EQ(checkpoint.status().message(),
            "/nonexistent/model: expected a checkpoint directory, found "
            "nothing");
}

TEST(Checkpoint, FileInPlaceOfADirectoryIsRefused) {
  TempDir dir;
  test::writeText(dir.path("file"), "x");
  EXPECT_THAT(openError(dir.path("file")), HasSubstr("found a file"));
}

TEST(Checkpoint, MissingConfigIsNotFound) {
  TempDir dir;
  auto checkpoint = Checkpoint::open(dir.path());
  EXPECT_EQ(checkpoint.status().code(), Code::NotFound);
  EXPECT_THAT(checkpoint.status().message(), HasSubstr("config.json"));
}

TEST(Checkpoint, BadConfigIsNamedWithItsPath) {
  CheckpointBuilder builder;
  builder.config["num_attention_heads"] = -4;
  EXPECT_THAT(errorOf(builder),
              HasSubstr("/config.json: field 'num_attention_heads': expected a "
                        "positive integer up to 65536, found -4"));
}

TEST(Checkpoint, EmptyGenerationConfigIsRefused) {
  CheckpointBuilder builder;
  builder.files["generation_config.json"] = "";
  EXPECT_THAT(errorOf(builder), HasSubstr("generation_config.json: expected"));
}

TEST(Checkpoint, MissingWeightsAreNotFound) {
  CheckpointBuilder builder;
  builder.tensors.clear();
  EXPECT_THAT(errorOf(builder),
              HasSubstr("expected model.safetensors or "
                        "model.safetensors.index.json, found none"));
  builder.files["pytorch_model.bin"] = "x";
  EXPECT_THAT(errorOf(builder), HasSubstr("must be converted"));
}

TEST(Checkpoint, ShardsWithoutAnIndexAreRefused) {
  TempDir dir;
  CheckpointBuilder().write(dir.path(), 2);
  std::filesystem::remove(dir.path("model.safetensors.index.json"));
  EXPECT_THAT(openError(dir.path()),
              HasSubstr("found 2 safetensors files without an index"));
}

TEST(Checkpoint, BrokenSafetensorsIsNamed) {
  TempDir dir;
  CheckpointBuilder().write(dir.path());
  std::filesystem::resize_file(
      dir.path("model.safetensors"),
      std::filesystem::file_size(dir.path("model.safetensors")) - 1);
  EXPECT_THAT(openError(dir.path()), HasSubstr("/model.safetensors: "));
}

TEST(Checkpoint, MissingTensorIsNamed) {
  CheckpointBuilder builder;
  builder.remove("model.layers.1.mlp.up_proj.weight");
  EXPECT_THAT(errorOf(builder),
              HasSubstr("expected tensor 'model.layers.1.mlp.up_proj.weight' "
                        "of shape [40, 32], found none"));
  builder.remove("model.norm.weight");
  EXPECT_THAT(errorOf(builder), HasSubstr("found none (and 1 more)"));
}

TEST(Checkpoint, MissingBiasOfQwen2IsNamed) {
  CheckpointBuilder builder;
  builder.remove("model.layers.0.self_attn.q_proj.bias");
  EXPECT_THAT(errorOf(builder), HasSubstr("q_proj.bias' of shape [32]"));
}

TEST(Checkpoint, ExtraTensorIsNamed) {
  CheckpointBuilder builder(tiny("llama"));
  std::mt19937_64 random(1);
  builder.add("model.layers.0.self_attn.q_proj.bias", DType::BF16, {32},
              random);
  EXPECT_THAT(
      errorOf(builder),
      HasSubstr("unexpected tensor "
                "'model.layers.0.self_attn.q_proj.bias' of shape [32]"));
}

TEST(Checkpoint, LayerPastTheConfiguredOnesIsRefused) {
  CheckpointBuilder builder;
  builder.config["num_hidden_layers"] = 1;
  EXPECT_THAT(errorOf(builder),
              HasSubstr("unexpected tensor 'model.layers.1."));
}

TEST(Checkpoint, MisshapenTensorIsNamed) {
  CheckpointBuilder builder;
  auto &tensor = builder.tensor("model.layers.0.self_attn.k_proj.weight");
  std::swap(tensor.shape[0], tensor.shape[1]);
  EXPECT_THAT(errorOf(builder),
              HasSubstr("model.safetensors: tensor "
                        "'model.layers.0.self_attn.k_proj.weight': expected "
                        "shape [16, 32], found [32, 16]"));
}

TEST(Checkpoint, TensorOfAnotherRankIsRefused) {
  CheckpointBuilder builder;
  builder.tensor("model.norm.weight").shape = {32, 1};
  EXPECT_THAT(errorOf(builder),
              HasSubstr("expected shape [32], found [32, 1]"));
}

TEST(Checkpoint, UnsupportedDTypeIsNamed) {
  CheckpointBuilder builder;
  builder.tensor("model.norm.weight").dtype = DType::I16;
  EXPECT_THAT(errorOf(builder),
              HasSubstr("tensor 'model.norm.weight': expected dtype F32, BF16, "
                        "F16 or F8_E4M3, found I16"));
}

/// A checkpoint of three shards whose index a test edits before opening.
class BadIndex : public testing::Test {
protected:
  BadIndex() {
    CheckpointBuilder builder;
    builder.write(dir.path(), 3);
    index = nlohmann::json::parse(
        *readFile(dir.path("model.safetensors.index.json"), 1 << 20));
  }

  std::string error() {
    test::writeText(dir.path("model.safetensors.index.json"), index.dump());
    return openError(dir.path());
  }

  TempDir dir;
  nlohmann::json index;
  const std::string embedding = "model.embed_tokens.weight";
};

TEST_F(BadIndex, IsGoodUnlessEdited) {
  EXPECT_TRUE(Checkpoint::open(dir.path()).isOk());
}

TEST_F(BadIndex, MissingShardIsNamed) {
  std::filesystem::remove(dir.path("model-00002-of-00003.safetensors"));
  EXPECT_THAT(error(), HasSubstr("model-00002-of-00003.safetensors: expected "
                                 "the shard of tensor"));
}

TEST_F(BadIndex, TensorThatIsNotInItsShardIsNamed) {
  index["weight_map"][embedding] = "model-00002-of-00003.safetensors";
  EXPECT_THAT(error(), HasSubstr("weight_map: expected tensor '" + embedding +
                                 "' in model-00002-of-00003.safetensors"));
}

TEST_F(BadIndex, TensorThatIsInNoShardIsNamed) {
  index["weight_map"]["ghost"] = "model-00002-of-00003.safetensors";
  EXPECT_THAT(error(), HasSubstr("'ghost' in model-00002-of-00003.safetensors, "
                                 "found it nowhere"));
}

TEST_F(BadIndex, TensorThatIsNotMappedIsNamed) {
  index["weight_map"].erase(embedding);
  EXPECT_THAT(error(),
              HasSubstr("tensor '" + embedding + "' is not in the weight_map"));
}

TEST_F(BadIndex, TensorInTwoShardsIsRefused) {
  std::filesystem::copy_file(dir.path("model-00001-of-00003.safetensors"),
                             dir.path("copy.safetensors"));
  index["weight_map"][embedding] = "copy.safetensors";
  EXPECT_THAT(error(), HasSubstr("is stored in "));
}

TEST_F(BadIndex, ShardOutsideTheDirectoryIsRefused) {
  for (const char *name :
       {"../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors",
        "..\\x.safetensors", "", "..", ".safetensors", "config.json"}) {
    index["weight_map"][embedding] = name;
    EXPECT_THAT(error(), HasSubstr("weight_map: tensor '" + embedding +
                                   "': expected the name of a safetensors "
                                   "file beside the index"))
        << name;
  }
}

TEST_F(BadIndex, ShardNameThatIsNoStringIsRefused) {
  index["weight_map"][embedding] = 3;
  EXPECT_THAT(error(), HasSubstr("beside the index, found 3"));
}

TEST_F(BadIndex, WeightMapMustBeAnObject) {
  index["weight_map"] = nlohmann::json::array();
  EXPECT_THAT(error(), HasSubstr("field 'weight_map': expected an object"));
  index = nlohmann::json::array();
  EXPECT_THAT(error(), HasSubstr("field 'weight_map'"));
}

TEST_F(BadIndex, BrokenJsonIsRefused) {
  test::writeText(dir.path("model.safetensors.index.json"), "{");
  EXPECT_THAT(openError(dir.path()),
              HasSubstr("model.safetensors.index.json: parse error"));
}

TEST_F(BadIndex, DuplicateNameIsRefused) {
  test::writeText(dir.path("model.safetensors.index.json"),
                  R"({"weight_map": {"a": "x.safetensors",)"
                  R"( "a": "y.safetensors"}})");
  EXPECT_THAT(openError(dir.path()), HasSubstr("duplicate key 'a'"));
}

TEST_F(BadIndex, ShardThatIsADirectoryIsRefused) {
  std::filesystem::remove(dir.path("model-00002-of-00003.safetensors"));
  std::filesystem::create_directory(
      dir.path("model-00002-of-00003.safetensors"));
  EXPECT_THAT(error(), HasSubstr("found a directory"));
}

TEST(CheckpointBuilder, SameSeedGivesTheSameBytes) {
  CheckpointBuilder first, second;
  TinyModel other;
  other.seed = 2;
  CheckpointBuilder third(other);
  EXPECT_EQ(first.tensors[0].bytes, second.tensors[0].bytes);
  EXPECT_NE(first.tensors[0].bytes, third.tensors[0].bytes);
}

/// The checkpoints that the numeric tests compare with transformers.
class Golden : public testing::TestWithParam<const char *> {};

TEST_P(Golden, Opens) {
  const char *shared = std::getenv("RETORT_SHARED");
  std::string root = shared ? shared : RETORT_SOURCE_DIR "/../shared";
  std::string dir = root + "/goldens/" + GetParam();
  if (!pathExists(dir))
    GTEST_SKIP() << "test data is absent: set RETORT_SHARED (looked for " << dir
                 << ")";
  auto checkpoint = Checkpoint::open(dir);
  ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->tensors().size(),
            expectedTensors(checkpoint->config()).size());
  // deepseek-v3 has none, and deepseek-v3-fp8 a part, of the declared
  // multi-token-prediction layer.
  bool isDeepseek = checkpoint->config().mla.has_value();
  EXPECT_EQ(checkpoint->notes().size(), isDeepseek ? 1u : 0u);
  EXPECT_EQ(checkpoint->config().numMtpLayers, 0);
  for (const TensorView &view : checkpoint->tensors()) {
    std::vector<float> values(static_cast<size_t>(view.elements()));
    Status status = readRows(view, 0, view.shape[0], values);
    ASSERT_TRUE(status.isOk()) << status.message();
    EXPECT_EQ(view.scales.has_value(), view.dtype == DType::F8E4M3);
    for (float value : values)
      ASSERT_LT(std::abs(value), 100.0f) << view.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Golden,
                         testing::Values("qwen2-tied", "qwen2-untied", "llama3",
                                         "llama-f16", "deepseek-v3",
                                         "deepseek-v3-fp8"));

} // namespace
