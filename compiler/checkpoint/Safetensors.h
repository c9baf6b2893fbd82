//===- Safetensors.h - Reading safetensors files ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Maps a safetensors file and validates all of its header before the first
/// tensor is handed out. The rules are those of the reference library: a header
/// of at most 100,000,000 bytes, and data that covers the rest of the file
/// without holes or overlaps. Stricter than it, duplicate keys are refused.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_SAFETENSORS_H
#define RETORT_COMPILER_CHECKPOINT_SAFETENSORS_H

#include "runtime/support/DType.h"
#include "runtime/support/File.h"
#include "runtime/support/Status.h"

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort::checkpoint {

/// The largest header that the reference library accepts, in bytes.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

/// One scale per block of a matrix, stored beside it: element (r, c) of the
/// matrix is its stored value times scale (r / blockRows, c / blockCols).
struct BlockScales {
  int64_t blockRows = 0, blockCols = 0; ///< of the matrix, per scale
  int64_t rows = 0, cols = 0;           ///< of scales: the matrix' over those
  std::span<const std::byte> bytes;     ///< row-major, maybe unaligned
  std::string_view file;                ///< as in TensorView
  uint64_t fileOffset = 0;              ///< of the first byte
  std::string name;                     ///< of the tensor of scales
  DType dtype = DType::F32;             ///< F32, F16 or BF16

  /// The scale of block (row, col).
  float at(int64_t row, int64_t col) const;
};

struct QuantizedMatrix;

/// A tensor of a mapped file. `bytes` need not be aligned for the type: read
/// elements with readRows, readBlock, convertToF32 or memcpy.
struct TensorView {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape; ///< row-major; empty for a scalar
  std::span<const std::byte> bytes;
  /// The file's path, for messages; it lives as long as the SafetensorsFile.
  std::string_view file;
  uint64_t fileOffset = 0; ///< of the first byte
  /// Of an fp8 matrix of a Checkpoint, if it has a companion of scales. All are
  /// finite and positive. A SafetensorsFile leaves it empty.
  std::optional<BlockScales> scales;
  /// Of a matrix of a Checkpoint that is stored as integers with scales. Its
  /// dtype is then F32, what an element means, and `bytes` are the integers'.
  std::shared_ptr<const QuantizedMatrix> quantized;

  /// Number of elements, which fits because the file holds them, or because
  /// the configuration's numbers are bounded.
  int64_t elements() const {
    int64_t count = 1;
    for (int64_t size : shape)
      count *= size;
    return count;
  }
};

/// "[2, 3]"; "[]" for a scalar.
std::string formatShape(std::span<const int64_t> shape);

/// A validated safetensors file. Movable; views stay valid across moves.
class SafetensorsFile {
public:
  /// Maps and validates a file. Errors name the path and, where there is one,
  /// the tensor.
  static Result<SafetensorsFile> open(const std::string &path);

  /// Validates bytes that the caller keeps alive; `name` stands for the path.
  static Result<SafetensorsFile> parse(std::span<const std::byte> bytes,
                                       std::string name);

  /// In the order of the header.
  const std::vector<TensorView> &tensors() const { return views; }
  /// Null if the file has no tensor of that name.
  const TensorView *find(std::string_view name) const;
  /// The strings under `__metadata__`.
  const std::map<std::string, std::string> &metadata() const { return meta; }
  const std::string &path() const { return *filePath; }

  /// Tells the system that bytes [begin, begin + size) of `tensor`'s data won't
  /// be needed soon. Does nothing for a parsed span.
  void dropResident(const TensorView &tensor, uint64_t begin,
                    uint64_t size) const;

private:
  SafetensorsFile() = default;
  Status readHeader(std::span<const std::byte> bytes);

  MappedFile mapping;
  std::unique_ptr<std::string> filePath;
  std::vector<TensorView> views;
  std::map<std::string_view, size_t> byName; ///< keys live in `views`
  std::map<std::string, std::string> meta;
};

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_SAFETENSORS_H
