//===- ActivationScales.h - Scales between layers ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Scaling between layers, as in AWQ (arXiv 2306.00978): the inputs of matrices
/// are divided by a scale each, and the matrices' columns multiplied by it, so
/// that columns of small weights or large inputs are rounded with finer steps.
/// What makes the inputs, a norm or the rows of another matrix, takes the
/// division up: the checkpoint stays one of the same architecture.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_ACTIVATIONSCALES_H
#define RETORT_COMPILER_PTQ_ACTIVATIONSCALES_H

#include "compiler/checkpoint/Config.h"
#include "compiler/ptq/Calibration.h"
#include "compiler/ptq/Gptq.h"

#include <functional>
#include <string>
#include <vector>

namespace retort::ptq {

/// Matrices that see the same inputs, and what makes these. An input is made by
/// a source: an element of a norm's weight, or a row of a matrix.
struct ScaleFold {
  std::vector<std::string> consumers; ///< names of weights
  std::string norm;                   ///< name of the weight, or empty:
  std::string producer;               ///< name of the matrix
  /// The source of each input; several if heads share a value. Empty: input i
  /// is made by source i.
  std::vector<int32_t> sources;
};

/// The places of a layer at which scales can go in without any other effect.
/// Not among them: the norm before experts, since the router, which must not be
/// rounded anew, reads it too.
std::vector<ScaleFold> scaleFolds(const checkpoint::ModelConfig &config,
                                  int64_t layer);

/// A scale near `wanted` by which `value` can be divided so that the quotient
/// is a value of `dtype` and times the scale gives `value` again. 1 if there is
/// none.
float exactScale(float value, float wanted, DType dtype);

/// `value` rounded to the nearest value of F32, BF16 or F16.
float roundTo(DType dtype, float value);

/// Rows of a matrix.
struct MatrixSample {
  std::vector<float> weights; ///< [rows, cols]
  int64_t rows = 0;
};

/// What scales are chosen by.
struct ScaleSearch {
  const GridForm &form;
  const Activations &inputs;
  std::span<const float> importance; ///< of the inputs
  /// With it matrices are rounded by roundWithHessian(), else by
  /// roundWeighted().
  const Hessian *hessian = nullptr;
  const std::vector<MatrixSample> &samples;
  std::span<const int32_t> sources; ///< of ScaleFold
  int64_t numSources = 0;
  /// What becomes of a source's scale so that the source can take it.
  std::function<float(int64_t source, float scale)> settle;
  /// Whether scales may depend on the inputs, or on the weights alone.
  bool usesInputs = true;
  int threads = 1;
};

/// The scale of each source: x^p / w^(1 - p), with x and w the mean magnitudes
/// of the inputs it makes and of the weights that these meet, over the
/// geometric mean of all scales. Of p = 0, 0.1, .. 1 (0 alone without
/// `usesInputs`) the one under which the rounded samples give outputs nearest
/// to their own. Empty if scales of 1 are as good.
std::vector<float> findScales(const ScaleSearch &search);

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_ACTIVATIONSCALES_H
