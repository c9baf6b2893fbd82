//===- ContainerTest.cpp - Broken headers and section tables ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Artifact.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

std::string messageOf(const Bytes &file, Code code = Code::InvalidData) {
  AlignedBytes bytes(file);
  auto artifact = Artifact::openMemory(bytes.span());
  EXPECT_FALSE(artifact.isOk());
  EXPECT_EQ(artifact.status().code(), code) << artifact.status().message();
  return artifact.status().message();
}

/// Applies `edit` to the header of a good file and hashes it anew.
template <typename Fn>
std::string withHeader(Fn &&edit, Code code = Code::InvalidData) {
  Bytes file = ArtifactBuilder().build();
  retort::abi::FileHeader header;
  std::memcpy(&header, file.data(), sizeof header);
  edit(header);
  std::memcpy(file.data(), &header, sizeof header);
  rehashHeader(file);
  return messageOf(file, code);
}

TEST(HeaderTest, WrongMagic) {
  EXPECT_THAT(withHeader([](auto &h) { h.magic[1] = 'r'; }),
              HasSubstr("not those of a .retort artifact"));
}

TEST(HeaderTest, AnotherVersion) {
  EXPECT_THAT(withHeader([](auto &h) { h.version = 2; }, Code::Incompatible),
              HasSubstr("expected artifact format version 1, found 2"));
}

TEST(HeaderTest, WrongHash) {
  Bytes file = ArtifactBuilder().build();
  file[offsetof(retort::abi::FileHeader, headerHash)] ^= std::byte{1};
  EXPECT_THAT(messageOf(file), HasSubstr("header: expected hash"));
}

TEST(HeaderTest, WrongHeaderSize) {
  EXPECT_THAT(withHeader([](auto &h) { h.headerSize = 8192; }),
              HasSubstr("expected header size 4096, found 8192"));
}

TEST(HeaderTest, WrongFileSize) {
  EXPECT_THAT(withHeader([](auto &h) { h.fileSize += 4096; }),
              HasSubstr("it is truncated"));
  EXPECT_THAT(withHeader([](auto &h) { h.fileSize = ~0ull; }),
              HasSubstr("expected a file of"));
}

TEST(HeaderTest, IndexOffsetOutOfRange) {
  EXPECT_THAT(withHeader([](auto &h) { h.indexOffset = 0; }),
              HasSubstr("index offset"));
  EXPECT_THAT(withHeader([](auto &h) { h.indexOffset += 8; }),
              HasSubstr("index offset"));
  EXPECT_THAT(withHeader([](auto &h) { h.indexOffset = ~0ull - 4095; }),
              HasSubstr("don't reach the file's last page"));
  EXPECT_THAT(withHeader([](auto &h) { h.indexOffset -= 4096; }),
              HasSubstr("don't reach the file's last page"));
}

TEST(HeaderTest, IndexSizeOutOfRange) {
  EXPECT_THAT(withHeader([](auto &h) { h.indexSize = 0; }),
              HasSubstr("expected an index of 1 to"));
  EXPECT_THAT(withHeader([](auto &h) { h.indexSize = ~0ull; }),
              HasSubstr("expected an index of 1 to"));
  EXPECT_THAT(withHeader([](auto &h) { h.indexSize += 8192; }),
              HasSubstr("don't reach the file's last page"));
}

TEST(HeaderTest, WrongIndexHash) {
  EXPECT_THAT(withHeader([](auto &h) { h.indexHash ^= 1; }),
              HasSubstr("index: expected hash"));
}

TEST(HeaderTest, JunkInPadding) {
  Bytes file = ArtifactBuilder().build();
  file[sizeof(retort::abi::FileHeader)] = std::byte{1};
  EXPECT_THAT(messageOf(file), HasSubstr("header: expected zeros"));
  file = ArtifactBuilder().build();
  file.back() = std::byte{1};
  EXPECT_THAT(messageOf(file), HasSubstr("index: expected zeros"));
}

TEST(IndexTest, NotAFlatbuffer) {
  Bytes file = ArtifactBuilder().build();
  retort::abi::FileHeader header;
  std::memcpy(&header, file.data(), sizeof header);
  for (uint64_t i = 0; i < header.indexSize; ++i)
    file[header.indexOffset + i] = std::byte{0xee};
  // Behind a right hash, as a hostile file would have it.
  OpenOptions unhashed;
  unhashed.ignoreHashes = true;
  AlignedBytes bytes(file);
  auto artifact = Artifact::openMemory(bytes.span(), unhashed);
  EXPECT_THAT(artifact.status().message(), HasSubstr("flatbuffer"));
}

