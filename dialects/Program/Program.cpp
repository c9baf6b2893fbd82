//===- Program.cpp - The program dialect ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "dialects/Program/Program.h"

#include "dialects/Kernel/Kernel.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

#include "dialects/Program/ProgramDialect.cpp.inc"
#include "dialects/Program/ProgramEnums.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/Program/ProgramOps.cpp.inc"

namespace retort::program {

void ProgramDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/Program/ProgramOps.cpp.inc"
      >();
}

LogicalResult BufferOp::verify() {
  int64_t fixed = getFixedBytes(), token = getBytesPerToken(),
          position = getBytesPerPosition();
  if (getKind() == BufferKind::Cache) {
    if (position < 0 || fixed < 0 || fixed + position == 0 || token)
      return emitOpError("expected bytes per position or fixed bytes for a "
                         "cache");
  } else if (fixed < 0 || token < 0 || fixed + token == 0 || position) {
    return emitOpError("expected fixed bytes or bytes per token for an "
                       "activation");
  }
  return success();
}

LogicalResult PhaseOp::verify() {
  if (getMinTokens() < 1 || getMaxTokens() < getMinTokens())
    return emitOpError("expected 1 <= min <= max tokens, found ")
           << getMinTokens() << " and " << getMaxTokens();
  for (Operation &op : getBody().front())
    if (!isa<LaunchOp>(op))
      return op.emitOpError("expected only launches in a phase");
  return success();
}

LogicalResult LaunchOp::verify() {
  if (getTiles() < 1 || getTokensPerTile() < 0)
    return emitOpError("expected at least one tile, found ") << getTiles();
  for (Attribute arg : getArgs())
    if (!isa<FlatSymbolRefAttr>(arg))
      return emitOpError("expected symbols as arguments, found ") << arg;
  return success();
}

LogicalResult LaunchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto entry = symbols.lookupNearestSymbolFrom<kernel::EntryOp>(
      (*this)->getParentOp(), getKernelAttr());
  if (!entry)
    return emitOpError("expected a kernel.entry named ") << getKernelAttr();
  size_t results =
      llvm::count_if(entry.getLaunch()->getResultTypes(),
                     [](Type t) { return !isa<kernel::CacheType>(t); });
  size_t expected = entry.getBody().getNumArguments() + results;
  if (getArgs().size() != expected)
    return emitOpError("expected ")
           << expected << " arguments for " << getKernelAttr() << ", found "
           << getArgs().size();
  for (Attribute arg : getArgs()) {
    Operation *target = symbols.lookupNearestSymbolFrom(
        (*this)->getParentOp(), cast<FlatSymbolRefAttr>(arg));
    if (!isa_and_nonnull<BufferOp, kernel::WeightOp>(target))
      return emitOpError("expected a buffer or weight named ") << arg;
    auto buffer = dyn_cast<BufferOp>(target);
    if (buffer && buffer.getKind() == BufferKind::Cache && !getReadsPosition())
      return emitOpError("expected reads_position beside the cache ") << arg;
  }
  return success();
}

} // namespace retort::program
