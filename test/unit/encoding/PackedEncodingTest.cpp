//===- PackedEncodingTest.cpp - Names and sizes of encodings ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/encoding/PackedEncoding.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

const char *const kNames[] = {"f32",
                              "f16",
                              "bf16",
                              "fp8",
                              "int8<32>",
                              "int8<64>",
                              "int8<128>",
                              "int4<32>",
                              "int4<64>",
                              "int4<128>",
                              "int4<32, zero_points>",
                              "int4<64, zero_points>",
                              "int4<128, zero_points>",
                              "int8<32, f16_scales>",
                              "int8<128, f32_scales>",
                              "int4<64, f16_scales>",
                              "int4<32, zero_points, f16_scales>",
                              "int4<128, zero_points, f32_scales>",
                              "int2<32>",
                              "int2<64, zero_points>",
                              "int3<128>",
                              "int3<32, zero_points>",
                              "int5<64>",
                              "int5<32, zero_points, f16_scales>",
                              "int6<128>",
                              "int6<32, zero_points>",
                              "nf4<32>",
                              "nf4<128, f32_scales>"};

TEST(PackedEncodingTest, ParsesWhatItPrints) {
  for (const char *name : kNames) {
    auto encoding = PackedEncoding::parse(name);
    ASSERT_TRUE(encoding) << name;
    EXPECT_EQ(encoding->str(), name);
  }
}

TEST(PackedEncodingTest, RefusesOtherNames) {
  for (const char *name : {"",
                           "f64",
                           "fp8<128>",
                           "F32",
                           "f32 ",
                           "int8",
                           "int8<16>",
                           "int8<256>",
                           "int4<-32>",
                           "int4<32",
                           "int4<032>",
                           "int4<32,zero_points>",
                           "int4<32, zero_point>",
                           "int8<32, zero_points>",
                           "bf16<32>",
                           "f32\n",
                           "int4<32, bf16_scales>",
                           "int4<32, f16_scales, zero_points>",
                           "int8<f16_scales>",
                           "int8<32, zero_points, f16_scales>",
                           "fp8<f16_scales>",
                           "int7<32>",
                           "int1<32>",
                           "nf4",
                           "nf4<16>",
                           "nf4<32, zero_points>",
                           "int3<96>"})
    EXPECT_FALSE(PackedEncoding::parse(name)) << name;
}

TEST(PackedEncodingTest, SizesOfBlocks) {
  struct {
    const char *name;
    int64_t cols, quants, bytes;
  } rows[] = {{"f32", 32, 4096, 4096},
              {"bf16", 32, 2048, 2048},
              {"f16", 32, 2048, 2048},
              {"fp8", 128, 4096, 4096 + 128},
              {"int8<32>", 32, 1024, 1024 + 64},
              {"int8<128>", 128, 4096, 4096 + 64},
              {"int4<32>", 32, 512, 512 + 64},
              {"int4<128>", 128, 2048, 2048 + 64},
              {"int4<64, zero_points>", 64, 1024, 1024 + 64 + 32},
              {"int4<64, f16_scales>", 64, 1024, 1024 + 64},
              {"int4<64, zero_points, f32_scales>", 64, 1024, 1024 + 128 + 32},
              {"int8<32, f32_scales>", 32, 1024, 1024 + 128},
              {"int2<32>", 32, 256, 256 + 64},
              {"int3<64, zero_points>", 64, 768, 768 + 64 + 32},
              {"int5<32>", 32, 640, 640 + 64},
              {"int6<128>", 128, 3072, 3072 + 64},
              {"nf4<32>", 32, 512, 512 + 64}};
  for (const auto &row : rows) {
    auto encoding = *PackedEncoding::parse(row.name);
    EXPECT_EQ(encoding.blockCols(), row.cols) << row.name;
    EXPECT_EQ(encoding.blockQuantBytes(), row.quants) << row.name;
    EXPECT_EQ(encoding.blockBytes(), row.bytes) << row.name;
  }
}

TEST(PackedEncodingTest, PadsMatricesToStripsAndBlocks) {
  auto encoding = *PackedEncoding::parse("int4<64>");
  EXPECT_EQ(encoding.matrixBytes(1, 1), 1024 + 64);
  EXPECT_EQ(encoding.matrixBytes(32, 64), 1024 + 64);
  EXPECT_EQ(encoding.matrixBytes(33, 65), 4 * (1024 + 64));
}

TEST(PackedEncodingTest, BlocksDivideTheStrideMultiple) {
  for (const char *name : kNames)
    EXPECT_EQ(kStrideMultiple % PackedEncoding::parse(name)->blockCols(), 0)
        << name;
}

} // namespace
} // namespace retort
