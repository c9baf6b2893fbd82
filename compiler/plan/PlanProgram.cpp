//===- PlanProgram.cpp - From launches to the program -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/plan/Passes.h"

#include "compiler/fuse/Passes.h"
#include "compiler/lower/Tiling.h"
#include "compiler/plan/BufferPlan.h"
#include "compiler/plan/LaunchCost.h"
#include "compiler/plan/LaunchEntry.h"
#include "compiler/plan/PhaseLaunches.h"
#include "dialects/Kernel/Kernel.h"
#include "dialects/Program/Program.h"
#include "runtime/abi/Format.h"

#include "mlir/IR/OperationSupport.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace retort {
#define GEN_PASS_DEF_PLANPROGRAMPASS
#include "compiler/plan/Passes.h.inc"

namespace {

static_assert(kFewTokens == abi::kExactTokens);

struct PlanProgramPass : impl::PlanProgramPassBase<PlanProgramPass> {
  using PlanProgramPassBase::PlanProgramPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto body = module.lookupSymbol<func::FuncOp>("body");
    auto head = module.lookupSymbol<func::FuncOp>("head");
    auto draftBody = module.lookupSymbol<func::FuncOp>("draft_body");
    auto draftHead = module.lookupSymbol<func::FuncOp>("draft_head");
    if (!body || !head) {
      module.emitError("expected functions 'body' and 'head', which "
                       "fuse-launches makes");
      return signalPassFailure();
    }
    if (maxChunk < 2 || headTokens < 2) {
      module.emitError("expected max-chunk and head-tokens of at least 2");
      return signalPassFailure();
    }
    if (!draftBody != !draftHead) {
      (draftBody ? draftBody : draftHead)
          .emitError("expected 'draft_body' and 'draft_head' together");
      return signalPassFailure();
    }
    struct Part {
      func::FuncOp func;
      program::PhaseKind kind;
      int64_t maxTokens;
      StringRef input, output;
    };
    SmallVector<Part> parts = {{body, program::PhaseKind::Body, maxChunk,
                                program::kTokensBuffer, program::kHiddenBuffer},
                               {head, program::PhaseKind::Head, headTokens,
                                program::kHiddenBuffer,
                                program::kLogitsBuffer}};
    if (draftBody) {
      parts.push_back({draftBody, program::PhaseKind::DraftBody, maxChunk,
                       program::kTokensBuffer, program::kDraftHiddenBuffer});
      parts.push_back({draftHead, program::PhaseKind::DraftHead, 1,
                       program::kDraftHiddenBuffer,
                       program::kDraftLogitsBuffer});
    }
    for (Part &part : parts)
      if (failed(checkFunction(part.func)))
        return signalPassFailure();
    OpBuilder b(module.getContext());
    b.setInsertionPointToEnd(module.getBody());
    for (Part &part : parts) {
      bool isHead = part.kind == program::PhaseKind::Head ||
                    part.kind == program::PhaseKind::DraftHead;
      createBuffers(b, part.func, part.input, part.output,
                    isHead ? part.maxTokens : 0);
    }
    for (Part &part : parts)
      createPhases(b, part.func, part.kind, part.maxTokens);
    for (Part &part : parts)
      part.func.erase();
    numEntries += entryOf.size();
  }

private:
  LogicalResult checkFunction(func::FuncOp func) {
    for (Operation &op : func.getBody().front())
      if (!isa<kernel::KernelDialect>(op.getDialect()) &&
          !isa<func::ReturnOp>(op))
        return op.emitOpError("expected launches alone; fuse-launches should "
                              "have replaced this");
    return success();
  }

  /// Buffers of a function's values, for `fixedTokens` rows or, if that is 0,
  /// as many as a chunk has. Its last argument but one or two and its result
  /// have names of their own; the others take those of earlier functions, which
  /// never run at the same time, where the sizes agree.
  void createBuffers(OpBuilder &b, func::FuncOp func, StringRef input,
                     StringRef output, int64_t fixedTokens);
  void createPhases(OpBuilder &b, func::FuncOp func, program::PhaseKind kind,
                    int64_t maxTokens);
  /// `results` are the function's values that `op` computes.
  void createLaunch(OpBuilder &b, Operation *op, ValueRange results,
                    kernel::TokenClass tokens);
  FlatSymbolRefAttr getEntry(Operation *op, kernel::TokenClass tokens);
  FlatSymbolRefAttr getCacheBuffer(kernel::CacheType type, int64_t layer);
  FlatSymbolRefAttr getPartialsBuffer(kernel::PartialsType type);
  FlatSymbolRefAttr getArg(Value v);

