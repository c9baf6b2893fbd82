//===- JournalTest.cpp - Journals, whole and hostile ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/Journal.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <xxhash.h>

namespace retort {
namespace {

using testing::HasSubstr;

using Bytes = std::vector<std::byte>;

const std::vector<JournalInput> kInputs = {
    {"model.safetensors", "123 bytes"}, {"--weights", "int4"}, {"empty", ""}};

std::vector<PackedWeight> placed() {
  std::vector<PackedWeight> weights(4);
  uint64_t offset = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i].offset = offset;
    weights[i].size = 100 * (i + 1);
    weights[i].storedSize = (weights[i].size + 63) / 64 * 64;
    offset += weights[i].storedSize;
  }
  return weights;
}

void append(Bytes &bytes, const JournalRecord &record) {
  auto raw = std::as_bytes(std::span(&record, 1));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

uint64_t hashOf(const Bytes &journal) {
  JournalHeader header;
  std::memcpy(&header, journal.data(), sizeof header);
  return header.inputsHash;
}

/// A journal of the first `count` weights, with hashes 1000, 1001, ...
Bytes journalOf(size_t count, std::vector<PackedWeight> weights = placed()) {
  Bytes bytes = encodeJournal(kInputs);
  uint64_t hash = hashOf(bytes);
  for (size_t i = 0; i < count; ++i) {
    weights[i].hash = 1000 + i;
    weights[i].relativeError = 0.25f * static_cast<float>(i);
    append(bytes, makeRecord(i, weights[i], hash));
  }
  return bytes;
}

std::string errorOf(const Bytes &bytes) {
  auto journal = parseJournal(bytes);
  return journal ? "no error" : journal.status().message();
}

TEST(JournalTest, GivesBackWhatWasWritten) {
  auto journal = parseJournal(journalOf(3));
  ASSERT_TRUE(journal) << journal.status().message();
  EXPECT_EQ(journal->inputs, kInputs);
  ASSERT_EQ(journal->records.size(), 3u);
  std::vector<PackedWeight> weights = recordedWeights(*journal, placed());
  ASSERT_EQ(weights.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(weights[i].offset, placed()[i].offset);
    EXPECT_EQ(weights[i].size, placed()[i].size);
    EXPECT_EQ(weights[i].hash, 1000 + i);
    EXPECT_EQ(weights[i].relativeError, 0.25f * static_cast<float>(i));
  }
}

TEST(JournalTest, TornAnywhereKeepsTheRecordsBefore) {
  Bytes whole = journalOf(3);
  size_t front = encodeJournal(kInputs).size();
  for (size_t size = 0; size < whole.size(); ++size) {
    auto journal = parseJournal(std::span(whole).first(size));
    if (size < front) {
      EXPECT_FALSE(journal) << size;
      continue;
    }
    ASSERT_TRUE(journal) << size;
    EXPECT_EQ(journal->records.size(), (size - front) / sizeof(JournalRecord));
  }
}

TEST(JournalTest, AnyFlippedBitEndsTheRecords) {
  Bytes bytes = journalOf(3);
  size_t front = encodeJournal(kInputs).size();
  for (size_t at = 0; at < bytes.size(); ++at) {
    bytes[at] ^= std::byte(1u << at % 8);
    auto journal = parseJournal(bytes);
    if (at < front) {
      EXPECT_FALSE(journal) << at;
    } else {
      ASSERT_TRUE(journal) << at;
      EXPECT_EQ(journal->records.size(), (at - front) / sizeof(JournalRecord));
    }
    bytes[at] ^= std::byte(1u << at % 8);
  }
}

TEST(JournalTest, ZerosBehindTheRecordsAreNone) {
  // What a file system may leave of a write that was under way.
  Bytes bytes = journalOf(2);
  bytes.resize(bytes.size() + 4096);
  auto journal = parseJournal(bytes);
  ASSERT_TRUE(journal);
  EXPECT_EQ(journal->records.size(), 2u);
}

TEST(JournalTest, RefusesWhatIsNone) {
  EXPECT_THAT(errorOf({}), HasSubstr("signature"));
  EXPECT_THAT(errorOf(Bytes(100)), HasSubstr("signature"));
  Bytes bytes = journalOf(1);
  bytes[8] = std::byte(9);
  EXPECT_THAT(errorOf(bytes), HasSubstr("expected version 1, found 9"));
}

TEST(JournalTest, RefusesInputsThatGoPastTheFile) {
  Bytes bytes = journalOf(1);
  for (uint32_t size : {1000u, 0xffffffffu}) {
    std::memcpy(bytes.data() + 12, &size, sizeof size);
    EXPECT_THAT(errorOf(bytes), HasSubstr("bytes of inputs, found"));
  }
}

TEST(JournalTest, RefusesTextsThatGoPastTheInputs) {
  for (uint32_t size : {57u, 0xffffffffu}) {
    Bytes bytes = encodeJournal(kInputs);
    JournalHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    std::memcpy(bytes.data() + sizeof header, &size, sizeof size);
    header.inputsHash =
        XXH3_64bits(bytes.data() + sizeof header, header.inputsSize);
    std::memcpy(bytes.data(), &header, sizeof header);
    EXPECT_THAT(errorOf(bytes), HasSubstr("an input goes past"));
  }
}

TEST(JournalTest, RecordsOfOtherInputsAreNone) {
  Bytes bytes = encodeJournal(kInputs);
  append(bytes, makeRecord(0, placed()[0], hashOf(bytes) + 1));
  auto journal = parseJournal(bytes);
  ASSERT_TRUE(journal);
  EXPECT_TRUE(journal->records.empty());
}

TEST(JournalTest, RecordsOutOfOrderEndIt) {
  Bytes bytes = journalOf(1);
  append(bytes, makeRecord(2, placed()[2], hashOf(bytes)));
  append(bytes, makeRecord(1, placed()[1], hashOf(bytes)));
  auto journal = parseJournal(bytes);
  ASSERT_TRUE(journal);
  EXPECT_EQ(journal->records.size(), 1u);
}

TEST(JournalTest, RecordsOfOtherPlacesAreNotTakenOver) {
  auto taken = [](auto change) {
    std::vector<PackedWeight> weights = placed();
    change(weights[1]);
    auto journal = parseJournal(journalOf(3, weights));
    EXPECT_TRUE(journal && journal->records.size() == 3);
    return recordedWeights(*journal, placed()).size();
  };
  EXPECT_EQ(taken([](PackedWeight &) {}), 3u);
  EXPECT_EQ(taken([](PackedWeight &w) { w.offset += 64; }), 1u);
  EXPECT_EQ(taken([](PackedWeight &w) { w.offset = UINT64_MAX; }), 1u);
  EXPECT_EQ(taken([](PackedWeight &w) { w.storedSize -= 64; }), 1u);
  EXPECT_EQ(taken([](PackedWeight &w) { w.storedSize = UINT64_MAX; }), 1u);
}

TEST(JournalTest, ErrorsThatNoTensorHasAreNotTakenOver) {
  for (float error : {-1.0f, std::numeric_limits<float>::quiet_NaN(),
                      std::numeric_limits<float>::infinity()}) {
    Bytes bytes = encodeJournal(kInputs);
    PackedWeight weight = placed()[0];
    weight.relativeError = error;
    append(bytes, makeRecord(0, weight, hashOf(bytes)));
    auto journal = parseJournal(bytes);
    ASSERT_TRUE(journal && journal->records.size() == 1);
    EXPECT_TRUE(recordedWeights(*journal, placed()).empty());
  }
}

TEST(JournalTest, MoreRecordsThanWeightsAreNotTakenOver) {
  auto journal = parseJournal(journalOf(4));
  ASSERT_TRUE(journal);
  std::vector<PackedWeight> two = placed();
  two.resize(2);
  EXPECT_EQ(recordedWeights(*journal, two).size(), 2u);
}

TEST(JournalTest, DifferencesAreNamed) {
  std::vector<JournalInput> now = kInputs;
  EXPECT_EQ(describeDifference(kInputs, now), "");
  now[1].value = "int8";
  EXPECT_EQ(describeDifference(kInputs, now), "--weights");
  now[0].name = "other.safetensors";
  EXPECT_EQ(describeDifference(kInputs, now),
            "other.safetensors, --weights, model.safetensors");
  now.push_back({"--split", "1"});
  EXPECT_EQ(describeDifference(kInputs, now),
            "other.safetensors, --weights, --split and 1 more");
}

TEST(JournalTest, NamesFromTheFileArePrintable) {
  EXPECT_EQ(
      describeDifference(std::vector<JournalInput>{{"a\x1b[2J\n", ""}}, {}),
      "a?[2J?");
}

} // namespace
} // namespace retort
