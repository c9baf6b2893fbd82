//===- Passes.td - From models to launches -----------------*- tablegen -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_FUSE_PASSES
#define RETORT_COMPILER_FUSE_PASSES

include "mlir/Pass/PassBase.td"

def FuseLaunchesPass : Pass<"fuse-launches", "::mlir::ModuleOp"> {
  let summary = "Turn the model into launches of the kernel dialect";
  let description = [{
    Splits `forward` into `body` (token ids to the last layer's output) and `head`
    (that output to logits), a function `draft` alike into `draft_body` (token ids and
    `body`'s output to the draft layer's) and `draft_head`, and groups what one launch
    can hold:

    - queries, keys and values of a layer become one `kernel.linear` over a joint
      weight, then `kernel.rope_cache`, then `kernel.attention`, with heads padded
      as the kernel dialect says;
    - gate and up become one `kernel.linear` with the swiglu epilogue, their rows
      alternating in strips of 32;
    - a linear whose result is only added to something takes that as `residual`;
    - a linear of two concatenated rows becomes two, the second with the first as
      `residual`.

    Before:
    ```
    %g = model.linear %x, @gate : (tensor<?x64xf32>) -> tensor<?x96xf32>
    %u = model.linear %x, @up : (tensor<?x64xf32>) -> tensor<?x96xf32>
    %y = model.swiglu %g, %u : tensor<?x96xf32>
    ```
    After:
    ```
    %w = kernel.load_weight @layers.0.gate_up : tensor<192x64xf32, #encoding.packed<bf16>>
    %y = kernel.linear %x, %w epilogue swiglu : (tensor<?x128xf32>, tensor<192x64xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
    ```
    No op of the model dialect is left.
  }];
  let dependentDialects = ["::retort::kernel::KernelDialect", "::mlir::func::FuncDialect"];
  let options = [Option<"kv", "kv", "std::string", "\"f32\"", "what caches hold: f32, f16, bf16 or int8">];
  let statistics = [Statistic<"numLaunches", "launches", "launch ops created">];
}

def EncodeActivationsPass : Pass<"encode-activations", "::mlir::ModuleOp"> {
  let summary = "Quantize what integer weights are multiplied with";
  let description = [{
    Runs on launches. A result that integer weights alone take gets
    `#encoding.activation`: its launch quantizes it on the way, and the products
    are sums of integers. A norm gives each of its consumers the form it wants.
    Attention, experts, linear launches with the swiglu epilogue and head_linear
    quantize only what is wanted in one form; other launches never do, so that
    their consumers decode integer weights to f32.

    Before:
    ```
    %y = kernel.rms_norm %x, %n eps 1.0e-6 : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
    %l = kernel.linear %y, %w : (tensor<?x128xf32>, tensor<256x128xf32, #encoding.packed<int4, 32>>) -> tensor<?x256xf32>
    ```
    After:
    ```
    %y = kernel.rms_norm %x, %n eps 1.0e-6 : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32, #encoding.activation<int8, 32>>
    %l = kernel.linear %y, %w : (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<256x128xf32, #encoding.packed<int4, 32>>) -> tensor<?x256xf32>
    ```
  }];
  let dependentDialects = ["::retort::encoding::EncodingDialect", "::retort::kernel::KernelDialect"];
  let statistics = [Statistic<"numEncoded", "encoded", "values that are quantized">];
}

#endif // RETORT_COMPILER_FUSE_PASSES
