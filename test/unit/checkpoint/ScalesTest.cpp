//===- ScalesTest.cpp - Scaled fp8 and extra layers -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Checkpoint.h"

#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>

using namespace retort;
using namespace retort::checkpoint;
using nlohmann::json;
using retort::test::CheckpointBuilder;
using retort::test::encodeFloats;
using retort::test::TempDir;
using retort::test::TinyModel;
using testing::HasSubstr;

namespace {

const char *const kWeight = "model.layers.0.mlp.up_proj.weight";
const char *const kScales = "model.layers.0.mlp.up_proj.weight_scale_inv";

TinyModel model(const std::string &type, bool scaled = true) {
  TinyModel tiny;
  tiny.modelType = type;
  if (scaled)
    tiny.extra["quantization_config"] = {{"quant_method", "fp8"},
                                         {"weight_block_size", {16, 24}}};
  return tiny;
}

TinyModel withMtp() {
  TinyModel tiny = model("deepseek_v3");
  tiny.extra["num_nextn_predict_layers"] = 1;
  return tiny;
}

struct ScalesTest : testing::Test {
  TempDir dir;
  CheckpointBuilder builder{model("llama")};

  Result<Checkpoint> open() {
    builder.write(dir.path());
    return Checkpoint::open(dir.path());
  }
  std::string error() {
    auto opened = open();
    EXPECT_FALSE(opened.isOk());
    return opened.status().message();
  }
  std::string noteOf(const Checkpoint &checkpoint) {
    return checkpoint.notes().size() == 1 ? checkpoint.notes()[0] : "";
  }
};

TEST_F(ScalesTest, EveryFamilyPairsThem) {
  for (const char *type : {"qwen2", "llama", "deepseek_v3"}) {
    builder = CheckpointBuilder(model(type));
    auto opened = open();
    ASSERT_TRUE(opened.isOk()) << opened.status().message();
    for (const TensorView &view : opened->tensors()) {
      bool isF8 = view.dtype == DType::F8E4M3;
      ASSERT_EQ(view.scales.has_value(), isF8) << view.name;
      if (!isF8)
        continue;
      const auto &stored = builder.tensor(scaleTensorName(view.name));
      EXPECT_TRUE(std::ranges::equal(view.scales->bytes, stored.bytes));
      EXPECT_EQ(view.scales->blockRows, 16);
      EXPECT_EQ(view.scales->blockCols, 24);
      EXPECT_EQ(view.scales->rows, stored.shape[0]);
      EXPECT_EQ(view.scales->cols, stored.shape[1]);
    }
  }
}

TEST_F(ScalesTest, ReadersApplyThem) {
  auto opened = open(); // 40 x 32 in blocks of 16 x 24: both leave a rest
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  const TensorView &view = *opened->find(kWeight);
  std::vector<float> expected;
  for (int64_t r = 0; r < 40; ++r)
    for (int64_t c = 0; c < 32; ++c)
      expected.push_back(f8e4m3ToF32(static_cast<uint8_t>(
                             view.bytes[static_cast<size_t>(r * 32 + c)])) *
                         view.scales->at(r / 16, c / 24));
  std::vector<float> rows(40 * 32);
  ASSERT_TRUE(readRows(view, 0, 40, rows).isOk());
  EXPECT_EQ(rows, expected);
  std::vector<float> part(3 * 10, -1.0f);
  ASSERT_TRUE(readBlock(view, {14, 3, 20, 9}, part.data(), 10).isOk());
  for (int64_t r = 0; r < 3; ++r)
    for (int64_t c = 0; c < 10; ++c)
      EXPECT_EQ(part[static_cast<size_t>(r * 10 + c)],
                c == 9 ? -1.0f
                       : expected[static_cast<size_t>((14 + r) * 32 + 20 + c)]);
}

TEST_F(ScalesTest, EveryFp8ValueIsRead) {
  TensorView view;
  std::vector<std::byte> bytes;
  for (int code = 0; code < 256; ++code)
    if ((code & 0x7f) != 0x7f)
      bytes.push_back(static_cast<std::byte>(code));
  view.dtype = DType::F8E4M3;
  view.shape = {2, 127};
  view.bytes = bytes;
  std::vector<float> values(254);
  ASSERT_TRUE(readRows(view, 0, 2, values).isOk());
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(
        std::bit_cast<uint32_t>(values[i]),
        std::bit_cast<uint32_t>(f8e4m3ToF32(static_cast<uint8_t>(bytes[i]))));
}

TEST_F(ScalesTest, RangesOutsideATensorAreRefused) {
  auto opened = open();
  ASSERT_TRUE(opened.isOk());
  const TensorView &view = *opened->find(kWeight);
  std::vector<float> out(64);
  EXPECT_FALSE(readRows(view, 39, 2, out).isOk());
  EXPECT_FALSE(readRows(view, -1, 2, out).isOk());
  EXPECT_FALSE(readRows(view, 0, 1, out).isOk());
  EXPECT_FALSE(readBlock(view, {0, 1, 30, 3}, out.data(), 3).isOk());
  EXPECT_FALSE(
      readBlock(view, {INT64_MAX, INT64_MAX, 0, 1}, out.data(), 3).isOk());
}

TEST_F(ScalesTest, NaNElementsAreRefusedByPlace) {
  builder.tensor(kWeight).bytes[5 * 32 + 7] = std::byte{0xff};
  auto opened = open();
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  const TensorView &view = *opened->find(kWeight);
  std::vector<float> rows(4 * 32);
  EXPECT_TRUE(readRows(view, 0, 4, rows).isOk());
  Status status = readRows(view, 4, 4, rows);
  EXPECT_EQ(status.code(), Code::InvalidData);
  EXPECT_THAT(status.message(),
              HasSubstr(std::string("model.safetensors: tensor '") + kWeight +
                        "': row 5, column 7: expected a number, found NaN"));
  EXPECT_EQ(refuseF8NaN(view, 4, 4).message(), status.message());
  EXPECT_TRUE(refuseF8NaN(view, 6, 34).isOk());
}

TEST_F(ScalesTest, MissingScalesAreRefused) {
  builder.remove(kScales);
  EXPECT_THAT(error(), HasSubstr(std::string("tensor '") + kWeight +
                                 "': expected its scales '" + kScales +
                                 "' of shape [3, 2]"));
}

TEST_F(ScalesTest, WithoutConfigurationScalesMayBeMissing) {
  TinyModel plain = model("qwen2", false);
  plain.dtype = DType::F8E4M3;
  builder = CheckpointBuilder(plain);
  auto opened = open();
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  EXPECT_FALSE(opened->find(kWeight)->scales);
  // Present, they are of blocks of 128 by 128.
  float two = 2.0f;
  builder.tensors.push_back(
      {kScales, DType::F32, {1, 1}, encodeFloats(DType::F32, {&two, 1}), {}});
  TempDir other;
  builder.write(other.path());
  auto scaled = Checkpoint::open(other.path());
  ASSERT_TRUE(scaled.isOk()) << scaled.status().message();
  std::vector<float> a(40 * 32), b(40 * 32);
  ASSERT_TRUE(readRows(*opened->find(kWeight), 0, 40, a).isOk());
  ASSERT_TRUE(readRows(*scaled->find(kWeight), 0, 40, b).isOk());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_EQ(b[i], 2 * a[i]);
}

TEST_F(ScalesTest, MisshapenScalesAreRefused) {
  builder.tensor(kScales).shape = {2, 3};
  EXPECT_THAT(error(), HasSubstr(std::string("tensor '") + kScales +
                                 "': expected shape [3, 2] for blocks of 16 by "
                                 "24 of [40, 32], found [2, 3]"));
}

TEST_F(ScalesTest, ScalesOfAnotherTypeAreRefused) {
  auto &scales = builder.tensor(kScales);
  scales.dtype = DType::BF16;
  scales.bytes.resize(12);
  EXPECT_THAT(error(), HasSubstr("expected dtype F32, found BF16"));
}

TEST_F(ScalesTest, ScalesOfATensorThatIsNotFp8AreRefused) {
  auto &weight = builder.tensor(kWeight);
  weight.dtype = DType::BF16;
  weight.bytes.resize(weight.bytes.size() * 2);
  EXPECT_THAT(error(), HasSubstr("expected scales of an F8_E4M3 matrix, found "
                                 "'model.layers.0.mlp.up_proj.weight' to be "
                                 "BF16 of shape [40, 32]"));
}

TEST_F(ScalesTest, BF16AmongFp8NeedsNoScales) {
  auto &weight = builder.tensor(kWeight);
  weight.dtype = DType::BF16;
  weight.bytes.resize(weight.bytes.size() * 2);
  builder.remove(kScales);
  EXPECT_TRUE(open().isOk());
}

TEST_F(ScalesTest, BadScalesAreRefusedByPlace) {
  const std::pair<float, const char *> bad[] = {
      {std::numeric_limits<float>::quiet_NaN(), "NaN"},
      {INFINITY, "inf"},
      {-INFINITY, "-inf"},
      {0.0f, "0"},
      {-0.0f, "-0"},
      {-2.0f, "-2"}};
  for (const auto &[value, text] : bad) {
    std::memcpy(builder.tensor(kScales).bytes.data() + 3 * 4, &value, 4);
    EXPECT_THAT(error(),
                HasSubstr(std::string("tensor '") + kScales +
                          "': row 1, column 1: expected a finite scale above "
                          "0, found " +
                          text));
  }
}

TEST_F(ScalesTest, ScalesOfNoTensorAreRefused) {
  builder.tensors.push_back(builder.tensor(kScales));
  builder.tensors.back().name = "model.layers.9.x.weight_scale_inv";
  EXPECT_THAT(error(), HasSubstr("unexpected tensor"));
}

TEST_F(ScalesTest, CompleteMtpLayerIsKept) {
  builder = CheckpointBuilder(withMtp());
  auto opened = open();
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  EXPECT_EQ(opened->config().numMtpLayers, 1);
  EXPECT_NE(opened->find("model.layers.2.eh_proj.weight"), nullptr);
  EXPECT_TRUE(opened->notes().empty());
}

TEST_F(ScalesTest, CopiesInTheMtpLayerAreIgnoredWithANote) {
  builder = CheckpointBuilder(withMtp());
  for (const char *copy : {"embed_tokens.weight", "shared_head.head.weight"}) {
    builder.tensors.push_back(builder.tensor("lm_head.weight"));
    builder.tensors.back().name = "model.layers.2." + std::string(copy);
  }
  auto opened = open();
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  EXPECT_EQ(opened->config().numMtpLayers, 1);
  EXPECT_THAT(noteOf(*opened), HasSubstr("its own copies are ignored"));
}

TEST_F(ScalesTest, PartOfAnMtpLayerIsIgnoredWithANote) {
  builder = CheckpointBuilder(withMtp());
  builder.remove("model.layers.2.hnorm.weight");
  auto opened = open();
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  EXPECT_EQ(opened->config().numMtpLayers, 0);
  EXPECT_EQ(opened->find("model.layers.2.eh_proj.weight"), nullptr);
  EXPECT_EQ(noteOf(*opened),
            "multi-token-prediction layer 2 is ignored, as it is stored in "
            "part: there is no model.layers.2.hnorm.weight");
}

TEST_F(ScalesTest, AbsentMtpLayerIsNoted) {
  builder = CheckpointBuilder(model("deepseek_v3"));
  builder.config["num_nextn_predict_layers"] = 1;
  auto opened = open();
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  EXPECT_EQ(opened->config().numMtpLayers, 0);
  EXPECT_THAT(noteOf(*opened), HasSubstr("is declared by config.json"));
}

TEST_F(ScalesTest, FurtherMtpLayersAreIgnoredWithANote) {
  builder = CheckpointBuilder(withMtp());
  builder.config["num_nextn_predict_layers"] = 2;
  builder.tensors.push_back(builder.tensor("model.layers.2.enorm.weight"));
  builder.tensors.back().name = "model.layers.3.enorm.weight";
  auto opened = open();
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  EXPECT_EQ(opened->config().numMtpLayers, 1);
  EXPECT_THAT(noteOf(*opened), HasSubstr("layer 3 is ignored"));
}

TEST_F(ScalesTest, UnknownTensorOfAnMtpLayerIsRefused) {
  builder = CheckpointBuilder(withMtp());
  builder.tensors.push_back(builder.tensor("model.layers.2.enorm.weight"));
  builder.tensors.back().name = "model.layers.2.fnorm.weight";
  EXPECT_THAT(error(), HasSubstr("unexpected tensor"));
}

TEST_F(ScalesTest, TiedFp8HeadsAreComparedWithTheirScales) {
  TinyModel tied = model("llama", false);
  tied.tied = true;
  tied.dtype = DType::F8E4M3;
  builder = CheckpointBuilder(tied);
  float scale = 0.5f;
  for (const char *name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    if (std::string_view(name) == "lm_head.weight") {
      builder.tensors.push_back(builder.tensor("model.embed_tokens.weight"));
      builder.tensors.back().name = name;
    }
    builder.tensors.push_back({scaleTensorName(name),
                               DType::F32,
                               {1, 1},
                               encodeFloats(DType::F32, {&scale, 1}),
                               {}});
  }
  auto same = open();
  ASSERT_TRUE(same.isOk()) << same.status().message();
  EXPECT_TRUE(same->config().tieWordEmbeddings);
  scale = 0.25f;
  builder.tensor("lm_head.weight_scale_inv").bytes =
      encodeFloats(DType::F32, {&scale, 1});
  TempDir other;
  builder.write(other.path());
  auto differs = Checkpoint::open(other.path());
  ASSERT_TRUE(differs.isOk()) << differs.status().message();
  EXPECT_FALSE(differs->config().tieWordEmbeddings);
}

TEST_F(ScalesTest, ExpertsByTheThousandOpenQuickly) {
  TinyModel many = model("deepseek_v3");
  many.hidden = many.intermediate = 2;
  many.layers = 30;
  many.extra.update({{"n_routed_experts", 256},
                     {"n_group", 8},
                     {"moe_intermediate_size", 2}});
  builder = CheckpointBuilder(many);
  builder.write(dir.path(), 40);
  auto start = std::chrono::steady_clock::now();
  auto opened = Checkpoint::open(dir.path());
  double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  ASSERT_TRUE(opened.isOk()) << opened.status().message();
  EXPECT_GT(opened->tensors().size(), 22'000u);
  // Far above what it takes, far below what a quadratic step would. A build
  // with sanitizers takes several times as long.
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
  constexpr double kMostSeconds = 20;
#else
  constexpr double kMostSeconds = 5;
#endif
  EXPECT_LT(seconds, kMostSeconds);
}

} // namespace
