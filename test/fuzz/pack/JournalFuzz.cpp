//===- JournalFuzz.cpp - Journals of interrupted compiles -----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An input is taken as a journal, as the inputs of one with the right hash, and
// as the records behind a good header. What is taken over lies in its place.
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/Journal.h"

#include <cstdlib>
#include <cstring>
#include <xxhash.h>

using namespace retort;

namespace {

void use(const std::vector<std::byte> &bytes) {
  auto journal = parseJournal(bytes);
  if (!journal)
    return;
  std::vector<PackedWeight> placed(3);
  for (uint64_t i = 0; i < 3; ++i)
    placed[i].offset = placed[i].size = placed[i].storedSize = i * 64;
  std::vector<PackedWeight> taken = recordedWeights(*journal, placed);
  if (taken.size() > placed.size())
    std::abort();
  for (size_t i = 0; i < taken.size(); ++i)
    if (taken[i].offset != placed[i].offset ||
        taken[i].storedSize != placed[i].storedSize ||
        !(taken[i].relativeError >= 0))
      std::abort();
  (void)describeDifference(journal->inputs, {});
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto input = std::as_bytes(std::span(data, size));
  use({input.begin(), input.end()});

  std::vector<std::byte> bytes = encodeJournal({});
  JournalHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  header.inputsSize = static_cast<uint32_t>(size);
  header.inputsHash = XXH3_64bits(data, size);
  std::memcpy(bytes.data(), &header, sizeof header);
  bytes.insert(bytes.end(), input.begin(), input.end());
  use(bytes);

  bytes = encodeJournal({});
  std::memcpy(&header, bytes.data(), sizeof header);
  for (size_t at = 0; at + sizeof(JournalRecord) <= size;
       at += sizeof(JournalRecord)) {
    JournalRecord record;
    std::memcpy(&record, data + at, sizeof record);
    PackedWeight weight;
    weight.offset = record.offset;
    weight.storedSize = record.storedSize;
    weight.hash = record.hash;
    weight.relativeError = record.relativeError;
    JournalRecord good = makeRecord(record.number, weight, header.inputsHash);
    auto raw = std::as_bytes(std::span(&good, 1));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
  use(bytes);
  return 0;
}
