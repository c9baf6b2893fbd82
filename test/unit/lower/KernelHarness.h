//===- KernelHarness.h - Compile and run kernels in tests -------*- C++ -*-===//
//-*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What tests of kernels share: a packer and a reference decoder written from
/// PackedEncoding.h, and the compiling and running of one entry.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_LOWER_KERNELHARNESS_H
#define RETORT_TEST_UNIT_LOWER_KERNELHARNESS_H

#include "compiler/encoding/ActivationEncoding.h"
#include "compiler/encoding/CacheEncoding.h"
#include "compiler/lower/Tiling.h"
#include "compiler/targets/Target.h"
#include "runtime/abi/Kernel.h"
#include "runtime/support/Status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace retort::test {

/// Memory with the alignment that kernels expect.
class AlignedBytes {
public:
  explicit AlignedBytes(size_t size)
      : storage(size + 64),
        offset((64 - reinterpret_cast<uintptr_t>(storage.data()) % 64) % 64) {}
  uint8_t *data() { return storage.data() + offset; }
  template <typename T> T *as() { return reinterpret_cast<T *>(data()); }

private:
  std::vector<uint8_t> storage;
  size_t offset;
};

/// A packed matrix of random weights, and what its bytes decode to.
struct PackedMatrix {
  PackedMatrix(PackedEncoding encoding, int64_t rows, int64_t cols,
               uint32_t seed);
  std::string type() const; ///< as MLIR spells it

  PackedEncoding encoding;
  int64_t rows, cols;
  AlignedBytes bytes;
  std::vector<float> decoded; ///< [rows][cols]
};

std::vector<float> randomFloats(size_t n, uint32_t seed);

/// Rows of an activation, quantized as ActivationEncoding.h says.
struct QuantizedRows {
  /// `values` is [rows][cols]; elements up to `stride` are zero. There is space
  /// for `spareRows` more, which hold scales of NaN.
  QuantizedRows(ActivationEncoding encoding, const std::vector<float> &values,
                int64_t cols, int64_t stride, int64_t spareRows = 0);
  uint8_t *row(int64_t r) {
    return bytes.data() + r * encoding.rowBytes(stride);
  }
  /// What element k of a row stands for, from its quant and scale.
  static float decode(ActivationEncoding encoding, int64_t stride,
                      const uint8_t *row, int64_t k);
  /// The type of rows of that stride, as MLIR spells it.
  static std::string type(ActivationEncoding encoding, int64_t stride);

  ActivationEncoding encoding;
  int64_t stride;
  AlignedBytes bytes;
  std::vector<float> decoded; ///< [rows][cols]
};

/// The keys or values of a cache, written and read as CacheEncoding.h says.
struct HeadCache {
  CacheEncoding encoding;
  int64_t heads, size;
  bool isKeys;
  AlignedBytes bytes;

  HeadCache(CacheElement element, int64_t heads, int64_t size, bool isKeys,
            int64_t positions)
      : encoding{element}, heads(heads), size(size), isKeys(isKeys),
        bytes(static_cast<size_t>(positions / kCachePositions * heads *
                                  encoding.blockBytes(size))) {}
  /// What element i of a head at a position stands for.
  float get(int64_t position, int64_t head, int64_t i);
  /// Writes a head's elements, rounded.
  void set(int64_t position, int64_t head, std::vector<float> elements);

private:
  uint8_t *block(int64_t position, int64_t head) {
    return bytes.data() + (position / kCachePositions * heads + head) *
                              encoding.blockBytes(size);
  }
  int64_t element(int64_t slot, int64_t i) const;
  uint16_t *scale(int64_t position, int64_t head, int64_t i) {
    return reinterpret_cast<uint16_t *>(block(position, head) +
                                        kCachePositions * size) +
           i / kCacheGroup * kCachePositions + position % kCachePositions;
  }
};

/// A compiled entry and its tiling.
class CompiledKernel {
public:
  /// `entry` is the text of one kernel.entry named @k.
  static Result<CompiledKernel> compile(const std::string &entry,
                                        const Target &target);
  /// The same for a target whose code runs here in emulation (Emulation.h).
  static Result<CompiledKernel> emulate(const std::string &entry,
                                        const Target &target);
  /// Runs every tile, in a scrambled order.
  void run(const std::vector<void *> &args,
           retort_kernel_scalars scalars) const;
  const Tiling &tiling() const { return tiles; }

private:
  static Result<CompiledKernel> make(const std::string &entry,
                                     const Target &target, bool isEmulated);
  struct Loaded;
  std::shared_ptr<Loaded> code;
  Tiling tiles;
};

} // namespace retort::test

#endif // RETORT_TEST_UNIT_LOWER_KERNELHARNESS_H
