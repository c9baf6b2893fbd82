//===- Pipelines.cpp - Stages and their pipelines ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Pipelines.h"

#include "compiler/fuse/Passes.h"
#include "compiler/plan/Passes.h"
#include "compiler/quantize/Passes.h"

using namespace mlir;

namespace retort {

llvm::StringRef stageName(Stage stage) {
  switch (stage) {
  case Stage::Import:
    return "import";
  case Stage::Quantize:
    return "quantize";
  case Stage::Fuse:
    return "fuse";
  case Stage::Plan:
    return "plan";
  case Stage::Lower:
    return "lower";
  case Stage::Asm:
    return "asm";
  }
  return "";
}

std::optional<Stage> parseStage(llvm::StringRef name) {
  for (Stage stage : kStages)
    if (stageName(stage) == name)
      return stage;
  return std::nullopt;
}

void populateQuantizePipeline(OpPassManager &pm,
                              const PipelineOptions &options) {
  QuantizeWeightsPassOptions quantize;
  quantize.weights = options.weights;
  quantize.groupSize = options.groupSize;
  pm.addPass(createQuantizeWeightsPass(quantize));
}

void populateFusePipeline(OpPassManager &pm, const PipelineOptions &options) {
  FuseLaunchesPassOptions fuse;
  fuse.kv = options.kv;
  pm.addPass(createFuseLaunchesPass(fuse));
  if (options.roundActivations)
    pm.addPass(createEncodeActivationsPass());
}

void populatePlanPipeline(OpPassManager &pm, const PipelineOptions &options) {
  PlanProgramPassOptions plan;
  plan.maxChunk = options.maxChunk;
  pm.addPass(createPlanProgramPass(plan));
}

} // namespace retort
