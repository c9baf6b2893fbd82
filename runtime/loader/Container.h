//===- Container.h - Header and section table of an artifact ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The checks that make an artifact's bytes safe to read: each byte belongs to
/// the header, one section, the index, or is zero padding.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_CONTAINER_H
#define RETORT_RUNTIME_LOADER_CONTAINER_H

#include "runtime/abi/artifact_generated.h"
#include "runtime/support/Status.h"

#include <cstddef>
#include <span>

namespace retort {

/// No index is larger; also what flatbuffers can address is.
inline constexpr uint64_t kMaxIndexBytes = 256ull << 20;
/// No decompressed Text or Data section is larger.
inline constexpr uint64_t kMaxTextBytes = 256ull << 20;

/// Checks header, index and section table and returns the index. Section
/// hashes other than the weights' are checked too, unless `ignoreHashes`.
/// `bytes` must begin on an 8-byte boundary.
Result<const abi::Index *> checkContainer(std::span<const std::byte> bytes,
                                          bool ignoreHashes);

/// True if all bytes are zero.
bool isZero(std::span<const std::byte> bytes);

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_CONTAINER_H
