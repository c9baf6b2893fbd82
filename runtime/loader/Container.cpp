//===- Container.cpp - Header and section table of an artifact --*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Container.h"

#include "runtime/abi/Format.h"
#include "runtime/support/CheckedMath.h"

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_set>
#include <xxhash.h>
#include <zstd.h>

namespace retort {
namespace {

using abi::kPageSize;

/// Deep enough for Index -> Program -> Phase -> Launch and a margin.
constexpr flatbuffers::uoffset_t kMaxDepth = 16;
constexpr flatbuffers::uoffset_t kMaxTables = 4u << 20;

Status invalid(std::string message) {
  return Status::error(Code::InvalidData, std::move(message));
}

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%016" PRIx64, value);
  return text;
}

uint64_t hashOf(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

Status checkHash(std::string_view what, std::span<const std::byte> bytes,
                 uint64_t expected) {
  uint64_t found = hashOf(bytes);
  if (found == expected)
    return Status::ok();
  return invalid(std::string(what) + ": expected hash " + hex(expected) +
                 ", found " + hex(found) + "; the file is damaged");
}

/// The bytes between the end of a part and the next page.
Status checkPadding(std::string_view what, std::span<const std::byte> bytes,
                    uint64_t end) {
  uint64_t next = roundUp(end, kPageSize);
  if (isZero(bytes.subspan(end, next - end)))
    return Status::ok();
  return invalid(std::string(what) + ": expected zeros from byte " +
                 std::to_string(end) + " to " + std::to_string(next) +
                 "; the file is damaged");
}

Result<abi::FileHeader> checkHeader(std::span<const std::byte> bytes,
                                    bool ignoreHashes) {
  if (bytes.size() < kPageSize)
    return invalid("expected an artifact of at least " +
                   std::to_string(kPageSize) + " bytes, found " +
                   std::to_string(bytes.size()));
  abi::FileHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, abi::kMagic, sizeof header.magic) != 0)
    return invalid("the first 8 bytes are not those of a .retort artifact");
  if (header.version != abi::kFormatVersion)
    return Status::error(Code::Incompatible,
                         "expected artifact format version " +
                             std::to_string(abi::kFormatVersion) + ", found " +
                             std::to_string(header.version));
  if (!ignoreHashes)
    RETORT_RETURN_IF_ERROR(
        checkHash("header", bytes.first(offsetof(abi::FileHeader, headerHash)),
                  header.headerHash));
  if (header.headerSize != kPageSize)
    return invalid("header: expected header size " + std::to_string(kPageSize) +
                   ", found " + std::to_string(header.headerSize));
  if (header.fileSize != bytes.size())
    return invalid("header: expected a file of " +
                   std::to_string(header.fileSize) + " bytes, found " +
                   std::to_string(bytes.size()) +
                   (bytes.size() < header.fileSize ? "; it is truncated" : ""));
  if (header.fileSize % kPageSize != 0)
    return invalid("header: expected a file size that is a multiple of " +
                   std::to_string(kPageSize) + ", found " +
                   std::to_string(header.fileSize));
  if (header.indexOffset % kPageSize != 0 || header.indexOffset < kPageSize)
    return invalid("header: expected an index offset that is a positive "
                   "multiple of " +
                   std::to_string(kPageSize) + ", found " +
                   std::to_string(header.indexOffset));
  if (header.indexSize == 0 || header.indexSize > kMaxIndexBytes)
    return invalid("header: expected an index of 1 to " +
                   std::to_string(kMaxIndexBytes) + " bytes, found " +
                   std::to_string(header.indexSize));
  auto end = checkedAdd(header.indexOffset, header.indexSize);
  if (!end || *end > header.fileSize ||
      roundUp(*end, kPageSize) != header.fileSize)
    return invalid("header: index offset " +
                   std::to_string(header.indexOffset) + " and size " +
                   std::to_string(header.indexSize) +
                   " don't reach the file's last page, which ends at " +
                   std::to_string(header.fileSize));
  RETORT_RETURN_IF_ERROR(
      checkPadding("header", bytes, sizeof(abi::FileHeader)));
  return header;
}

Status checkSizes(const abi::Section &section, const std::string &where) {
  bool compressed = section.kind() == abi::SectionKind::Text ||
                    section.kind() == abi::SectionKind::Data;
  if (!compressed && section.raw_size() != section.size())
    return invalid(where + ": expected raw_size " +
                   std::to_string(section.size()) + ", found " +
                   std::to_string(section.raw_size()));
  if (compressed && section.raw_size() > kMaxTextBytes)
    return invalid(where + ": expected a raw_size of at most " +
                   std::to_string(kMaxTextBytes) + ", found " +
                   std::to_string(section.raw_size()));
  return Status::ok();
}

