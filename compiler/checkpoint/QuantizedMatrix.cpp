//===- QuantizedMatrix.cpp - Integers with scales -------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/QuantizedMatrix.h"

#include <algorithm>

namespace retort::checkpoint {
namespace {

/// Where AWQ keeps output r % 8 of a word, in nibbles.
constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

uint32_t loadWord(const TensorView &tensor, int64_t index) {
  uint32_t word;
  std::memcpy(&word, tensor.bytes.data() + static_cast<size_t>(index) * 4, 4);
  return word;
}

int8_t loadByte(const TensorView &tensor, int64_t index) {
  return static_cast<int8_t>(tensor.bytes[static_cast<size_t>(index)]);
}

} // namespace

float QuantizedMatrix::scale(int64_t row, int64_t group) const {
  bool byOutput = layout == QuantLayout::Packed || layout == QuantLayout::Plain;
  int64_t index = oneScale   ? 0
                  : byOutput ? row * groups + group
                             : group * rows + row;
  const std::byte *from = scales.bytes.data() +
                          static_cast<size_t>(index) * dtypeBytes(scales.dtype);
  if (scales.dtype == DType::F32) {
    float value;
    std::memcpy(&value, from, 4);
    return value;
  }
  uint16_t bits16;
  std::memcpy(&bits16, from, 2);
  return scales.dtype == DType::F16 ? f16ToF32(bits16) : bf16ToF32(bits16);
}

int QuantizedMatrix::zero(int64_t row, int64_t group) const {
  if (!zeros)
    return 0;
  if (zeros->dtype == DType::I8)
    return loadByte(*zeros, oneScale ? 0 : row * groups + group);
  int64_t perWord = 32 / bits, mask = (int64_t(1) << bits) - 1;
  int64_t word = 0, at = row % perWord;
  switch (layout) {
  case QuantLayout::Awq:
    at = kAwqNibble[row % 8];
    [[fallthrough]];
  case QuantLayout::Gptq:
    word = group * (rows / perWord) + row / perWord;
    break;
  case QuantLayout::Packed:
  case QuantLayout::Plain:
    word = row / perWord * groups + group;
    break;
  }
  int64_t stored = loadWord(*zeros, word) >> (at * bits) & mask;
  return static_cast<int>((stored + (zerosLessOne ? 1 : 0)) & mask) -
         (1 << (bits - 1));
}

void QuantizedMatrix::readQuants(const ElementRange &range, int16_t *out,
                                 int64_t stride) const {
  int64_t perWord = 32 / bits, endRow = range.row + range.rows,
          endCol = range.col + range.cols;
  int64_t middle = int64_t(1) << (bits - 1);
  uint32_t mask = static_cast<uint32_t>((int64_t(1) << bits) - 1);
  auto quant = [&](uint32_t word, int64_t at) {
    return static_cast<int16_t>(int64_t(word >> (at * bits) & mask) - middle);
  };
  auto to = [&](int64_t row, int64_t col) -> int16_t & {
    return out[(row - range.row) * stride + col - range.col];
  };
  switch (layout) {
  case QuantLayout::Gptq:
    for (int64_t col = range.col; col < endCol;) {
      int64_t end = std::min(endCol, (col / perWord + 1) * perWord);
      for (int64_t row = range.row; row < endRow; ++row) {
        uint32_t word = loadWord(weights, col / perWord * rows + row);
        for (int64_t c = col; c < end; ++c)
          to(row, c) = quant(word, c % perWord);
      }
      col = end;
    }
    return;
  case QuantLayout::Awq:
    for (int64_t col = range.col; col < endCol; ++col)
      for (int64_t row = range.row; row < endRow; ++row)
        to(row, col) = quant(loadWord(weights, col * (rows / 8) + row / 8),
                             kAwqNibble[row % 8]);
    return;
  case QuantLayout::Packed: {
    int64_t words = (cols + perWord - 1) / perWord;
    for (int64_t row = range.row; row < endRow; ++row)
      for (int64_t col = range.col; col < endCol; ++col)
        to(row, col) = quant(loadWord(weights, row * words + col / perWord),
                             col % perWord);
    return;
  }
  case QuantLayout::Plain:
    for (int64_t row = range.row; row < endRow; ++row)
      for (int64_t col = range.col; col < endCol; ++col)
        to(row, col) = loadByte(weights, row * cols + col);
    return;
  }
}

void QuantizedMatrix::readValues(const ElementRange &range, float *out,
                                 int64_t stride) const {
  // As many rows at once as share words, so that words are loaded once.
  constexpr int64_t kRows = 32;
  std::vector<int16_t> quants(static_cast<size_t>(kRows * range.cols));
  std::vector<int64_t> group(static_cast<size_t>(range.cols));
  for (int64_t j = 0; j < range.cols; ++j)
    group[static_cast<size_t>(j)] = groupOf(range.col + j);
  std::vector<float> scaleOf(static_cast<size_t>(groups));
  std::vector<int> zeroOf(static_cast<size_t>(groups));
  for (int64_t first = 0; first < range.rows; first += kRows) {
    int64_t count = std::min(kRows, range.rows - first);
    readQuants({range.row + first, count, range.col, range.cols}, quants.data(),
               range.cols);
    for (int64_t r = 0; r < count; ++r) {
      int64_t row = range.row + first + r;
      for (int64_t g = 0; g < groups; ++g) {
        scaleOf[static_cast<size_t>(g)] = scale(row, g);
        zeroOf[static_cast<size_t>(g)] = zero(row, g);
      }
      const int16_t *q = quants.data() + r * range.cols;
      float *to = out + (first + r) * stride;
      for (int64_t j = 0; j < range.cols; ++j) {
        auto g = static_cast<size_t>(group[static_cast<size_t>(j)]);
        to[j] = scaleOf[g] * static_cast<float>(q[j] - zeroOf[g]);
      }
    }
  }
}

void QuantizedMatrix::forEachPart(
    const std::function<void(const TensorView &)> &visit) const {
  visit(weights);
  visit(scales);
  if (zeros)
    visit(*zeros);
  if (groupIndex)
    visit(*groupIndex);
}

uint64_t QuantizedMatrix::storedBytes() const {
  uint64_t bytes = 0;
  forEachPart([&](const TensorView &part) { bytes += part.bytes.size(); });
  return bytes;
}

} // namespace retort::checkpoint
