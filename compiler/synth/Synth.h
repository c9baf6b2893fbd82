//===- Synth.h - Random checkpoints -----------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Writes a random checkpoint of any supported configuration, streamed, so that
/// what cannot be downloaded can be measured. Values are such that activations
/// keep their size through the layers: projections have variance 1 / inputs,
/// those that write to the residual stream are smaller by sqrt(2 * layers),
/// norms are near 1.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_SYNTH_SYNTH_H
#define RETORT_COMPILER_SYNTH_SYNTH_H

#include "compiler/checkpoint/Config.h"

#include <atomic>
#include <functional>
#include <optional>
#include <string>

namespace retort::synth {

struct SynthOptions {
  std::string source; ///< directory with config.json, maybe tokenizer files
  std::string output; ///< directory to make; may exist if it is empty
  /// Instead of num_hidden_layers; first_k_dense_replace shrinks with it.
  std::optional<int64_t> layers;
  uint64_t seed = 0;
  /// F8E4M3 (matrices of layers, in blocks) or BF16; by default as the
  /// configuration says.
  std::optional<DType> dtype;
  /// Write the multi-token-prediction layer; else the new configuration
  /// declares none.
  bool mtp = false;
  int threads = 0; ///< 0: all processors; the result is the same for any
  uint64_t shardBytes = 5'000'000'000; ///< about the size of a file
  std::function<void(uint64_t done, uint64_t total)> progress;
  /// Ends with Code::Cancelled, and nothing written, soon after it is true.
  const std::atomic<bool> *cancel = nullptr;
};

struct SynthReport {
  uint64_t bytes = 0;      ///< of all tensors, with scales
  uint64_t parameters = 0; ///< elements of all tensors, without scales
  size_t tensors = 0;      ///< with scales
  size_t shards = 0;
};

/// Writes config.json, the weights in one file or in shards with an index, and
/// copies of tokenizer files, into a directory beside `output` that gets its
/// name at the end. Memory is bounded by some megabytes per thread. Errors: an
/// unusable configuration, an output that exists and is not empty, too little
/// space on the disk, or from the system.
Result<SynthReport> synthesize(const SynthOptions &options);

} // namespace retort::synth

#endif // RETORT_COMPILER_SYNTH_SYNTH_H
