//===- Journal.cpp - What an unfinished artifact holds ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/Journal.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <xxhash.h>

namespace retort {
namespace {

constexpr unsigned char kJournalMagic[8] = {0x8e, 'R', 'T',  'J',
                                            'R',  'N', 0x1a, 0x0a};
constexpr uint32_t kJournalVersion = 1;
/// Thousands of shards with long names fit.
constexpr uint32_t kMaxInputsSize = 64u << 20;
/// Differing inputs that are named.
constexpr size_t kNamedInputs = 3;

Status invalid(const std::string &what) {
  return Status::error(Code::InvalidData, "journal: " + what);
}

void append(std::vector<std::byte> &out, const std::string &text) {
  auto size = static_cast<uint32_t>(text.size());
  auto bytes = std::as_bytes(std::span(&size, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
  auto chars = std::as_bytes(std::span(text));
  out.insert(out.end(), chars.begin(), chars.end());
}

/// The text at the front of `bytes`, which it is taken from.
std::optional<std::string> takeText(std::span<const std::byte> &bytes) {
  uint32_t size;
  if (bytes.size() < sizeof size)
    return std::nullopt;
  std::memcpy(&size, bytes.data(), sizeof size);
  bytes = bytes.subspan(sizeof size);
  if (size > bytes.size())
    return std::nullopt;
  std::string text(reinterpret_cast<const char *>(bytes.data()), size);
  bytes = bytes.subspan(size);
  return text;
}

uint64_t checkOf(const JournalRecord &record, uint64_t inputsHash) {
  return XXH3_64bits_withSeed(&record, offsetof(JournalRecord, check),
                              inputsHash);
}

} // namespace

bool startsLikeJournal(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof kJournalMagic &&
         std::memcmp(bytes.data(), kJournalMagic, sizeof kJournalMagic) == 0;
}

std::vector<std::byte> encodeJournal(std::span<const JournalInput> inputs) {
  std::vector<std::byte> out(sizeof(JournalHeader));
  for (const JournalInput &input : inputs) {
    append(out, input.name);
    append(out, input.value);
  }
  JournalHeader header{};
  std::memcpy(header.magic, kJournalMagic, sizeof header.magic);
  header.version = kJournalVersion;
  header.inputsSize = static_cast<uint32_t>(out.size() - sizeof header);
  header.inputsHash =
      XXH3_64bits(out.data() + sizeof header, header.inputsSize);
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

JournalRecord makeRecord(uint64_t number, const PackedWeight &weight,
                         uint64_t inputsHash) {
  JournalRecord record{number,
                       weight.offset,
                       weight.storedSize,
                       weight.hash,
                       weight.relativeError,
                       0,
                       0};
  record.check = checkOf(record, inputsHash);
  return record;
}

Result<Journal> parseJournal(std::span<const std::byte> bytes) {
  if (!startsLikeJournal(bytes))
    return invalid("expected its signature");
  JournalHeader header;
  if (bytes.size() < sizeof header)
    return invalid("expected a header of " + std::to_string(sizeof header) +
                   " bytes, found " + std::to_string(bytes.size()));
  std::memcpy(&header, bytes.data(), sizeof header);
  bytes = bytes.subspan(sizeof header);
  if (header.version != kJournalVersion)
    return invalid("expected version " + std::to_string(kJournalVersion) +
                   ", found " + std::to_string(header.version));
  if (header.inputsSize > kMaxInputsSize || header.inputsSize > bytes.size())
    return invalid("expected " + std::to_string(header.inputsSize) +
                   " bytes of inputs, found " + std::to_string(bytes.size()));
  auto inputs = bytes.first(header.inputsSize);
  bytes = bytes.subspan(header.inputsSize);
  if (XXH3_64bits(inputs.data(), inputs.size()) != header.inputsHash)
    return invalid("the hash of the inputs does not match");
  Journal journal;
  journal.inputsHash = header.inputsHash;
  while (!inputs.empty()) {
    auto name = takeText(inputs);
    auto value = name ? takeText(inputs) : std::nullopt;
    if (!value)
      return invalid("an input goes past the others' end");
    journal.inputs.push_back({std::move(*name), std::move(*value)});
  }
  for (JournalRecord record; bytes.size() >= sizeof record;
       bytes = bytes.subspan(sizeof record)) {
    std::memcpy(&record, bytes.data(), sizeof record);
    if (record.check != checkOf(record, header.inputsHash) ||
        record.number != journal.records.size())
      break;
    journal.records.push_back(record);
  }
  return journal;
}

std::vector<PackedWeight>
recordedWeights(const Journal &journal, std::span<const PackedWeight> placed) {
  std::vector<PackedWeight> weights;
  for (const JournalRecord &record : journal.records) {
    size_t i = weights.size();
    if (i == placed.size() || record.offset != placed[i].offset ||
        record.storedSize != placed[i].storedSize || record.reserved != 0 ||
        !(record.relativeError >= 0) || std::isinf(record.relativeError))
      break;
    weights.push_back(placed[i]);
    weights.back().hash = record.hash;
    weights.back().relativeError = record.relativeError;
  }
  return weights;
}

std::string describeDifference(std::span<const JournalInput> before,
                               std::span<const JournalInput> now) {
  std::map<std::string_view, std::string_view> old;
  for (const JournalInput &input : before)
    old.emplace(input.name, input.value);
  std::vector<std::string_view> names;
  for (const JournalInput &input : now) {
    auto it = old.find(input.name);
    if (it == old.end() || it->second != input.value)
      names.push_back(input.name);
    if (it != old.end())
      old.erase(it);
  }
  for (const auto &[name, value] : old)
    names.push_back(name);
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kNamedInputs); ++i)
    text += (i ? ", " : "") + std::string(names[i]);
  // Some come from the file.
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; },
      '?');
  if (names.size() > kNamedInputs)
    text += " and " + std::to_string(names.size() - kNamedInputs) + " more";
  return text;
}

} // namespace retort
