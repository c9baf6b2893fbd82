//===- TuningCache.h - What earlier tuning found ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A JSON file of what timing tile shapes gave, by all that it depends on:
/// the launch, the processor, the number of threads, and Retort's build.
/// ```
/// {"retort-tuning": 1, "kernels": {"<key>": {"strips": 8, "gain": 1.07}}}
/// ```
/// `strips` is 0 where the table's tiles are as fast as any.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_TUNE_TUNINGCACHE_H
#define RETORT_COMPILER_TUNE_TUNINGCACHE_H

#include "runtime/support/Status.h"

#include <map>
#include <optional>
#include <string>

namespace retort {

/// A choice for one kernel.
struct Tuned {
  int64_t strips = 0; ///< a tile's, 0: the table's
  double gain = 1;    ///< the table's time over this one's
};

class TuningCache {
public:
  /// Reads `path`; a file that isn't there is an empty cache. InvalidData,
  /// naming what is wrong, for one that is no such cache.
  static Result<TuningCache> read(const std::string &path);

  std::optional<Tuned> find(const std::string &key) const;
  void set(const std::string &key, Tuned tuned) { entries[key] = tuned; }
  size_t size() const { return entries.size(); }

  /// Writes beside `path` and renames. Makes the folder if need be.
  Status write(const std::string &path) const;

private:
  std::map<std::string, Tuned> entries;
};

/// `${XDG_CACHE_HOME}/retort/tuning.json`, or below `~/.cache`; empty if
/// neither is known.
std::string defaultTuningCache();

} // namespace retort

#endif // RETORT_COMPILER_TUNE_TUNINGCACHE_H
