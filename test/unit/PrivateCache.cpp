//===- PrivateCache.cpp - A cache folder for one run of the tests ---------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Points XDG_CACHE_HOME, for this process and the tools that it runs, at a
/// folder that is gone when the tests have ended.
///
//===----------------------------------------------------------------------===//

#include <cstdlib>
#include <filesystem>
#include <string>
#include <unistd.h>

namespace {

struct PrivateCache {
  PrivateCache() {
    path = (std::filesystem::temp_directory_path() / "retort-cache-XXXXXX")
               .string();
    if (!::mkdtemp(path.data()))
      std::abort();
    ::setenv("XDG_CACHE_HOME", path.c_str(), 1);
  }
  ~PrivateCache() {
    // Children of death tests end here too.
    std::error_code ignored;
    if (::getpid() == owner)
      std::filesystem::remove_all(path, ignored);
  }
  std::string path;
  pid_t owner = ::getpid();
} cache;

} // namespace
