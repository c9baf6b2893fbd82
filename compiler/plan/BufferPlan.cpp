//===- BufferPlan.cpp - Buffers of values -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/plan/BufferPlan.h"

#include "dialects/Kernel/Kernel.h"

using namespace mlir;

namespace retort {
namespace {

bool needsBuffer(Value v) {
  Type type = v.getType();
  return (kernel::isActivation(type) || kernel::isTokens(type) ||
          kernel::isIds(type) || isa<kernel::ExpertListsType>(type)) &&
         !v.getDefiningOp<kernel::LoadWeightOp>();
}

BufferSize sizeOf(Value v) {
  if (auto lists = dyn_cast<kernel::ExpertListsType>(v.getType()))
    return {lists.getSlots() * 4, lists.entriesOffset() * 4};
  auto type = cast<RankedTensorType>(v.getType());
  if (auto encoding = encoding::getActivationEncoding(type))
    return {encoding->rowBytes(type.getDimSize(1)), 0, encoding->kind};
  int64_t elements = type.getRank() == 2 ? type.getDimSize(1) : 1;
  return {elements * type.getElementTypeBitWidth() / 8, 0};
}

/// The residual of a launch that may write its result over it.
Value residualOf(Operation &op) {
  if (auto linear = dyn_cast<kernel::LinearOp>(op))
    return linear.getResidual();
  if (auto down = dyn_cast<kernel::MoeDownOp>(op))
    return down.getResidual();
  return {};
}

/// The number of the last op that uses a value; the terminator counts.
using LastUses = llvm::DenseMap<Value, size_t>;

LastUses findLastUses(Block &block) {
  LastUses last;
  size_t number = 0;
  for (Operation &op : block) {
    for (Value v : op.getOperands())
      last[v] = number;
    for (Value v : op.getResults())
      last[v] = number;
    ++number;
  }
  return last;
}

} // namespace

BufferPlan planBuffers(func::FuncOp func) {
  Block &block = func.getBody().front();
  LastUses last = findLastUses(block);
  BufferPlan plan;
  llvm::SmallVector<int> free;

  auto allocate = [&](Value v) {
    BufferSize size = sizeOf(v);
    for (int &candidate : free) {
      if (plan.sizes[candidate] != size)
        continue;
      plan.bufferOf[v] = candidate;
      free.erase(&candidate);
      return;
    }
    plan.bufferOf[v] = static_cast<int>(plan.sizes.size());
    plan.sizes.push_back(size);
  };

  for (Value arg : block.getArguments())
    allocate(arg);
  size_t number = 0;
  for (Operation &op : block) {
    Value inPlace;
    if (Value r = residualOf(op); r && last[r] == number) {
      plan.bufferOf[op.getResult(0)] = plan.bufferOf[r];
      inPlace = r;
    }
    // Results first: a launch must not write what it still reads.
    for (Value v : op.getResults())
      if (needsBuffer(v) && !plan.bufferOf.count(v))
        allocate(v);
    // What a function is given stays as it is: `head` runs several times over
    // the rows that `body` left.
    llvm::SmallPtrSet<void *, 4> seen;
    for (Value v : op.getOperands())
      if (needsBuffer(v) && !isa<BlockArgument>(v) && v != inPlace &&
          last[v] == number && seen.insert(v.getAsOpaquePointer()).second)
        free.push_back(plan.bufferOf[v]);
    for (Value v : op.getResults())
      if (needsBuffer(v) && last[v] == number)
        free.push_back(plan.bufferOf[v]);
    ++number;
  }
  return plan;
}

} // namespace retort
