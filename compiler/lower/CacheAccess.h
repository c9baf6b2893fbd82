//===- CacheAccess.h - Cached elements in registers -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Emits the writing and reading of caches as compiler/encoding/CacheEncoding.h
/// lays them out.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_CACHEACCESS_H
#define RETORT_COMPILER_LOWER_CACHEACCESS_H

#include "compiler/lower/KernelBuilder.h"

namespace retort {

class CacheAccess {
public:
  CacheAccess(KernelBuilder &k, kernel::CacheType type, Buffer buffer)
      : k(&k), type(type), encoding(type.getEncoding()), buffer(buffer),
        size(type.getHeadSize()) {}

  bool isInt8() const { return encoding.isInt8(); }
  const Buffer &memory() const { return buffer; }
  /// Elements of the buffer in a line of 64 bytes.
  int64_t lineElements() const { return 64 / encoding.elementBytes(); }

  //===-- Keys and values ---------------------------------------------------//
  // A block is given by its first element of the buffer.

  Index block(Index position, Index head) const {
    return (position / kCachePositions * type.getNumHeads() + head) *
           (encoding.blockBytes(size) / encoding.elementBytes());
  }
  /// Stores a head's elements, f32 from `from` on, as position `slot` of a
  /// block.
  void storeHead(Buffer source, Index from, Index block, Index slot) const;
  /// Floats: a register's worth of elements from `at` on, as f32.
  mlir::Value load(Index at) const;
  /// Writes a block's elements as a block of f32 has them.
  void decodeBlock(Index block, Buffer to, Index at) const;
  /// Int8: a register of words of four quants each, from byte `at` on.
  mlir::Value loadWords(Index at) const;
  /// Int8: scales of group `group` at the block's positions from `position` on,
  /// a register's worth, or of one position.
  mlir::Value loadScales(Index block, Index group, Index position) const;
  mlir::Value loadScale(Index block, Index group, Index position) const;

  //===-- Latents -----------------------------------------------------------//

  /// Stores a row's elements, f32 from `from` on.
  void storeRow(Buffer source, Index from, Index position) const;
  /// Writes a row's elements as f32.
  void decodeRow(Index position, Buffer to, Index at) const;

private:
  using Values = KernelBuilder::Values;

  int64_t lanes() const { return k->lanes(); }
  /// An f32 register as the floats that are kept of it.
  mlir::Value toElement(mlir::Value v) const;
  /// The quants of 32 elements from `from` on, as registers of bytes, and their
  /// scale.
  std::pair<Values, mlir::Value> quantize(Buffer source, Index from) const;
  void storeKeys(Buffer source, Index from, Index block, Index slot) const;
  void storeValues(Buffer source, Index from, Index block, Index slot) const;
  void storeInt8(Buffer source, Index from, Index block, Index slot) const;
  Buffer scales() const;

  KernelBuilder *k;
  kernel::CacheType type;
  CacheEncoding encoding;
  Buffer buffer;
  int64_t size;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_CACHEACCESS_H