/// Builds with an edit to the laid-out section table.
std::string withSections(
    const std::function<
        void(std::vector<std::unique_ptr<retort::abi::SectionT>> &)> &edit) {
  ArtifactBuilder builder;
  builder.addText("text/config.json", "{\"text\": \"some\"}");
  return messageOf(
      builder.build([&](retort::abi::IndexT &index) { edit(index.sections); }));
}

TEST(SectionTest, RepeatedName) {
  EXPECT_THAT(withSections([](auto &s) { s[2]->name = s[0]->name; }),
              HasSubstr("expected a name of its own"));
}

TEST(SectionTest, EmptyName) {
  EXPECT_THAT(withSections([](auto &s) { s[2]->name = ""; }),
              HasSubstr("expected a name of its own"));
}

TEST(SectionTest, UnknownKind) {
  EXPECT_THAT(
      withSections([](auto &s) { s[2]->kind = retort::abi::SectionKind(9); }),
      HasSubstr("kind 9"));
}

TEST(SectionTest, OverlappingOffsets) {
  EXPECT_THAT(withSections([](auto &s) { s[1]->offset = s[0]->offset; }),
              HasSubstr("expected offset"));
}

TEST(SectionTest, GapBetweenSections) {
  EXPECT_THAT(withSections([](auto &s) { s[1]->offset += 4096; }),
              HasSubstr("expected offset"));
}

TEST(SectionTest, SizeBeyondTheIndex) {
  EXPECT_THAT(withSections([](auto &s) { s[2]->size += 1 << 20; }),
              HasSubstr("goes past the index"));
  EXPECT_THAT(withSections([](auto &s) { s[2]->size = ~0ull; }),
              HasSubstr("goes past the index"));
}

TEST(SectionTest, SizeTooSmallLeavesJunk) {
  EXPECT_THAT(withSections([](auto &s) { s[2]->size -= 4; }),
              HasSubstr("expected zeros"));
}

TEST(SectionTest, MissingLastSection) {
  EXPECT_THAT(withSections([](auto &s) { s.pop_back(); }),
              HasSubstr("expected them to end at the index"));
}

TEST(SectionTest, WrongHash) {
  EXPECT_THAT(withSections([](auto &s) { s[0]->hash ^= 1; }),
              HasSubstr("section 0 'code/host': expected hash"));
}

TEST(SectionTest, HashOfWeightsMustBeZero) {
  EXPECT_THAT(withSections([](auto &s) { s[1]->hash = 5; }),
              HasSubstr("expected hash 0"));
}

TEST(SectionTest, TwoWeightSections) {
  EXPECT_THAT(withSections([](auto &s) {
                s[0]->kind = retort::abi::SectionKind::Weights;
                s[0]->hash = 0;
              }),
              HasSubstr("expected one weights section"));
}

TEST(SectionTest, RawSizeOfCode) {
  EXPECT_THAT(withSections([](auto &s) { s[0]->raw_size += 1; }),
              HasSubstr("raw_size"));
}

TEST(SectionTest, RawSizeOfTextTooLarge) {
  EXPECT_THAT(withSections([](auto &s) { s[2]->raw_size = 1ull << 40; }),
              HasSubstr("expected a raw_size of at most"));
}

TEST(SectionTest, RawSizeOfTextDiffersFromItsFrame) {
  EXPECT_THAT(withSections([](auto &s) { s[2]->raw_size += 1; }),
              HasSubstr("expected a zstd frame of"));
}

TEST(SectionTest, TextThatIsNotCompressed) {
  ArtifactBuilder builder;
  builder.addText("text/config.json", "{}");
  builder.setSection(2, std::as_bytes(std::span("plain text", 10)));
  EXPECT_THAT(messageOf(builder.build()), HasSubstr("zstd frame"));
}

TEST(SectionTest, TextWhoseFrameIsCutShort) {
  ArtifactBuilder builder;
  builder.addText("text/config.json", std::string(5000, 'x') + "yz");
  builder.sections[2].resize(builder.sections[2].size() - 3);
  AlignedBytes bytes(builder.build());
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  auto text = (*artifact)->text("text/config.json");
  EXPECT_EQ(text.status().code(), Code::InvalidData);
  EXPECT_THAT(text.status().message(), HasSubstr("cannot decompress"));
}

} // namespace