  void createBuffer(OpBuilder &b, StringRef name, int64_t fixed,
                    int64_t perToken) {
    ++numBuffers;
    program::BufferOp::create(b, getOperation().getLoc(), name,
                              program::BufferKind::Activation, fixed, perToken,
                              0);
  }
  void createCache(OpBuilder &b, StringRef name, int64_t fixed,
                   int64_t perPosition) {
    ++numBuffers;
    program::BufferOp::create(b, getOperation().getLoc(), name,
                              program::BufferKind::Cache, fixed, 0,
                              perPosition);
  }

  /// A buffer of that size that an earlier function uses and this one has not
  /// taken, or "".
  std::string sharedBuffer(BufferSize size, const llvm::StringSet<> &taken);

  /// Buffers that no name binds, and the names of all that have been made.
  SmallVector<std::pair<std::string, BufferSize>> shared;
  llvm::StringSet<> created;
  /// The buffer of each activation, by value.
  llvm::DenseMap<Value, FlatSymbolRefAttr> buffers;
  /// Entries by what makes a kernel: op, attributes, types, token class.
  llvm::StringMap<FlatSymbolRefAttr> entryOf;
  llvm::StringMap<int> entriesOfKind;
  llvm::StringMap<FlatSymbolRefAttr> caches;
  llvm::MapVector<Type, FlatSymbolRefAttr> partials;
};

void PlanProgramPass::createBuffers(OpBuilder &b, func::FuncOp func,
                                    StringRef input, StringRef output,
                                    int64_t fixedTokens) {
  BufferPlan plan = planBuffers(func);
  Block &block = func.getBody().front();
  llvm::DenseMap<int, StringRef> named;
  named[plan.bufferOf.lookup(block.getArgument(0))] = input;
  // A draft's second argument is what the body returns.
  if (block.getNumArguments() > 1)
    named[plan.bufferOf.lookup(block.getArgument(1))] = program::kHiddenBuffer;
  named[plan.bufferOf.lookup(block.getTerminator()->getOperand(0))] = output;

  SmallVector<FlatSymbolRefAttr> symbols;
  llvm::StringSet<> taken;
  for (auto [index, planned] : llvm::enumerate(plan.sizes)) {
    BufferSize size = planned;
    if (fixedTokens)
      size = {0, size.fixed + size.perToken * roundUp<int64_t>(fixedTokens, 8)};
    std::string symbol = named.lookup(static_cast<int>(index)).str();
    if (symbol.empty())
      symbol = sharedBuffer(size, taken);
    if (symbol.empty()) {
      symbol =
          (fixedTokens ? "fixed_" : "row_") + std::to_string(shared.size());
      shared.push_back({symbol, size});
    }
    taken.insert(symbol);
    if (!created.insert(symbol).second) {
      symbols.push_back(FlatSymbolRefAttr::get(b.getContext(), symbol));
      continue;
    }
    createBuffer(b, symbol, size.fixed, size.perToken);
    symbols.push_back(FlatSymbolRefAttr::get(b.getContext(), symbol));
  }
  for (auto [value, index] : plan.bufferOf)
    buffers[value] = symbols[index];
}

std::string PlanProgramPass::sharedBuffer(BufferSize size,
                                          const llvm::StringSet<> &taken) {
  for (auto &[name, have] : shared)
    if (have == size && !taken.contains(name))
      return name;
  return {};
}

FlatSymbolRefAttr PlanProgramPass::getCacheBuffer(kernel::CacheType type,
                                                  int64_t layer) {
  std::string name = "layers." + std::to_string(layer) + "." +
                     kernel::stringifyCacheKind(type.getKind()).str();
  FlatSymbolRefAttr &symbol = caches[name];
  if (!symbol) {
    OpBuilder b(&getContext());
    b.setInsertionPointToEnd(getOperation().getBody());
    createCache(b, name, 0, type.getPositionBytes());
    symbol = FlatSymbolRefAttr::get(&getContext(), name);
  }
  return symbol;
}

/// Belongs to a sequence like its caches: tiles of two sequences must not meet
/// in it.
FlatSymbolRefAttr
PlanProgramPass::getPartialsBuffer(kernel::PartialsType type) {
  auto [it, isNew] = partials.try_emplace(type);
  if (isNew) {
    std::string name = "partials." + std::to_string(partials.size() - 1);
    OpBuilder b(&getContext());
    b.setInsertionPointToEnd(getOperation().getBody());
    createCache(b, name, type.bytes(), 0);
    it->second = FlatSymbolRefAttr::get(&getContext(), name);
  }
  return it->second;
}

