//===- Sequence.h - Tokens and their caches ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_SEQUENCE_H
#define RETORT_RUNTIME_ENGINE_SEQUENCE_H

#include "runtime/engine/Memory.h"
#include "runtime/engine/Model.h"

#include <span>
#include <vector>

namespace retort {

/// A context: the tokens in it, in order, and the caches of their positions.
class Sequence {
public:
  /// Reserves the caches; they take memory as they fill. `limit` positions may
  /// be used. OutOfMemory if the address space is full.
  static Result<Sequence> create(const Model &model, uint32_t limit);

  std::span<const int32_t> tokens() const { return history; }
  uint32_t position() const { return static_cast<uint32_t>(history.size()); }
  /// A cache buffer of the program; null for buffers of other kinds.
  std::byte *cache(uint32_t buffer) const { return caches[buffer].data(); }
  /// Differs between any two sequences that a process has had.
  uint64_t id() const { return number; }

  /// Whether the tokens may be appended: InvalidArgument if there are none, one
  /// is not in the vocabulary, or they don't fit.
  Status check(std::span<const int32_t> tokens) const;
  /// Counts tokens, whose positions the caches hold by now.
  void append(std::span<const int32_t> tokens) {
    history.insert(history.end(), tokens.begin(), tokens.end());
  }
  /// Forgets all tokens from `position` on. InvalidArgument if it lies beyond
  /// the end.
  Status rewind(uint32_t position);
  /// Session::repeatContext.
  Status repeat(uint32_t position);

private:
  std::vector<Pages> caches; ///< by buffer; empty for those that aren't caches
  std::vector<uint64_t> perPosition; ///< bytes of each
  std::vector<int32_t> history;
  uint64_t number = 0;
  uint32_t limit = 0;
  int64_t vocab = 0;
};

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_SEQUENCE_H
