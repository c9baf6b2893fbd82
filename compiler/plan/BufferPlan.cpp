//===- BufferPlan.cpp - Buffers of values -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/plan/BufferPlan.h"

#include "compiler/plan/PhaseLaunches.h"

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

/// When values are used for the last time, by the numbers of ops; the
/// terminator counts.
struct LastUses {
  explicit LastUses(Block &block);

  llvm::DenseMap<Value, size_t> last;
  /// The operands whose last use an op is.
  std::vector<SmallVector<Value>> endsAt;
};

LastUses::LastUses(Block &block) : endsAt(block.getOperations().size()) {
  llvm::DenseMap<Operation *, size_t> numbers;
  for (Operation &op : block) {
    size_t number = numbers.size();
    numbers[&op] = number;
    for (Value v : op.getResults())
      last[v] = number;
  }
  auto forOperands = [&](llvm::function_ref<void(Value, size_t)> use) {
    for (Operation &op : block)
      for (Value v : op.getOperands())
        use(v, numbers[lastReader(&op)]);
  };
  forOperands([&](Value v, size_t at) { last[v] = std::max(last[v], at); });
  forOperands([&](Value v, size_t at) {
    if (last[v] == at && !llvm::is_contained(endsAt[at], v))
      endsAt[at].push_back(v);
  });
}

} // namespace

BufferPlan planBuffers(func::FuncOp func) {
  Block &block = func.getBody().front();
  LastUses uses(block);
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
    if (Value r = residualOf(op); r && uses.last[r] == number) {
      plan.bufferOf[op.getResult(0)] = plan.bufferOf[r];
      inPlace = r;
    }
    // Results first: a launch must not write what it still reads.
    for (Value v : op.getResults())
      if (needsBuffer(v) && !plan.bufferOf.count(v))
        allocate(v);
    // What a function is given stays as it is: `head` runs several times over
    // the rows that `body` left.
    for (Value v : uses.endsAt[number])
      if (needsBuffer(v) && !isa<BlockArgument>(v) && v != inPlace)
        free.push_back(plan.bufferOf[v]);
    for (Value v : op.getResults())
      if (needsBuffer(v) && uses.last[v] == number)
        free.push_back(plan.bufferOf[v]);
    ++number;
  }
  return plan;
}

} // namespace retort
