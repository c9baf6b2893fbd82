//===- retort-opt.cpp - Run passes over IR --------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/codegen/Codegen.h"
#include "compiler/fuse/Passes.h"
#include "compiler/lower/Passes.h"
#include "compiler/plan/Passes.h"
#include "compiler/quantize/Passes.h"
#include "dialects/Encoding/Encoding.h"
#include "dialects/Kernel/Kernel.h"
#include "dialects/Model/Model.h"
#include "dialects/Program/Program.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

int main(int argc, char **argv) {
  DialectRegistry registry;
  retort::registerCodegenDialects(registry);
  registry
      .insert<retort::encoding::EncodingDialect, retort::kernel::KernelDialect,
              retort::model::ModelDialect, retort::program::ProgramDialect>();
  retort::registerQuantizePasses();
  retort::registerFusePasses();
  retort::registerPlanPasses();
  retort::registerRetortLowerPasses();
  registerCanonicalizerPass();
  registerCSEPass();
  PassPipelineRegistration<>(
      "lower-to-llvm", "From kernel entries to the LLVM dialect, for x86-64-v3",
      [](OpPassManager &pm) {
        retort::buildLowerToLLVMPipeline(pm, *retort::findTarget("x86-64-v3"));
      });
  return asMainReturnCode(
      MlirOptMain(argc, argv, "Retort's passes over MLIR\n", registry));
}
