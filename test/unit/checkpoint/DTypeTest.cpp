//===- DTypeTest.cpp - Conversions to f32 -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/DType.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

using namespace retort;
using namespace retort::checkpoint;

namespace {

TEST(DType, TableIsInTheOrderOfTheEnum) {
  for (size_t i = 0; i < std::size(kDTypes); ++i)
    EXPECT_EQ(static_cast<size_t>(kDTypes[i].dtype), i);
}

TEST(DType, NamesRoundTrip) {
  for (const DTypeInfo &info : kDTypes)
    EXPECT_EQ(parseDType(dtypeName(info.dtype)), info.dtype);
  EXPECT_EQ(parseDType("bf16"), std::nullopt);
  EXPECT_EQ(parseDType(""), std::nullopt);
  EXPECT_EQ(dtypeBytes(DType::F8E4M3), 1u);
  EXPECT_EQ(dtypeBytes(DType::F64), 8u);
}

TEST(DType, EveryF16MatchesTheCompilersConversion) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    auto half = std::bit_cast<_Float16>(static_cast<uint16_t>(bits));
    auto expected = static_cast<float>(half);
    float found = f16ToF32(static_cast<uint16_t>(bits));
    if (std::isnan(expected))
      EXPECT_TRUE(std::isnan(found)) << bits;
    else
      EXPECT_EQ(std::bit_cast<uint32_t>(found),
                std::bit_cast<uint32_t>(expected))
          << bits;
  }
}

TEST(DType, EveryBF16IsTheUpperHalfOfAnF32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits)
    EXPECT_EQ(std::bit_cast<uint32_t>(bf16ToF32(static_cast<uint16_t>(bits))),
              bits << 16);
}

TEST(DType, EveryF8E4M3MatchesItsDefinition) {
  for (int bits = 0; bits < 256; ++bits) {
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    float found = f8e4m3ToF32(static_cast<uint8_t>(bits));
    if (exponent == 15 && mantissa == 7) {
      EXPECT_TRUE(std::isnan(found)) << bits;
      continue;
    }
    double magnitude = exponent == 0
                           ? std::ldexp(mantissa / 8.0, -6)
                           : std::ldexp(1.0 + mantissa / 8.0, exponent - 7);
    EXPECT_EQ(found, bits & 0x80 ? -magnitude : magnitude) << bits;
    EXPECT_EQ(std::signbit(found), (bits & 0x80) != 0) << bits;
  }
  EXPECT_EQ(f8e4m3ToF32(0x7e), 448.0f);
  EXPECT_EQ(f8e4m3ToF32(0x01), 0x1p-9f);
}

TEST(DType, SpansConvertFromUnalignedBytes) {
  const float values[] = {1.0f, -2.5f, 0.0f, 0x1p-126f};
  std::vector<std::byte> bytes(1 + sizeof(values));
  std::memcpy(bytes.data() + 1, values, sizeof(values));
  std::vector<float> out(4);
  auto source = std::span<const std::byte>(bytes).subspan(1);
  ASSERT_TRUE(convertToF32(DType::F32, source, out).isOk());
  EXPECT_EQ(std::memcmp(out.data(), values, sizeof(values)), 0);

  const uint16_t halves[] = {0x3c00, 0xc100, 0x0001, 0x7bff};
  std::memcpy(bytes.data() + 1, halves, sizeof(halves));
  source = source.first(sizeof(halves));
  ASSERT_TRUE(convertToF32(DType::F16, source, out).isOk());
  EXPECT_EQ(out, (std::vector<float>{1.0f, -2.5f, 0x1p-24f, 65504.0f}));
  const uint16_t brains[] = {0x3f80, 0xc020, 0x0001, 0x7f7f};
  std::memcpy(bytes.data() + 1, brains, sizeof(brains));
  ASSERT_TRUE(convertToF32(DType::BF16, source, out).isOk());
  EXPECT_EQ(out[1], -2.5f);
  EXPECT_EQ(std::bit_cast<uint32_t>(out[2]), 0x00010000u);
}

TEST(DType, EmptySpansConvert) {
  EXPECT_TRUE(convertToF32(DType::F16, {}, {}).isOk());
}

TEST(DType, WrongByteCountIsRefused) {
  std::vector<std::byte> bytes(5);
  std::vector<float> out(2);
  Status status = convertToF32(DType::BF16, bytes, out);
  EXPECT_EQ(status.code(), Code::InvalidArgument);
  EXPECT_EQ(status.message(),
            "expected the bytes of 2 elements of BF16, found 5");
}

TEST(DType, IntegersAreRefused) {
  std::vector<std::byte> bytes(4);
  std::vector<float> out(1);
  Status status = convertToF32(DType::I32, bytes, out);
  EXPECT_EQ(status.code(), Code::Unsupported);
  EXPECT_FALSE(isFloatWeight(DType::F64));
}

} // namespace
