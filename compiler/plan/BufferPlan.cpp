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
  return (kernel::isActivation(v.getType()) || kernel::isTokens(v.getType())) &&
         !v.getDefiningOp<kernel::LoadWeightOp>();
}

int64_t rowBytesOf(Value v) {
  auto type = cast<RankedTensorType>(v.getType());
  int64_t elements = type.getRank() == 2 ? type.getDimSize(1) : 1;
  return elements * type.getElementTypeBitWidth() / 8;
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
    int64_t bytes = rowBytesOf(v);
    for (int &candidate : free) {
      if (plan.rowBytes[candidate] != bytes)
        continue;
      plan.bufferOf[v] = candidate;
      free.erase(&candidate);
      return;
    }
    plan.bufferOf[v] = static_cast<int>(plan.rowBytes.size());
    plan.rowBytes.push_back(bytes);
  };

  for (Value arg : block.getArguments())
    allocate(arg);
  size_t number = 0;
  for (Operation &op : block) {
    Value inPlace;
    if (auto linear = dyn_cast<kernel::LinearOp>(op))
      if (Value r = linear.getResidual(); r && last[r] == number) {
        plan.bufferOf[linear.getResult()] = plan.bufferOf[r];
        inPlace = r;
      }
    // Results first: a launch must not write what it still reads.
    for (Value v : op.getResults())
      if (needsBuffer(v) && !plan.bufferOf.count(v))
        allocate(v);
    llvm::SmallPtrSet<void *, 4> seen;
    for (Value v : op.getOperands())
      if (needsBuffer(v) && v != inPlace && last[v] == number &&
          seen.insert(v.getAsOpaquePointer()).second)
        free.push_back(plan.bufferOf[v]);
    for (Value v : op.getResults())
      if (needsBuffer(v) && last[v] == number)
        free.push_back(plan.bufferOf[v]);
    ++number;
  }
  return plan;
}

} // namespace retort
