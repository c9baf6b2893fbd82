//===- Pipelines.h - Stages and their pipelines -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The stages of a compile as pass pipelines. This is the only place that sees
/// every stage, and the only one that knows their order.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PIPELINES_PIPELINES_H
#define RETORT_COMPILER_PIPELINES_PIPELINES_H

#include "mlir/Pass/PassManager.h"

#include <optional>
#include <string>

namespace retort {

/// In the order in which they run; each has a form of IR as its result.
enum class Stage { Import, Quantize, Fuse, Plan, Lower, Asm };
inline constexpr Stage kStages[] = {Stage::Import, Stage::Quantize, Stage::Fuse,
                                    Stage::Plan,   Stage::Lower,    Stage::Asm};

llvm::StringRef stageName(Stage stage);
std::optional<Stage> parseStage(llvm::StringRef name);

struct PipelineOptions {
  std::string weights = "keep"; ///< as parseWeightChoice() takes it
  int groupSize = 32;           ///< inputs that share a scale
  /// Integer weights meet activations that are rounded to integers; else they
  /// are decoded to f32.
  bool roundActivations = true;
  std::string kv = "f32"; ///< what caches hold: a CacheElement's name
  int64_t maxChunk = 512; ///< tokens of a chunk, at most
};

/// Post-condition: every matrix that the model multiplies with or looks rows up
/// in has an #encoding.packed type.
void populateQuantizePipeline(mlir::OpPassManager &pm,
                              const PipelineOptions &options);

/// Post-condition: functions `body` and `head` consist of kernel launches; no
/// op of the model dialect is left.
void populateFusePipeline(mlir::OpPassManager &pm,
                          const PipelineOptions &options);

/// Post-condition: phases, buffers, weights and entries; no function is left.
void populatePlanPipeline(mlir::OpPassManager &pm,
                          const PipelineOptions &options);

} // namespace retort

#endif // RETORT_COMPILER_PIPELINES_PIPELINES_H
