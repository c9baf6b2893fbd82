//===- TeacherRecord.h - A distribution in a kilobyte -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What a teacher file keeps of a teacher's distribution, and what can be said
/// from it about the divergence of a student. docs/score.md derives the bounds.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_TEACHERRECORD_H
#define RETORT_RUNTIME_SCORE_TEACHERRECORD_H

#include "runtime/score/Distribution.h"

#include <array>
#include <cstddef>

namespace retort::score {

/// Log-probabilities are stored as -log(p) in steps of 2^-18, rounded to the
/// nearest, in 24 bits; the largest code stands for all that are less likely.
constexpr double kCodeStep = 0x1p-18;
constexpr uint32_t kLastCode = (1u << 24) - 1;
/// How many of the likeliest are kept in their order.
constexpr size_t kRanked = 5;
/// Fills `ranked` behind the last of fewer than kRanked.
constexpr uint16_t kNotRanked = 0xffff;
/// Entries of a record at most, so that 16 bits hold a rank's place.
constexpr uint32_t kMaxTopK = 0xffff;

struct TeacherRecord {
  float tailMass = 0;     ///< sum of p over the ids that aren't listed
  float tailPlogP = 0;    ///< sum of p log p over the same, at most 0
  float tokenLogProb = 0; ///< of the token that comes next in the text
  std::array<uint16_t, kRanked> ranked{}; ///< indices into ids, likeliest first
  std::vector<int32_t> ids;               ///< the k likeliest, ascending
  std::vector<uint32_t> codes;            ///< of each of ids
  bool operator==(const TeacherRecord &) const = default;

  /// The likeliest ids, at most kRanked, likeliest first.
  std::vector<int32_t> top() const;
};

/// Keeps the `k` likeliest of `p`, k <= p.size(), without tokenLogProb.
TeacherRecord makeRecord(const Distribution &p, uint32_t k);

/// Bytes of a record of `k` ids of a vocabulary of `vocab`.
uint64_t recordSize(uint32_t vocab, uint32_t k);

/// Writes a record to exactly recordSize() bytes. The last eight are a hash of
/// the others that `seed` enters.
void encodeRecord(const TeacherRecord &record, uint32_t vocab, uint64_t seed,
                  std::span<std::byte> out);

/// Reads a record back. InvalidData for a wrong hash, and for ids, ranks or
/// numbers that no record has.
Result<TeacherRecord> decodeRecord(std::span<const std::byte> bytes,
                                   uint32_t vocab, uint32_t k, uint64_t seed);

/// An interval that holds a number.
struct Bounds {
  double lower = 0, upper = 0;
};

/// Computes bounds of KL(p || q); keeps its memory between calls.
class KlBounder {
public:
  /// For every p of which makeRecord() gives `record`: lower <= KL <= upper, in
  /// nats. q covers the vocabulary of the record.
  Bounds bound(const TeacherRecord &record, const Distribution &q);

private:
  std::vector<float> tail; ///< logits of q that the record doesn't list
};

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_TEACHERRECORD_H
