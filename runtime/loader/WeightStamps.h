//===- WeightStamps.h - Weights that were hashed before ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Hashing the weights of an artifact reads all of them, so it is done once per
/// machine: a stamp in a folder of the user's cache says that files which are
/// still the same were found whole. A stamp is an empty file whose name is a
/// hash of what tells the files apart; it can't be half-written, and one that
/// is lost costs time alone.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_WEIGHTSTAMPS_H
#define RETORT_RUNTIME_LOADER_WEIGHTSTAMPS_H

#include "runtime/support/File.h"

#include <span>
#include <string>

namespace retort {

/// A folder holds no more stamps; the oldest make room.
inline constexpr size_t kMaxStamps = 256;

/// `retort/verified` in $XDG_CACHE_HOME, or in ~/.cache; empty if neither
/// variable holds an absolute path.
std::string defaultStampFolder();

/// The name of the stamp for an artifact that lies in `files`, its own and
/// those of its parts, and whose index has this hash.
std::string stampName(std::span<const FileIdentity> files, uint64_t indexHash);

bool hasStamp(const std::string &folder, const std::string &name);

/// Leaves a stamp, and makes the folder if it isn't there. A folder that can't
/// be written is no error: there is no stamp then.
void leaveStamp(const std::string &folder, const std::string &name);

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_WEIGHTSTAMPS_H
