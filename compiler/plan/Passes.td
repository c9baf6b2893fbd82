//===- Passes.td - From launches to the program ------------*- tablegen -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PLAN_PASSES
#define RETORT_COMPILER_PLAN_PASSES

include "mlir/Pass/PassBase.td"

def PlanProgramPass : Pass<"plan-program", "::mlir::ModuleOp"> {
  let summary = "Give every value a buffer and every launch a kernel";
  let description = [{
    Turns the functions `body` and `head` of launches into the program that the
    artifact will hold:

    - values get buffers; a buffer is used again when its value is dead, and a
      linear with a residual writes in place when the residual dies there;
    - each function becomes phases: for a single token, for a few (2 to 8, whose
      results are those of single tokens, bit by bit), and for more (`head` for at
      most `head-tokens` rows at once, since logits are wide);
    - `draft_body` and `draft_head`, if they are there, become phases alike, the head
      for a single row; they share buffers with `body` and `head`;
    - launches that differ only in which weights and caches they use share one
      `kernel.entry`.

    Before:
    ```
    func.func @head(%x: tensor<?x128xf32>) -> tensor<?x512xf32> {
      %n = kernel.load_weight @norm : tensor<128xf32>
      %w = kernel.load_weight @out : tensor<512x128xf32, #encoding.packed<bf16>>
      %y = kernel.rms_norm %x, %n eps 1.0e-6 from_first_row : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
      %l = kernel.linear %y, %w : (tensor<?x128xf32>, tensor<512x128xf32, #encoding.packed<bf16>>) -> tensor<?x512xf32>
      return %l : tensor<?x512xf32>
    }
    ```
    After (one of the phases):
    ```
    program.phase @head_one head tokens(1, 1) {
      program.launch @rms_norm_0 [@hidden, @norm, @fixed_0] tiles 1 ...
      program.launch @linear_0_one [@fixed_0, @out, @logits] tiles 4 ...
    }
    ```
  }];
  let dependentDialects = ["::retort::program::ProgramDialect", "::retort::kernel::KernelDialect"];
  let options = [
    Option<"maxChunk", "max-chunk", "int64_t", "512", "tokens that a body phase takes at once, at most">,
    Option<"headTokens", "head-tokens", "int64_t", "32", "rows that a head phase takes at once, at most">,
  ];
  let statistics = [
    Statistic<"numEntries", "entries", "distinct kernels">,
    Statistic<"numBuffers", "buffers", "buffers of a session">,
  ];
}

#endif // RETORT_COMPILER_PLAN_PASSES
