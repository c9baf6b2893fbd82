//===- QuantizedTest.cpp - Checkpoints quantized elsewhere ----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Checkpoints that GPTQ, AWQ and compressed-tensors tools would have written,
/// compiled as they are, against the reference interpreter on the plain f32
/// checkpoint that they mean; and what is refused, as users see it.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"
#include "test/e2e/ReferenceLogits.h"
#include "test/unit/checkpoint/QuantizedBuilder.h"

using namespace retort;
using namespace retort::test;
using nlohmann::json;

namespace {

struct Case {
  const char *name;
  QuantForm form;
  TinyModel model = {};
  /// What `inspect --weights` shows of the packed up projections; empty: not
  /// looked at.
  std::string encoding = {};
};

std::ostream &operator<<(std::ostream &out, const Case &c) {
  return out << c.name;
}

TinyModel model(int64_t hidden, int64_t intermediate, int64_t heads,
                int64_t kvHeads, const char *family = "qwen2",
                json extra = json::object()) {
  TinyModel result;
  result.modelType = family;
  result.vocab = 301;
  result.hidden = hidden;
  result.intermediate = intermediate;
  result.heads = heads;
  result.kvHeads = kvHeads;
  result.extra = std::move(extra);
  return result;
}

std::vector<Case> cases() {
  TinyModel even = model(128, 256, 4, 2), odd = model(96, 160, 6, 3);
  // Heads that packing pads, so that groups meet in a block.
  TinyModel padded = model(192, 384, 4, 2, "llama", {{"head_dim", 48}});
  TinyModel experts = model(64, 128, 4, 4, "deepseek_v3",
                            {{"moe_intermediate_size", 64},
                             {"q_lora_rank", 32},
                             {"kv_lora_rank", 32},
                             {"qk_nope_head_dim", 16},
                             {"qk_rope_head_dim", 8},
                             {"v_head_dim", 16}});
  std::vector<Case> all = {
      {"Gptq", {"gptq", 4, 32}, odd, "int4<32, f16_scales>"},
      {"GptqZeros",
       {"gptq", 4, 32, false},
       odd,
       "int4<32, zero_points, f16_scales>"},
      {"GptqV2Zeros",
       {"gptq_v2", 4, 128, false},
       even,
       "int4<128, zero_points, f16_scales>"},
      {"GptqGroup64", {"gptq", 4, 64}, even, "int4<64, f16_scales>"},
      {"GptqChannel", {"gptq", 4, -1}, odd, "int4<128, f16_scales>"},
      {"GptqActOrder", {"gptq", 4, 32, true, true}, even, "f32"},
      {"GptqActOrderZeros", {"gptq", 4, 64, false, true}, even, "f32"},
      {"GptqGroup48", {"gptq", 4, 48}, odd, "f32"},
      {"GptqLastGroupSmaller", {"gptq", 4, 64}, odd, "int4<64, f16_scales>"},
      {"GptqInt8", {"gptq", 8, 32}, odd, "int8<32, f16_scales>"},
      {"GptqInt8Zeros", {"gptq", 8, 64, false}, even, "f32"},
      {"GptqInt8Channel", {"gptq_v2", 8, -1}, odd, "int8<128, f16_scales>"},
      {"GptqBF16Scales",
       {"gptq", 4, 32, false, false, DType::BF16},
       odd,
       "int4<32, zero_points>"},
      {"GptqPaddedHeads", {"gptq", 4, 64}, padded},
      {"GptqPaddedHeadsChannel", {"gptq", 4, -1}, padded},
      {"GptqExperts", {"gptq", 4, 32, false}, experts},
      {"Awq", {"awq", 4, 32, false}, odd, "int4<32, zero_points, f16_scales>"},
      {"AwqGroup128",
       {"awq", 4, 128, false},
       even,
       "int4<128, zero_points, f16_scales>"},
      {"AwqGroup160",
       {"awq", 4, -1, false},
       odd,
       "int4<128, zero_points, f16_scales>"},
      {"PackedInt4",
       {"pack-quantized", 4, 32, true, false, DType::BF16},
       odd,
       "int4<32>"},
      {"PackedInt4Zeros",
       {"pack-quantized", 4, 32, false, false, DType::BF16},
       odd,
       "int4<32, zero_points>"},
      {"PackedInt4ByteZeros",
       {"pack-quantized", 4, 64, false, false, DType::F32, false, true},
       even,
       "int4<64, zero_points, f32_scales>"},
      {"PackedInt4Channel",
       {"pack-quantized", 4, -1, false, false, DType::F32},
       odd,
       "int4<128, zero_points, f32_scales>"},
      {"PackedInt4Tensor",
       {"pack-quantized", 4, 0, true, false, DType::F32},
       odd,
       "int4<128, f32_scales>"},
      {"PackedInt4ActOrder",
       {"pack-quantized", 4, 32, true, true, DType::BF16},
       even,
       "f32"},
      {"PackedInt8",
       {"pack-quantized", 8, 32, true, false, DType::BF16},
       odd,
       "int8<32>"},
      {"Int8Channel",
       {"int-quantized", 8, -1, true, false, DType::BF16},
       odd,
       "int8<128>"},
      {"Int8Tensor",
       {"int-quantized", 8, 0, true, false, DType::F32},
       odd,
       "int8<128, f32_scales>"},
      {"Int8ChannelZeros", {"int-quantized", 8, -1, false}, odd, "f32"},
      {"NaiveInt8", {"naive-quantized", 8, -1}, odd, "int8<128, f16_scales>"},
      {"PlainInt4", {"int-quantized", 4, 32}, odd, "int4<32, f16_scales>"},
      {"PackedExperts",
       {"pack-quantized", 4, 32, true, false, DType::BF16},
       experts},
      {"Int8Experts",
       {"int-quantized", 8, -1, true, false, DType::BF16},
       experts},
      {"Fp8Tensor",
       {"float-quantized", 8, 0, true, false, DType::F32},
       odd,
       "fp8"},
      {"Fp8Channel",
       {"float-quantized", 8, -1, true, false, DType::BF16},
       odd,
       "fp8"},
      {"NaiveFp8",
       {"naive-quantized", 8, 0, true, false, DType::BF16, true},
       odd,
       "fp8"},
      {"Fp8Experts",
       {"float-quantized", 8, -1, true, false, DType::BF16},
       experts},
  };
  return all;
}

class Quantized : public ::testing::TestWithParam<Case> {
protected:
  void SetUp() override {
    QuantizedBuilder builder(GetParam().model, GetParam().form);
    std::filesystem::create_directory(dir.path("plain"));
    std::filesystem::create_directory(dir.path("quantized"));
    builder.plain.write(dir.path("plain"));
    builder.quantized.write(dir.path("quantized"));
    tokens = randomTokens(37, GetParam().model.vocab, 7);
    expected = referenceLogits(dir.path("plain"), tokens);
  }

