//===- LowerKernels.cpp - Emit entries as loops over vectors --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Emitters.h"
#include "compiler/lower/Passes.h"
#include "compiler/lower/Tiling.h"

namespace retort {
#define GEN_PASS_DEF_LOWERKERNELSPASS
#include "compiler/lower/Passes.h.inc"
} // namespace retort

using namespace mlir;

namespace retort {
namespace {

/// Elements of a buffer whose size is known at run time only.
constexpr int64_t kNominalElements = int64_t(1) << 40;

struct LowerKernelsPass : public impl::LowerKernelsPassBase<LowerKernelsPass> {
  using LowerKernelsPassBase::LowerKernelsPassBase;

  void runOnOperation() override;

private:
  LogicalResult lowerEntry(kernel::EntryOp entry, const Target &target);
};

Type elementType(kernel::CacheType cache) {
  Builder b(cache.getContext());
  switch (cache.getElement()) {
  case CacheElement::F32:
    return b.getF32Type();
  case CacheElement::F16:
    return b.getF16Type();
  case CacheElement::BF16:
    return b.getBF16Type();
  case CacheElement::Int8:
    return b.getI8Type();
  }
  llvm_unreachable("all elements are handled");
}

MemRefType bufferType(Type type) {
  if (auto cache = dyn_cast<kernel::CacheType>(type))
    return MemRefType::get({kNominalElements}, elementType(cache));
  if (auto partials = dyn_cast<kernel::PartialsType>(type))
    return MemRefType::get({partials.bytes()},
                           IntegerType::get(type.getContext(), 8));
  if (isa<kernel::ExpertListsType>(type))
    return MemRefType::get({kNominalElements},
                           IntegerType::get(type.getContext(), 32));
  auto tensor = cast<RankedTensorType>(type);
  if (auto encoding = encoding::getPackedEncoding(type))
    return MemRefType::get(
        {encoding->matrixBytes(tensor.getDimSize(0), tensor.getDimSize(1))},
        IntegerType::get(type.getContext(), 8));
  if (encoding::getActivationEncoding(type))
    return MemRefType::get({kNominalElements},
                           IntegerType::get(type.getContext(), 8));
  return MemRefType::get(
      {tensor.hasStaticShape() ? tensor.getNumElements() : kNominalElements},
      tensor.getElementType());
}

LogicalResult LowerKernelsPass::lowerEntry(kernel::EntryOp entry,
                                           const Target &target) {
  Operation *launch = entry.getLaunch();
  Emitter emitter = lookupEmitter(launch);
  if (!emitter)
    return launch->emitOpError("expected a launch that can be lowered");

  OpBuilder b(entry);
  SmallVector<Type> types;
  for (Type type : launch->getOperandTypes())
    types.push_back(bufferType(type));
  for (Type type : launch->getResultTypes())
    if (!isa<kernel::CacheType>(type))
      types.push_back(bufferType(type));
  // A size of zero would make an empty memref.
  int64_t scratch =
      std::max<int64_t>(64, getTiling(launch, entry.getTokens()).scratchBytes);
  types.push_back(MemRefType::get({scratch}, b.getI8Type()));
  types.append(4, b.getIndexType());

  auto func = func::FuncOp::create(b, launch->getLoc(), entry.getSymName(),
                                   b.getFunctionType(types, {}));
  b.setInsertionPointToStart(func.addEntryBlock());
  KernelBuilder k(b, func, entry.getTokens(), target);
  if (failed(emitter(k, launch)))
    return failure();
  func::ReturnOp::create(b, launch->getLoc());
  entry.erase();
  return success();
}

void LowerKernelsPass::runOnOperation() {
  const Target *target = findTarget(targetName);
  if (!target) {
    getOperation().emitError("expected a known CPU target, found '")
        << targetName << "'";
    return signalPassFailure();
  }
  for (auto entry :
       llvm::make_early_inc_range(getOperation().getOps<kernel::EntryOp>()))
    if (failed(lowerEntry(entry, *target)))
      return signalPassFailure();
}

} // namespace
} // namespace retort
