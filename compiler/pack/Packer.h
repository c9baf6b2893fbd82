//===- Packer.h - Streaming weights into a file -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Streams weight specs from a checkpoint into the weights section: in
/// parallel, in bounded memory, and with the same bytes whatever the number of
/// threads and the memory.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_PACKER_H
#define RETORT_COMPILER_PACK_PACKER_H

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/pack/WeightSpec.h"

#include <atomic>
#include <functional>
#include <span>

namespace retort {

struct PackOptions {
  /// Worker threads; 0 means as many as the machine has.
  int threads = 0;
  /// The process's resident memory, in bytes, that packing stays below: what is
  /// resident when packing starts counts. Fewer threads run if they don't fit.
  uint64_t maxRam = uint64_t(2) << 30;
  /// Called with bytes of checkpoint done and in total, by one thread at a
  /// time, with `done` never falling.
  std::function<void(uint64_t done, uint64_t total)> progress;
  /// Packing ends with Code::Cancelled soon after this becomes true.
  const std::atomic<bool> *cancel = nullptr;
  /// The least time between two calls of WeightSink::record(), in seconds. What
  /// recording takes makes it longer, so that it costs a few percent at most;
  /// with 0 each weight is recorded.
  double recordSeconds = 0.5;
};

/// Where a spec went: the fields of abi.Weight that the specs don't say.
struct PackedWeight {
  uint64_t offset = 0; ///< from the start of the section, a multiple of 64
  uint64_t size = 0;
  uint64_t storedSize = 0; ///< with zeros up to the next multiple of 64
  uint64_t hash = 0;       ///< XXH3-64 of storedSize bytes
  float relativeError = 0;
};

/// Where packWeights() writes.
class WeightSink {
public:
  virtual ~WeightSink() = default;
  /// Writes at `offset` of the weights section. Thread-safe.
  virtual Status write(uint64_t offset, std::span<const std::byte> bytes) = 0;
  /// The weights of the first specs, if they are there already: they are not
  /// packed again.
  virtual std::span<const PackedWeight> finished() const { return {}; }
  /// Called with the weights that have been written since the last call, in
  /// the order of the specs: the first is number `first`. By one thread at a
  /// time, while others go on writing.
  virtual Status record(size_t /*first*/,
                        std::span<const PackedWeight> /*weights*/) {
    return Status::ok();
  }
};

/// Bytes of the weights section that these specs make. Errors: a total past
/// 2^62, or a spec with a negative or empty shape.
Result<uint64_t> weightsSectionBytes(std::span<const WeightSpec> specs);

/// Where packWeights would put the specs; hashes and errors are 0. The specs
/// must have passed weightsSectionBytes().
std::vector<PackedWeight> placeWeights(std::span<const WeightSpec> specs);

/// Writes the specs in order. Errors name the tensor, and row and column of a
/// weight that its encoding can't hold; of several the first in file order is
/// reported. OutOfMemory names the least maxRam that would do.
Result<std::vector<PackedWeight>>
packWeights(std::span<const WeightSpec> specs,
            const checkpoint::Checkpoint &checkpoint, WeightSink &sink,
            const PackOptions &options);

} // namespace retort

#endif // RETORT_COMPILER_PACK_PACKER_H
