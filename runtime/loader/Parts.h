//===- Parts.h - The parts of a split artifact ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Checks and maps the files that hold a split artifact's weights.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_PARTS_H
#define RETORT_RUNTIME_LOADER_PARTS_H

#include "runtime/abi/artifact_generated.h"
#include "runtime/support/File.h"
#include "runtime/support/Status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace retort {

/// What the name of every part ends in.
inline constexpr std::string_view kPartSuffix = ".retort-part";

/// True if `name` can be a part's: of a file in the artifact's own folder.
bool isPartName(std::string_view name);

/// Bytes of weights in all parts, which must have passed checkSemantics().
uint64_t partBytes(const abi::Index &index);

/// Checks the front of the file of part `number` (from 0), kPartAlignment bytes
/// or all that the file has, and the file's size. Hashes are not compared if
/// `ignoreHashes`.
Status checkPart(const abi::Index &index, uint32_t number,
                 std::span<const std::byte> head, uint64_t fileSize,
                 bool ignoreHashes);

/// Maps the weights of all parts, which lie in `directory`. Errors name the
/// part's path.
Result<MappedFiles> mapParts(const abi::Index &index,
                             const std::string &directory, bool ignoreHashes);

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_PARTS_H
