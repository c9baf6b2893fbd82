//===- Quantizer.cpp - Encoding of weight strips ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/Quantizer.h"

#include "compiler/checkpoint/DType.h"
#include "compiler/pack/BlockKernels.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace retort {
namespace {

/// What an encoding holds: magnitudes whose f32 bits are below `bits`.
struct Limit {
  int32_t bits;
  std::string_view expected;
};

Limit limitOf(EncodingKind kind) {
  switch (kind) {
  case EncodingKind::F32:
  case EncodingKind::Fp8: // copied, see encodeF8Strip
    break;
  case EncodingKind::BF16:
    // Halfway between the largest bf16 and the next power of two.
    return {0x7f7f8000, "a finite value that bf16 can hold"};
  case EncodingKind::F16:
    return {std::bit_cast<int32_t>(65520.0f),
            "a magnitude up to 65504, the largest of f16"};
  default: // integers
    return {std::bit_cast<int32_t>(kMaxQuantizable),
            "a finite value below 2^120"};
  }
  return {0x7f800000, "a finite value"};
}

BadWeight findBad(const PackedEncoding &encoding, const float *rows,
                  int64_t stride, const Limit &limit) {
  for (int64_t r = 0; r < kStripRows; ++r)
    for (int64_t k = 0; k < encoding.blockCols(); ++k) {
      float value = rows[r * stride + k];
      if ((std::bit_cast<int32_t>(value) & 0x7fffffff) >= limit.bits)
        return {r, k, value, limit.expected};
    }
  return {0, 0, 0.0f, limit.expected};
}

uint16_t loadU16(const std::byte *from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

/// Exact for what the encoding's scales hold.
void storeScale(const PackedEncoding &encoding, float scale, std::byte *block,
                int64_t row) {
  std::byte *to = block + encoding.scaleOffset() + row * encoding.scaleBytes();
  uint16_t half = static_cast<uint16_t>(std::bit_cast<uint32_t>(scale) >> 16);
  switch (encoding.scales) {
  case ScaleKind::F16:
    half = std::bit_cast<uint16_t>(static_cast<_Float16>(scale));
    [[fallthrough]];
  case ScaleKind::BF16:
    std::memcpy(to, &half, 2);
    return;
  case ScaleKind::F32:
    std::memcpy(to, &scale, 4);
  }
}

float loadScale(const PackedEncoding &encoding, const std::byte *block,
                int64_t row) {
  const std::byte *from =
      block + encoding.scaleOffset() + row * encoding.scaleBytes();
  if (encoding.scales == ScaleKind::BF16)
    return checkpoint::bf16ToF32(loadU16(from));
  if (encoding.scales == ScaleKind::F16)
    return checkpoint::f16ToF32(loadU16(from));
  float scale;
  std::memcpy(&scale, from, sizeof(scale));
  return scale;
}

/// Decodes columns [first, first + count) of one row of one block.
void decodeBlockRow(const PackedEncoding &encoding, const std::byte *block,
                    int64_t row, int64_t first, int64_t count, float *out) {
  auto byteAt = [&](int64_t i) { return static_cast<uint8_t>(block[i]); };
  int64_t end = first + count;
  switch (encoding.kind) {
  case EncodingKind::F32:
    for (int64_t k = first; k < end; ++k)
      std::memcpy(out++, block + (k * kStripRows + row) * 4, 4);
    return;
  case EncodingKind::F16:
    for (int64_t k = first; k < end; ++k)
      *out++ =
          checkpoint::f16ToF32(loadU16(block + (k * kStripRows + row) * 2));
    return;
  case EncodingKind::BF16:
    for (int64_t k = first; k < end; ++k)
      *out++ =
          checkpoint::bf16ToF32(loadU16(block + (k * kStripRows + row) * 2));
    return;
  case EncodingKind::Fp8: {
    float scale;
    std::memcpy(&scale, block + encoding.scaleOffset() + row * 4, 4);
    for (int64_t k = first; k < end; ++k)
      *out++ = checkpoint::f8e4m3ToF32(byteAt(k * kStripRows + row)) * scale;
    return;
  }
  default:
    break;
  }
  float scale = loadScale(encoding, block, row);
  const IntegerFormat &format = *encoding.integers();
  int zeroPoint = encoding.zeroPoints ? byteAt(encoding.zeroPointOffset() + row)
                                      : encoding.middle();
  for (int64_t k = first; k < end; ++k) {
    int q = 0;
    int64_t firstWord = k / 32 * format.bits; // of the plane
    for (int plane = 0; plane < format.numPlanes(); ++plane) {
      int bits = format.planeBits(plane);
      int64_t j = k % 32 / 4, perByte = 8 / bits;
      int byte = byteAt((firstWord + j / perByte) * 128 + row * 4 + k % 4);
      q |= (byte >> j % perByte * bits & ((1 << bits) - 1))
           << format.planeShift(plane);
      firstWord += bits;
    }
    int value = format.codebook       ? format.codebook[q]
                : format.hasZeroPoint ? q - zeroPoint
                                      : static_cast<int8_t>(q);
    *out++ = scale * static_cast<float>(value);
  }
}

} // namespace

float SquaredError::relative() const {
  return error > 0 ? static_cast<float>(std::sqrt(error / source)) : 0.0f;
}

std::optional<BadWeight> encodeBlock(const PackedEncoding &encoding,
                                     const float *rows, int64_t stride,
                                     std::byte *out, SquaredError &error) {
  Limit limit = limitOf(encoding.kind);
  if (detail::blockKernel()(encoding, rows, stride, limit.bits, out, error))
    return std::nullopt;
  return findBad(encoding, rows, stride, limit);
}

std::optional<BadWeight> encodeStrip(const PackedEncoding &encoding,
                                     const float *rows, int64_t stride,
                                     int64_t cols, std::byte *out,
                                     SquaredError &error) {
  for (int64_t k = 0; k < cols; k += encoding.blockCols()) {
    if (auto bad = encodeBlock(encoding, rows + k, stride, out, error)) {
      bad->col += k;
      return bad;
    }
    out += encoding.blockBytes();
  }
  return std::nullopt;
}

void encodeF8Strip(const uint8_t *bits, int64_t stride, const float *scales,
                   int64_t cols, std::byte *out) {
  PackedEncoding encoding{EncodingKind::Fp8, 0, false};
  int64_t blocks = encoding.blocksPerStrip(cols);
  for (int64_t b = 0; b < blocks; ++b) {
    // Eight columns at a time, so that a source line is used while it is near.
    for (int64_t k = 0; k < kFp8BlockCols; k += 8)
      for (int64_t r = 0; r < kStripRows; ++r)
        for (int64_t i = 0; i < 8; ++i)
          out[(k + i) * kStripRows + r] =
              std::byte(bits[r * stride + b * kFp8BlockCols + k + i]);
    for (int64_t r = 0; r < kStripRows; ++r)
      std::memcpy(out + encoding.scaleOffset() + r * 4, scales + r * blocks + b,
                  4);
    out += encoding.blockBytes();
  }
}

void encodeIntegerStrip(const PackedEncoding &encoding, const int16_t *quants,
                        int64_t stride, const float *scales,
                        const int8_t *zeros, int64_t cols, std::byte *out) {
  int64_t blocks = encoding.blocksPerStrip(cols), size = encoding.blockCols();
  bool isInt4 = encoding.kind == EncodingKind::Int4;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t r = 0; r < kStripRows; ++r) {
      int zero = zeros[r * blocks + b];
      const int16_t *from = quants + r * stride + b * size;
      auto quant = [&](int64_t k) {
        return from[k] == kNoQuant ? zero : from[k];
      };
      if (isInt4)
        for (int64_t k = 0; k < size; k += 8)
          for (int64_t i = 0; i < 4; ++i)
            out[k / 8 * 128 + r * 4 + i] = static_cast<std::byte>(
                (quant(k + i) + 8) | (quant(k + 4 + i) + 8) << 4);
      else
        for (int64_t k = 0; k < size; ++k)
          out[k / 4 * 128 + r * 4 + k % 4] = static_cast<std::byte>(quant(k));
      storeScale(encoding, scales[r * blocks + b], out, r);
      if (encoding.zeroPoints)
        out[encoding.zeroPointOffset() + r] = static_cast<std::byte>(zero + 8);
    }
    out += encoding.blockBytes();
  }
}

void decodeRows(const PackedEncoding &encoding,
                std::span<const std::byte> packed, int64_t cols,
                int64_t firstRow, int64_t numRows, std::span<float> out) {
  for (int64_t i = 0; i < numRows; ++i) {
    int64_t row = firstRow + i;
    const std::byte *block =
        packed.data() + row / kStripRows * encoding.stripBytes(cols);
    for (int64_t k = 0; k < cols; k += encoding.blockCols()) {
      decodeBlockRow(encoding, block, row % kStripRows, 0,
                     std::min(encoding.blockCols(), cols - k),
                     out.data() + i * cols + k);
      block += encoding.blockBytes();
    }
  }
}

float decodeElement(const PackedEncoding &encoding,
                    std::span<const std::byte> packed, int64_t cols,
                    int64_t row, int64_t col) {
  float out = 0;
  int64_t block = col / encoding.blockCols();
  decodeBlockRow(encoding,
                 packed.data() + row / kStripRows * encoding.stripBytes(cols) +
                     block * encoding.blockBytes(),
                 row % kStripRows, col % encoding.blockCols(), 1, &out);
  return out;
}

} // namespace retort
