//===- Predict.cpp - How fast a model will be, and where it fits ----------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Predict.h"

#include "runtime/engine/Ledger.h"

#include <algorithm>

namespace retort {
namespace {

constexpr uint64_t kDefaultContext = 4096;
/// Of a GPU's tensor peak, at most.
constexpr double kGpuArithmetic = 0.5;

// Nominal figures, not measured: memory channels times their rate, cores times
// base clock times f32 operations per cycle, dense 16-bit tensor peaks.
const MachineSpec kPresets[] = {
    {"Raspberry Pi 5", 17.1, 0.15, 8, false},
    {"Core i7-13700, DDR5-5600", 89.6, 1.0, 32, false},
    {"Ryzen 9 7950X, DDR5-5200", 83.2, 2.3, 64, false},
    {"Xeon 8480+, 8x DDR5-4800", 307.2, 7.2, 512, false},
    {"EPYC 9654, 12x DDR5-4800", 460.8, 7.4, 768, false},
    {"Graviton4, 12x DDR5-5600", 537.6, 8.6, 768, false},
    {"RTX 4090", 1008, 165, 24, true},
    {"RTX 5090", 1792, 209, 32, true},
    {"A100 80GB", 2039, 312, 80, true},
    {"H100 SXM", 3350, 989, 80, true},
    {"H200 SXM", 4800, 989, 141, true},
    {"MI300X", 5300, 1307, 192, true},
    {"8x H200 SXM", 38400, 7912, 1128, true},
};

/// The encoding of the matrix that a launch reads, without its parameters.
std::string encodingOf(const abi::Program &program, const abi::Launch &launch) {
  for (const abi::Arg *arg : *launch.args()) {
    if (arg->kind() != abi::ArgKind::Weight)
      continue;
    const abi::Weight &weight = *program.weights()->Get(arg->index());
    if (weight.rows() == 1)
      continue;
    std::string name = weight.encoding()->str();
    return name.substr(0, name.find('<'));
  }
  return "";
}

void addPhase(const abi::Program &program, abi::PhaseKind kind, uint64_t tokens,
              uint64_t position, std::map<std::string, StepWork> &sums) {
  const abi::Phase *phase = findPhase(program, kind, tokens);
  if (!phase)
    return;
  for (const abi::Launch *launch : *phase->launches()) {
    LaunchWork work = launchWork(*launch, tokens, position);
    StepWork &sum = sums[encodingOf(program, *launch)];
    sum.bytes += static_cast<double>(work.bytes);
    sum.flops += static_cast<double>(work.flops);
  }
}

StepWork total(const std::map<std::string, StepWork> &parts) {
  StepWork sum;
  for (const auto &[encoding, work] : parts) {
    sum.bytes += work.bytes;
    sum.flops += work.flops;
  }
  return sum;
}

} // namespace

std::span<const MachineSpec> machinePresets() { return kPresets; }

StepWork ModelCost::decodeTotal() const { return total(decode); }
StepWork ModelCost::prefillTotal() const { return total(prefill); }

Result<ModelCost> costOfModel(const CompileOptions &options, uint64_t context,
                              unsigned threads) {
  RETORT_ASSIGN_OR_RETURN(CompilePlan plan, planCompile(options));
  const abi::Index &index = *abi::GetIndex(plan.index.data());
  const abi::Model &model = *index.model();
  const abi::Program &program = *index.program();
  ModelCost cost;
  cost.weights = options.weights;
  cost.kv = plan.kv;
  cost.name = model.name()->str();
  cost.family = model.family()->str();
  cost.parameters = model.parameters();
  cost.artifactBytes = plan.fileBytes;
  cost.weightBytes = plan.weightBytes;
  cost.context = context
                     ? context
                     : std::min<uint64_t>(kDefaultContext, model.max_context());
  cost.chunk = std::min<uint64_t>(model.max_chunk(), cost.context);
  RETORT_ASSIGN_OR_RETURN(cost.memory,
                          predictMemory(index, cost.context, threads));
  addPhase(program, abi::PhaseKind::Body, 1, cost.context - 1, cost.decode);
  addPhase(program, abi::PhaseKind::Head, 1, 0, cost.decode);
  addPhase(program, abi::PhaseKind::Body, cost.chunk, 0, cost.prefill);
  addPhase(program, abi::PhaseKind::Head, 1, 0, cost.prefill);
  return cost;
}

Efficiency efficiencyOf(const std::string &encoding) {
  if (encoding == "int4")
    return {0.78, 1.55};
  if (encoding == "int8")
    return {0.68, 0.96};
  // Attention, norms and the like.
  if (encoding.empty())
    return {0.50, 0.30};
  return {0.80, 0.66};
}

double stepSeconds(const std::map<std::string, StepWork> &work,
                   const MachineSpec &machine) {
  double seconds = 0;
  for (const auto &[encoding, part] : work) {
    Efficiency share = efficiencyOf(encoding);
    // CPUs may do more with integer dot products than their f32 peak says.
    if (machine.isGpu)
      share.arithmetic = std::min(share.arithmetic, kGpuArithmetic);
    seconds +=
        std::max(part.bytes / (machine.gbps * 1e9 * share.bandwidth),
                 part.flops / (machine.tflops * 1e12 * share.arithmetic));
  }
  return seconds;
}

Speed predictSpeed(const ModelCost &cost, const MachineSpec &machine) {
  return {1 / stepSeconds(cost.decode, machine),
          static_cast<double>(cost.chunk) / stepSeconds(cost.prefill, machine)};
}

bool fits(const ModelCost &cost, const MachineSpec &machine) {
  return static_cast<double>(cost.memory.total()) <= machine.memoryGb * 1e9;
}

} // namespace retort
