//===- Calibration.h - What enters matrices ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Runs a checkpoint layer by layer on calibration tokens and hands out what
/// enters each of its matrices. A layer runs as a model of its own: a small
/// checkpoint whose embedding holds the hidden states that enter it.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_CALIBRATION_H
#define RETORT_COMPILER_PTQ_CALIBRATION_H

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/pack/WeightSpec.h"

#include <atomic>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort::ptq {

/// Rows of activations, one per token that reached a matrix.
struct Activations {
  int64_t rows = 0, cols = 0;
  std::vector<float> values; ///< [rows, cols]
};

/// By the name of the matrix ("model.layers.3.mlp.up_proj.weight"). Matrices of
/// the same inputs share them.
using LayerInputs = std::map<std::string, std::shared_ptr<const Activations>>;

struct LayerResult {
  Activations hidden; ///< what leaves the layer
  LayerInputs inputs;
};

struct CalibrationOptions {
  std::string scratch;  ///< a directory that exists
  int64_t window = 512; ///< tokens that attend to each other, at most
  int threads = 1;
  uint64_t maxRam = uint64_t(2) << 30;
  const std::atomic<bool> *cancel = nullptr;
};

/// The ids of a calibration text: all of a text file, or of a JSONL file (by
/// its name) the `prompt` or `text` of each line one after the other. At most
/// `count`, from the beginning. Errors name file and line.
Result<std::vector<int32_t>>
calibrationTokens(const checkpoint::Checkpoint &checkpoint,
                  const std::string &file, int64_t count);

/// The text that ships with the project.
std::string_view defaultCalibrationText();

/// Rows of the embedding.
Result<Activations> embedTokens(const checkpoint::Checkpoint &checkpoint,
                                std::span<const int32_t> tokens);

/// Runs layers on all windows of what enters them.
class LayerRunner {
public:
  LayerRunner(const checkpoint::Checkpoint &checkpoint,
              const CalibrationOptions &options)
      : checkpoint(checkpoint), options(options) {}

  Result<LayerResult> run(int64_t layer, const Activations &hidden);

private:
  Status prepare(const std::string &dir, int64_t layer,
                 const checkpoint::Checkpoint &model);
  std::string artifactPath() const { return options.scratch + "/layer.retort"; }

  const checkpoint::Checkpoint &checkpoint;
  CalibrationOptions options;
  /// Of the layer whose code the artifact holds: configuration, and name, type
  /// and shape of each tensor. Others of the same take its weights' places.
  std::string compiled;
  std::vector<WeightSpec> specs; ///< of that artifact
};

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_CALIBRATION_H
