//===- Artifact.h - A verified artifact in memory ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Opens a .retort artifact, or an executable that carries one. Everything is
/// checked before the first field is used, in this order: size, magic, version,
/// header hash, sizes, index hash, flatbuffers verifier, section table, section
/// hashes and padding, the rules that artifact.fbs states (Semantics.h), parts
/// (Parts.h), and weight hashes. Code that holds an Artifact runs without
/// further checks.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_ARTIFACT_H
#define RETORT_RUNTIME_LOADER_ARTIFACT_H

#include "runtime/abi/artifact_generated.h"
#include "runtime/support/File.h"
#include "runtime/support/Status.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

/// When the bytes of the weights are hashed.
enum class WeightCheck {
  /// If they take at most half of the physical memory and were not found right
  /// before (WeightStamps.h).
  Auto,
  Always,
  Never, ///< for models that don't fit: `retort check` verifies those once
};

struct OpenOptions {
  WeightCheck weights = WeightCheck::Auto;
  /// Threads that hash weights; 0 for all that the machine has.
  unsigned threads = 0;
  /// Physical memory in bytes that Auto goes by; 0 for the machine's.
  uint64_t physicalMemory = 0;
  /// Where stamps of artifacts lie whose weights were found right; empty: none
  /// are looked for, and none is left. Artifacts in memory have none.
  std::string stampFolder;
  /// A file that was changed so few seconds ago is left no stamp: the next
  /// change might not be seen by its times.
  int64_t settleSeconds = 2;
  /// Accept wrong hashes, so that a fuzzer reaches the checks behind them.
  /// Never set outside of tests.
  bool ignoreHashes = false;
  /// Open artifacts that were compiled without weights too, for tools that
  /// need none.
  bool allowMissingWeights = false;
};

/// A verified artifact. Immutable, so that threads may share it.
class Artifact {
public:
  /// Maps the artifact at `path`: a .retort file, or an executable that
  /// `retort compile --standalone` wrote. The parts of a split artifact are
  /// looked for beside it.
  static Result<std::shared_ptr<const Artifact>>
  open(const std::string &path, const OpenOptions &options = {});

  /// Uses the artifact in `bytes`, which must outlive the object unless they
  /// don't begin on a 64-byte boundary: then they are copied. Unsupported if
  /// it is split.
  static Result<std::shared_ptr<const Artifact>>
  openMemory(std::span<const std::byte> bytes, const OpenOptions &options = {});

  /// The artifact behind the executable at `path`; NotFound if it carries none.
  static Result<std::shared_ptr<const Artifact>>
  openExecutable(const std::string &path, const OpenOptions &options = {});

  ~Artifact();
  Artifact(const Artifact &) = delete;
  Artifact &operator=(const Artifact &) = delete;

  const abi::Index &index() const { return *root; }
  /// The artifact's bytes, from its header on; without parts.
  std::span<const std::byte> bytes() const { return data; }
  /// Bytes of the artifact with its parts.
  uint64_t storedBytes() const;
  /// Path as opened, or "memory".
  const std::string &path() const { return origin; }

  /// The stored bytes of section `i` of the index.
  std::span<const std::byte> section(uint32_t i) const;
  /// The bytes that kernels may read of weight `i` of the program, 64-byte
  /// aligned; empty if the artifact was compiled without weights.
  std::span<const std::byte> weight(uint32_t i) const;

  bool hasText(std::string_view name) const;
  /// Decompresses the Text or Data section `name`, e.g. "text/tokenizer.json".
  /// NotFound if the artifact has no such section.
  Result<std::string> text(std::string_view name) const;

  /// Hashes every weight with `threads` threads (0: all) and names the first
  /// that differs.
  Status verifyWeights(unsigned threads = 0) const;
  /// True if opening has hashed the weights, or a stamp says that an earlier
  /// opening has.
  bool weightsVerified() const { return verified; }
  /// All weights, in the section or in the parts.
  std::span<const std::byte> weights() const { return allWeights; }
  /// Bytes of the weights.
  uint64_t weightBytes() const { return allWeights.size(); }
  /// The physical memory that WeightCheck::Auto goes by, in bytes.
  uint64_t physicalMemory() const { return memory; }

private:
  Artifact() = default;
  static Result<std::shared_ptr<const Artifact>>
  finish(std::shared_ptr<Artifact> artifact, const OpenOptions &options);
  Status openParts(const OpenOptions &options);
  Status checkWeights(const OpenOptions &options);
  std::vector<FileIdentity> identities() const;
  /// Of the artifact's file, with the separator; empty for the current one.
  std::string folder() const { return origin.substr(0, origin.rfind('/') + 1); }
  bool isUnchanged(const std::vector<FileIdentity> &files) const;

  MappedFile file;
  std::span<const std::byte> data;
  std::byte *copy = nullptr; ///< aligned copy of unaligned memory
  std::string origin;
  const abi::Index *root = nullptr;
  MappedFiles parts;
  std::span<const std::byte> allWeights;
  uint64_t memory = 0;
  bool verified = false;
};

/// Where in an executable of these bytes a standalone artifact lies: its bytes,
/// or an empty span if there is no footer. A footer that lies is an error.
Result<std::span<const std::byte>>
findStandalone(std::span<const std::byte> executable);

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_ARTIFACT_H
