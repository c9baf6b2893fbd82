//===- DType.cpp - Exact conversions to f32 ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/DType.h"

#include "compiler/checkpoint/QuantizedMatrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>

namespace retort::checkpoint {
namespace {

/// The value of a small floating-point format as f32 bits. Works in integers,
/// so that no denormal mode of the processor can flush a value.
constexpr uint32_t widen(uint32_t sign, uint32_t exponent, uint32_t mantissa,
                         uint32_t mantissaBits, uint32_t bias) {
  if (exponent == 0 && mantissa == 0)
    return sign << 31;
  if (exponent == 0) {
    // A subnormal is mantissa * 2^(1 - bias - mantissaBits); its leading one
    // becomes the implicit bit of the f32.
    uint32_t lead = std::bit_width(mantissa) - 1;
    uint32_t f32Exponent = 127 + lead + 1 - bias - mantissaBits;
    uint32_t fraction = (mantissa ^ (1u << lead)) << (23 - lead);
    return sign << 31 | f32Exponent << 23 | fraction;
  }
  return sign << 31 | (exponent + 127 - bias) << 23 |
         mantissa << (23 - mantissaBits);
}

constexpr std::array<uint32_t, 256> makeF8E4M3Table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t b = 0; b < 256; ++b)
    table[b] = (b & 0x7f) == 0x7f ? (b & 0x80) << 24 | 0x7fc00000u
                                  : widen(b >> 7, b >> 3 & 15, b & 7, 3, 7);
  return table;
}

constexpr std::array<uint32_t, 256> kF8E4M3 = makeF8E4M3Table();

/// As kF8E4M3 but for NaNs, without a table, so that loops over it vectorise. A
/// subnormal's mantissa is put under the exponent of 2^-6 and that implicit one
/// is subtracted again, which is exact.
inline float f8Finite(uint8_t b) {
  uint32_t magnitude = (b & 0x7fu) << 20;
  uint32_t subnormal = std::bit_cast<uint32_t>(
      std::bit_cast<float>(magnitude | 121u << 23) - 0x1p-6f);
  uint32_t bits = (b & 0x78u) == 0 ? subnormal : magnitude + (120u << 23);
  return std::bit_cast<float>(bits | (b & 0x80u) << 24);
}

constexpr bool isF8NaN(uint8_t b) { return (b & 0x7f) == 0x7f; }

/// Without branches, so that loops over it vectorise. A subnormal's mantissa is
/// put under the exponent of 2^-14 and that implicit one is subtracted again,
/// which is exact and never passes through an f32 subnormal.
inline uint32_t f16Bits(uint16_t h) {
  uint32_t magnitude = (h & 0x7fffu) << 13;
  uint32_t normal = magnitude + (112u << 23);
  uint32_t infOrNan = magnitude | 0x7f800000u;
  uint32_t subnormal = std::bit_cast<uint32_t>(
      std::bit_cast<float>(magnitude | 113u << 23) - 0x1p-14f);
  uint32_t bits = (h & 0x7c00u) == 0 ? subnormal : normal;
  bits = (h & 0x7c00u) == 0x7c00u ? infOrNan : bits;
  return bits | (h & 0x8000u) << 16;
}

/// Loads `From`s from unaligned bytes and stores what `toBits` makes of them.
template <typename From, typename ToBits>
void convertAll(std::span<const std::byte> src, std::span<float> dst,
                ToBits toBits) {
  const std::byte *from = src.data();
  float *to = dst.data();
  for (size_t i = 0, n = dst.size(); i < n; ++i) {
    From element;
    std::memcpy(&element, from + i * sizeof(From), sizeof(From));
    uint32_t bits = toBits(element);
    std::memcpy(to + i, &bits, sizeof(bits));
  }
}

} // namespace

bool isFloatWeight(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16 ||
         dtype == DType::F8E4M3;
}

float f16ToF32(uint16_t bits) { return std::bit_cast<float>(f16Bits(bits)); }