Status checkFrame(const abi::Section &section, std::span<const std::byte> bytes,
                  const std::string &where) {
  unsigned long long raw = ZSTD_getFrameContentSize(bytes.data(), bytes.size());
  if (raw == ZSTD_CONTENTSIZE_ERROR || raw == ZSTD_CONTENTSIZE_UNKNOWN)
    return invalid(where + ": expected a zstd frame that states its size");
  if (raw != section.raw_size())
    return invalid(where + ": expected a zstd frame of " +
                   std::to_string(section.raw_size()) + " bytes, found " +
                   std::to_string(raw));
  return Status::ok();
}

Status checkSections(const abi::Index &index, std::span<const std::byte> bytes,
                     uint64_t indexOffset, bool ignoreHashes) {
  std::unordered_set<std::string_view> names;
  bool haveWeights = false;
  uint64_t expectedOffset = kPageSize;
  uint32_t number = 0;
  for (const abi::Section *section : *index.sections()) {
    std::string_view name = section->name()->string_view();
    std::string where =
        "section " + std::to_string(number++) + " '" + std::string(name) + "'";
    if (name.empty() || !names.insert(name).second)
      return invalid(where + ": expected a name of its own");
    if (section->kind() > abi::SectionKind::MAX)
      return invalid(where + ": kind " +
                     std::to_string(static_cast<int>(section->kind())) +
                     " is not one of 0 to " +
                     std::to_string(static_cast<int>(abi::SectionKind::MAX)));
    if (section->offset() != expectedOffset)
      return invalid(where + ": expected offset " +
                     std::to_string(expectedOffset) + ", found " +
                     std::to_string(section->offset()));
    auto end = checkedAdd(section->offset(), section->size());
    if (!end || *end > indexOffset)
      return invalid(where + ": size " + std::to_string(section->size()) +
                     " at offset " + std::to_string(section->offset()) +
                     " goes past the index at " + std::to_string(indexOffset));
    RETORT_RETURN_IF_ERROR(checkSizes(*section, where));
    RETORT_RETURN_IF_ERROR(checkPadding(where, bytes, *end));
    auto stored = bytes.subspan(section->offset(), section->size());
    if (section->kind() == abi::SectionKind::Weights) {
      if (haveWeights)
        return invalid(where + ": expected one weights section, found another");
      if (section->hash() != 0)
        return invalid(where +
                       ": expected hash 0, since weights have their own");
      haveWeights = true;
    } else if (!ignoreHashes) {
      RETORT_RETURN_IF_ERROR(checkHash(where, stored, section->hash()));
    }
    if (section->kind() == abi::SectionKind::Text ||
        section->kind() == abi::SectionKind::Data)
      RETORT_RETURN_IF_ERROR(checkFrame(*section, stored, where));
    expectedOffset = roundUp(*end, kPageSize);
  }
  if (expectedOffset != indexOffset)
    return invalid("sections: expected them to end at the index at " +
                   std::to_string(indexOffset) + ", they end at " +
                   std::to_string(expectedOffset));
  return Status::ok();
}

} // namespace

bool isZero(std::span<const std::byte> bytes) {
  for (std::byte b : bytes)
    if (b != std::byte{0})
      return false;
  return true;
}

Result<const abi::Index *> checkContainer(std::span<const std::byte> bytes,
                                          bool ignoreHashes) {
  RETORT_ASSIGN_OR_RETURN(abi::FileHeader header,
                          checkHeader(bytes, ignoreHashes));
  auto stored = bytes.subspan(header.indexOffset, header.indexSize);
  if (!ignoreHashes)
    RETORT_RETURN_IF_ERROR(checkHash("index", stored, header.indexHash));
  RETORT_RETURN_IF_ERROR(
      checkPadding("index", bytes, header.indexOffset + header.indexSize));
  const auto *begin = reinterpret_cast<const uint8_t *>(stored.data());
  flatbuffers::Verifier verifier(begin, stored.size(), kMaxDepth, kMaxTables);
  if (!abi::VerifyIndexBuffer(verifier))
    return invalid(
        "index: not a well-formed flatbuffer of the artifact schema");
  const abi::Index *index = abi::GetIndex(begin);
  RETORT_RETURN_IF_ERROR(
      checkSections(*index, bytes, header.indexOffset, ignoreHashes));
  return index;
}

} // namespace retort
