//===- TeacherFileTest.cpp - Teacher files as they should not be ----------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/TeacherFile.h"
#include "test/unit/score/ScoreTestSupport.h"

#include <cstring>
#include <xxhash.h>

using namespace retort;
using namespace retort::score;
using namespace retort::test;

namespace {

TeacherInfo someInfo() {
  TeacherInfo info;
  info.name = "a teacher";
  info.vocab = 60;
  info.topK = 6;
  info.teacher = 11;
  info.vocabulary = 12;
  info.plan.texts.push_back({"first", {1, 2, 3, 4, 5, 6}, 0});
  info.plan.texts.push_back({"second", {9, 8, 7}, 2});
  info.plan.prefix = {0};
  info.plan.context = 5;
  info.plan.stride = 3;
  return info;
}

/// Bytes of a good file.
std::string goodFile() {
  ScratchDir dir;
  auto writer = TeacherWriter::create(dir.path("t"), someInfo(), true);
  EXPECT_TRUE(writer.isOk());
  uint64_t count = countScored(writer->windows());
  for (uint64_t i = 0; i < count; ++i)
    EXPECT_TRUE(writer->append(makeRecord(distribution(randomLogits(60, i)), 6))
                    .isOk());
  EXPECT_TRUE(writer->commit().isOk());
  return *readFile(dir.path("t"), 1 << 20);
}

Result<TeacherReader> readBytes(const std::string &bytes) {
  return TeacherReader::read(std::as_bytes(std::span(bytes)), "t");
}

TEST(TeacherFile, ComesBackAsItWas) {
  std::string bytes = goodFile();
  auto file = readBytes(bytes);
  ASSERT_TRUE(file.isOk()) << file.status().message();
  TeacherInfo expected = someInfo();
  EXPECT_EQ(file->info().name, expected.name);
  EXPECT_EQ(file->info().vocab, 60u);
  EXPECT_EQ(file->info().topK, 6u);
  EXPECT_EQ(file->info().teacher, 11u);
  EXPECT_EQ(file->info().vocabulary, 12u);
  EXPECT_EQ(file->info().plan.texts, expected.plan.texts);
  EXPECT_EQ(file->info().plan.prefix, expected.plan.prefix);
  EXPECT_EQ(file->info().plan.context, 5u);
  EXPECT_EQ(file->info().plan.stride, 3u);
  // The second text's last token alone, and all of the first behind a prefix.
  EXPECT_EQ(file->records(), 7u);
  for (uint64_t i = 0; i < 7; ++i)
    EXPECT_EQ(*file->record(i),
              makeRecord(distribution(randomLogits(60, i)), 6));
}

TEST(TeacherFile, LiesAsTheDocumentSays) {
  std::string bytes = goodFile();
  auto u32 = [&](size_t at) {
    uint32_t value;
    std::memcpy(&value, bytes.data() + at, 4);
    return value;
  };
  auto u64 = [&](size_t at) {
    uint64_t value;
    std::memcpy(&value, bytes.data() + at, 8);
    return value;
  };
  EXPECT_EQ(bytes.substr(0, 8), "RTRTLPR\n");
  EXPECT_EQ(u32(8), 1u);
  EXPECT_EQ(u32(12), 60u);
  EXPECT_EQ(u32(16), 6u);
  EXPECT_EQ(u32(20), 5u);
  EXPECT_EQ(u32(24), 3u);
  // 24 fixed, 6 * 3 low bits, 6 + 7 + 1 high bits, 6 codes, a hash.
  EXPECT_EQ(u32(28), 24u + 3 + 2 + 18 + 8);
  EXPECT_EQ(u64(32), 7u);
  EXPECT_EQ(u64(40), 11u);
  EXPECT_EQ(u64(48), 12u);
  EXPECT_EQ(u64(56) + 80 + 7 * u32(28), bytes.size());
  EXPECT_EQ(u64(64), XXH3_64bits(bytes.data() + 80, u64(56)));
  EXPECT_EQ(u64(72), XXH3_64bits(bytes.data(), 72));
  EXPECT_EQ(u32(80), 9u);
  EXPECT_EQ(bytes.substr(84, 9), "a teacher");
  size_t record = 80 + u64(56) + 3 * u32(28);
  EXPECT_EQ(
      u64(record + u32(28) - 8),
      XXH3_64bits_withSeed(bytes.data() + record, u32(28) - 8, u64(72) + 3));
}

TEST(TeacherFile, EveryFlippedBitIsFound) {
  std::string bytes = goodFile();
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= char(1 << bit % 8);
    auto file = readBytes(bytes);
    bool found = !file.isOk();
    for (uint64_t i = 0; !found && i < file->records(); ++i)
      found = !file->record(i).isOk();
    EXPECT_TRUE(found) << "bit " << bit;
    bytes[bit / 8] ^= char(1 << bit % 8);
  }
}