float bf16ToF32(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

float BlockScales::at(int64_t row, int64_t col) const {
  const std::byte *from =
      bytes.data() + static_cast<size_t>(row * cols + col) * dtypeBytes(dtype);
  if (dtype == DType::F32) {
    float scale;
    std::memcpy(&scale, from, 4);
    return scale;
  }
  uint16_t half;
  std::memcpy(&half, from, 2);
  return dtype == DType::F16 ? f16ToF32(half) : bf16ToF32(half);
}

float f8e4m3ToF32(uint8_t bits) { return std::bit_cast<float>(kF8E4M3[bits]); }

Status convertToF32(DType dtype, std::span<const std::byte> src,
                    std::span<float> dst) {
  if (!isFloatWeight(dtype))
    return Status::error(Code::Unsupported,
                         "expected elements of F32, BF16, F16 or F8_E4M3, "
                         "found " +
                             std::string(dtypeName(dtype)));
  if (src.size() / dtypeBytes(dtype) != dst.size() ||
      src.size() % dtypeBytes(dtype) != 0)
    return Status::error(Code::InvalidArgument,
                         "expected the bytes of " + std::to_string(dst.size()) +
                             " elements of " + std::string(dtypeName(dtype)) +
                             ", found " + std::to_string(src.size()));
  if (dst.empty())
    return Status::ok();
  switch (dtype) {
  case DType::F32:
    std::memcpy(dst.data(), src.data(), src.size());
    break;
  case DType::BF16:
    convertAll<uint16_t>(src, dst,
                         [](uint16_t b) { return uint32_t(b) << 16; });
    break;
  case DType::F16:
    convertAll<uint16_t>(src, dst, f16Bits);
    break;
  default:
    convertAll<uint8_t>(src, dst, [](uint8_t b) { return kF8E4M3[b]; });
  }
  return Status::ok();
}

namespace {

int64_t columnsOf(const TensorView &tensor) {
  return tensor.shape.size() == 2 ? tensor.shape[1] : 1;
}

/// Whether [first, first + count) lies in [0, size), for untrusted numbers.
bool liesIn(int64_t first, int64_t count, int64_t size) {
  return first >= 0 && count >= 0 && first <= size && count <= size - first;
}

Status tensorError(const TensorView &tensor, Code code, std::string message) {
  return Status::error(code, std::string(tensor.file) + ": tensor '" +
                                 tensor.name + "': " + std::move(message));
}

Status checkRange(const TensorView &tensor, const ElementRange &range) {
  if (!isFloatWeight(tensor.dtype))
    return tensorError(
        tensor, Code::Unsupported,
        "expected elements of F32, BF16, F16 or F8_E4M3, found " +
            std::string(dtypeName(tensor.dtype)));
  size_t rank = tensor.shape.size();
  if ((rank != 1 && rank != 2) ||
      !liesIn(range.row, range.rows, tensor.shape[0]) ||
      !liesIn(range.col, range.cols, columnsOf(tensor)))
    return tensorError(
        tensor, Code::InvalidArgument,
        "expected a range within shape " + formatShape(tensor.shape) +
            ", found " + std::to_string(range.rows) + " rows from " +
            std::to_string(range.row) + " and " + std::to_string(range.cols) +
            " columns from " + std::to_string(range.col));
  return Status::ok();
}

/// The first NaN of a row of fp8, which has one.
Status describeNaN(const TensorView &tensor, int64_t row, int64_t col,
                   const uint8_t *from) {
  while (!isF8NaN(*from)) {
    ++from;
    ++col;
  }
  return tensorError(
      tensor, Code::InvalidData,
      (tensor.shape.size() == 2
           ? "row " + std::to_string(row) + ", column " + std::to_string(col)
           : "element " + std::to_string(row)) +
          ": expected a number, found NaN");
}

bool hasF8NaN(const uint8_t *from, int64_t count) {
  // Without an early exit, so that it vectorises.
  uint8_t found = 0;
  for (int64_t i = 0; i < count; ++i)
    found |= isF8NaN(from[i]) ? 1 : 0;
  return found != 0;
}

/// Pieces of a row of fp8 that have one scale each.
void convertF8Row(const TensorView &tensor, int64_t row, int64_t col,
                  int64_t cols, const uint8_t *from, float *out) {
  if (!tensor.scales) {
    for (int64_t i = 0; i < cols; ++i)
      out[i] = f8Finite(from[i]);
    return;
  }
  const BlockScales &scales = *tensor.scales;
  for (int64_t done = 0; done < cols;) {
    int64_t block = (col + done) / scales.blockCols;
    int64_t end = std::min(cols, (block + 1) * scales.blockCols - col);
    float scale = scales.at(row / scales.blockRows, block);
    for (int64_t i = done; i < end; ++i)
      out[i] = f8Finite(from[i]) * scale;
    done = end;
  }
}

} // namespace

Status readBlock(const TensorView &tensor, const ElementRange &range,
                 float *out, int64_t stride) {
  RETORT_RETURN_IF_ERROR(checkRange(tensor, range));
  if (tensor.quantized) {
    tensor.quantized->readValues(range, out, stride);
    return Status::ok();
  }
  auto elementBytes = static_cast<int64_t>(dtypeBytes(tensor.dtype));
  int64_t tensorCols = columnsOf(tensor);
  // A run of whole rows is one row.
  if (tensor.dtype != DType::F8E4M3 && range.cols == tensorCols &&
      stride == range.cols)
    return convertToF32(
        tensor.dtype,
        tensor.bytes.subspan(
            static_cast<size_t>(range.row * tensorCols * elementBytes),
            static_cast<size_t>(range.rows * tensorCols * elementBytes)),
        {out, static_cast<size_t>(range.rows * range.cols)});
  for (int64_t r = 0; r < range.rows; ++r) {
    int64_t row = range.row + r;
    auto bytes = tensor.bytes.subspan(
        static_cast<size_t>((row * tensorCols + range.col) * elementBytes),
        static_cast<size_t>(range.cols * elementBytes));
    float *to = out + r * stride;
    if (tensor.dtype != DType::F8E4M3) {
      RETORT_RETURN_IF_ERROR(convertToF32(
          tensor.dtype, bytes, {to, static_cast<size_t>(range.cols)}));
      continue;
    }
    auto *from = reinterpret_cast<const uint8_t *>(bytes.data());
    if (hasF8NaN(from, range.cols))
      return describeNaN(tensor, row, range.col, from);
    convertF8Row(tensor, row, range.col, range.cols, from, to);
  }
  return Status::ok();
}

Status readRows(const TensorView &tensor, int64_t firstRow, int64_t numRows,
                std::span<float> out) {
  ElementRange range{firstRow, numRows, 0, columnsOf(tensor)};
  RETORT_RETURN_IF_ERROR(checkRange(tensor, range));
  if (static_cast<size_t>(numRows * range.cols) != out.size())
    return tensorError(
        tensor, Code::InvalidArgument,
        "expected space for " + std::to_string(numRows * range.cols) +
            " elements, found it for " + std::to_string(out.size()));
  return readBlock(tensor, range, out.data(), range.cols);
}

Status refuseF8NaN(const TensorView &tensor, int64_t firstRow,
                   int64_t numRows) {
  if (tensor.dtype != DType::F8E4M3)
    return Status::ok();
  int64_t cols = columnsOf(tensor);
  RETORT_RETURN_IF_ERROR(checkRange(tensor, {firstRow, numRows, 0, cols}));
  auto *bytes = reinterpret_cast<const uint8_t *>(tensor.bytes.data());
  for (int64_t row = firstRow; row < firstRow + numRows; ++row)
    if (hasF8NaN(bytes + row * cols, cols))
      return describeNaN(tensor, row, 0, bytes + row * cols);
  return Status::ok();
}

} // namespace retort::checkpoint
