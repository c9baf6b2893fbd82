//===- SynthTest.cpp - Random checkpoints -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/synth/Synth.h"
#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/reference/Reference.h"
#include "compiler/synth/Generator.h"
#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace retort::synth {
namespace {

using checkpoint::Checkpoint;
using checkpoint::TensorView;
using nlohmann::json;
using test::TempDir;
using testing::HasSubstr;

json deepseek() {
  return {{"model_type", "deepseek_v3"},
          {"vocab_size", 96},
          {"hidden_size", 160},
          {"intermediate_size", 224},
          {"moe_intermediate_size", 72},
          {"num_hidden_layers", 4},
          {"first_k_dense_replace", 2},
          {"n_routed_experts", 8},
          {"n_shared_experts", 1},
          {"num_experts_per_tok", 2},
          {"n_group", 2},
          {"topk_group", 1},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 4},
          {"q_lora_rank", 40},
          {"kv_lora_rank", 24},
          {"qk_nope_head_dim", 16},
          {"qk_rope_head_dim", 8},
          {"v_head_dim", 16},
          {"num_nextn_predict_layers", 1},
          {"quantization_config",
           {{"quant_method", "fp8"}, {"weight_block_size", {64, 128}}}},
          {"torch_dtype", "bfloat16"}};
}

json dense(const std::string &type, bool tied) {
  return {{"model_type", type},       {"vocab_size", 96},
          {"hidden_size", 64},        {"intermediate_size", 160},
          {"num_hidden_layers", 3},   {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"tie_word_embeddings", tied},
          {"torch_dtype", "bfloat16"}};
}

struct SynthTest : testing::Test {
  TempDir dir;
  SynthOptions options;

  SynthTest() {
    options.source = dir.path("config");
    options.output = dir.path("model");
    std::filesystem::create_directory(options.source);
    writeConfig(deepseek());
  }
  void writeConfig(const json &config) {
    test::writeText(options.source + "/config.json", config.dump());
  }
  Checkpoint open(const std::string &path) {
    auto opened = Checkpoint::open(path);
    if (!opened)
      throw std::runtime_error(opened.status().message());
    return std::move(*opened);
  }
  Checkpoint make() {
    auto report = synthesize(options);
    if (!report)
      throw std::runtime_error(report.status().message());
    return open(options.output);
  }
  std::string error() {
    auto report = synthesize(options);
    EXPECT_FALSE(report.isOk());
    return report.status().message();
  }
  /// Names of what is in the temporary directory, but for the source.
  std::vector<std::string> leftovers() {
    std::vector<std::string> names;
    for (const auto &entry : std::filesystem::directory_iterator(dir.path()))
      if (entry.path().filename() != "config")
        names.push_back(entry.path().filename().string());
    return names;
  }
};

TEST_F(SynthTest, WritesWhatTheConfigurationSays) {
  auto report = synthesize(options);
  ASSERT_TRUE(report) << report.status().message();
  Checkpoint made = open(options.output);
  EXPECT_TRUE(made.notes().empty());
  EXPECT_EQ(made.config().declaredMtpLayers, 0);
  uint64_t parameters = 0, bytes = made.totalBytes();
  auto expected = expectedTensors(made.config());
  ASSERT_EQ(made.tensors().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const TensorView &view = made.tensors()[i];
    EXPECT_EQ(view.dtype, expected[i].dtype) << view.name;
    EXPECT_EQ(view.scales.has_value(), view.dtype == DType::F8E4M3);
    parameters += static_cast<uint64_t>(view.elements());
    bytes += view.scales ? view.scales->bytes.size() : 0;
  }
  EXPECT_EQ(report->parameters, parameters);
  EXPECT_EQ(report->bytes, bytes);
  EXPECT_EQ(report->shards, 1u);
}

TEST_F(SynthTest, EveryBlockReachesTheLargestFp8Value) {
  Checkpoint made = make();
  const TensorView *view = made.find("model.layers.1.mlp.down_proj.weight");
  ASSERT_TRUE(view && view->scales);
  std::vector<float> most(
      static_cast<size_t>(view->scales->rows * view->scales->cols));
  for (int64_t r = 0; r < view->shape[0]; ++r)
    for (int64_t c = 0; c < view->shape[1]; ++c) {
      float value = checkpoint::f8e4m3ToF32(static_cast<uint8_t>(
          view->bytes[static_cast<size_t>(r * view->shape[1] + c)]));
      float &block =
          most[static_cast<size_t>(r / 64 * view->scales->cols + c / 128)];
      block = std::max(block, std::abs(value));
    }
  EXPECT_THAT(most, testing::Each(448.0f));
}

