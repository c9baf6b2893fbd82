//===- Artifact.cpp - A verified artifact in memory -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Artifact.h"

#include "runtime/abi/Format.h"
#include "runtime/loader/Container.h"
#include "runtime/loader/Parts.h"
#include "runtime/loader/Semantics.h"
#include "runtime/loader/WeightStamps.h"
#include "runtime/support/CheckedMath.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>
#include <xxhash.h>
#include <zstd.h>

namespace retort {
namespace {

uint64_t installedMemory() {
  long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? uint64_t(pages) * uint64_t(page) : 0;
}

/// Nanoseconds since the epoch, as times of files count.
int64_t nowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool startsLikeArtifact(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof abi::kMagic &&
         std::memcmp(bytes.data(), abi::kMagic, sizeof abi::kMagic) == 0;
}

const abi::Section *findSection(const abi::Index &index,
                                std::string_view name) {
  for (const abi::Section *section : *index.sections())
    if (section->name()->string_view() == name)
      return section;
  return nullptr;
}

} // namespace

Result<std::span<const std::byte>>
findStandalone(std::span<const std::byte> executable) {
  abi::StandaloneFooter footer;
  if (executable.size() < sizeof footer)
    return std::span<const std::byte>();
  uint64_t end = executable.size() - sizeof footer;
  std::memcpy(&footer, executable.data() + end, sizeof footer);
  if (std::memcmp(footer.magic, abi::kFooterMagic, sizeof footer.magic) != 0)
    return std::span<const std::byte>();
  auto artifactEnd = checkedAdd(footer.artifactOffset, footer.artifactSize);
  if (footer.artifactOffset % abi::kPageSize != 0 || !artifactEnd ||
      *artifactEnd != end)
    return Status::error(
        Code::InvalidData,
        "footer: expected an artifact from a page boundary to byte " +
            std::to_string(end) + ", found " +
            std::to_string(footer.artifactSize) + " bytes at offset " +
            std::to_string(footer.artifactOffset));
  return executable.subspan(footer.artifactOffset, footer.artifactSize);
}

Result<std::shared_ptr<const Artifact>>
Artifact::open(const std::string &path, const OpenOptions &options) {
  std::shared_ptr<Artifact> artifact(new Artifact);
  RETORT_ASSIGN_OR_RETURN(artifact->file, MappedFile::open(path));
  artifact->file.useLargePages();
  artifact->origin = path;
  artifact->data = artifact->file.bytes();
  if (!startsLikeArtifact(artifact->data)) {
    auto carried = findStandalone(artifact->data);
    if (!carried.isOk())
      return carried.takeStatus().withContext(path);
    if (!carried->empty())
      artifact->data = *carried;
  }
  return finish(std::move(artifact), options);
}

Result<std::shared_ptr<const Artifact>>
Artifact::openExecutable(const std::string &path, const OpenOptions &options) {
  std::shared_ptr<Artifact> artifact(new Artifact);
  RETORT_ASSIGN_OR_RETURN(artifact->file, MappedFile::open(path));
  artifact->file.useLargePages();
  artifact->origin = path;
  auto carried = findStandalone(artifact->file.bytes());
  if (!carried.isOk())
    return carried.takeStatus().withContext(path);
  if (carried->empty())
    return Status::error(Code::NotFound, path + ": carries no model");
  artifact->data = *carried;
  return finish(std::move(artifact), options);
}

Result<std::shared_ptr<const Artifact>>
Artifact::openMemory(std::span<const std::byte> bytes,
                     const OpenOptions &options) {
  std::shared_ptr<Artifact> artifact(new Artifact);
  artifact->origin = "memory";
  artifact->data = bytes;
  if (!bytes.empty() &&
      reinterpret_cast<uintptr_t>(bytes.data()) % abi::kWeightAlignment != 0) {
    artifact->copy = static_cast<std::byte *>(::operator new(
        bytes.size(), std::align_val_t(abi::kWeightAlignment), std::nothrow));
    if (!artifact->copy)
      return Status::error(Code::OutOfMemory, "memory: cannot allocate " +
                                                  std::to_string(bytes.size()) +
                                                  " bytes for an aligned copy");
    std::memcpy(artifact->copy, bytes.data(), bytes.size());
    artifact->data = {artifact->copy, bytes.size()};
  }
  return finish(std::move(artifact), options);
}

Artifact::~Artifact() {
  if (copy)
    ::operator delete(copy, std::align_val_t(abi::kWeightAlignment));
}

Result<std::shared_ptr<const Artifact>>
Artifact::finish(std::shared_ptr<Artifact> artifact,
                 const OpenOptions &options) {
  auto root = checkContainer(artifact->data, options.ignoreHashes);
  if (!root.isOk())
    return root.takeStatus().withContext(artifact->origin);
  artifact->root = *root;
  if (Status rules = checkSemantics(**root); !rules.isOk())
    return std::move(rules).withContext(artifact->origin);
  for (const abi::Section *section : *artifact->root->sections())
    if (section->kind() == abi::SectionKind::Weights)
      artifact->allWeights =
          artifact->data.subspan(section->offset(), section->size());
  RETORT_RETURN_IF_ERROR(artifact->openParts(options));
  artifact->memory =
      options.physicalMemory ? options.physicalMemory : installedMemory();
  if (artifact->root->program()->without_weights()) {
    if (!options.allowMissingWeights)
      return Status::error(Code::Unsupported,
                           artifact->origin +
                               ": compiled without weights: it can be "
                               "inspected, not run");
    return std::shared_ptr<const Artifact>(std::move(artifact));
  }
  if (!options.ignoreHashes)
    RETORT_RETURN_IF_ERROR(artifact->checkWeights(options));
  return std::shared_ptr<const Artifact>(std::move(artifact));
}

Status Artifact::checkWeights(const OpenOptions &options) {
  std::vector<FileIdentity> files = identities();
  std::string stamp;
  if (!options.stampFolder.empty() && !files.empty()) {
    abi::FileHeader header;
    std::memcpy(&header, data.data(), sizeof header);
    stamp = stampName(files, header.indexHash);
    verified = options.weights != WeightCheck::Always &&
               hasStamp(options.stampFolder, stamp);
  }
  bool wanted = options.weights == WeightCheck::Always ||
                (options.weights == WeightCheck::Auto && !verified &&
                 weightBytes() <= memory / 2);
  if (!wanted)
    return Status::ok();
  int64_t latest = nowNs() - options.settleSeconds * 1'000'000'000;
  RETORT_RETURN_IF_ERROR(verifyWeights(options.threads));
  verified = true;
  bool settled =
      std::all_of(files.begin(), files.end(), [&](const FileIdentity &file) {
        return file.changedNs <= latest;
      });
  if (!stamp.empty() && settled && isUnchanged(files))
    leaveStamp(options.stampFolder, stamp);
  return Status::ok();
}

/// The artifact's file and those of its parts; none if it is in memory.
std::vector<FileIdentity> Artifact::identities() const {
  if (file.bytes().empty())
    return {};
  std::vector<FileIdentity> files = parts.identities();
  files.insert(files.begin(), file.identity());
  return files;
}

/// Whether the files that have the artifact's paths now are those mapped.
bool Artifact::isUnchanged(const std::vector<FileIdentity> &files) const {
  for (size_t i = 0; i < files.size(); ++i) {
    std::string path = origin;
    if (i > 0)
      path = folder() +
             root->parts()->Get(static_cast<uint32_t>(i - 1))->name()->str();
    auto now = FileIdentity::of(path);
    if (!now || *now != files[i])
      return false;
  }
  return true;
}

Status Artifact::openParts(const OpenOptions &options) {
  if (!root->parts() || root->parts()->size() == 0)
    return Status::ok();
  if (file.bytes().empty())
    return Status::error(Code::Unsupported,
                         origin + ": the weights are in " +
                             std::to_string(root->parts()->size()) +
                             " parts beside the artifact's file: it can only "
                             "be opened by its path");
  RETORT_ASSIGN_OR_RETURN(parts,
                          mapParts(*root, folder(), options.ignoreHashes));
  allWeights = parts.bytes();
  return Status::ok();
}

uint64_t Artifact::storedBytes() const {
  uint64_t count = root->parts() ? root->parts()->size() : 0;
  return data.size() + count * abi::kPartAlignment + parts.bytes().size();
}

std::span<const std::byte> Artifact::section(uint32_t i) const {
  const abi::Section &section = *root->sections()->Get(i);
  return data.subspan(section.offset(), section.size());
}

std::span<const std::byte> Artifact::weight(uint32_t i) const {
  const abi::Weight &weight = *root->program()->weights()->Get(i);
  // Weights of no bytes may come without a weights section.
  return allWeights.empty()
             ? std::span<const std::byte>()
             : allWeights.subspan(weight.offset(), weight.size());
}

bool Artifact::hasText(std::string_view name) const {
  return findSection(*root, name) != nullptr;
}

Result<std::string> Artifact::text(std::string_view name) const {
  const abi::Section *section = findSection(*root, name);
  std::string where = origin + ": section '" + std::string(name) + "'";
  if (!section || (section->kind() != abi::SectionKind::Text &&
                   section->kind() != abi::SectionKind::Data))
    return Status::error(Code::NotFound, where + " does not exist");
  std::string out(section->raw_size(), '\0');
  size_t size = ZSTD_decompress(
      out.data(), out.size(), data.data() + section->offset(), section->size());
  if (ZSTD_isError(size))
    return Status::error(Code::InvalidData, where + ": cannot decompress: " +
                                                ZSTD_getErrorName(size));
  if (size != out.size())
    return Status::error(Code::InvalidData,
                         where + ": expected " + std::to_string(out.size()) +
                             " bytes after decompression, found " +
                             std::to_string(size));
  return out;
}

Status Artifact::verifyWeights(unsigned threads) const {
  if (root->program()->without_weights())
    return Status::error(Code::Unsupported,
                         origin + ": compiled without weights");
  const auto &weights = *root->program()->weights();
  uint32_t count = weights.size();
  if (threads == 0)
    threads = std::max(1u, std::thread::hardware_concurrency());
  threads = std::min<unsigned>({threads, std::max(1u, count), 256u});
  std::atomic<uint32_t> next{0}, firstBad{count};
  auto work = [&] {
    for (uint32_t i; (i = next.fetch_add(1)) < count;) {
      const abi::Weight &weight = *weights[i];
      uint64_t hash = 0;
      bool good = true;
      if (weight.stored_size() != 0) {
        const std::byte *begin = allWeights.data() + weight.offset();
        hash = XXH3_64bits(begin, weight.stored_size());
        good = isZero(
            {begin + weight.size(), weight.stored_size() - weight.size()});
      } else {
        hash = XXH3_64bits(nullptr, 0);
      }
      if (good && hash == weight.hash())
        continue;
      uint32_t seen = firstBad.load();
      while (i < seen && !firstBad.compare_exchange_weak(seen, i))
        ;
    }
  };
  std::vector<std::thread> helpers;
  for (unsigned i = 1; i < threads; ++i) {
    try {
      helpers.emplace_back(work);
    } catch (const std::system_error &) {
      break; // fewer threads do the same work
    }
  }
  work();
  for (std::thread &helper : helpers)
    helper.join();
  uint32_t bad = firstBad.load();
  if (bad == count)
    return Status::ok();
  return Status::error(Code::InvalidData,
                       origin + ": weight '" + weights[bad]->name()->str() +
                           "': its bytes don't match its hash; the file is "
                           "damaged");
}

} // namespace retort
