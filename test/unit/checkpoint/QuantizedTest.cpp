//===- QuantizedTest.cpp - Integers with scales ---------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/checkpoint/QuantizedMatrix.h"

#include "test/unit/checkpoint/QuantizedBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

using namespace retort;
using namespace retort::checkpoint;
using nlohmann::json;
using retort::test::QuantForm;
using retort::test::QuantizedBuilder;
using retort::test::TempDir;
using retort::test::TinyModel;
using testing::AllOf;
using testing::HasSubstr;

namespace {

const std::string kModule = "model.layers.0.mlp.up_proj";

TinyModel tiny() {
  TinyModel model;
  model.hidden = 64;
  model.intermediate = 96;
  return model;
}

QuantForm packed(bool symmetric = true) {
  return {"pack-quantized", 4, 32, symmetric, false, DType::BF16};
}

/// Opens what the builder holds.
Result<Checkpoint> open(const QuantizedBuilder &builder) {
  TempDir dir;
  builder.quantized.write(dir.path());
  return Checkpoint::open(dir.path());
}

/// What opening says after `change`; "" if nothing.
template <typename Change>
std::string errorOf(const QuantForm &form, const Change &change) {
  QuantizedBuilder builder(tiny(), form);
  change(builder.quantized);
  auto opened = open(builder);
  return opened ? "" : opened.status().message();
}

template <typename T>
void poke(test::CheckpointBuilder &builder, const std::string &name,
          size_t index, T value) {
  std::memcpy(builder.tensor(name).bytes.data() + index * sizeof(T), &value,
              sizeof(T));
}

json &configOf(test::CheckpointBuilder &builder) {
  return builder.config["quantization_config"];
}
json &weightsOf(test::CheckpointBuilder &builder) {
  return configOf(builder)["config_groups"]["group_0"]["weights"];
}

TEST(QuantizedCheckpoint, SaysWhatItHolds) {
  QuantizedBuilder builder(tiny(), {"gptq", 4, 32, false});
  TempDir dir;
  builder.quantized.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.status().message();
  const TensorView *view = checkpoint->find(kModule + ".weight");
  ASSERT_TRUE(view && view->quantized);
  EXPECT_EQ(view->dtype, DType::F32);
  EXPECT_EQ(view->shape, (std::vector<int64_t>{96, 64}));
  EXPECT_EQ(view->quantized->groups, 2);
  EXPECT_TRUE(view->quantized->hasZeros);
  EXPECT_FALSE(view->quantized->actOrder);
  EXPECT_FALSE(checkpoint->find("model.norm.weight")->quantized);
}

/// The formula by hand, so that the builder is not its own judge.
TEST(QuantizedCheckpoint, FirstGptqFormatAddsOneToZeroPoints) {
  QuantizedBuilder builder(tiny(), {"gptq", 4, 32});
  // Input 9 of output 1: the second word of its column, second nibble.
  poke<uint32_t>(builder.quantized, kModule + ".qweight", 96 + 1, 0xf0);
  poke<uint32_t>(builder.quantized, kModule + ".qzeros", 0, 0x50);
  poke<uint16_t>(builder.quantized, kModule + ".scales", 1, 0x3800); // 0.5
  TempDir dir;
  builder.quantized.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.status().message();
  float value = 0;
  ASSERT_TRUE(
      readBlock(*checkpoint->find(kModule + ".weight"), {1, 1, 9, 1}, &value, 1)
          .isOk());
  EXPECT_EQ(value, 0.5f * (15 - (5 + 1)));
}

TEST(QuantizedCheckpoint, AwqNibblesAlternate) {
  QuantizedBuilder builder(tiny(), {"awq", 4, 32, false});
  // Input 3, outputs 0 to 7: nibble 1 is output 2, nibble 4 output 1.
  poke<uint32_t>(builder.quantized, kModule + ".qweight", 3 * 12, 0xa00b0);
  poke<uint32_t>(builder.quantized, kModule + ".qzeros", 0, 0x20030);
  for (size_t output : {1, 2})
    poke<uint16_t>(builder.quantized, kModule + ".scales", output, 0x3800);
  TempDir dir;
  builder.quantized.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.status().message();
  float values[2];
  ASSERT_TRUE(
      readBlock(*checkpoint->find(kModule + ".weight"), {1, 2, 3, 1}, values, 1)
          .isOk());
  EXPECT_EQ(values[0], 0.5f * (0xa - 2));
  EXPECT_EQ(values[1], 0.5f * (0xb - 3));
}

TEST(QuantizedCheckpoint, IgnoredAndNamedModules) {
  QuantForm form = packed();
  form.extra = {{"ignore", {"lm_head", "re:.*layers\\.1\\..*"}}};
  QuantizedBuilder builder(tiny(), form, [](const std::string &name) {
    return QuantizedBuilder::isProjection(name) &&
           name.find("layers.1.") == std::string::npos;
  });
  auto opened = open(builder);
  EXPECT_TRUE(opened) << opened.status().message();
}

TEST(QuantizedCheckpoint, BiasesOfZerosAreLeftOut) {
  auto withBias = [](uint16_t last) {
    return errorOf({"gptq", 4, 32}, [&](auto &builder) {
      std::vector<std::byte> bias(96 * 2);
      std::memcpy(bias.data() + 190, &last, 2);
      builder.tensors.push_back(
          {kModule + ".bias", DType::F16, {96}, bias, {}});
    });
  };
  EXPECT_EQ(withBias(0), "");
  EXPECT_THAT(withBias(1),
              HasSubstr("unexpected tensor '" + kModule + ".bias"));
}

TEST(QuantizedCheckpoint, QuantizedActivationsAreNoted) {
  QuantizedBuilder builder(tiny(), packed());
  configOf(
      builder.quantized)["config_groups"]["group_0"]["input_activations"] = {
      {"num_bits", 8}, {"dynamic", true}};
  TempDir dir;
  builder.quantized.write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.status().message();
  ASSERT_EQ(checkpoint->notes().size(), 1u);
  EXPECT_THAT(checkpoint->notes()[0], HasSubstr("activations are not rounded"));
}

TEST(QuantizedCheckpoint, OpensWithoutWeights) {
  QuantizedBuilder builder(tiny(), {"gptq", 4, 32, false});
  TempDir dir;
  test::writeText(dir.path("config.json"), builder.quantized.config.dump());
  auto checkpoint = Checkpoint::openWithoutWeights(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.status().message();
  const TensorView *view = checkpoint->find(kModule + ".weight");
  ASSERT_TRUE(view && view->quantized);
  EXPECT_EQ(view->quantized->groupSize, 32);
  EXPECT_FALSE(checkpoint->find("model.embed_tokens.weight")->quantized);
}

//===----------------------------------------------------------------------===//
// Bad tensors
//===----------------------------------------------------------------------===//

TEST(BadQuantizedTensors, ScaleIsNaNOrInfinite) {
  auto withScale = [](uint16_t bits) {
    return errorOf({"gptq", 4, 32}, [&](auto &builder) {
      poke<uint16_t>(builder, kModule + ".scales", 96 + 5, bits);
    });
  };
  EXPECT_THAT(withScale(0x7e00),
              AllOf(HasSubstr("model.safetensors"),
                    HasSubstr("'" + kModule +
                              ".scales': output 5, group 1: "
                              "expected a finite scale, found "
                              "NaN")));
  EXPECT_THAT(withScale(0xfc00),
              HasSubstr("expected a finite scale, found -inf"));
  EXPECT_THAT(errorOf({"float-quantized", 8, -1, true, false, DType::BF16},
                      [](auto &builder) {
                        poke<uint16_t>(builder, kModule + ".weight_scale", 7,
                                       0x7fc0);
                      }),
              HasSubstr("'" + kModule +
                        ".weight_scale': row 7, column 0: "
                        "expected a finite scale above 0, "
                        "found NaN"));
}

TEST(BadQuantizedTensors, PartIsMissing) {
  for (const char *part : {".qweight", ".qzeros", ".scales"})
    EXPECT_THAT(errorOf({"gptq", 4, 32},
                        [&](auto &builder) { builder.remove(kModule + part); }),
                AllOf(HasSubstr("model.safetensors"),
                      HasSubstr("expected '" + kModule + part + "'"),
                      HasSubstr("found none")))
        << part;
  EXPECT_THAT(errorOf({"gptq", 4, 32, true, true},
                      [](auto &b) { b.remove(kModule + ".g_idx"); }),
              HasSubstr("as quantization_config says desc_act"));
  EXPECT_THAT(
      errorOf(packed(false),
              [](auto &b) { b.remove(kModule + ".weight_zero_point"); }),
      HasSubstr("expected '" + kModule + ".weight_zero_point'"));
  EXPECT_THAT(
      errorOf(packed(), [](auto &b) { b.remove(kModule + ".weight_scale"); }),
      HasSubstr("expected '" + kModule + ".weight_scale'"));
  EXPECT_THAT(
      errorOf(packed(),
              [](auto &b) {
                for (const char *part :
                     {".weight_packed", ".weight_scale", ".weight_shape"})
                  b.remove(kModule + part);
              }),
      HasSubstr("expected tensor '" + kModule + ".weight'"));
}

TEST(BadQuantizedTensors, Shape) {
  auto reshaped = [](const QuantForm &form, const std::string &part,
                     std::vector<int64_t> shape) {
    return errorOf(form,
                   [&](auto &b) { b.tensor(kModule + part).shape = shape; });
  };
  EXPECT_THAT(reshaped({"gptq", 4, 32}, ".qweight", {96, 8}),
              AllOf(HasSubstr("'" + kModule +
                              ".qweight': expected shape [8, "
                              "96]"),
                    HasSubstr("found [96, 8]")));
  EXPECT_THAT(reshaped({"gptq", 4, 32}, ".qzeros", {12, 2}),
              HasSubstr("expected shape [2, 12]"));
  EXPECT_THAT(reshaped({"gptq", 4, 32}, ".scales", {96, 2}),
              HasSubstr("expected shape [2, 96]"));
  EXPECT_THAT(reshaped({"gptq", 4, 32}, ".g_idx", {8, 8}),
              HasSubstr("expected shape [64]"));
  EXPECT_THAT(reshaped({"awq", 4, 32, false}, ".qweight", {12, 64}),
              HasSubstr("expected shape [64, 12]"));
  EXPECT_THAT(reshaped(packed(), ".weight_packed", {8, 96}),
              HasSubstr("expected shape [96, 8]"));
  EXPECT_THAT(reshaped(packed(), ".weight_scale", {2, 96}),
              HasSubstr("expected shape [96, 2]"));
  EXPECT_THAT(reshaped(packed(false), ".weight_zero_point", {2, 12}),
              HasSubstr("expected shape [12, 2]"));
}

TEST(BadQuantizedTensors, Type) {
  auto retyped = [](const QuantForm &form, const std::string &part,
                    DType type) {
    return errorOf(form,
                   [&](auto &b) { b.tensor(kModule + part).dtype = type; });
  };
  EXPECT_THAT(
      retyped({"gptq", 4, 32}, ".qweight", DType::F32),
      HasSubstr("'" + kModule + ".qweight': expected dtype I32, found F32"));
  EXPECT_THAT(retyped({"gptq", 4, 32}, ".scales", DType::I16),
              HasSubstr("expected dtype F16, BF16 or F32, found I16"));
  EXPECT_THAT(retyped({"int-quantized", 8, -1}, ".weight", DType::U8),
              HasSubstr("expected dtype I8, found U8"));
}

TEST(BadQuantizedTensors, ActivationOrderOutOfRange) {
  auto withIndex = [](int32_t group) {
    return errorOf({"gptq", 4, 32, true, true}, [&](auto &builder) {
      poke<int32_t>(builder, kModule + ".g_idx", 17, group);
    });
  };
  for (int32_t group : {2, -1, std::numeric_limits<int32_t>::min()})
    EXPECT_THAT(withIndex(group),
                HasSubstr("'" + kModule +
                          ".g_idx': input 17: expected a group "
                          "in [0, 2), found " +
                          std::to_string(group)));
}

TEST(BadQuantizedTensors, OrderThatTheConfigDenies) {
  EXPECT_THAT(errorOf({"gptq", 4, 32, true, true},
                      [](auto &b) { configOf(b)["desc_act"] = false; }),
              HasSubstr("quantization_config denies desc_act"));
}

TEST(BadQuantizedTensors, ShapeTensorContradicts) {
  EXPECT_THAT(errorOf(packed(),
                      [](auto &b) {
                        poke<int64_t>(b, kModule + ".weight_shape", 1, 65);
                      }),
              HasSubstr("'" + kModule +
                        ".weight_shape': expected [96, 64], found [96, 65]"));
}

TEST(BadQuantizedTensors, IntegersPastFourBits) {
  EXPECT_THAT(
      errorOf({"int-quantized", 4, 32},
              [](auto &b) { poke<int8_t>(b, kModule + ".weight", 64 + 3, 8); }),
      HasSubstr("row 1, column 3: expected an integer of 4 bits, found "
                "8"));
  QuantForm zeros = packed(false);
  zeros.bytesAsZeros = true;
  EXPECT_THAT(errorOf(zeros,
                      [](auto &b) {
                        poke<int8_t>(b, kModule + ".weight_zero_point", 3, -9);
                      }),
              HasSubstr("output 1, group 1: expected a zero point of 4 bits, "
                        "found -9"));
}

TEST(BadQuantizedTensors, GroupsThatDoNotDivide) {
  EXPECT_THAT(
      errorOf(packed(), [](auto &b) { weightsOf(b)["group_size"] = 40; }),
      AllOf(HasSubstr("model.safetensors"),
            HasSubstr("expected a group size that divides the 64 "
                      "columns"),
            HasSubstr("found 40")));
  EXPECT_THAT(errorOf({"awq", 4, 32, false},
                      [](auto &b) { configOf(b)["group_size"] = 48; }),
              HasSubstr("expected a group size that divides the 64 columns"));
  EXPECT_THAT(
      errorOf({"gptq", 4, 32}, [](auto &b) { configOf(b)["group_size"] = 16; }),
      HasSubstr("expected shape [4, 64] for int4 in groups of 16"));
}

TEST(BadQuantizedTensors, BitsOtherThanStored) {
  EXPECT_THAT(
      errorOf({"gptq", 4, 32}, [](auto &b) { configOf(b)["bits"] = 8; }),
      HasSubstr("expected shape [16, 64] for int8"));
  EXPECT_THAT(errorOf(packed(), [](auto &b) { weightsOf(b)["num_bits"] = 8; }),
              HasSubstr("expected shape [64, 16] for int8"));
}

TEST(BadQuantizedTensors, ModulesThatTheConfigExcludes) {
  EXPECT_THAT(
      errorOf(packed(),
              [](auto &b) { configOf(b)["ignore"] = {"re:.*up_proj"}; }),
      HasSubstr("'" + kModule + ".weight_packed': expected '" + kModule +
                ".weight' in a floating-point type, as "
                "quantization_config does not quantize this module"));
  EXPECT_THAT(errorOf({"awq", 4, 32, false},
                      [](auto &b) {
                        configOf(b)["modules_to_not_convert"] = {"up_proj"};
                      }),
              HasSubstr("does not quantize this module"));
}

TEST(BadQuantizedTensors, PlainModulesThatTheConfigQuantizes) {
  QuantizedBuilder builder(tiny(), packed(), [](const std::string &name) {
    return QuantizedBuilder::isProjection(name) &&
           name.find("layers.1.mlp.down") == std::string::npos;
  });
  auto opened = open(builder);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.status().message(),
              HasSubstr("'model.layers.1.mlp.down_proj.weight': expected it "
                        "quantized, with a tensor "
                        "'model.layers.1.mlp.down_proj.weight_packed', as "
                        "quantization_config says, found BF16 alone"));
}

//===----------------------------------------------------------------------===//
// Bad configurations
//===----------------------------------------------------------------------===//

std::string configError(const QuantForm &form, const json &patch) {
  return errorOf(form, [&](auto &builder) { configOf(builder).update(patch); });
}
std::string weightsError(const QuantForm &form, const json &patch) {
  return errorOf(form,
                 [&](auto &builder) { weightsOf(builder).update(patch); });
}

TEST(BadQuantConfig, Method) {
  EXPECT_THAT(configError({"gptq", 4, 32}, {{"quant_method", "hqq"}}),
              AllOf(HasSubstr("config.json"),
                    HasSubstr("field 'quantization_config.quant_method': "
                              "expected 'fp8', 'gptq', 'awq' or "
                              "'compressed-tensors'"),
                    HasSubstr("found the string 'hqq'")));
  EXPECT_THAT(configError({"gptq", 4, 32}, {{"quant_method", 3}}),
              HasSubstr("quant_method"));
}

TEST(BadQuantConfig, Bits) {
  for (int bits : {2, 3, 5, 16})
    EXPECT_THAT(configError({"gptq", 4, 32}, {{"bits", bits}}),
                HasSubstr("field 'quantization_config.bits': expected 4 or 8, "
                          "as no other is supported, found " +
                          std::to_string(bits)));
  EXPECT_THAT(configError({"awq", 4, 32, false}, {{"bits", 8}}),
              HasSubstr("expected 4, as no other is supported"));
  EXPECT_THAT(weightsError(packed(), {{"num_bits", 6}}),
              HasSubstr("config_groups.group_0.weights.num_bits': expected 4 "
                        "or 8"));
  EXPECT_THAT(configError({"gptq", 4, 32}, {{"bits", "4"}}), HasSubstr("bits"));
}

TEST(BadQuantConfig, GroupSize) {
  for (const json &size : {json(0), json(-2), json("128"), json(1e30)})
    EXPECT_THAT(configError({"gptq", 4, 32}, {{"group_size", size}}),
                HasSubstr("field 'quantization_config.group_size'"))
        << size;
  EXPECT_THAT(weightsError(packed(), {{"group_size", nullptr}}),
              HasSubstr("expected a positive integer for groups"));
}

TEST(BadQuantConfig, FormsThatAreNotRead) {
  EXPECT_THAT(configError({"gptq", 4, 32}, {{"checkpoint_format", "marlin"}}),
              HasSubstr("expected 'gptq' or 'gptq_v2'"));
  EXPECT_THAT(configError({"gptq", 4, 32}, {{"is_marlin_format", true}}),
              HasSubstr("is_marlin_format"));
  EXPECT_THAT(
      configError({"gptq", 4, 32}, {{"dynamic", {{"-:.*", json::object()}}}}),
      HasSubstr("expected no settings of single modules"));
  EXPECT_THAT(configError({"gptq", 4, 32}, {{"rotation", "hadamard"}}),
              HasSubstr("rotation': expected no such field"));
  EXPECT_THAT(configError({"awq", 4, 32, false}, {{"version", "gemv"}}),
              HasSubstr("expected 'gemm'"));
  EXPECT_THAT(configError({"awq", 4, 32, false}, {{"zero_point", false}}),
              HasSubstr("zero_point"));
  EXPECT_THAT(configError(packed(), {{"format", "marlin-24"}}),
              HasSubstr("expected 'pack-quantized', 'int-quantized'"));
  EXPECT_THAT(configError(packed(), {{"sparsity_config", {{"format", "2:4"}}}}),
              HasSubstr("sparsity_config"));
  EXPECT_THAT(configError(packed(), {{"kv_cache_scheme", {{"num_bits", 8}}}}),
              HasSubstr("kv_cache_scheme"));
}

TEST(BadQuantConfig, Contradictions) {
  EXPECT_THAT(weightsError(packed(), {{"type", "float"}, {"num_bits", 8}}),
              HasSubstr("expected weights that the format 'pack-quantized' can "
                        "hold"));
  EXPECT_THAT(weightsError(packed(), {{"type", "float"}}),
              HasSubstr("expected 8 for floats"));
  EXPECT_THAT(weightsError({"float-quantized", 8, 0, true, false, DType::F32},
                           {{"symmetric", false}}),
              HasSubstr("expected true for floats"));
  EXPECT_THAT(weightsError(packed(), {{"dynamic", true}}),
              HasSubstr("dynamic"));
  EXPECT_THAT(weightsError(packed(), {{"strategy", "block"}}),
              HasSubstr("expected 'tensor', 'channel' or 'group'"));
}

TEST(BadQuantConfig, Groups) {
  EXPECT_THAT(
      configError(packed(), {{"config_groups", json::object()}}),
      HasSubstr("config_groups': expected an object with at least one"));
  EXPECT_THAT(configError(packed(), {{"config_groups", {{"a", 3}}}}),
              HasSubstr("expected objects as groups"));
  auto withTargets = [](const json &targets) {
    return errorOf(packed(), [&](auto &b) {
      configOf(b)["config_groups"]["group_0"]["targets"] = targets;
    });
  };
  EXPECT_THAT(withTargets(json::array()), HasSubstr("at least one name"));
  EXPECT_THAT(withTargets({"re:(unclosed"}),
              AllOf(HasSubstr("config_groups.group_0.targets"),
                    HasSubstr("expected a regular expression")));
  EXPECT_THAT(withTargets({3}), HasSubstr("expected a list of names"));
}

} // namespace
