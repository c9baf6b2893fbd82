//===- Passes.td - How weights are stored ------------------*- tablegen -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_QUANTIZE_PASSES
#define RETORT_COMPILER_QUANTIZE_PASSES

include "mlir/Pass/PassBase.td"

def QuantizeWeightsPass : Pass<"quantize-weights", "::mlir::ModuleOp"> {
  let summary = "Choose the packed encoding of every matrix";
  let description = [{
    Gives each `model.weight` that a `model.linear` or `model.embedding` reads its
    `#encoding.packed`. With `weights=keep` that is the type the checkpoint stores.
    Vectors (norms, biases) stay as they are: packing makes them f32.

    A weight marked `model.kept_encoding` is stored as integers, which that
    encoding holds as they are: with `keep` it becomes its type.

    Behind the encoding, classes of weights can have others:
    `weights=int4,attention=int8,experts=int4,dense=int8,embedding=int8,head=int8`.
    Classes follow from the ops: attention is what `model.attention` and
    `model.mla` get from or give to a `model.linear`, and what `model.mla` uses;
    experts are those of `model.moe`; the head gives what the function returns;
    dense is every other `model.linear`. A router keeps what the checkpoint has.

    With int4, an embedding and an output matrix that are not named become int8
    of the same group size: every token meets their errors at full size.

    A weight marked `model.zero_points` gets zero points with int4; the driver
    marks those whose sampled groups gain from them.

    A weight marked `model.planned_encoding` gets that encoding, whatever the
    options say: the driver marks all of them so with a weight plan.

    Before, with `weights=int4 group-size=32`:
    ```
    model.weight @model.layers.0.mlp.up_proj.weight : tensor<512x128xbf16>
    ```
    After:
    ```
    model.weight @model.layers.0.mlp.up_proj.weight : tensor<512x128xf32, #encoding.packed<int4, 32>>
    ```
  }];
  let dependentDialects = ["::retort::encoding::EncodingDialect"];
  let options = [
    Option<"weights", "weights", "std::string", "\"keep\"", "f32, f16, bf16, int8, int6, int5, int4, nf4, int3, int2 or keep, then CLASS=ENCODING for attention, experts, dense, embedding or head">,
    Option<"groupSize", "group-size", "int", "32", "inputs that share a scale: 32, 64 or 128">,
  ];
  let statistics = [Statistic<"numEncoded", "encoded", "matrices that got an encoding">];
}

#endif // RETORT_COMPILER_QUANTIZE_PASSES
