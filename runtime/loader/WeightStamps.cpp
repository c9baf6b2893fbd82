//===- WeightStamps.cpp - Weights that were hashed before -----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/WeightStamps.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>
#include <xxhash.h>

namespace retort {
namespace {

constexpr size_t kNameLength = 32;

bool looksLikeStamp(std::string_view name) {
  return name.size() == kNameLength &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Makes a folder and those above it, as far as that goes.
void makeFolders(const std::string &folder) {
  for (size_t end = 1; end != std::string::npos;) {
    end = folder.find('/', end + 1);
    ::mkdir(folder.substr(0, end).c_str(), 0700);
  }
}

/// Removes the oldest stamps beyond kMaxStamps. Nothing else in the folder is
/// touched.
void dropOldStamps(const std::string &folder) {
  std::unique_ptr<DIR, int (*)(DIR *)> dir(::opendir(folder.c_str()),
                                           ::closedir);
  if (!dir)
    return;
  std::vector<std::pair<int64_t, std::string>> stamps; // age and path
  while (const dirent *entry = ::readdir(dir.get())) {
    if (!looksLikeStamp(entry->d_name))
      continue;
    std::string path = folder + "/" + entry->d_name;
    if (auto file = FileIdentity::of(path); file.isOk())
      stamps.emplace_back(file->modifiedNs, std::move(path));
  }
  if (stamps.size() <= kMaxStamps)
    return;
  std::sort(stamps.begin(), stamps.end());
  for (size_t i = 0; i + kMaxStamps < stamps.size(); ++i)
    ::unlink(stamps[i].second.c_str());
}

} // namespace

std::string defaultStampFolder() {
  for (auto [variable, below] :
       {std::pair("XDG_CACHE_HOME", ""), std::pair("HOME", "/.cache")}) {
    const char *path = std::getenv(variable);
    if (path && path[0] == '/')
      return std::string(path) + below + "/retort/verified";
  }
  return {};
}

std::string stampName(std::span<const FileIdentity> files, uint64_t indexHash) {
  // What a stamp vouches for has a number of its own, should it change.
  std::vector<uint64_t> words = {1, indexHash, files.size()};
  for (const FileIdentity &file : files)
    words.insert(words.end(), {file.device, file.inode, file.size,
                               static_cast<uint64_t>(file.modifiedNs),
                               static_cast<uint64_t>(file.changedNs)});
  XXH128_hash_t hash =
      XXH3_128bits(words.data(), words.size() * sizeof(uint64_t));
  char name[kNameLength + 1];
  std::snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64,
                uint64_t(hash.high64), uint64_t(hash.low64));
  return name;
}

bool hasStamp(const std::string &folder, const std::string &name) {
  return FileIdentity::of(folder + "/" + name).isOk();
}

void leaveStamp(const std::string &folder, const std::string &name) {
  makeFolders(folder);
  int fd = ::open((folder + "/" + name).c_str(),
                  O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0)
    return;
  ::close(fd);
  dropOldStamps(folder);
}

} // namespace retort
