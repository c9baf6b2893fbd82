//===- BuildProgram.cpp - The artifact's program tables ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/plan/BuildProgram.h"

#include "compiler/lower/Tiling.h"
#include "dialects/Kernel/Kernel.h"
#include "dialects/Program/Program.h"

#include "mlir/IR/SymbolTable.h"

#include <cstring>

using namespace mlir;

namespace retort {
namespace {

class ProgramBuilder {
public:
  explicit ProgramBuilder(ModuleOp module) : module(module), symbols(module) {}
  FailureOr<BuiltProgram> run();

private:
  uint32_t bufferIndex(program::BufferOp op);
  uint32_t weightIndex(kernel::WeightOp op);
  uint32_t kernelIndex(kernel::EntryOp op);
  std::unique_ptr<abi::LaunchT> launch(program::LaunchOp op);
  void noteInputs(program::LaunchOp op);
  FailureOr<uint32_t> findBuffer(StringRef name);

  ModuleOp module;
  SymbolTable symbols;
  BuiltProgram built;
  llvm::DenseMap<Operation *, uint32_t> buffers, weights, kernels;
};

WeightSpec makeSpec(kernel::WeightOp op) {
  WeightSpec spec;
  spec.name = op.getSymName().str();
  auto type = cast<RankedTensorType>(op.getType());
  if (auto encoding = encoding::getPackedEncoding(type)) {
    spec.form = WeightForm::Matrix;
    spec.encoding = *encoding;
    spec.rows = type.getDimSize(0);
    spec.cols = type.getDimSize(1);
  } else {
    spec.form = op.getLiteral() ? WeightForm::Literal : WeightForm::Vector;
    spec.rows = 1;
    spec.cols = type.getDimSize(0);
  }
  if (auto literal = op.getLiteral()) {
    spec.literal.resize(literal->size() * sizeof(double));
    std::memcpy(spec.literal.data(), literal->data(), spec.literal.size());
  }
  auto integer = [](ArrayAttr run, unsigned i) {
    return cast<IntegerAttr>(run[i]).getInt();
  };
  if (op.getRows())
    for (auto attr : op.getRows()->getAsRange<ArrayAttr>()) {
      RowRun run{.tensor = cast<StringAttr>(attr[0]).str(),
                 .srcRow = integer(attr, 1),
                 .rows = integer(attr, 2),
                 .dstRow = integer(attr, 3)};
      if (attr.size() > 4) {
        run.stripStride = integer(attr, 4);
        run.colShift = integer(attr, 5);
        run.transposed = integer(attr, 6) != 0;
      }
      spec.rowRuns.push_back(std::move(run));
    }
  if (op.getCols())
    for (auto run : op.getCols()->getAsRange<ArrayAttr>())
      spec.colRuns.push_back(
          {integer(run, 0), integer(run, 1), integer(run, 2)});
  return spec;
}

uint32_t ProgramBuilder::bufferIndex(program::BufferOp op) {
  auto [it, isNew] = buffers.try_emplace(op, built.program.buffers.size());
  if (isNew) {
    auto buffer = std::make_unique<abi::BufferT>();
    buffer->name = op.getSymName().str();
    buffer->kind = op.getKind() == program::BufferKind::Cache
                       ? abi::BufferKind::Cache
                       : abi::BufferKind::Activation;
    buffer->fixed_bytes = op.getFixedBytes();
    buffer->bytes_per_token = op.getBytesPerToken();
    buffer->bytes_per_position = op.getBytesPerPosition();
    built.program.buffers.push_back(std::move(buffer));
  }
  return it->second;
}

uint32_t ProgramBuilder::weightIndex(kernel::WeightOp op) {
  auto [it, isNew] = weights.try_emplace(op, built.weights.size());
  if (isNew)
    built.weights.push_back(makeSpec(op));
  return it->second;
}

void noteTuning(kernel::LinearOp op, kernel::TokenClass tokens,
                abi::KernelT &kernel) {
  kernel.tuned_strips = tunedStrips(op, tokens);
  auto gains = op->getAttrOfType<DenseF64ArrayAttr>(kGainsAttr);
  if (gains && kernel.tuned_strips != 0)
    kernel.tuned_gain = gains[static_cast<int64_t>(tokens)];
}

uint32_t ProgramBuilder::kernelIndex(kernel::EntryOp op) {
  auto [it, isNew] = kernels.try_emplace(op, built.program.kernels.size());
  if (isNew) {
    auto kernel = std::make_unique<abi::KernelT>();
    kernel->symbol = op.getSymName().str();
    Tiling tiling = getTiling(op.getLaunch(), op.getTokens());
    kernel->scratch_bytes = tiling.scratchBytes;
    kernel->prepares = tiling.prepares;
    auto fused = dyn_cast<kernel::FusedOp>(op.getLaunch());
    if (auto linear = fused ? fused.getLinear()
                            : dyn_cast<kernel::LinearOp>(op.getLaunch()))
      noteTuning(linear, op.getTokens(), *kernel);
    built.program.kernels.push_back(std::move(kernel));
  }
  return it->second;
}

std::unique_ptr<abi::LaunchT> ProgramBuilder::launch(program::LaunchOp op) {
  auto out = std::make_unique<abi::LaunchT>();
  out->kernel = kernelIndex(symbols.lookup<kernel::EntryOp>(op.getKernel()));
  for (auto name : op.getArgs().getAsRange<FlatSymbolRefAttr>()) {
    Operation *target = symbols.lookup(name.getValue());
    if (auto buffer = dyn_cast<program::BufferOp>(target))
      out->args.emplace_back(abi::ArgKind::Buffer, bufferIndex(buffer));
    else
      out->args.emplace_back(abi::ArgKind::Weight,
                             weightIndex(cast<kernel::WeightOp>(target)));
  }
  noteInputs(op);
  built.program.kernels[out->kernel]->num_args = out->args.size();
  out->tiles = op.getTiles();
  out->tokens_per_tile = op.getTokensPerTile();
  out->layer = op.getLayer();
  out->label = op.getLabel().str();
  out->weight_bytes = op.getWeightBytes();
  out->bytes_per_token = op.getBytesPerToken();
  out->bytes_per_pair = op.getBytesPerPair();
  out->flops_per_token = op.getFlopsPerToken();
  out->flops_per_pair = op.getFlopsPerPair();
  out->reads_position = op.getReadsPosition();
  return out;
}

/// Remembers with a matrix that it is multiplied with quantized rows.
void ProgramBuilder::noteInputs(program::LaunchOp op) {
  auto entry = symbols.lookup<kernel::EntryOp>(op.getKernel());
  auto fused = dyn_cast<kernel::FusedOp>(entry.getLaunch());
  Value rows =
      fused ? fused.getLinear().getX() : entry.getLaunch()->getOperand(0);
  auto inputs = encoding::getActivationEncoding(rows.getType());
  if (!inputs)
    return;
  for (auto [name, operand] :
       llvm::zip(op.getArgs().getAsRange<FlatSymbolRefAttr>(),
                 entry.getLaunch()->getOperands())) {
    auto weight = dyn_cast<kernel::WeightOp>(symbols.lookup(name.getValue()));
    if (weight && encoding::getPackedEncoding(operand.getType()))
      built.weights[weightIndex(weight)].inputs = inputs;
  }
}

FailureOr<uint32_t> ProgramBuilder::findBuffer(StringRef name) {
  if (auto op = symbols.lookup<program::BufferOp>(name))
    return bufferIndex(op);
  return module.emitError("expected a program.buffer named @") << name;
}

FailureOr<BuiltProgram> ProgramBuilder::run() {
  for (auto op : module.getOps<program::BufferOp>())
    bufferIndex(op);
  for (auto op : module.getOps<program::PhaseOp>()) {
    auto phase = std::make_unique<abi::PhaseT>();
    static_assert(int(program::PhaseKind::DraftHead) ==
                  int(abi::PhaseKind::DraftHead));
    phase->kind = static_cast<abi::PhaseKind>(op.getKind());
    phase->min_tokens = op.getMinTokens();
    phase->max_tokens = op.getMaxTokens();
    for (auto launchOp : op.getBody().getOps<program::LaunchOp>())
      phase->launches.push_back(launch(launchOp));
    built.program.phases.push_back(std::move(phase));
  }
  auto tokens = findBuffer(program::kTokensBuffer);
  auto hidden = findBuffer(program::kHiddenBuffer);
  auto logits = findBuffer(program::kLogitsBuffer);
  if (failed(tokens) || failed(hidden) || failed(logits))
    return failure();
  built.program.tokens_buffer = *tokens;
  built.program.hidden_buffer = *hidden;
  built.program.logits_buffer = *logits;

  if (symbols.lookup(program::kDraftLogitsBuffer)) {
    auto draftHidden = findBuffer(program::kDraftHiddenBuffer);
    if (failed(draftHidden))
      return failure();
    built.program.draft_hidden_buffer = *draftHidden;
    built.program.draft_logits_buffer =
        *findBuffer(program::kDraftLogitsBuffer);
  }

  // The logits' stride is in the type of the head's last result.
  for (auto op : module.getOps<program::PhaseOp>()) {
    if (op.getKind() != program::PhaseKind::Head)
      continue;
    auto last = cast<program::LaunchOp>(op.getBody().front().back());
    auto entry = symbols.lookup<kernel::EntryOp>(last.getKernel());
    built.program.logits_stride =
        kernel::strideOf(entry.getLaunch()->getResult(0));
  }
  return std::move(built);
}

} // namespace

FailureOr<BuiltProgram> buildProgram(ModuleOp module) {
  return ProgramBuilder(module).run();
}

} // namespace retort
