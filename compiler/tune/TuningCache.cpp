//===- TuningCache.cpp - What earlier tuning found ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/tune/TuningCache.h"

#include "compiler/checkpoint/Json.h"
#include "runtime/support/File.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <span>

namespace retort {
namespace {

constexpr const char *kVersionField = "retort-tuning";
constexpr int kVersion = 1;
constexpr size_t kMaxBytes = size_t(64) << 20;
/// More would not leave tiles for two threads in any matrix.
constexpr int64_t kMaxStrips = 1024;

Status invalid(const std::string &path, const std::string &what) {
  return Status::error(Code::InvalidData,
                       path + ": " + what +
                           "; remove the file to tune from the start");
}

} // namespace

Result<TuningCache> TuningCache::read(const std::string &path) {
  TuningCache cache;
  if (!pathExists(path))
    return cache;
  RETORT_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxBytes));
  auto parsed = checkpoint::parseJson(text);
  if (!parsed.isOk())
    return invalid(path, parsed.status().message());
  const nlohmann::json &root = *parsed;
  auto version = root.is_object() ? root.find(kVersionField) : root.end();
  if (version == root.end() || *version != kVersion)
    return invalid(path, "expected a tuning cache with \"" +
                             std::string(kVersionField) +
                             "\": " + std::to_string(kVersion));
  auto kernels = root.find("kernels");
  if (kernels == root.end() || !kernels->is_object())
    return invalid(path, "kernels: expected an object");
  for (const auto &[key, value] : kernels->items()) {
    auto strips = value.find("strips"), gain = value.find("gain");
    if (!value.is_object() || strips == value.end() || gain == value.end() ||
        !strips->is_number_integer() || !gain->is_number() ||
        strips->get<int64_t>() < 0 || strips->get<int64_t>() > kMaxStrips ||
        !std::isfinite(gain->get<double>()))
      return invalid(path, "kernels: '" + key +
                               "': expected strips from 0 to " +
                               std::to_string(kMaxStrips) + " and a gain");
    cache.entries[key] = {strips->get<int64_t>(), gain->get<double>()};
  }
  return cache;
}

std::optional<Tuned> TuningCache::find(const std::string &key) const {
  auto it = entries.find(key);
  return it == entries.end() ? std::nullopt : std::optional(it->second);
}

Status TuningCache::write(const std::string &path) const {
  nlohmann::json kernels = nlohmann::json::object();
  for (const auto &[key, tuned] : entries)
    kernels[key] = {{"strips", tuned.strips}, {"gain", tuned.gain}};
  std::string text =
      nlohmann::json{{kVersionField, kVersion}, {"kernels", kernels}}.dump(1) +
      "\n";
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty())
    std::filesystem::create_directories(folder, error);
  if (error)
    return Status::error(Code::Io, folder.string() +
                                       ": cannot create: " + error.message());
  RETORT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path));
  RETORT_RETURN_IF_ERROR(
      file.writeAt(0, std::as_bytes(std::span<const char>(text))));
  return file.commit();
}

std::string defaultTuningCache() {
  if (const char *cache = std::getenv("XDG_CACHE_HOME"); cache && *cache)
    return std::string(cache) + "/retort/tuning.json";
  if (const char *home = std::getenv("HOME"); home && *home)
    return std::string(home) + "/.cache/retort/tuning.json";
  return {};
}

} // namespace retort
