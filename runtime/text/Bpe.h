//===- Bpe.h - Byte-pair encoding -------------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The BPE model: splits a piece of text into its bytes and joins neighbours
/// in the order in which the training joined them.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_BPE_H
#define RETORT_RUNTIME_TEXT_BPE_H

#include "runtime/text/Vocabulary.h"

#include <array>
#include <optional>
#include <span>

namespace retort::text {

/// One `merges` line: the two tokens it joins, and what they become. Ids of a
/// vocabulary.
struct Merge {
  int32_t left, right, result;
};

/// Immutable once built, so that any number of threads can encode.
class Bpe {
public:
  struct Options {
    bool ignoreMerges = false; ///< a piece that is a token is that token
    bool byteFallback = false; ///< unknown characters become `<0xNN>` tokens
    bool fuseUnknown = false;  ///< a run of unknown characters is one token
    std::optional<std::string> unknownToken;
  };

  /// Takes a finished vocabulary and merges by rank, whose ids are in it. Fails
  /// when the unknown token is not.
  static Result<Bpe> create(Vocabulary vocabulary,
                            std::span<const Merge> merges, Options options);

  /// Appends the ids of one pre-tokenized piece, given as its bytes. Takes
  /// time n log n in the length of the piece.
  void encode(std::string_view piece, std::vector<int32_t> &ids) const;

  const Vocabulary &vocabulary() const { return vocab; }

private:
  struct MergeSlot {
    uint64_t pair = kNoPair;
    uint32_t rank = 0;
    int32_t result = 0;
  };
  static constexpr uint64_t kNoPair = UINT64_MAX;
  static constexpr uint32_t kNoRank = UINT32_MAX;

  const MergeSlot *findMerge(int32_t left, int32_t right) const;
  void insertMerge(const Merge &merge, uint32_t rank);
  void appendInitial(std::string_view piece, std::vector<int32_t> &ids) const;
  void mergeShort(std::vector<int32_t> &ids, size_t begin) const;
  void mergeLong(std::vector<int32_t> &ids, size_t begin) const;

  Vocabulary vocab;
  Options options;
  int32_t unknownId = -1;
  std::array<int32_t, 256> byteIds{};     ///< of each byte's character
  std::array<int32_t, 256> fallbackIds{}; ///< of each `<0xNN>`
  bool allBytesKnown = false;
  std::vector<MergeSlot> merges; ///< open addressing; a power of two
  int mergeShift = 64;
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_BPE_H
