//===- QuantizeCheckpoint.h - The quantize command --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort quantize`: a checkpoint becomes one in the compressed-tensors
/// format, layer by layer.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_QUANTIZECHECKPOINT_H
#define RETORT_COMPILER_PTQ_QUANTIZECHECKPOINT_H

#include "compiler/ptq/QuantizeShard.h"

#include <atomic>
#include <functional>

namespace retort::ptq {

struct QuantizeOptions {
  std::string checkpoint; ///< Hugging Face directory
  std::string output;     ///< directory to make; may exist if it is empty
  GridForm form;
  QuantizeMethod method;
  std::string calibration;          ///< text or JSONL; empty: the project's own
  int64_t calibrationTokens = 8192; ///< at most
  int64_t window = 512;             ///< tokens that attend to each other
  int threads = 0;                  ///< 0: all processors
  uint64_t maxRam = uint64_t(3) << 30;
  /// Go on with what an interrupted run has left in `<output>.partial`, if it
  /// came from the same inputs.
  bool resume = true;
  /// What is being done, with matrices done and in total.
  std::function<void(const std::string &step, uint64_t done, uint64_t total)>
      progress;
  std::function<void(const std::string &note)> note;
  const std::atomic<bool> *cancel = nullptr;
};

struct QuantizeReport {
  uint64_t matrices = 0;   ///< quantized
  uint64_t calibrated = 0; ///< of them with activations, in this run
  uint64_t scaled = 0;     ///< of them with scaled columns, in this run
  /// Modules that calibration has not reached, rounded to nearest.
  std::vector<std::string> unreached;
  uint64_t sourceBytes = 0, bytes = 0;
  int64_t calibrationTokens = 0; ///< seen
  int64_t resumedLayers = 0;
};

/// Writes shards, index, configuration and copies of the other files into
/// `<output>.partial`, which gets its name at the end. The same inputs give the
/// same bytes, whatever the threads and however often the run was interrupted.
/// Errors: an unusable checkpoint, calibration text or output; a group size
/// that does not divide a matrix; a memory limit that is too small, with the
/// least that would do; or from the system.
Result<QuantizeReport> quantizeCheckpoint(const QuantizeOptions &options);

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_QUANTIZECHECKPOINT_H
