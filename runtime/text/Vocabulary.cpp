//===- Vocabulary.cpp - Token strings and their ids -----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Vocabulary.h"

#define XXH_INLINE_ALL
#include <bit>
#include <xxhash.h>

namespace retort::text {
namespace {

uint64_t hashOf(std::string_view token) {
  return XXH3_64bits(token.data(), token.size());
}

} // namespace

Status Vocabulary::add(std::string_view token, int64_t id) {
  if (id < 0 || id >= kMaxTokenId)
    return Status::error(
        Code::InvalidData,
        "token '" + std::string(token) + "': expected an id from 0 to " +
            std::to_string(kMaxTokenId - 1) + ", found " + std::to_string(id));
  if (contains(id))
    return Status::error(
        Code::InvalidData,
        "token '" + std::string(token) + "': id " + std::to_string(id) +
            " belongs to token '" +
            std::string(this->token(static_cast<int32_t>(id))) + "' already");
  if (blob.size() + token.size() >= kAbsent)
    return Status::error(Code::InvalidData, "the tokens exceed 4 GB");
  size_t index = static_cast<size_t>(id);
  if (index >= entries.size())
    entries.resize(index + 1);
  entries[index] = {static_cast<uint32_t>(blob.size()),
                    static_cast<uint32_t>(token.size())};
  blob += token;
  return Status::ok();
}

Status Vocabulary::finish() {
  slots.assign(std::bit_ceil(entries.size() * 4 / 3 + 2), Slot());
  size_t mask = slots.size() - 1;
  // Returns the other id with the token's content, or -1.
  auto insert = [&](int32_t id, uint64_t hash) {
    uint32_t tag = static_cast<uint32_t>(hash >> 32);
    size_t at = hash & mask;
    for (; slots[at].id >= 0; at = (at + 1) & mask)
      if (slots[at].tag == tag && token(slots[at].id) == token(id))
        return slots[at].id;
    slots[at] = {tag, id};
    return int32_t(-1);
  };
  // Slots are met in no order: each is asked for some tokens ahead, so that
  // inserting does not wait for memory.
  constexpr size_t kAhead = 16;
  uint64_t hashes[kAhead] = {};
  for (size_t i = 0; i < entries.size() + kAhead; ++i) {
    uint64_t &hash = hashes[i % kAhead];
    if (i >= kAhead && contains(static_cast<int64_t>(i - kAhead)))
      if (int32_t other = insert(static_cast<int32_t>(i - kAhead), hash);
          other >= 0)
        return Status::error(Code::InvalidData,
                             "token '" + std::string(token(other)) +
                                 "': expected one id, found " +
                                 std::to_string(other) + " and " +
                                 std::to_string(i - kAhead));
    if (!contains(static_cast<int64_t>(i)))
      continue;
    hash = hashOf(token(static_cast<int32_t>(i)));
    __builtin_prefetch(&slots[hash & mask], 1);
  }
  return Status::ok();
}

int32_t Vocabulary::find(std::string_view token) const {
  if (slots.empty())
    return -1;
  uint64_t hash = hashOf(token);
  uint32_t tag = static_cast<uint32_t>(hash >> 32);
  size_t mask = slots.size() - 1;
  for (size_t at = hash & mask; slots[at].id >= 0; at = (at + 1) & mask)
    if (slots[at].tag == tag && this->token(slots[at].id) == token)
      return slots[at].id;
  return -1;
}

} // namespace retort::text
