//===- TeacherRecord.cpp - A distribution in a kilobyte ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/TeacherRecord.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <xxhash.h>

namespace retort::score {
namespace {

/// Low bits of each id that are stored as they are; Elias (1974) and Fano
/// (1971): with floor(log2(vocab / k)) of them the rest takes two bits per id.
unsigned lowBits(uint32_t vocab, uint32_t k) {
  return static_cast<unsigned>(std::bit_width(vocab / k)) - 1;
}

uint64_t lowBytes(uint32_t vocab, uint32_t k) {
  return (uint64_t(k) * lowBits(vocab, k) + 7) / 8;
}

/// Of a bit set with k ones and a zero for each value of the high part.
uint64_t highBits(uint32_t vocab, uint32_t k) {
  return uint64_t(k) + (vocab >> lowBits(vocab, k)) + 1;
}

constexpr uint64_t kFixedBytes = 24;
constexpr uint64_t kHashBytes = 8;

void setBits(std::byte *bytes, uint64_t at, uint64_t value, unsigned count) {
  for (unsigned i = 0; i < count; ++i)
    if (value >> i & 1)
      bytes[(at + i) / 8] |= std::byte(1u << ((at + i) % 8));
}

uint32_t getBits(const std::byte *bytes, uint64_t at, unsigned count) {
  uint32_t value = 0;
  for (unsigned i = 0; i < count; ++i)
    value |= uint32_t(std::to_integer<unsigned>(bytes[(at + i) / 8]) >>
                          ((at + i) % 8) &
                      1)
             << i;
  return value;
}

Status damaged(const std::string &what) {
  return Status::error(Code::InvalidData, what);
}

uint32_t codeOf(double logProb) {
  double steps = -logProb / kCodeStep + 0.5;
  if (!(steps < kLastCode))
    return kLastCode;
  return static_cast<uint32_t>(std::max(steps, 0.0));
}

} // namespace

std::vector<int32_t> TeacherRecord::top() const {
  std::vector<int32_t> out;
  for (uint16_t index : ranked)
    if (index < ids.size())
      out.push_back(ids[index]);
  return out;
}

TeacherRecord makeRecord(const Distribution &p, uint32_t k) {
  TeacherRecord record;
  std::vector<int32_t> order = likeliest(p.logits(), k);
  int32_t last = order.back();
  TailSums tail = sumTail(p, p.logits()[last], last);
  record.tailMass = static_cast<float>(tail.mass);
  record.tailPlogP = static_cast<float>(std::min(tail.plogp, 0.0));
  record.ids = order;
  std::sort(record.ids.begin(), record.ids.end());
  for (int32_t id : record.ids)
    record.codes.push_back(codeOf(p.logProb(id)));
  for (size_t rank = 0; rank < kRanked; ++rank)
    record.ranked[rank] =
        rank < order.size()
            ? static_cast<uint16_t>(std::lower_bound(record.ids.begin(),
                                                     record.ids.end(),
                                                     order[rank]) -
                                    record.ids.begin())
            : kNotRanked;
  return record;
}

uint64_t recordSize(uint32_t vocab, uint32_t k) {
  return kFixedBytes + lowBytes(vocab, k) + (highBits(vocab, k) + 7) / 8 +
         uint64_t(3) * k + kHashBytes;
}

void encodeRecord(const TeacherRecord &record, uint32_t vocab, uint64_t seed,
                  std::span<std::byte> out) {
  uint32_t k = static_cast<uint32_t>(record.ids.size());
  std::memset(out.data(), 0, out.size());
  std::memcpy(out.data(), &record.tailMass, 4);
  std::memcpy(out.data() + 4, &record.tailPlogP, 4);
  std::memcpy(out.data() + 8, &record.tokenLogProb, 4);
  std::memcpy(out.data() + 12, record.ranked.data(), 2 * kRanked);
  std::byte *low = out.data() + kFixedBytes;
  std::byte *high = low + lowBytes(vocab, k);
  std::byte *codes = high + (highBits(vocab, k) + 7) / 8;
  unsigned bits = lowBits(vocab, k);
  for (uint32_t i = 0; i < k; ++i) {
    uint32_t id = static_cast<uint32_t>(record.ids[i]);
    setBits(low, uint64_t(i) * bits, id & ((1u << bits) - 1), bits);
    setBits(high, uint64_t(id >> bits) + i, 1, 1);
    std::memcpy(codes + 3 * i, &record.codes[i], 3);
  }
  uint64_t hash =
      XXH3_64bits_withSeed(out.data(), out.size() - kHashBytes, seed);
  std::memcpy(out.data() + out.size() - kHashBytes, &hash, kHashBytes);
}

Result<TeacherRecord> decodeRecord(std::span<const std::byte> bytes,
                                   uint32_t vocab, uint32_t k, uint64_t seed) {
  if (bytes.size() != recordSize(vocab, k))
    return damaged("expected " + std::to_string(recordSize(vocab, k)) +
                   " bytes, found " + std::to_string(bytes.size()));
  uint64_t hash;
  std::memcpy(&hash, bytes.data() + bytes.size() - kHashBytes, kHashBytes);
  if (hash !=
      XXH3_64bits_withSeed(bytes.data(), bytes.size() - kHashBytes, seed))
    return damaged("the hash does not match");
  TeacherRecord record;
  std::memcpy(&record.tailMass, bytes.data(), 4);
  std::memcpy(&record.tailPlogP, bytes.data() + 4, 4);
  std::memcpy(&record.tokenLogProb, bytes.data() + 8, 4);
  std::memcpy(record.ranked.data(), bytes.data() + 12, 2 * kRanked);
  if (!(record.tailMass >= 0 && record.tailMass <= 1.001f) ||
      !(record.tailPlogP <= 0 && std::isfinite(record.tailPlogP)) ||
      !(record.tokenLogProb <= 0.001f && std::isfinite(record.tokenLogProb)))
    return damaged(
        "tail and token: expected logarithms up to 0 and a mass of 0 "
        "to 1");
  const std::byte *low = bytes.data() + kFixedBytes;
  const std::byte *high = low + lowBytes(vocab, k);
  const std::byte *codes = high + (highBits(vocab, k) + 7) / 8;
  unsigned bits = lowBits(vocab, k);
  uint64_t total = highBits(vocab, k);
  record.ids.reserve(k);
  for (uint64_t at = 0; at < total; ++at) {
    if (!getBits(high, at, 1))
      continue;
    uint64_t i = record.ids.size();
    if (i == k)
      return damaged("ids: expected " + std::to_string(k) + ", found more");
    uint64_t id = (at - i) << bits | getBits(low, i * bits, bits);
    if (id >= vocab || (i > 0 && id <= uint64_t(record.ids.back())))
      return damaged("id " + std::to_string(i) +
                     ": expected one above the last and below " +
                     std::to_string(vocab) + ", found " + std::to_string(id));
    record.ids.push_back(static_cast<int32_t>(id));
  }
  if (record.ids.size() != k)
    return damaged("ids: expected " + std::to_string(k) + ", found " +
                   std::to_string(record.ids.size()));
  for (uint32_t i = 0; i < k; ++i) {
    uint32_t code = 0;
    std::memcpy(&code, codes + 3 * i, 3);
    record.codes.push_back(code);
  }
  for (size_t rank = 0; rank < kRanked; ++rank)
    if (rank < k ? record.ranked[rank] >= k : record.ranked[rank] != kNotRanked)
      return damaged("rank " + std::to_string(rank) +
                     ": expected an index of " + std::to_string(k) +
                     " ids, found " + std::to_string(record.ranked[rank]));
  return record;
}

} // namespace retort::score
