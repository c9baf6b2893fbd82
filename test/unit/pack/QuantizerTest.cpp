//===- QuantizerTest.cpp - Known bytes and error bounds ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/Quantizer.h"

#include "compiler/pack/BlockKernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace retort {
namespace {

const char *const kEncodings[] = {"f32",
                                  "f16",
                                  "bf16",
                                  "int8<32>",
                                  "int8<64>",
                                  "int8<128>",
                                  "int4<32>",
                                  "int4<64>",
                                  "int4<128>",
                                  "int4<32, zero_points>",
                                  "int4<64, zero_points>",
                                  "int4<128, zero_points>",
                                  "int2<32>",
                                  "int2<64, zero_points>",
                                  "int3<64>",
                                  "int3<32, zero_points>",
                                  "int5<128>",
                                  "int5<32, zero_points>",
                                  "int6<32>",
                                  "int6<128, zero_points>",
                                  "nf4<64>"};

PackedEncoding encodingOf(std::string_view name) {
  auto encoding = PackedEncoding::parse(name);
  if (!encoding)
    throw std::invalid_argument("no such encoding");
  return *encoding;
}

/// 32 rows with the stride that encodeStrip asks for.
struct Strip {
  int64_t cols, stride = stripStride(cols);
  std::vector<float> values =
      std::vector<float>(static_cast<size_t>(kStripRows * stride));

  explicit Strip(int64_t cols) : cols(cols) {}
  float &at(int64_t r, int64_t k) {
    return values[static_cast<size_t>(r * stride + k)];
  }
};

struct Encoded {
  std::vector<std::byte> bytes;
  SquaredError error;
  std::optional<BadWeight> bad;