TEST_F(SynthTest, QuantizedValuesAreNearTheUnquantized) {
  Checkpoint quantized = make();
  options.output = dir.path("plain");
  options.dtype = DType::BF16;
  Checkpoint plain = make();
  EXPECT_FALSE(plain.config().fp8);
  for (const char *name :
       {"model.layers.2.mlp.experts.3.up_proj.weight",
        "model.layers.0.self_attn.kv_b_proj.weight", "lm_head.weight"}) {
    const TensorView *a = quantized.find(name), *b = plain.find(name);
    ASSERT_TRUE(a && b && b->dtype == DType::BF16) << name;
    std::vector<float> x(static_cast<size_t>(a->elements())), y(x);
    ASSERT_TRUE(checkpoint::readRows(*a, 0, a->shape[0], x).isOk());
    ASSERT_TRUE(checkpoint::readRows(*b, 0, b->shape[0], y).isOk());
    double error = 0, size = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      error += (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
      size += double(y[i]) * y[i];
    }
    EXPECT_LT(std::sqrt(error / size), 0.03) << name;
    EXPECT_GT(size, 0) << name;
  }
}

TEST_F(SynthTest, BytesDependOnTheSeedAlone) {
  options.seed = 7;
  options.threads = 1;
  Checkpoint one = make();
  options.output = dir.path("four");
  options.threads = 4;
  options.shardBytes = 50'000;
  Checkpoint four = make();
  options.output = dir.path("other");
  options.seed = 8;
  Checkpoint other = make();
  EXPECT_TRUE(pathExists(dir.path("four/model.safetensors.index.json")));
  for (const TensorView &view : one.tensors()) {
    const TensorView &same = *four.find(view.name);
    EXPECT_TRUE(std::ranges::equal(view.bytes, same.bytes)) << view.name;
    if (view.scales) {
      EXPECT_TRUE(std::ranges::equal(view.scales->bytes, same.scales->bytes));
    }
    EXPECT_FALSE(std::ranges::equal(view.bytes, other.find(view.name)->bytes))
        << view.name;
  }
}

TEST_F(SynthTest, LayersShrinkTheDenseOnesWithThem) {
  options.layers = 1;
  Checkpoint one = make();
  EXPECT_EQ(one.config().numLayers, 1);
  EXPECT_EQ(one.config().moe->firstDense, 1);
  EXPECT_NE(one.find("model.layers.0.mlp.up_proj.weight"), nullptr);
  options.layers = 3;
  options.output = dir.path("three");
  Checkpoint three = make();
  EXPECT_EQ(three.config().moe->firstDense, 2);
  EXPECT_NE(three.find("model.layers.2.mlp.gate.weight"), nullptr);
}

TEST_F(SynthTest, MtpLayerIsCompleteAndRuns) {
  options.mtp = true;
  Checkpoint made = make();
  EXPECT_EQ(made.config().numMtpLayers, 1);
  reference::ReferenceOptions run;
  run.mtp = true;
  auto out = runReference(made, std::vector<int32_t>{1, 2, 3}, run);
  ASSERT_TRUE(out) << out.status().message();
  EXPECT_EQ(out->mtpLogits.size(), 2u * 96);
}

TEST_F(SynthTest, ActivationsKeepTheirSize) {
  std::vector<json> configs = {dense("qwen2", true), dense("llama", false),
                               deepseek()};
  for (size_t i = 0; i < configs.size(); ++i) {
    writeConfig(configs[i]);
    options.output = dir.path("deep" + std::to_string(i));
    options.layers = 40;
    Checkpoint made = make();
    reference::ReferenceOptions run;
    run.keepHiddenStates = true;
    std::vector<int32_t> tokens = {5, 1, 80, 33, 12, 7, 60, 2};
    auto out = runReference(made, tokens, run);
    ASSERT_TRUE(out) << out.status().message();
    size_t size = tokens.size() * size_t(made.config().hiddenSize);
    for (size_t at = 0; at < out->hiddenStates.size(); at += size) {
      double squares = 0;
      for (size_t k = at; k < at + size; ++k)
        squares += double(out->hiddenStates[k]) * out->hiddenStates[k];
      double rms = std::sqrt(squares / double(size));
      EXPECT_GT(rms, 0.1) << i << ", state " << at / size;
      EXPECT_LT(rms, 10.0) << i << ", state " << at / size;
    }
  }
}

TEST_F(SynthTest, Fp8IsAddedToAPlainConfiguration) {
  writeConfig(dense("llama", false));
  options.dtype = DType::F8E4M3;
  Checkpoint made = make();
  ASSERT_TRUE(made.config().fp8);
  EXPECT_TRUE(made.find("model.layers.0.mlp.up_proj.weight")->scales);
  EXPECT_FALSE(made.find("lm_head.weight")->scales);
}

TEST_F(SynthTest, CopiesTokenizerFiles) {
  test::writeText(options.source + "/tokenizer.json", "{}");
  test::writeText(options.source + "/notes.txt", "x");
  make();
  EXPECT_TRUE(pathExists(options.output + "/tokenizer.json"));
  EXPECT_FALSE(pathExists(options.output + "/notes.txt"));
}