  TempDir dir;
  std::vector<int32_t> tokens;
  std::vector<float> expected; ///< [T, vocab]
};

TEST_P(Quantized, ReferenceReadsExactlyWhatIsMeant) {
  EXPECT_EQ(referenceLogits(dir.path("quantized"), tokens), expected);
}

TEST_P(Quantized, CompilesAsItIs) {
  std::string artifact = dir.path("model.retort");
  compileCheckpoint(dir.path("quantized"), artifact, {"--verify"});
  EXPECT_LE(relativeRms(runLogits(artifact, tokens).floats, expected), 1e-4);
  EXPECT_LE(
      relativeRms(runLogits(artifact, tokens, {"--prefill-chunk", "1"}).floats,
                  expected),
      1e-4);
  if (GetParam().encoding.empty())
    return;
  ProcessResult weights =
      runRetort({"inspect", artifact, "--weights", "--json"});
  ASSERT_TRUE(succeeded(weights));
  int seen = 0;
  json inspected = json::parse(weights.out);
  for (const json &weight : inspected["weights"]) {
    if (weight["name"].get<std::string>().find("gate_up") == std::string::npos)
      continue;
    ++seen;
    EXPECT_EQ(weight["encoding"], GetParam().encoding);
    EXPECT_EQ(weight["relative_error"], 0.0);
  }
  EXPECT_GT(seen, 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, Quantized, ::testing::ValuesIn(cases()),
                         [](const auto &info) {
                           return std::string(info.param.name);
                         });

} // namespace
