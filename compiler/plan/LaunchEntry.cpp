//===- LaunchEntry.cpp - Entries of launches ------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/plan/LaunchEntry.h"

#include "compiler/fuse/Passes.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace retort {

/// Where a launch is in the model; no part of its code.
static void dropPlace(Operation *op) {
  op->removeDiscardableAttr(kLayerAttr);
  op->removeDiscardableAttr(kLabelAttr);
}

static void describe(Operation *op, llvm::raw_ostream &os) {
  NamedAttrList attrs(op->getAttrDictionary());
  attrs.erase(kLayerAttr);
  attrs.erase(kLabelAttr);
  os << op->getName() << attrs.getDictionary(op->getContext())
     << op->getOperandTypes() << op->getResultTypes();
  if (auto linear = dyn_cast<kernel::LinearOp>(op))
    os << bool(linear.getBias()) << bool(linear.getResidual());
  if (auto fused = dyn_cast<kernel::FusedOp>(op))
    for (Operation &part : fused.getBody().front())
      describe(&part, os);
}

std::string describeLaunch(Operation *launch) {
  std::string text;
  llvm::raw_string_ostream os(text);
  describe(launch, os);
  return text;
}

kernel::EntryOp createEntry(OpBuilder &b, StringRef name, Operation *launch,
                            kernel::TokenClass tokens) {
  OpBuilder::InsertionGuard guard(b);
  auto entry = kernel::EntryOp::create(b, launch->getLoc(), name, tokens);
  Block &block = entry.getBody().emplaceBlock();
  IRMapping map;
  for (Value v : launch->getOperands())
    map.map(v, block.addArgument(v.getType(), launch->getLoc()));
  b.setInsertionPointToStart(&block);
  Operation *clone = b.clone(*launch, map);
  // An operand that occurs twice has two arguments.
  clone->setOperands(block.getArguments());
  dropPlace(clone);
  return entry;
}

} // namespace retort
