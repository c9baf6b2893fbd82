//===- ExportKernels.cpp - C entry points of kernels ----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Passes.h"

#include "runtime/abi/Kernel.h"

namespace retort {
#define GEN_PASS_DEF_EXPORTKERNELSPASS
#include "compiler/lower/Passes.h.inc"
} // namespace retort

using namespace mlir;

namespace retort {
namespace {

/// Scalars that follow the pointers: n_tokens, position, first_row, tile.
constexpr unsigned kNumScalars = 4;

struct ExportKernelsPass
    : public impl::ExportKernelsPassBase<ExportKernelsPass> {
  void runOnOperation() override {
    for (auto func :
         llvm::make_early_inc_range(getOperation().getOps<LLVM::LLVMFuncOp>()))
      if (!func.isExternal() && failed(exportKernel(func)))
        return signalPassFailure();
  }

private:
  LogicalResult exportKernel(LLVM::LLVMFuncOp body);
};

LogicalResult ExportKernelsPass::exportKernel(LLVM::LLVMFuncOp body) {
  OpBuilder b(body);
  Location loc = body.getLoc();
  Type ptr = LLVM::LLVMPointerType::get(b.getContext()), i64 = b.getI64Type();

  ArrayRef<Type> params = body.getFunctionType().getParams();
  bool matches = params.size() > kNumScalars;
  for (auto [i, type] : llvm::enumerate(params))
    matches &= type == (i + kNumScalars < params.size() ? ptr : i64);
  if (!matches)
    return body.emitError("expected pointers and then ")
           << kNumScalars << " i64 parameters, found "
           << body.getFunctionType();

  std::string name = body.getSymName().str();
  body.setSymName(name + ".body");
  body.setLinkage(LLVM::Linkage::Internal);
  auto entry = LLVM::LLVMFuncOp::create(
      b, loc, name,
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                  {ptr, ptr, ptr, i64}));
  Block *block = entry.addEntryBlock(b);
  b.setInsertionPointToStart(block);
  auto loadAt = [&](Value base, int64_t bytes, Type type) -> Value {
    Value at = LLVM::GEPOp::create(b, loc, ptr, b.getI8Type(), base,
                                   ArrayRef<LLVM::GEPArg>{int32_t(bytes)});
    auto load = LLVM::LoadOp::create(b, loc, type, at);
    load.setInvariant(true);
    return load;
  };
  SmallVector<Value> operands;
  size_t numBuffers = params.size() - kNumScalars - 1;
  for (size_t i = 0; i < numBuffers; ++i)
    operands.push_back(
        loadAt(block->getArgument(0), int64_t(i * sizeof(void *)), ptr));
  operands.push_back(block->getArgument(2));
  for (size_t offset : {offsetof(retort_kernel_scalars, n_tokens),
                        offsetof(retort_kernel_scalars, position),
                        offsetof(retort_kernel_scalars, first_row)})
    operands.push_back(loadAt(block->getArgument(1), int64_t(offset), i64));
  operands.push_back(block->getArgument(3));
  LLVM::CallOp::create(b, loc, body, operands);
  LLVM::ReturnOp::create(b, loc, ValueRange{});
  return success();
}

} // namespace
} // namespace retort
