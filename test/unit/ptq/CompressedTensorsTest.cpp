//===- CompressedTensorsTest.cpp - The format written ---------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/CompressedTensors.h"

#include "compiler/checkpoint/Config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstring>

using namespace retort;
using namespace retort::ptq;
using nlohmann::json;
using testing::ElementsAre;

namespace {

template <typename T>
std::vector<T> elementsOf(const std::vector<std::byte> &bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

TEST(StoredParts, WordsHoldTheFirstColumnInTheLowestBits) {
  GridForm form = *parseGridForm("int4", 4);
  QuantizedResult matrix(form, 1, 12);
  for (int i = 0; i < 12; ++i)
    matrix.quants[static_cast<size_t>(i)] = static_cast<int8_t>(i - 8);
  matrix.grids = {{0.5f, 0}, {1.0f, 0}, {-2.0f, 0}};
  auto parts = storedParts(form, matrix);
  ASSERT_EQ(parts.size(), 3u);
  // Offset by 8: 0, 1, .. 11, and zeros in front of nothing.
  EXPECT_THAT(elementsOf<uint32_t>(parts[0]),
              ElementsAre(0x76543210u, 0x0000ba98u));
  EXPECT_THAT(elementsOf<uint16_t>(parts[1]),
              ElementsAre(0x3f00, 0x3f80, 0xc000));
  EXPECT_THAT(elementsOf<int64_t>(parts[2]), ElementsAre(1, 12));
}

TEST(StoredParts, ZeroPointsArePackedAlongTheRows) {
  GridForm form = *parseGridForm("int4-zero-points", 4);
  QuantizedResult matrix(form, 9, 8);
  for (int i = 0; i < 18; ++i)
    matrix.grids[static_cast<size_t>(i)] = {1.0f, i % 2 ? -8 : i / 2 - 1};
  auto tensors = storedTensors("m", form, 9, 8);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[3].name, "m.weight_zero_point");
  EXPECT_THAT(tensors[3].shape, ElementsAre(2, 2));
  // Group 0 has -1 .. 7 in rows 0 to 8, group 1 has -8.
  EXPECT_THAT(elementsOf<uint32_t>(storedParts(form, matrix)[3]),
              ElementsAre(0xedcba987u, 0u, 0xfu, 0u));
}

TEST(StoredParts, EightBitsAreFourToAWord) {
  GridForm form = *parseGridForm("int8", 128);
  QuantizedResult matrix(form, 2, 5);
  matrix.quants = {-128, -1, 0, 1, 127, 5, 6, 7, 8, 9};
  auto tensors = storedTensors("m", form, 2, 5);
  EXPECT_THAT(tensors[0].shape, ElementsAre(2, 2));
  EXPECT_THAT(tensors[1].shape, ElementsAre(2, 1));
  EXPECT_THAT(elementsOf<uint32_t>(storedParts(form, matrix)[0]),
              ElementsAre(0x81807f00u, 0xffu, 0x88878685u, 0x89u));
}

TEST(StoredParts, BytesAreAsDeclared) {
  for (const char *name : {"int4", "int4-zero-points", "int8", "fp8"}) {
    GridForm form = *parseGridForm(name, 32);
    QuantizedResult matrix(form, 13, 64);
    auto tensors = storedTensors("m", form, 13, 64);
    auto parts = storedParts(form, matrix);
    ASSERT_EQ(tensors.size(), parts.size()) << name;
    for (size_t i = 0; i < parts.size(); ++i) {
      size_t size = dtypeBytes(tensors[i].dtype);
      for (int64_t extent : tensors[i].shape)
        size *= static_cast<size_t>(extent);
      EXPECT_EQ(parts[i].size(), size) << name << ' ' << tensors[i].name;
    }
  }
}

TEST(QuantizedConfig, SaysHowAndKeepsTheRest) {
  auto text = quantizedConfig(
      R"({"z": 1, "quantization_config": {"quant_method": "fp8"}, "a": 2})",
      *parseGridForm("int4", 64), {"lm_head"});
  ASSERT_TRUE(text);
  EXPECT_LT(text->find("\"z\""), text->find("\"a\""));
  json config = json::parse(*text)["quantization_config"];
  EXPECT_EQ(config["quant_method"], "compressed-tensors");
  EXPECT_EQ(config["format"], "pack-quantized");
  EXPECT_EQ(config["ignore"], json({"lm_head"}));
  json weights = config["config_groups"]["group_0"]["weights"];
  EXPECT_EQ(weights["num_bits"], 4);
  EXPECT_EQ(weights["group_size"], 64);
  EXPECT_EQ(weights["strategy"], "group");
  EXPECT_EQ(weights["symmetric"], true);
  // What weights of 8 bits with unquantized activations are in.
  auto rows = quantizedConfig("{}", *parseGridForm("int8", 64), {});
  ASSERT_TRUE(rows);
  config = json::parse(*rows)["quantization_config"];
  EXPECT_EQ(config["format"], "pack-quantized");
  EXPECT_EQ(config["config_groups"]["group_0"]["weights"]["strategy"],
            "channel");
}

TEST(BadQuantizedConfig, NoObject) {
  EXPECT_FALSE(quantizedConfig("[]", *parseGridForm("int8", 64), {}));
  EXPECT_FALSE(quantizedConfig("{", *parseGridForm("int8", 64), {}));
}

} // namespace
