//===- Memory.h - What a session takes, and pages to hold it ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Prediction of a session's memory from the artifact's index alone, and
/// anonymous pages that take no memory until they are written.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_MEMORY_H
#define RETORT_RUNTIME_ENGINE_MEMORY_H

#include "runtime/abi/artifact_generated.h"
#include "runtime/support/Status.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace retort {

/// Bytes that running a model takes. A batch is one session here.
struct MemoryUse {
  uint64_t weights = 0;     ///< mapped from the file, shared by sessions
  uint64_t activations = 0; ///< per session; a batch's logits included
  uint64_t caches = 0;      ///< of all its sequences, when contexts are full
  uint64_t scratch = 0;     ///< per session, for all of its threads
  /// The tokenizer, shared by sessions: five times its tables (counted), or
  /// eleven times the file of older artifacts, as measured on byte-level BPE of
  /// 150,000 tokens.
  uint64_t text = 0;
  uint64_t session() const { return activations + caches + scratch; }
  uint64_t total() const { return weights + text + session(); }
};

/// The memory of one session of `context` positions with `threads` workers, or
/// of a batch of several such `sequences`.
/// InvalidArgument if `context` is not in [1, max_context].
Result<MemoryUse> predictMemory(const abi::Index &index, uint64_t context,
                                unsigned threads, uint64_t sequences = 1);

/// The positions that each of `sequences` may use: what was `asked` for, or, if
/// that is 0, max_context or as many as the available memory holds. Errors:
/// InvalidArgument as above, OutOfMemory naming the bytes needed and available.
Result<uint32_t> contextFor(const abi::Index &index, uint32_t asked,
                            unsigned threads, uint64_t sequences);

/// The most tokens of a chunk: what was `asked` for or, if that is 0,
/// max_chunk. InvalidArgument if that is exceeded.
Result<uint32_t> chunkFor(const abi::Index &index, uint32_t asked);

/// Physical memory of the machine, or of the control group if that is less.
uint64_t physicalMemory();
/// What can be taken now without swapping, seen the same way.
uint64_t availableMemory();

/// "1.50 GB", in powers of 1000.
std::string formatBytes(uint64_t bytes);

/// Zeroed, page-aligned memory that takes no room until it is written.
class Pages {
public:
  static Result<Pages> allocate(uint64_t bytes);
  Pages() = default;
  Pages(Pages &&other) noexcept;
  Pages &operator=(Pages &&other) noexcept;
  ~Pages();
  std::byte *data() const { return base; }
  uint64_t size() const { return length; }

private:
  std::byte *base = nullptr;
  uint64_t length = 0;
};

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_MEMORY_H
