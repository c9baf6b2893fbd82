//===- fuzz_teacher_file.cpp - Teacher files from hostile hands -----------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An input is taken as a file, as a file whose hashes are set right, and as a
// record. What passes is read and scored.
//
//===----------------------------------------------------------------------===//

#include "runtime/score/TeacherFile.h"

#include <cstdlib>
#include <cstring>
#include <xxhash.h>

using namespace retort;
using namespace retort::score;

namespace {

/// Bounds of any record are an interval.
void use(const TeacherRecord &record, uint32_t vocab) {
  std::vector<float> logits(vocab);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>(i % 17);
  auto q = Distribution::create(logits);
  Bounds bounds = KlBounder().bound(record, *q);
  if (!(bounds.lower >= 0) || !(bounds.upper >= 0))
    std::abort();
  (void)record.top();
}

void tryFile(std::span<const std::byte> bytes) {
  auto file = TeacherReader::read(bytes, "fuzz");
  if (!file.isOk())
    return;
  for (uint64_t i = 0; i < file->records(); ++i) {
    auto record = file->record(i);
    if (record.isOk() && file->info().vocab < 10000)
      use(*record, file->info().vocab);
  }
}

void tryRecord(std::span<const std::byte> input) {
  for (auto [vocab, k] : {std::pair(300u, 9u), std::pair(7u, 7u)}) {
    std::vector<std::byte> bytes(input.begin(), input.end());
    bytes.resize(recordSize(vocab, k));
    uint64_t hash = XXH3_64bits_withSeed(bytes.data(), bytes.size() - 8, 3);
    std::memcpy(bytes.data() + bytes.size() - 8, &hash, 8);
    auto record = decodeRecord(bytes, vocab, k, 3);
    if (!record.isOk())
      continue;
    use(*record, vocab);
    std::vector<std::byte> again(bytes.size());
    encodeRecord(*record, vocab, 3, again);
    auto same = decodeRecord(again, vocab, k, 3);
    if (!same.isOk() || !(*same == *record))
      std::abort();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto input = std::as_bytes(std::span(data, size));
  tryFile(input);
  tryRecord(input);
  if (size < sizeof(TeacherHeader))
    return 0;
  std::vector<std::byte> bytes(input.begin(), input.end());
  TeacherHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::memcpy(header.magic, "RTRTLPR\n", 8);
  header.version = 1;
  if (header.vocab == 0 || header.topK == 0 || header.topK > header.vocab)
    return 0;
  header.recordSize =
      static_cast<uint32_t>(recordSize(header.vocab, header.topK));
  uint64_t behind = size - sizeof header;
  header.inputsSize = std::min(header.inputsSize, behind);
  header.records = (behind - header.inputsSize) / header.recordSize;
  bytes.resize(sizeof header + header.inputsSize +
               header.records * header.recordSize);
  header.inputsHash =
      XXH3_64bits(bytes.data() + sizeof header, header.inputsSize);
  header.hash = XXH3_64bits(&header, sizeof header - 8);
  std::memcpy(bytes.data(), &header, sizeof header);
  tryFile(bytes);
  return 0;
}