TEST(TeacherFile, EveryShorterAndLongerFileIsFound) {
  std::string bytes = goodFile();
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(readBytes(bytes.substr(0, size)).isOk()) << size;
  EXPECT_FALSE(readBytes(bytes + "x").isOk());
}

TEST(TeacherFile, ErrorsNameFileAndRecord) {
  std::string bytes = goodFile();
  bytes[bytes.size() - 20] ^= 1;
  auto file = readBytes(bytes);
  ASSERT_TRUE(file.isOk());
  auto record = file->record(6);
  ASSERT_FALSE(record.isOk());
  EXPECT_EQ(record.status().code(), Code::InvalidData);
  EXPECT_EQ(record.status().message(), "t: record 6: the hash does not match");
}

/// A good file with one header field changed and its hash set right.
std::string withField(size_t at, size_t size, uint64_t value) {
  std::string bytes = goodFile();
  std::memcpy(bytes.data() + at, &value, size);
  uint64_t hash = XXH3_64bits(bytes.data(), 72);
  std::memcpy(bytes.data() + 72, &hash, 8);
  return bytes;
}

TEST(TeacherFile, HostileHeadersAreRefused) {
  struct Case {
    size_t at, size;
    uint64_t value;
    const char *part;
  };
  const Case cases[] = {
      {8, 4, 2, "version"},
      {12, 4, 0, "vocabulary"},
      {12, 4, UINT32_MAX, "vocabulary"},
      {16, 4, 0, "top-k"},
      {16, 4, 61, "top-k"},
      {16, 4, 7, "record size"},
      {20, 4, 2, "context"},
      {20, 4, 0, "context"},
      {24, 4, 0, "stride"},
      {24, 4, 4, "stride"},
      {24, 4, UINT32_MAX, "stride"},
      {28, 4, 1, "record size"},
      {32, 8, 6, "bytes of the file"},
      {32, 8, UINT64_MAX, "records"},
      {32, 8, UINT64_MAX / 55, "records"},
      {56, 8, 0, "bytes of the file"},
      {56, 8, UINT64_MAX, "inputs"},
      {64, 8, 1, "inputs"},
  };
  for (const Case &one : cases) {
    auto file = readBytes(withField(one.at, one.size, one.value));
    ASSERT_FALSE(file.isOk()) << one.at << " " << one.value;
    EXPECT_NE(file.status().message().find(one.part), std::string::npos)
        << one.at << ": " << file.status().message();
  }
}

/// A good file with a u64 of its inputs changed and the hashes set right.
std::string withInput(size_t at, uint64_t value, size_t size) {
  std::string bytes = goodFile();
  std::memcpy(bytes.data() + 80 + at, &value, size);
  uint64_t inputs;
  std::memcpy(&inputs, bytes.data() + 56, 8);
  uint64_t hash = XXH3_64bits(bytes.data() + 80, inputs);
  return withField(64, 8, hash).replace(80, inputs, bytes, 80, inputs);
}

TEST(TeacherFile, HostileInputsAreRefused) {
  // Name (4 + 9), prefix (8 + 4), texts (4), name (4 + 5), first (8), ids.
  EXPECT_TRUE(readBytes(withInput(0, 9, 4)).isOk());
  EXPECT_FALSE(readBytes(withInput(0, UINT32_MAX, 4)).isOk());
  EXPECT_FALSE(readBytes(withInput(0, 8, 4)).isOk());
  EXPECT_FALSE(readBytes(withInput(13, UINT64_MAX, 8)).isOk());
  EXPECT_FALSE(readBytes(withInput(13, UINT64_MAX / 4 + 1, 8)).isOk());
  EXPECT_FALSE(readBytes(withInput(21, 60, 4)).isOk());
  EXPECT_FALSE(readBytes(withInput(21, UINT32_MAX, 4)).isOk());
  EXPECT_FALSE(readBytes(withInput(25, 3, 4)).isOk());
  EXPECT_FALSE(readBytes(withInput(25, 1, 4)).isOk());
  EXPECT_FALSE(readBytes(withInput(25, UINT32_MAX, 4)).isOk());
  EXPECT_FALSE(readBytes(withInput(38, UINT64_MAX, 8)).isOk());
  EXPECT_FALSE(readBytes(withInput(38, 1, 8)).isOk());
  EXPECT_FALSE(readBytes(withInput(54, 60, 4)).isOk());
}

TEST(IsTeacherFile, KnowsThemByTheirMagic) {
  ScratchDir dir;
  writeBytes(dir.path("a"), goodFile());
  writeBytes(dir.path("b"), "RTRTLPR");
  EXPECT_TRUE(isTeacherFile(dir.path("a")));
  EXPECT_FALSE(isTeacherFile(dir.path("b")));
  EXPECT_FALSE(isTeacherFile(dir.path("none")));
}

} // namespace
