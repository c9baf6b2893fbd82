//===- QuantizeShard.h - A layer becomes a file -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Rounds the matrices of a layer by a method, with what enters each of them,
/// and writes them as they are finished.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_QUANTIZESHARD_H
#define RETORT_COMPILER_PTQ_QUANTIZESHARD_H

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/ptq/Calibration.h"
#include "compiler/ptq/Grid.h"

#include <functional>

namespace retort::ptq {

/// How values are chosen. Without either: to the nearest.
struct QuantizeMethod {
  bool usesActivations = false; ///< awq: scales depend on inputs too
  bool compensates = false;     ///< gptq: later columns make up for errors
  bool needsInputs() const { return usesActivations || compensates; }
};

/// "rtn", "gptq", "awq" or "awq+gptq". InvalidArgument for another name.
Result<QuantizeMethod> parseQuantizeMethod(std::string_view name);

/// A matrix of a layer that becomes integers: none of the
/// multi-token-prediction layer, and no router.
bool isProjection(const checkpoint::ModelConfig &config,
                  const checkpoint::TensorView &view);

struct ShardReport {
  uint64_t matrices = 0;
  uint64_t calibrated = 0; ///< matrices that were rounded with their inputs
  uint64_t scaled = 0;     ///< matrices whose columns were scaled
  /// Modules that no input has reached, although the method wants some. They
  /// are rounded to nearest.
  std::vector<std::string> unreached;
};

struct ShardTask {
  const checkpoint::Checkpoint &source;
  std::string path;   ///< of the safetensors file
  int64_t layer = -1; ///< -1: tensors that belong to none
  const GridForm &form;
  QuantizeMethod method;
  int threads = 1;
  const std::atomic<bool> *cancel = nullptr;
  /// A matrix is done.
  std::function<void()> advance;
  /// Called before the file gets its name.
  std::function<Status(const ShardReport &)> finishing;
};

/// Writes `views`: first the projections, quantized, then the others as they
/// are, but for norms and biases that took scales up. Holds one matrix at a
/// time, beside the inputs. Errors: a weight or an input that is not finite,
/// naming it; a file that cannot be read or written; cancelled.
Result<ShardReport>
writeShard(const ShardTask &task,
           std::span<const checkpoint::TensorView *const> views,
           LayerInputs inputs);

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_QUANTIZESHARD_H
