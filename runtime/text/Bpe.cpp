//===- Bpe.cpp - Byte-pair encoding ---------------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Bpe.h"

#include "runtime/text/Unicode.h"

#include <algorithm>
#include <bit>
#include <queue>

namespace retort::text {
namespace {

/// Up to this many symbols, looking at all pairs again after each merge is
/// quicker than keeping a queue.
constexpr size_t kShortPiece = 32;

uint64_t pairOf(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
         static_cast<uint32_t>(right);
}

/// Where a pair's slot is looked for first, in a table of 2^(64 - shift) slots.
size_t slotOf(uint64_t pair, int shift) {
  return (pair * 0x9E3779B97F4A7C15u) >> shift;
}

/// A symbol of a long piece, linked to its neighbours by index.
struct Symbol {
  int32_t id;
  int32_t previous, next; ///< -1 at the ends
};

/// A merge that may be done, unless one of its symbols has changed since.
struct Candidate {
  uint32_t rank;
  int32_t position;
  int32_t left, right, result;
  bool operator>(const Candidate &other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

} // namespace

Result<Bpe> Bpe::create(Vocabulary vocabulary, std::span<const Merge> merges,
                        Options options) {
  Bpe bpe;
  bpe.vocab = std::move(vocabulary);
  bpe.options = std::move(options);
  const Vocabulary &vocab = bpe.vocab;

  bpe.allBytesKnown = true;
  for (unsigned b = 0; b < 256; ++b) {
    std::string character;
    appendUtf8(character, byteToCharacter(static_cast<uint8_t>(b)));
    bpe.byteIds[b] = vocab.find(character);
    bpe.allBytesKnown &= bpe.byteIds[b] >= 0;
    constexpr const char *kHex = "0123456789ABCDEF";
    // The fallback spells out the character's UTF-8, not the byte.
    bpe.fallbackIds[b] =
        vocab.find(std::string("<0x") + kHex[b >> 4] + kHex[b & 15] + '>');
  }
  if (bpe.options.unknownToken) {
    bpe.unknownId = vocab.find(*bpe.options.unknownToken);
    if (bpe.unknownId < 0)
      return Status::error(Code::InvalidData, "unk_token: token '" +
                                                  *bpe.options.unknownToken +
                                                  "' is not in the vocabulary");
  }

  size_t capacity = std::bit_ceil(merges.size() + merges.size() / 2 + 2);
  bpe.merges.assign(capacity, MergeSlot());
  bpe.mergeShift = 64 - std::countr_zero(capacity);
  // As in a vocabulary, slots are asked for ahead.
  constexpr size_t kAhead = 16;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    if (rank + kAhead < merges.size()) {
      const Merge &ahead = merges[rank + kAhead];
      __builtin_prefetch(
          &bpe.merges[slotOf(pairOf(ahead.left, ahead.right), bpe.mergeShift)],
          1);
    }
    bpe.insertMerge(merges[rank], static_cast<uint32_t>(rank));
  }
  return bpe;
}

void Bpe::insertMerge(const Merge &merge, uint32_t rank) {
  uint64_t pair = pairOf(merge.left, merge.right);
  size_t mask = merges.size() - 1;
  size_t at = slotOf(pair, mergeShift);
  // The last of several equal merges counts, as in the reference library.
  while (merges[at].pair != kNoPair && merges[at].pair != pair)
    at = (at + 1) & mask;
  merges[at] = {pair, rank, merge.result};
}

const Bpe::MergeSlot *Bpe::findMerge(int32_t left, int32_t right) const {
  uint64_t pair = pairOf(left, right);
  size_t mask = merges.size() - 1;
  size_t at = slotOf(pair, mergeShift);
  for (; merges[at].pair != kNoPair; at = (at + 1) & mask)
    if (merges[at].pair == pair)
      return &merges[at];
  return nullptr;
}

void Bpe::encode(std::string_view piece, std::vector<int32_t> &ids) const {
  if (piece.empty())
    return;
  if (options.ignoreMerges) {
    std::string characters;
    characters.reserve(piece.size() * 2);
    for (char c : piece)
      appendUtf8(characters, byteToCharacter(static_cast<uint8_t>(c)));
    if (int32_t id = vocab.find(characters); id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  size_t begin = ids.size();
  appendInitial(piece, ids);
  if (ids.size() - begin <= kShortPiece)
    mergeShort(ids, begin);
  else
    mergeLong(ids, begin);
}

void Bpe::appendInitial(std::string_view piece,
                        std::vector<int32_t> &ids) const {
  if (allBytesKnown) {
    for (char c : piece)
      ids.push_back(byteIds[static_cast<uint8_t>(c)]);
    return;
  }
  bool pendingUnknown = false;
  auto flush = [&] {
    if (pendingUnknown)
      ids.push_back(unknownId);
    pendingUnknown = false;
  };
  for (char c : piece) {
    uint8_t byte = static_cast<uint8_t>(c);
    if (byteIds[byte] >= 0) {
      flush();
      ids.push_back(byteIds[byte]);
      continue;
    }
    if (options.byteFallback) {
      std::string character;
      appendUtf8(character, byteToCharacter(byte));
      bool known = std::all_of(character.begin(), character.end(), [&](char b) {
        return fallbackIds[static_cast<uint8_t>(b)] >= 0;
      });
      if (known) {
        // The reference library lets an unknown token wait here, too.
        for (char b : character)
          ids.push_back(fallbackIds[static_cast<uint8_t>(b)]);
        continue;
      }
    }
    if (unknownId < 0)
      continue;
    if (!options.fuseUnknown)
      flush();
    pendingUnknown = true;
  }
  flush();
}

void Bpe::mergeShort(std::vector<int32_t> &ids, size_t begin) const {
  const MergeSlot *found[kShortPiece];
  size_t n = ids.size() - begin;
  int32_t *symbols = ids.data() + begin;
  for (size_t i = 0; i + 1 < n; ++i)
    found[i] = findMerge(symbols[i], symbols[i + 1]);
  while (n > 1) {
    size_t best = n;
    uint32_t bestRank = kNoRank;
    for (size_t i = 0; i + 1 < n; ++i)
      if (found[i] && found[i]->rank < bestRank) {
        bestRank = found[i]->rank;
        best = i;
      }
    if (best == n)
      break;
    symbols[best] = found[best]->result;
    std::copy(symbols + best + 2, symbols + n, symbols + best + 1);
    std::copy(found + best + 1, found + n - 1, found + best);
    --n;
    if (best > 0)
      found[best - 1] = findMerge(symbols[best - 1], symbols[best]);
    if (best + 1 < n)
      found[best] = findMerge(symbols[best], symbols[best + 1]);
  }
  ids.resize(begin + n);
}

void Bpe::mergeLong(std::vector<int32_t> &ids, size_t begin) const {
  std::vector<Symbol> symbols(ids.size() - begin);
  int32_t n = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < n; ++i)
    symbols[static_cast<size_t>(i)] = {ids[begin + static_cast<size_t>(i)],
                                       i - 1, i + 1 < n ? i + 1 : -1};
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  auto offer = [&](int32_t left) {
    if (left < 0)
      return;
    const Symbol &symbol = symbols[static_cast<size_t>(left)];
    if (symbol.next < 0)
      return;
    int32_t rightId = symbols[static_cast<size_t>(symbol.next)].id;
    if (const MergeSlot *merge = findMerge(symbol.id, rightId))
      queue.push({merge->rank, left, symbol.id, rightId, merge->result});
  };
  for (int32_t i = 0; i < n; ++i)
    offer(i);
  constexpr int32_t kMerged = -1;
  while (!queue.empty()) {
    Candidate c = queue.top();
    queue.pop();
    Symbol &left = symbols[static_cast<size_t>(c.position)];
    if (left.id != c.left || left.next < 0)
      continue;
    Symbol &right = symbols[static_cast<size_t>(left.next)];
    if (right.id != c.right)
      continue;
    left.id = c.result;
    left.next = right.next;
    right.id = kMerged;
    if (left.next >= 0)
      symbols[static_cast<size_t>(left.next)].previous = c.position;
    offer(left.previous);
    offer(c.position);
  }
  ids.resize(begin);
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next)
    ids.push_back(symbols[static_cast<size_t>(i)].id);
}

} // namespace retort::text