  int byte(int64_t i) const {
    return static_cast<int>(bytes[static_cast<size_t>(i)]);
  }
  template <typename T> T load(int64_t i) const {
    T value;
    std::memcpy(&value, bytes.data() + i, sizeof(T));
    return value;
  }
};

Encoded encode(const PackedEncoding &encoding, const Strip &strip) {
  Encoded out;
  out.bytes.resize(static_cast<size_t>(encoding.stripBytes(strip.cols)));
  out.bad = encodeStrip(encoding, strip.values.data(), strip.stride, strip.cols,
                        out.bytes.data(), out.error);
  return out;
}

std::vector<float> decode(const PackedEncoding &encoding,
                          const Encoded &encoded, int64_t cols) {
  std::vector<float> out(static_cast<size_t>(kStripRows * cols));
  decodeMatrix(encoding, encoded.bytes, kStripRows, cols, out);
  return out;
}

Strip gaussian(int64_t cols, uint64_t seed = 1) {
  Strip strip(cols);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (int64_t r = 0; r < kStripRows; ++r)
    for (int64_t k = 0; k < cols; ++k)
      strip.at(r, k) = normal(random);
  return strip;
}

/// Relative RMS error of decoded weights, computed apart from SquaredError.
double decodedError(const PackedEncoding &encoding, Strip &strip) {
  Encoded encoded = encode(encoding, strip);
  std::vector<float> decoded = decode(encoding, encoded, strip.cols);
  double error = 0, source = 0;
  for (int64_t r = 0; r < kStripRows; ++r)
    for (int64_t k = 0; k < strip.cols; ++k) {
      double x = strip.at(r, k);
      double d = decoded[static_cast<size_t>(r * strip.cols + k)] - x;
      error += d * d;
      source += x * x;
    }
  double relative = std::sqrt(error / source);
  EXPECT_NEAR(encoded.error.relative(), relative, 1e-4 * relative);
  return relative;
}

TEST(LayoutTest, F32PutsRowsBesideEachOther) {
  Strip strip(40); // two blocks, the second of 8 columns
  strip.at(0, 0) = 1.5f;
  strip.at(3, 2) = -2.0f;
  strip.at(31, 39) = 0x1p-149f;
  Encoded out = encode(encodingOf("f32"), strip);
  ASSERT_FALSE(out.bad);
  ASSERT_EQ(out.bytes.size(), 2u * 4096);
  EXPECT_EQ(out.load<uint32_t>(0), 0x3fc00000u);
  EXPECT_EQ(out.load<uint32_t>((2 * 32 + 3) * 4), 0xc0000000u);
  EXPECT_EQ(out.load<uint32_t>(4096 + (7 * 32 + 31) * 4), 1u);
  EXPECT_EQ(std::count(out.bytes.begin(), out.bytes.end(), std::byte(0)),
            2 * 4096 - 4); // 3f c0, c0, 01
  EXPECT_EQ(out.error.relative(), 0.0f);
}

TEST(LayoutTest, BF16RoundsToNearestEven) {
  Strip strip(32);
  strip.at(1, 0) = 1.0f + 0x1p-8f;            // tie, down to even
  strip.at(2, 0) = 1.0f + 3 * 0x1p-8f;        // tie, up to even
  strip.at(3, 0) = 1.0f + 0x1p-8f + 0x1p-20f; // above the tie
  strip.at(4, 0) = -0x1p-133f;                // the least subnormal
  strip.at(5, 1) = -0.0f;
  Encoded out = encode(encodingOf("bf16"), strip);
  ASSERT_FALSE(out.bad);
  EXPECT_EQ(out.load<uint16_t>(1 * 2), 0x3f80);
  EXPECT_EQ(out.load<uint16_t>(2 * 2), 0x3f82);
  EXPECT_EQ(out.load<uint16_t>(3 * 2), 0x3f81);
  EXPECT_EQ(out.load<uint16_t>(4 * 2), 0x8001);
  EXPECT_EQ(out.load<uint16_t>((32 + 5) * 2), 0x8000);
}

TEST(LayoutTest, F16RoundsToNearestEvenAndKeepsSubnormals) {
  Strip strip(32);
  strip.at(0, 0) = 65504.0f;
  strip.at(1, 0) = 65519.0f;            // rounds down to the largest
  strip.at(2, 0) = -0x1p-24f;           // the least subnormal
  strip.at(3, 0) = 0x1p-25f;            // tie, down to zero
  strip.at(4, 0) = 3 * 0x1p-25f;        // tie, up to even
  strip.at(5, 0) = 0x1p-14f - 0x1p-26f; // rounds up to a normal
  strip.at(6, 0) = 1.0f + 0x1p-11f;     // tie, down to even
  strip.at(7, 0) = 1.0f + 3 * 0x1p-11f; // tie, up to even
  Encoded out = encode(encodingOf("f16"), strip);
  ASSERT_FALSE(out.bad);
  uint16_t expected[] = {0x7bff, 0x7bff, 0x8001, 0x0000,
                         0x0002, 0x0400, 0x3c00, 0x3c02};
  for (int r = 0; r < 8; ++r)
    EXPECT_EQ(out.load<uint16_t>(r * 2), expected[r]) << r;
}

TEST(LayoutTest, F16AgreesWithTheCompilersConversion) {
  Strip strip(2048);
  std::mt19937 random(5);
  for (int64_t r = 0; r < kStripRows; ++r)
    for (int64_t k = 0; k < strip.cols; ++k) {
      auto exponent = static_cast<int>(random() % 44) - 28;
      strip.at(r, k) =
          std::ldexp(static_cast<float>(int32_t(random()) * 0x1p-31), exponent);
    }
  Encoded out = encode(encodingOf("f16"), strip);
  ASSERT_FALSE(out.bad);
  for (int64_t r = 0; r < kStripRows; ++r)
    for (int64_t k = 0; k < strip.cols; ++k) {
      auto expected =
          std::bit_cast<uint16_t>(static_cast<_Float16>(strip.at(r, k)));
      ASSERT_EQ(out.load<uint16_t>((k * 32 + r) * 2), expected)
          << strip.at(r, k);
    }
}

TEST(LayoutTest, Int8PutsFourColumnsInAWord) {
  Strip strip(64);
  // Row 2: a scale of 1/64 fits exactly, with 127 at column 5.
  strip.at(2, 0) = 3.0f / 64;
  strip.at(2, 5) = 127.0f / 64;
  strip.at(2, 6) = -100.0f / 64;
  strip.at(31, 63) = -127.0f; // second block
  auto encoding = encodingOf("int8<32>");
  Encoded out = encode(encoding, strip);
  ASSERT_FALSE(out.bad);
  ASSERT_EQ(out.bytes.size(), 2u * (1024 + 64));
  EXPECT_EQ(out.byte(0 * 128 + 2 * 4 + 0), 3);
  EXPECT_EQ(out.byte(1 * 128 + 2 * 4 + 1), 127);
  EXPECT_EQ(out.byte(1 * 128 + 2 * 4 + 2), 256 - 100);
  EXPECT_EQ(out.load<uint16_t>(1024 + 2 * 2), 0x3c80); // 2^-6
  EXPECT_EQ(out.load<uint16_t>(1024 + 0 * 2), 0);      // a row of zeros
  EXPECT_EQ(out.byte(1088 + 7 * 128 + 31 * 4 + 3), 256 - 127);
  EXPECT_EQ(out.load<uint16_t>(1088 + 1024 + 31 * 2), 0x3f80);
  EXPECT_EQ(out.error.relative(), 0.0f);
}

TEST(LayoutTest, Int4PutsColumnBInLowAndColumnFourPlusBInHighNibbles) {
  Strip strip(32);
  // Row 1 holds every value from -8 to 7 once, and -8 again: scale 1.
  for (int64_t k = 0; k < 16; ++k)
    strip.at(1, k) = static_cast<float>(k - 8);
  strip.at(1, 16) = -8.0f;
  Encoded out = encode(encodingOf("int4<32>"), strip);
  ASSERT_FALSE(out.bad);
  ASSERT_EQ(out.bytes.size(), 512u + 64);
  EXPECT_EQ(out.error.relative(), 0.0f);
  EXPECT_EQ(out.load<uint16_t>(512 + 1 * 2), 0x3f80);
  const int expected[] = {0x40, 0x51, 0x62, 0x73, 0xc8, 0xd9, 0xea, 0xfb};
  for (int64_t b = 0; b < 8; ++b)
    EXPECT_EQ(out.byte(b / 4 * 128 + 1 * 4 + b % 4), expected[b]) << b;
  EXPECT_EQ(out.byte(2 * 128 + 1 * 4), 0x80); // column 16 is -8, column 20 is 0
  // Zeros are stored as the zero point.
  EXPECT_EQ(out.byte(0 * 128 + 0 * 4), 0x88);
  EXPECT_EQ(out.load<uint16_t>(512), 0);
}

TEST(LayoutTest, Int4TakesANegativeScaleIfTheExtremeIsPositive) {
  Strip strip(32);
  strip.at(0, 0) = 8.0f;
  for (int64_t k = 1; k < 16; ++k)
    strip.at(0, k) = static_cast<float>(8 - k);
  Encoded out = encode(encodingOf("int4<32>"), strip);
  ASSERT_FALSE(out.bad);
  EXPECT_EQ(out.error.relative(), 0.0f);
  EXPECT_EQ(out.load<uint16_t>(512), 0xbf80); // -1
  EXPECT_EQ(out.byte(0) & 15, 0);             // 8 = -1 * (0 - 8)
  EXPECT_EQ(out.byte(0) >> 4, 4);             // column 4 holds 4
}

TEST(LayoutTest, Int4WithZeroPointsStoresThemAfterTheScales) {
  Strip strip(64);
  for (int64_t k = 0; k < 64; ++k) // -3 ... 12
    strip.at(9, k) = 0.5f * static_cast<float>(k % 16 - 3);
  for (int64_t k = 0; k < 64; ++k) // 0 ... 15
    strip.at(10, k) = static_cast<float>(k % 16);
  Encoded out = encode(encodingOf("int4<64, zero_points>"), strip);
  ASSERT_FALSE(out.bad);
  ASSERT_EQ(out.bytes.size(), 1024u + 64 + 32);
  EXPECT_EQ(out.error.relative(), 0.0f);
  EXPECT_EQ(out.load<uint16_t>(1024 + 9 * 2), 0x3f00);
  EXPECT_EQ(out.byte(1024 + 64 + 9), 3);
  EXPECT_EQ(out.byte(1024 + 64 + 10), 0);
  EXPECT_EQ(out.byte(0 * 128 + 9 * 4 + 1), 0x51);  // columns 1 and 5
  EXPECT_EQ(out.byte(1 * 128 + 10 * 4 + 3), 0xfb); // columns 11 and 15
}

/// Byte `b` of word `word` of row `row`, and a column's bits in it.
int planeByte(const Encoded &encoded, int64_t word, int64_t row, int64_t b) {
  return encoded.byte(word * 128 + row * 4 + b);
}

TEST(LayoutTest, Int2PutsFourColumnsOfAByteFourApart) {
  Strip strip(32);
  for (int64_t k = 0; k < 32; ++k) // -2, -1, 0, 1 by turns of 4 columns
    strip.at(6, k) = static_cast<float>(k / 4 % 4 - 2);
  strip.at(6, 0) = 1.0f;
  Encoded out = encode(encodingOf("int2<32>"), strip);
  ASSERT_FALSE(out.bad);
  ASSERT_EQ(out.bytes.size(), 256u + 64);
  EXPECT_EQ(out.error.relative(), 0.0f);
  EXPECT_EQ(planeByte(out, 0, 6, 0), 0b11'10'01'11);
  EXPECT_EQ(planeByte(out, 0, 6, 3), 0b11'10'01'00);
  EXPECT_EQ(planeByte(out, 1, 6, 0), 0b11'10'01'00);
  EXPECT_EQ(planeByte(out, 0, 5, 0), 0b10'10'10'10); // zeros
}

TEST(LayoutTest, Int3AndInt5KeepTheirHighestBitsInAPlaneOfOne) {
  Strip strip(64);
  for (int64_t k = 0; k < 64; ++k) {
    strip.at(30, k) = static_cast<float>(k % 8 - 4);
    strip.at(31, k) = static_cast<float>(k % 32 - 16);
  }
  Encoded out = encode(encodingOf("int3<64>"), strip);
  ASSERT_FALSE(out.bad);
  ASSERT_EQ(out.bytes.size(), 2u * 384 + 64);
  for (int64_t run : {0, 3}) { // words of 32 columns
    // Columns 4 j + b hold 4 (j % 2) + b: low bits b, high bit j % 2.
    EXPECT_EQ(planeByte(out, run + 0, 30, 2), 0b10'10'10'10);
    EXPECT_EQ(planeByte(out, run + 1, 30, 1), 0b01'01'01'01);
    EXPECT_EQ(planeByte(out, run + 2, 30, 1), 0b10101010);
  }
  out = encode(encodingOf("int5<64>"), strip);
  ASSERT_FALSE(out.bad);
  ASSERT_EQ(out.bytes.size(), 2u * 640 + 64);
  for (int64_t run : {0, 5}) {
    EXPECT_EQ(planeByte(out, run + 0, 31, 3), 0x73); // columns 3 and 7
    EXPECT_EQ(planeByte(out, run + 1, 31, 0), 0xc8);
    EXPECT_EQ(planeByte(out, run + 3, 31, 1), 0xd9); // columns 25 and 29
    EXPECT_EQ(planeByte(out, run + 4, 31, 1), 0b11110000);
  }
}

TEST(LayoutTest, Int6KeepsItsHighBitsInAPlaneOfTwo) {
  Strip strip(128);
  for (int64_t k = 0; k < 128; ++k)
    strip.at(1, k) = static_cast<float>(k % 64);
  Encoded out = encode(encodingOf("int6<128, zero_points>"), strip);
  ASSERT_FALSE(out.bad);
  ASSERT_EQ(out.bytes.size(), 4u * 768 + 64 + 32);
  EXPECT_EQ(out.error.relative(), 0.0f);
  EXPECT_EQ(out.byte(4 * 768 + 64 + 1), 0);
  EXPECT_EQ(planeByte(out, 0, 1, 2), 0x62);
  EXPECT_EQ(planeByte(out, 4, 1, 0), 0b00'00'00'00);     // columns 0, 4, 8, 12
  EXPECT_EQ(planeByte(out, 5, 1, 0), 0b01'01'01'01);     // 16, 20, 24, 28
  EXPECT_EQ(planeByte(out, 6 + 5, 1, 3), 0b11'11'11'11); // 51, 55, 59, 63
}

TEST(LayoutTest, NF4StoresIndicesOfItsCodebook) {
  Strip strip(32);
  for (int64_t k = 0; k < 32; ++k)
    strip.at(0, k) = static_cast<float>(kNF4[k % 16]) / 128;
  auto encoding = encodingOf("nf4<32>");
  Encoded out = encode(encoding, strip);
  ASSERT_FALSE(out.bad);
  EXPECT_EQ(out.error.relative(), 0.0f);
  EXPECT_EQ(out.load<uint16_t>(512), 0x3c00); // 2^-7
  EXPECT_EQ(planeByte(out, 0, 0, 1), 0x51);
  EXPECT_EQ(planeByte(out, 1, 0, 3), 0xfb);
  EXPECT_EQ(planeByte(out, 0, 1, 0), 0x77); // zeros
}

TEST(LayoutTest, DecodesWhatWasEncodedAtAnyRow) {
  Strip strip = gaussian(72);
  for (const char *name : kEncodings) {
    auto encoding = encodingOf(name);
    Encoded out = encode(encoding, strip);
    ASSERT_FALSE(out.bad);
    std::vector<std::byte> two = out.bytes;
    two.insert(two.end(), out.bytes.begin(), out.bytes.end());
    std::vector<float> all(64 * 72), some(5 * 72);
    decodeMatrix(encoding, two, 64, 72, all);
    decodeRows(encoding, two, 72, 30, 5, some);
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + 30 * 72))
        << name;
    bool isCoarse = encoding.isInteger() && encoding.integers()->bits < 4;
    EXPECT_NEAR(all[33 * 72 + 70], strip.at(1, 70), isCoarse ? 1.5f : 0.2f)
        << name;
  }
}

TEST(ErrorBoundTest, Gaussian) {
  // Bounds for groups of independent normal weights, which integers of so many
  // bits can't beat by much; trained weights are near them.
  struct {
    const char *name;
    double bound;
  } rows[] = {{"f32", 0},
              {"bf16", 0.0017},
              {"f16", 0.00022},
              {"int8<32>", 0.0055},
              {"int8<64>", 0.0060},
              {"int8<128>", 0.0066},
              {"int4<32>", 0.081},
              {"int4<64>", 0.0905},
              {"int4<128>", 0.0975},
              {"int4<32, zero_points>", 0.078},
              {"int4<64, zero_points>", 0.0885},
              {"int4<128, zero_points>", 0.0965},
              {"int2<32>", 0.34},
              {"int2<32, zero_points>", 0.34},
              {"int3<32>", 0.175},
              {"int3<32, zero_points>", 0.165},
              {"int5<32>", 0.041},
              {"int5<32, zero_points>", 0.039},
              {"int6<32>", 0.021},
              {"int6<32, zero_points>", 0.0200},
              {"nf4<32>", 0.076},
              {"nf4<128>", 0.0885}};
  Strip strip = gaussian(8192);
  for (const auto &row : rows)
    EXPECT_LE(decodedError(encodingOf(row.name), strip), row.bound) << row.name;
}

TEST(ErrorBoundTest, SearchBeatsPlainRounding) {
  Strip strip = gaussian(4096, 7);
  double plain = 0, source = 0;
  for (int64_t r = 0; r < kStripRows; ++r)
    for (int64_t g = 0; g < strip.cols; g += 32) {
      float most = 0;
      for (int64_t k = g; k < g + 32; ++k)
        most = std::max(most, std::abs(strip.at(r, k)));
      for (int64_t k = g; k < g + 32; ++k) {
        float scale = most / 7;
        double d = std::round(strip.at(r, k) / scale) * scale - strip.at(r, k);
        plain += d * d;
        source += double(strip.at(r, k)) * strip.at(r, k);
      }
    }
  EXPECT_LT(decodedError(encodingOf("int4<32>"), strip),
            0.9 * std::sqrt(plain / source));
}

TEST(ErrorBoundTest, ScaleOfWeightsDoesNotMatter) {
  Strip strip = gaussian(256, 3);
  for (const char *name : kEncodings) {
    if (!encodingOf(name).isInteger())
      continue;
    double expected = decodedError(encodingOf(name), strip);
    for (int exponent : {-90, -40, 60, 115}) {
      Strip scaled = strip;
      for (float &value : scaled.values)
        value = std::ldexp(value, exponent);
      EXPECT_EQ(decodedError(encodingOf(name), scaled), expected)
          << name << " at 2^" << exponent;
    }
  }
}

TEST(ErrorBoundTest, TinyWeightsStayTiny) {
  // Scales run out of precision here, and what is left is rounded to a step.
  for (const char *name : kEncodings)
    for (float tiny : {0x1p-149f, 0x1p-140f, 0x1p-127f, 0x1.fp-120f}) {
      Strip strip(128);
      for (int64_t k = 0; k < 128; ++k)
        strip.at(4, k) = k % 3 ? tiny : -tiny;
      auto encoding = encodingOf(name);
      Encoded out = encode(encoding, strip);
      ASSERT_FALSE(out.bad);
      for (float value : decode(encoding, out, 128))
        EXPECT_LE(std::abs(value), 1.5f * tiny) << name << " " << tiny;
    }
}

TEST(ErrorBoundTest, ZerosStayZeros) {
  for (const char *name : kEncodings) {
    auto encoding = encodingOf(name);
    Strip strip(160);
    strip.at(5, 3) = 1.0f;
    strip.at(5, 150) = -1.0f;
    Encoded out = encode(encoding, strip);
    ASSERT_FALSE(out.bad);
    std::vector<float> decoded = decode(encoding, out, 160);
    for (int64_t i = 0; i < 32 * 160; ++i) {
      float expected = i == 5 * 160 + 3 ? 1 : i == 5 * 160 + 150 ? -1 : 0;
      EXPECT_NEAR(decoded[static_cast<size_t>(i)], expected,
                  expected == 0 ? 0 : 0.004)
          << name << " " << i;
    }
  }
}

TEST(ErrorBoundTest, OneOutlierDoesNotBreakAGroup) {
  for (const char *name : kEncodings) {
    Strip strip = gaussian(128, 11);
    strip.at(0, 17) = 1000.0f;
    EXPECT_LE(decodedError(encodingOf(name), strip), 0.12) << name;
  }
}

TEST(HostileTest, NonFiniteWeightsAreNamed) {
  for (const char *name : kEncodings)
    for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                      -std::numeric_limits<float>::quiet_NaN(),
                      std::numeric_limits<float>::infinity(),
                      -std::numeric_limits<float>::infinity()}) {
      Strip strip = gaussian(200);
      strip.at(31, 199) = bad;
      strip.at(17, 131) = bad;
      Encoded out = encode(encodingOf(name), strip);
      ASSERT_TRUE(out.bad) << name;
      EXPECT_EQ(out.bad->row, 17) << name;
      EXPECT_EQ(out.bad->col, 131) << name;
    }
}

TEST(HostileTest, OverflowIsNotSaturated) {
  struct {
    const char *name;
    float largest, tooLarge;
  } rows[] = {
      {"f16", 65519.99f, 65520.0f},
      {"bf16", std::bit_cast<float>(0x7f7f7fffu),
       std::bit_cast<float>(0x7f7f8000u)},
      {"int8<32>", std::nextafter(0x1p120f, 0.0f), 0x1p120f},
      {"int4<64>", std::nextafter(0x1p120f, 0.0f), 0x1p120f},
      {"int4<32, zero_points>", std::nextafter(0x1p120f, 0.0f), 0x1p120f},
      {"int2<32>", std::nextafter(0x1p120f, 0.0f), 0x1p120f},
      {"nf4<64>", std::nextafter(0x1p120f, 0.0f), 0x1p120f}};
  for (const auto &row : rows)
    for (float sign : {1.0f, -1.0f}) {
      Strip strip(64);
      strip.at(2, 1) = sign * row.largest;
      Encoded out = encode(encodingOf(row.name), strip);
      EXPECT_FALSE(out.bad) << row.name;
      for (float value : decode(encodingOf(row.name), out, 64))
        EXPECT_TRUE(std::isfinite(value)) << row.name;
      strip.at(2, 1) = sign * row.tooLarge;
      out = encode(encodingOf(row.name), strip);
      ASSERT_TRUE(out.bad) << row.name;
      EXPECT_EQ(out.bad->value, sign * row.tooLarge);
    }
}

TEST(KernelTest, VariantsGiveTheSameBytes) {
  Strip strip = gaussian(128, 23);
  strip.at(3, 3) = 0x1p-130f;
  for (int64_t k = 0; k < 128; ++k) {
    strip.at(8, k) = 0;
    strip.at(9, k) = std::ldexp(strip.at(9, k), -128);
    strip.at(10, k) = std::abs(strip.at(10, k));
  }
  for (const char *name : kEncodings) {
    auto encoding = encodingOf(name);
    auto size = static_cast<size_t>(encoding.blockBytes());
    std::vector<std::byte> a(size), b(size);
    SquaredError errorA, errorB;
    constexpr int32_t kInfinity = 0x7f800000;
    EXPECT_TRUE(detail::blockKernel()(encoding, strip.values.data(),
                                      strip.stride, kInfinity, a.data(),
                                      errorA));
    EXPECT_TRUE(detail::baselineBlockKernel()(encoding, strip.values.data(),
                                              strip.stride, kInfinity, b.data(),
                                              errorB));
    EXPECT_EQ(a, b) << name;
    EXPECT_EQ(errorA.error, errorB.error) << name;
    EXPECT_EQ(errorA.source, errorB.source) << name;
  }
}

} // namespace
} // namespace retort