TEST_F(SynthTest, RefusesAFamilyItDoesNotKnow) {
  writeConfig({{"model_type", "mamba"}});
  EXPECT_THAT(error(), HasSubstr("field 'model_type'"));
  EXPECT_THAT(leftovers(), testing::IsEmpty());
}

TEST_F(SynthTest, RefusesAMissingConfiguration) {
  std::filesystem::remove(options.source + "/config.json");
  EXPECT_THAT(error(), HasSubstr("config.json"));
}

TEST_F(SynthTest, RefusesAnOutputThatIsNotEmpty) {
  std::filesystem::create_directory(options.output);
  test::writeText(options.output + "/precious", "x");
  EXPECT_THAT(error(), HasSubstr("expected no such path or an empty directory, "
                                 "found files in it"));
  EXPECT_TRUE(pathExists(options.output + "/precious"));
}

TEST_F(SynthTest, RefusesAFileAsOutput) {
  test::writeText(options.output, "x");
  EXPECT_THAT(error(), HasSubstr("found a file"));
}

TEST_F(SynthTest, UsesAnEmptyDirectory) {
  std::filesystem::create_directory(options.output);
  make();
}

TEST_F(SynthTest, RefusesMtpThatTheConfigurationLacks) {
  writeConfig(dense("qwen2", false));
  options.mtp = true;
  EXPECT_THAT(error(), HasSubstr("--mtp"));
}

TEST_F(SynthTest, RefusesZeroLayers) {
  options.layers = 0;
  EXPECT_THAT(error(), HasSubstr("--layers"));
}

TEST_F(SynthTest, NamesTheSpaceThatIsMissing) {
  json huge = deepseek();
  huge["n_routed_experts"] = 4096;
  huge["moe_intermediate_size"] = 1 << 20;
  writeConfig(huge);
  EXPECT_THAT(error(), HasSubstr("MB of free space, found"));
  EXPECT_THAT(leftovers(), testing::IsEmpty());
}

TEST_F(SynthTest, LeavesNothingWhenCancelled) {
  std::atomic<bool> cancel = true;
  options.cancel = &cancel;
  auto report = synthesize(options);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.status().code(), Code::Cancelled);
  EXPECT_THAT(leftovers(), testing::IsEmpty());
}

TEST(GeneratorTest, IsAboutNormal) {
  std::vector<float> values(1 << 16);
  double sum = 0, squares = 0, fourth = 0, neighbours = 0;
  for (int64_t row = 0; row < 8; ++row) {
    fillRow(tensorSeed(3, "x"), {0.5f, 2.0f}, row, 0, values);
    for (size_t i = 0; i < values.size(); ++i) {
      double v = (values[i] - 0.5) / 2.0;
      sum += v;
      squares += v * v;
      fourth += v * v * v * v;
      neighbours += i ? v * (values[i - 1] - 0.5) / 2.0 : 0;
    }
  }
  double n = 8.0 * double(values.size());
  EXPECT_NEAR(sum / n, 0, 0.01);
  EXPECT_NEAR(squares / n, 1, 0.01);
  EXPECT_NEAR(fourth / n, 2.7, 0.05);
  EXPECT_NEAR(neighbours / n, 0, 0.01);
}

TEST(GeneratorTest, PartsAgreeWithTheWhole) {
  std::vector<float> whole(100), part(37);
  fillRow(9, {}, 4, 0, whole);
  fillRow(9, {}, 4, 51, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 51));
}

TEST(GeneratorTest, RoundsToTheNearestFp8) {
  std::vector<float> values;
  for (int code = 0; code < 0x7f; ++code) {
    float low = checkpoint::f8e4m3ToF32(static_cast<uint8_t>(code));
    values.push_back(low);
    values.push_back(-low);
    if (code == 0x7e)
      break;
    float high = checkpoint::f8e4m3ToF32(static_cast<uint8_t>(code + 1));
    values.push_back(std::nextafter((low + high) / 2, 0.0f));
    values.push_back((low + high) / 2);
    values.push_back(std::nextafter((low + high) / 2, 1e9f));
  }
  std::vector<std::byte> codes(values.size());
  encodeF8(values, 1.0f, codes.data());
  for (size_t i = 0; i < values.size(); ++i) {
    auto code = static_cast<uint8_t>(codes[i]);
    ASSERT_NE(code & 0x7f, 0x7f);
    float found = std::abs(checkpoint::f8e4m3ToF32(code) - values[i]);
    for (int other = 0; other < 256; ++other) {
      if ((other & 0x7f) == 0x7f)
        continue;
      float distance = std::abs(
          checkpoint::f8e4m3ToF32(static_cast<uint8_t>(other)) - values[i]);
      EXPECT_LE(found, distance) << values[i];
      // Of two that are as near, the even one.
      if (found == distance && (other ^ code) & 1) {
        EXPECT_EQ(code & 1, 0) << values[i];
      }
    }
  }
}

} // namespace
} // namespace retort::synth