FlatSymbolRefAttr PlanProgramPass::getArg(Value v) {
  if (auto load = v.getDefiningOp<kernel::LoadWeightOp>())
    return load.getWeightAttr();
  if (auto type = dyn_cast<kernel::PartialsType>(v.getType()))
    return getPartialsBuffer(type);
  if (auto type = dyn_cast<kernel::CacheType>(v.getType())) {
    // A cache keeps its memory through the launches that return it.
    while (!v.getDefiningOp<kernel::LoadCacheOp>()) {
      if (auto write = v.getDefiningOp<kernel::LatentCacheOp>())
        v = write.getCache();
      else if (auto write = v.getDefiningOp<kernel::RopeCacheOp>())
        v = v == write.getNewKeys() ? write.getKeys() : write.getValues();
    }
    return getCacheBuffer(type,
                          v.getDefiningOp<kernel::LoadCacheOp>().getLayer());
  }
  return buffers.lookup(v);
}

FlatSymbolRefAttr PlanProgramPass::getEntry(Operation *op,
                                            kernel::TokenClass tokens) {
  tokens = entryClass(op, tokens);
  assert(!(kernel::readsPosition(op) && tokens == kernel::TokenClass::Few) &&
         "tokens of several sequences are launched one at a time");
  std::string key =
      describeLaunch(op) + kernel::stringifyTokenClass(tokens).str();
  FlatSymbolRefAttr &symbol = entryOf[key];
  if (symbol)
    return symbol;

  StringRef kind = op->getName().stripDialect();
  std::string name = kind.str() + "_" + std::to_string(entriesOfKind[kind]++);
  if (tokens != kernel::TokenClass::Any)
    name += "_" + kernel::stringifyTokenClass(tokens).str();
  OpBuilder b(&getContext());
  b.setInsertionPointToEnd(getOperation().getBody());
  createEntry(b, name, op, tokens);
  symbol = FlatSymbolRefAttr::get(&getContext(), name);
  return symbol;
}

void PlanProgramPass::createLaunch(OpBuilder &b, Operation *op,
                                   ValueRange results,
                                   kernel::TokenClass tokens) {
  SmallVector<Attribute> args;
  for (Value v : op->getOperands())
    args.push_back(getArg(v));
  for (Value v : results)
    if (!isa<kernel::CacheType>(v.getType()))
      args.push_back(getArg(v));
  Tiling tiling = getTiling(op, tokens);
  LaunchCost cost = launchCost(op, tokens, tiling.tokensPerTile);
  auto layer = op->getAttrOfType<IntegerAttr>(kLayerAttr);
  auto label = op->getAttrOfType<StringAttr>(kLabelAttr);
  program::LaunchOp::create(
      b, op->getLoc(), getEntry(op, tokens), b.getArrayAttr(args),
      b.getI64IntegerAttr(tiling.tiles),
      b.getI64IntegerAttr(tiling.tokensPerTile),
      b.getI64IntegerAttr(layer ? layer.getInt() : -1),
      label ? label : b.getStringAttr(op->getName().stripDialect()),
      b.getI64IntegerAttr(cost.weightBytes),
      b.getI64IntegerAttr(cost.bytesPerToken),
      b.getI64IntegerAttr(cost.bytesPerPair),
      b.getI64IntegerAttr(cost.flopsPerToken),
      b.getI64IntegerAttr(cost.flopsPerPair),
      kernel::readsPosition(op) ? b.getUnitAttr() : nullptr);
}

void PlanProgramPass::createPhases(OpBuilder &b, func::FuncOp func,
                                   program::PhaseKind kind, int64_t maxTokens) {
  std::tuple<kernel::TokenClass, int64_t, int64_t> classes[] = {
      {kernel::TokenClass::One, 1, 1},
      {kernel::TokenClass::Few, 2, std::min(kFewTokens, maxTokens)},
      {kernel::TokenClass::Many, kFewTokens + 1, maxTokens}};
  for (auto [tokens, min, max] : classes) {
    if (min > max)
      continue;
    std::string name =
        (func.getName() + "_" + kernel::stringifyTokenClass(tokens)).str();
    b.setInsertionPointToEnd(getOperation().getBody());
    auto phase =
        program::PhaseOp::create(b, func.getLoc(), name, kind, min, max);
    OpBuilder inner = OpBuilder::atBlockEnd(&phase.getBody().emplaceBlock());
    PhaseLaunches phaseLaunches(func, tokens);
    for (auto [op, results] : phaseLaunches.launches())
      createLaunch(inner, op, results, tokens);
  }
}

} // namespace
} // namespace retort
