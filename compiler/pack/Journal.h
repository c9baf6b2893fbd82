//===- Journal.h - What an unfinished artifact holds ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The file in which a compile notes what it has finished, so that it can go on
/// after being killed:
///
/// ```
/// JournalHeader     and the inputs, as encodeJournal() writes them
/// JournalRecord     of weight 0
/// JournalRecord     of weight 1, ...
/// ```
/// Everything is little-endian. Each record is written after the bytes that it
/// tells of are on the disk; a record that is torn or damaged ends the journal.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_JOURNAL_H
#define RETORT_COMPILER_PACK_JOURNAL_H

#include "compiler/pack/Packer.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace retort {

/// Something that decides the bytes of the weights, by a name for the user:
/// "file model.safetensors", "option --weights".
struct JournalInput {
  std::string name, value;
  bool operator==(const JournalInput &) const = default;
};

struct JournalHeader {
  unsigned char magic[8];
  uint32_t version;
  uint32_t inputsSize; ///< bytes of the inputs behind the header
  uint64_t inputsHash; ///< XXH3-64
};
static_assert(sizeof(JournalHeader) == 24);

struct JournalRecord {
  uint64_t number; ///< of the weight: 0, 1, 2, ...
  uint64_t offset; ///< as in PackedWeight
  uint64_t storedSize;
  uint64_t hash;
  float relativeError;
  uint32_t reserved; ///< 0
  uint64_t check; ///< XXH3-64 of the fields before, seeded with the inputsHash
};
static_assert(sizeof(JournalRecord) == 48);

/// A journal's content, as far as it is sound.
struct Journal {
  std::vector<JournalInput> inputs;
  uint64_t inputsHash = 0;
  std::vector<JournalRecord> records; ///< of the weights 0, 1, 2, ...
};

/// True if the bytes begin as every journal does.
bool startsLikeJournal(std::span<const std::byte> bytes);

/// Header and inputs of a new journal.
std::vector<std::byte> encodeJournal(std::span<const JournalInput> inputs);

/// A record that belongs to a journal with these inputs.
JournalRecord makeRecord(uint64_t number, const PackedWeight &weight,
                         uint64_t inputsHash);

/// Reads a journal from untrusted bytes. InvalidData if header or inputs are
/// damaged; the records end before the first that is.
Result<Journal> parseJournal(std::span<const std::byte> bytes);

/// The weights that a journal's records are about: `placed` with hashes and
/// errors, up to the first record that doesn't agree with its place.
std::vector<PackedWeight> recordedWeights(const Journal &journal,
                                          std::span<const PackedWeight> placed);

/// Names of the inputs that differ, "a, b and 3 more"; empty if none does.
std::string describeDifference(std::span<const JournalInput> before,
                               std::span<const JournalInput> now);

} // namespace retort

#endif // RETORT_COMPILER_PACK_JOURNAL_H
