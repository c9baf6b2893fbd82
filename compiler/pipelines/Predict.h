//===- Predict.h - How fast a model will be, and where it fits --*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort plan` as a library: work and memory of a model from its program, and
/// the speed of machines that are described by a few numbers.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PIPELINES_PREDICT_H
#define RETORT_COMPILER_PIPELINES_PREDICT_H

#include "compiler/pipelines/Compile.h"
#include "runtime/engine/Memory.h"

#include <map>
#include <span>

namespace retort {

/// What a machine can do at best.
struct MachineSpec {
  std::string name;
  double gbps = 0;   ///< 10^9 bytes read from memory per second
  double tflops = 0; ///< 10^12 operations per second, a multiply-add being two
  double memoryGb = 0; ///< 10^9 bytes
  bool isGpu = false;
};

/// Common machines. CPUs: f32 multiply-add peak of all cores at the base clock
/// and the memory that a usual machine has; GPUs: dense 16-bit tensor peak.
std::span<const MachineSpec> machinePresets();

/// Bytes and flops of a step.
struct StepWork {
  double bytes = 0;
  double flops = 0;
};

/// What running a model takes.
struct ModelCost {
  std::string weights; ///< as asked for
  std::string kv;      ///< what caches hold
  std::string name, family;
  uint64_t parameters = 0;
  uint64_t artifactBytes = 0; ///< without code, which takes less than a MB
  uint64_t weightBytes = 0;
  uint64_t context = 0; ///< positions that `memory` and `decode` are for
  uint64_t chunk = 0;   ///< tokens of `prefill`
  MemoryUse memory;     ///< of one session
  /// By encoding of the matrix that a launch reads ("int4"; "" for launches
  /// that read none): decoding the last token of the context, and a first
  /// chunk of a prompt.
  std::map<std::string, StepWork> decode, prefill;

  StepWork decodeTotal() const;
  StepWork prefillTotal() const; ///< of the whole chunk
};

/// The cost of a checkpoint or a config.json alone, compiled with
/// `options.weights`. Code is not generated; weights are looked at, if there
/// are any, only to choose zero points. A context of 0 stands for 4096 or what
/// the model has, if that is less.
Result<ModelCost> costOfModel(const CompileOptions &options, uint64_t context,
                              unsigned threads);

struct Speed {
  double decodeTps = 0;  ///< tokens per second
  double prefillTps = 0; ///< tokens per second
};

/// The share of a machine's bandwidth and arithmetic peak that launches reach
/// which read matrices of an encoding. docs/teacher.md says how they were
/// measured.
struct Efficiency {
  double bandwidth = 0, arithmetic = 0;
};
Efficiency efficiencyOf(const std::string &encoding);

/// Time of a step: for each encoding the longer of reading and computing.
double stepSeconds(const std::map<std::string, StepWork> &work,
                   const MachineSpec &machine);

Speed predictSpeed(const ModelCost &cost, const MachineSpec &machine);

/// Whether the model's weights and one session fit in the memory.
bool fits(const ModelCost &cost, const MachineSpec &machine);

} // namespace retort

#endif // RETORT_COMPILER_PIPELINES_PREDICT_H
