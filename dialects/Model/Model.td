//===- Model.td - The model dialect ------------------------*- tablegen -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_DIALECTS_MODEL_TD
#define RETORT_DIALECTS_MODEL_TD

include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Model_Dialect : Dialect {
  let name = "model";
  let cppNamespace = "::retort::model";
  let summary = "What a checkpoint means";
  let description = [{
    The forward pass as the checkpoint's authors wrote it, over value tensors
    with one row per token: `tensor<?xNxf32>`. Weights are symbols named as in
    the checkpoint; their data never enters the IR. The weight's element type is
    the one that the checkpoint stores until `quantize-weights` gives it an
    `#encoding.packed`.

    A model is a function `forward` from token ids to logits. Caches are implied:
    attention sees the keys and values of all earlier positions of its layer.
    A function `draft` beside it predicts the token after the next one from the
    next one's id and the hidden states that `forward`'s output matrix is given
    (arXiv 2412.19437, multi-token prediction).
  }];
}

class Model_Op<string opMnemonic, list<Trait> traits = []> : Op<Model_Dialect, opMnemonic, traits>;
class Model_PureOp<string opMnemonic, list<Trait> traits = []> : Model_Op<opMnemonic, [Pure] # traits> {
  let hasVerifier = 1;
}

def Model_Tokens : Type<CPred<"::retort::model::isTokens($_self)">, "token ids tensor<?xi32>", "::mlir::RankedTensorType">;
def Model_Rows : Type<CPred<"::retort::model::isRows($_self)">, "token rows tensor<?xNxf32>", "::mlir::RankedTensorType">;

