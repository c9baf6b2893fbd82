//===- Trace.h - Models whose inner values can be seen ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Artifacts and checkpoints as `retort bisect` sees them: tokens go in, named
/// values of every layer come out and may be replaced on the way.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PIPELINES_TRACE_H
#define RETORT_COMPILER_PIPELINES_TRACE_H

#include "compiler/checkpoint/Config.h"
#include "compiler/reference/TracePoint.h"
#include "runtime/api/ModelText.h"
#include "runtime/loader/Artifact.h"

#include <atomic>
#include <memory>
#include <string>

namespace retort {

struct TraceOptions {
  unsigned threads = 0; ///< 0: as many as the machine has
  /// Code of an artifact to run; empty: the best. Refused for checkpoints.
  std::string target;
  WeightCheck weights = WeightCheck::Auto;
  /// Tokens that an artifact computes at once. Up to abi::kExactTokens, its
  /// launches are the least fused; one at a time is what decoding does.
  uint32_t chunk = 0;
  const std::atomic<bool> *cancel = nullptr;
};

/// A model that can be computed again and again from its first token on.
class TracedModel {
public:
  virtual ~TracedModel() = default;

  virtual const checkpoint::ModelConfig &config() const = 0;
  /// Positions that it has.
  virtual int64_t maxContext() const = 0;
  /// May be without a tokenizer.
  virtual const ModelText &text() const = 0;
  /// Path and what computes it: "m.retort (x86-64-v3)".
  virtual std::string describe() const = 0;

  /// Computes tokens, which must be ids of the vocabulary and fit in the
  /// context, from position 0 on. The observer sees every point that this model
  /// has, the logits last; it may see the tokens in pieces. A point that
  /// launches are fused over is absent, for all tokens or for those of some
  /// pieces.
  virtual Status run(std::span<const int32_t> tokens,
                     const reference::TraceObserver &observer) = 0;
};

/// Opens an artifact, or a checkpoint directory, which the reference
/// interpreter computes with its own weights.
Result<std::unique_ptr<TracedModel>> openTraced(const std::string &path,
                                                const TraceOptions &options);

} // namespace retort

#endif // RETORT_COMPILER_PIPELINES_TRACE_H
