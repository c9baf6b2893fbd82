//===- Parts.cpp - The parts of a split artifact ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Parts.h"

#include "runtime/abi/Format.h"
#include "runtime/loader/Container.h"

#include <algorithm>
#include <cstring>
#include <xxhash.h>

namespace retort {
namespace {

/// The longest name that file systems take.
constexpr size_t kMaxName = 255;

Status invalid(std::string message) {
  return Status::error(Code::InvalidData, std::move(message));
}

} // namespace

bool isPartName(std::string_view name) {
  return name.size() > kPartSuffix.size() && name.size() <= kMaxName &&
         name.ends_with(kPartSuffix) && !name.starts_with('.') &&
         std::none_of(name.begin(), name.end(), [](char c) {
           auto byte = static_cast<unsigned char>(c);
           return c == '/' || c == '\\' || byte < 0x20 || byte == 0x7f;
         });
}

uint64_t partBytes(const abi::Index &index) {
  uint64_t bytes = 0;
  if (index.parts())
    for (const abi::Part *part : *index.parts())
      bytes += part->size();
  return bytes;
}

Status checkPart(const abi::Index &index, uint32_t number,
                 std::span<const std::byte> head, uint64_t fileSize,
                 bool ignoreHashes) {
  const abi::Part &part = *index.parts()->Get(number);
  uint32_t count = index.parts()->size();
  abi::PartHeader header;
  if (head.size() < sizeof header)
    return invalid("expected a part of an artifact, found " +
                   std::to_string(fileSize) + " bytes");
  std::memcpy(&header, head.data(), sizeof header);
  if (std::memcmp(header.magic, abi::kPartMagic, sizeof header.magic) != 0)
    return invalid("the first 8 bytes are not those of an artifact's part");
  if (header.version != abi::kPartVersion)
    return Status::error(Code::Incompatible,
                         "expected part version " +
                             std::to_string(abi::kPartVersion) + ", found " +
                             std::to_string(header.version));
  if (!ignoreHashes &&
      header.headerHash !=
          XXH3_64bits(head.data(), offsetof(abi::PartHeader, headerHash)))
    return invalid("the header's hash does not match; the file is damaged");
  if (header.weightsId != index.weights_id() || header.count != count ||
      header.number != number + 1)
    return invalid(
        "expected part " + std::to_string(number + 1) + " of " +
        std::to_string(count) + " of this artifact, found part " +
        std::to_string(header.number) + " of " + std::to_string(header.count) +
        (header.weightsId != index.weights_id() ? " of another artifact" : ""));
  uint64_t expected = abi::kPartAlignment + part.size();
  if (header.headerSize != abi::kPartAlignment || header.size != part.size())
    return invalid("expected a header of " +
                   std::to_string(abi::kPartAlignment) + " and weights of " +
                   std::to_string(part.size()) + " bytes, found " +
                   std::to_string(header.headerSize) + " and " +
                   std::to_string(header.size));
  if (fileSize != expected)
    return invalid("expected a file of " + std::to_string(expected) +
                   " bytes, found " + std::to_string(fileSize) +
                   (fileSize < expected ? "; it is truncated" : ""));
  if (!isZero(head.subspan(sizeof header)))
    return invalid("expected zeros from byte " + std::to_string(sizeof header) +
                   " to " + std::to_string(abi::kPartAlignment) +
                   "; the file is damaged");
  return Status::ok();
}

Result<MappedFiles> mapParts(const abi::Index &index,
                             const std::string &directory, bool ignoreHashes) {
  RETORT_ASSIGN_OR_RETURN(MappedFiles files,
                          MappedFiles::reserve(partBytes(index)));
  const auto &parts = *index.parts();
  for (uint32_t i = 0; i < parts.size(); ++i) {
    std::string path = directory + parts[i]->name()->str();
    if (!pathExists(path))
      return Status::error(Code::NotFound,
                           path + ": expected part " + std::to_string(i + 1) +
                               " of " + std::to_string(parts.size()) +
                               " of the artifact, found no such file");
    RETORT_RETURN_IF_ERROR(
        files.append(path, abi::kPartAlignment, parts[i]->size(),
                     [&](std::span<const std::byte> head, uint64_t fileSize) {
                       return checkPart(index, i, head, fileSize, ignoreHashes)
                           .withContext(path);
                     }));
  }
  return files;
}

} // namespace retort
