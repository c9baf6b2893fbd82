//===- Vocabulary.h - Token strings and their ids ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The strings of a vocabulary in one block of memory, found by id and by
/// content. Real ones hold 150 000 tokens and must be ready in milliseconds,
/// so there is no allocation per token.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_VOCABULARY_H
#define RETORT_RUNTIME_TEXT_VOCABULARY_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace retort::text {

/// Ids are below this, which bounds the table of a lying file.
constexpr int64_t kMaxTokenId = 1 << 24;

class Vocabulary {
public:
  /// Makes room for ids below `ids` and `bytes` of tokens.
  void reserve(size_t ids, size_t bytes) {
    entries.reserve(ids);
    blob.reserve(bytes);
  }
  /// Adds a token. Fails when the id is out of range or taken.
  Status add(std::string_view token, int64_t id);
  /// Builds the index by content over what was added. Fails when two ids have
  /// the same content.
  Status finish();

  /// The id of `token`, or -1. Only after finish().
  int32_t find(std::string_view token) const;
  bool contains(int64_t id) const {
    return id >= 0 && id < static_cast<int64_t>(entries.size()) &&
           entries[static_cast<size_t>(id)].length != kAbsent;
  }
  /// The content of an id for which contains() holds.
  std::string_view token(int32_t id) const {
    const Entry &e = entries[static_cast<size_t>(id)];
    return std::string_view(blob).substr(e.offset, e.length);
  }
  /// One more than the largest id.
  size_t size() const { return entries.size(); }

private:
  static constexpr uint32_t kAbsent = UINT32_MAX;
  struct Entry {
    uint32_t offset = 0;
    uint32_t length = kAbsent;
  };
  struct Slot {
    uint32_t tag = 0; ///< high bits of the hash, to skip most comparisons
    int32_t id = -1;
  };
  std::string blob;
  std::vector<Entry> entries; ///< by id
  std::vector<Slot> slots;    ///< open addressing; the size is a power of two
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_VOCABULARY_H