def Model_WeightOp : Model_Op<"weight", [Symbol]> {
  let summary = "A tensor of the checkpoint, by its name";
  let description = [{
    ```
    model.weight @model.norm.weight : tensor<1536xbf16>
    model.weight @model.layers.0.mlp.up_proj.weight : tensor<8960x1536xf32, #encoding.packed<int4, 32>>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<AnyRankedTensor>:$type);
  let assemblyFormat = "$sym_name `:` $type attr-dict";
  let hasVerifier = 1;
}

def Model_EmbeddingOp : Model_PureOp<"embedding", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Rows of the embedding matrix, `result[t] = weight[tokens[t]]`";
  let arguments = (ins Model_Tokens:$tokens, FlatSymbolRefAttr:$weight);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = "$tokens `,` $weight attr-dict `:` functional-type(operands, results)";
}

def Model_RmsNormOp : Model_PureOp<"rms_norm", [SameOperandsAndResultType, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "`x / sqrt(mean(x^2) + eps) * weight` (arXiv 1910.07467)";
  let arguments = (ins Model_Rows:$x, FlatSymbolRefAttr:$weight, F64Attr:$eps);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = "$x `,` $weight `eps` $eps attr-dict `:` type($x)";
}

def Model_LinearOp : Model_PureOp<"linear", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "`x . weight^T + bias`; weight is [outputs, inputs]";
  let arguments = (ins Model_Rows:$x, FlatSymbolRefAttr:$weight, OptionalAttr<FlatSymbolRefAttr>:$bias);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = "$x `,` $weight (`bias` $bias^)? attr-dict `:` functional-type(operands, results)";
}

def Model_RopeOp : Model_PureOp<"rope", [SameOperandsAndResultType]> {
  let summary = "Rotary position embedding of every head (arXiv 2104.09864)";
  let description = [{
    For a head h of d dimensions at position p, with i < d / 2 and
    a = p * inv_freq[i]:
    `result[i] = scale * (x[i] cos a - x[i + d/2] sin a)`,
    `result[i + d/2] = scale * (x[i + d/2] cos a + x[i] sin a)`.
    `inv_freq` already holds what rope_scaling (linear, llama3, yarn) makes of the
    frequencies; `scale` is YaRN's attention factor, else 1.
  }];
  let arguments = (ins Model_Rows:$x, I64Attr:$num_heads, DenseF64ArrayAttr:$inv_freq, F64Attr:$scale);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = "$x `heads` $num_heads `inv_freq` $inv_freq `scale` $scale attr-dict `:` type($x)";
}

def Model_AttentionOp : Model_PureOp<"attention"> {
  let summary = "Causal grouped-query attention with the cache of one layer (arXiv 2305.13245)";
  let description = [{
    Query head h of `num_heads` uses key/value head h / (num_heads / num_kv_heads);
    scores are multiplied by `scale`.
  }];
  let arguments = (ins Model_Rows:$q, Model_Rows:$k, Model_Rows:$v, I64Attr:$layer, I64Attr:$num_heads,
      I64Attr:$num_kv_heads, F64Attr:$scale);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = [{$q `,` $k `,` $v `layer` $layer `heads` $num_heads `kv_heads` $num_kv_heads `scale` $scale attr-dict
      `:` functional-type(operands, results)}];
}

def Model_MlaOp : Model_PureOp<"mla", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Causal multi-head latent attention with the cache of one layer (arXiv 2405.04434)";
  let description = [{
    A row of `q` holds `num_heads` heads of `nope` + `rope` dimensions. A row of
    `kv` holds the compressed latent, then the `rope` dimensions of the key that
    all heads share. With c = rms_norm(latent, kv_norm, eps), head h, and the
    rows of `kv_b` being [heads][nope + v]:
    ```
    key[h]    = kv_b[h, :nope] . c , rope(kv's last)
    value[h]  = kv_b[h, nope:] . c
    result[h] = softmax(scale * (q[h, :nope] , rope(q[h, nope:])) . key[h]) . value[h]
    ```
    Rope rotates elements i and i + rope/2 by `position * inv_freq[i]`, with
    `interleaved` elements 2i and 2i + 1, multiplied by `rope_scale` (see
    `model.rope`). The cache keeps c and the rotated shared key.
  }];
  let arguments = (ins Model_Rows:$q, Model_Rows:$kv, FlatSymbolRefAttr:$kv_norm, F64Attr:$eps, FlatSymbolRefAttr:$kv_b,
      I64Attr:$layer, I64Attr:$num_heads, I64Attr:$nope, I64Attr:$rope, I64Attr:$v, F64Attr:$scale,
      DenseF64ArrayAttr:$inv_freq, F64Attr:$rope_scale, UnitAttr:$interleaved);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = [{$q `,` $kv `norm` $kv_norm `eps` $eps `up` $kv_b `layer` $layer `heads` $num_heads
      `nope` $nope `rope` $rope `v` $v `scale` $scale `inv_freq` $inv_freq `rope_scale` $rope_scale
      (`interleaved` $interleaved^)? attr-dict `:` functional-type(operands, results)}];
}

def Model_MoeOp : Model_PureOp<"moe", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Mixture of experts with sigmoid routing (arXiv 2412.19437)";
  let description = [{
    With E experts (the length of `gates`, `ups` and `downs`) in `groups` of equal
    size and s = sigmoid(router . x):
    the choice goes by s + bias. A group counts what its two best experts add up to;
    the `top_groups` best groups stay, and of their experts the `top_k` best fire. An
    expert's weight is its s, divided by the sum of those that fire (+ 1e-20) with
    `normalize`, times `scale`. Between equals the lower index wins.
    ```
    result = sum_e weight[e] * downs[e] . (silu(gates[e] . x) * (ups[e] . x)) + shared(x)
    ```
    `shared` holds the gate, up and down matrices of an MLP that always fires; its
    width is a multiple of an expert's.
  }];
  let arguments = (ins Model_Rows:$x, FlatSymbolRefAttr:$router, OptionalAttr<FlatSymbolRefAttr>:$bias,
      ArrayAttr:$gates, ArrayAttr:$ups, ArrayAttr:$downs, OptionalAttr<ArrayAttr>:$shared,
      I64Attr:$layer, I64Attr:$top_k, I64Attr:$groups, I64Attr:$top_groups, UnitAttr:$normalize, F64Attr:$scale);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = [{$x `router` $router (`bias` $bias^)? `gates` $gates `ups` $ups `downs` $downs (`shared` $shared^)?
      `layer` $layer `top_k` $top_k `groups` $groups `top_groups` $top_groups (`normalize` $normalize^)? `scale` $scale
      attr-dict `:` functional-type(operands, results)}];
}

def Model_ConcatOp : Model_PureOp<"concat"> {
  let summary = "Two rows one behind the other";
  let arguments = (ins Model_Rows:$lhs, Model_Rows:$rhs);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` functional-type(operands, results)";
}

def Model_SwigluOp : Model_PureOp<"swiglu", [SameOperandsAndResultType]> {
  let summary = "`silu(gate) * up` (arXiv 2002.05202)";
  let arguments = (ins Model_Rows:$gate, Model_Rows:$up);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = "$gate `,` $up attr-dict `:` type($gate)";
  let hasVerifier = 0;
}

def Model_AddOp : Model_PureOp<"add", [SameOperandsAndResultType, Commutative]> {
  let summary = "The residual connection";
  let arguments = (ins Model_Rows:$lhs, Model_Rows:$rhs);
  let results = (outs Model_Rows:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs)";
  let hasVerifier = 0;
}

#endif // RETORT_DIALECTS_MODEL_TD
