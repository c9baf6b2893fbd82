//===- Audit.h - Whether weights come from a checkpoint ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort audit`: packs tensors of an artifact again from the checkpoint that
/// it claims to come from, and compares bytes.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PIPELINES_AUDIT_H
#define RETORT_COMPILER_PIPELINES_AUDIT_H

#include "runtime/support/Status.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace retort {

struct AuditOptions {
  std::string artifact;
  std::string checkpoint;
  /// Tensors to pack again, chosen at random; 0: all.
  uint64_t samples = 16;
  /// Of the choice. An auditor draws it; the same one gives the same choice.
  uint64_t seed = 0;
  int threads = 0; ///< 0: as many as the machine has
  uint64_t maxRam = uint64_t(2) << 30;
  /// Called with the tensor that is packed, how many are done, and how many
  /// there are to do.
  std::function<void(const std::string &name, uint64_t done, uint64_t total)>
      progress;
  const std::atomic<bool> *cancel = nullptr;
};

struct AuditReport {
  uint64_t tensors = 0;               ///< that the artifact has
  uint64_t bytes = 0;                 ///< that they take
  uint64_t auditedBytes = 0;          ///< of those that were packed again
  std::vector<std::string> audited;   ///< in file order
  std::vector<std::string> differing; ///< of these
  /// Tensors of the checkpoint, packed into these, whose hashes were compared
  /// with the certificate's; none if the artifact has no such certificate.
  uint64_t hashed = 0;
  std::vector<std::string> otherSources; ///< those whose hashes differ
};

/// Errors: InvalidData if the artifact's list of weights isn't what compiling
/// the checkpoint gives: other names, shapes or encodings, which the message
/// names; what opening either gives. Differing bytes and hashes are no error.
Result<AuditReport> auditArtifact(const AuditOptions &options);

} // namespace retort

#endif // RETORT_COMPILER_PIPELINES_AUDIT_H
