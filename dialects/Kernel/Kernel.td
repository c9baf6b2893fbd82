//===- Kernel.td - The kernel dialect ----------------------*- tablegen -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_DIALECTS_KERNEL_TD
#define RETORT_DIALECTS_KERNEL_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Kernel_Dialect : Dialect {
  let name = "kernel";
  let cppNamespace = "::retort::kernel";
  let summary = "One op per launch, target-free";
  let description = [{
    What a fused model consists of: every op becomes one launch. Values are
    tensors. Activations are `tensor<?xNxf32>`: one row per token of the chunk,
    N being the row stride, a multiple of 128; elements beyond the logical width
    are zero. What integer weights are multiplied with carries
    `#encoding.activation`: its producer quantizes it. Weights carry
    `#encoding.packed`. A layer's cache is an opaque
    value that a launch takes and returns, so that the order of its writes and
    reads is visible in the IR.

    The attention heads are padded: a head of `d` dimensions takes
    `2 * roundUp(d / 2, 16)` elements, first the first half, then the second
    half, each followed by zeros. Rotary embedding rotates element `i` of the
    first half with element `i` of the second (the "rotate half" form of the
    Hugging Face weights).

    `kernel.entry` holds one such op as a function of its operands: the unit of
    specialisation, of which there is one per shape and token class, whatever
    the number of layers.
  }];
  let useDefaultTypePrinterParser = 1;
}

class Kernel_Type<string name, string typeMnemonic> : TypeDef<Kernel_Dialect, name> {
  let mnemonic = typeMnemonic;
}

def Kernel_CacheKind : I32EnumAttr<"CacheKind", "what a cache holds", [
    I32EnumAttrCase<"Keys", 0, "keys">, I32EnumAttrCase<"Values", 1, "values">,
    I32EnumAttrCase<"Latent", 2, "latent">]> {
  let cppNamespace = "::retort::kernel";
}

def Kernel_CacheType : Kernel_Type<"Cache", "cache"> {
  let summary = "The keys, the values or the latents of one layer, for all positions";
  let description = [{
    `!kernel.cache<keys, 2 x 128>`: 2 key/value heads of 128 elements after
    padding, in f32; `!kernel.cache<keys, 2 x 128, f16>`: in f16, and likewise
    bf16 and int8. `compiler/encoding/CacheEncoding.h` says where an element lies
    and how it is rounded. A latent cache holds one row per position, what
    multi-head latent attention caches for all heads.
  }];
  let parameters = (ins EnumParameter<Kernel_CacheKind>:$kind, "int64_t":$numHeads, "int64_t":$headSize,
      DefaultValuedParameter<"::retort::CacheElement", "::retort::CacheElement::F32">:$element);
  let assemblyFormat = "`<` $kind `,` $numHeads `x` $headSize (`,` $element^)? `>`";
  let extraClassDeclaration = [{
    ::retort::CacheEncoding getEncoding() const { return {getElement()}; }
    /// Bytes from one position of the context to the next, all heads together.
    int64_t getPositionBytes() const {
      if (getKind() == ::retort::kernel::CacheKind::Latent)
        return getEncoding().latentRowBytes(getHeadSize());
      return getNumHeads() * getEncoding().blockBytes(getHeadSize()) / ::retort::kCachePositions;
    }
  }];
}

def Kernel_PartialsType : Kernel_Type<"Partials", "partials"> {
  let summary = "What tiles of attention that share a token's positions leave for each other";
  let description = [{
    `!kernel.partials<16, 2 x 6 x 128>`: up to 16 tiles for each of 2 groups of 6
    query heads with results of 128 elements, for up to 8 tokens. It holds, as f32
    and i32, zero before the first launch,
    ```
    [8 tokens][groups][16]           how many tiles have ended: element 0, else 0
    [8 tokens][groups][tiles][R]     a tile's results [heads][size], then, each padded
                                     to 16, maxima and sums of weights [heads]
    ```
  }];
  let parameters = (ins "int64_t":$splits, "int64_t":$groups, "int64_t":$heads, "int64_t":$size);
  let assemblyFormat = "`<` $splits `,` $groups `x` $heads `x` $size `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    static constexpr int64_t kTokens = 8;
    /// In elements of four bytes.
    int64_t maximaOffset() const { return getHeads() * getSize(); }
    int64_t sumsOffset() const { return maximaOffset() + ::retort::roundUp<int64_t>(getHeads(), 16); }
    int64_t recordSize() const { return sumsOffset() + ::retort::roundUp<int64_t>(getHeads(), 16); }
    int64_t recordsOffset() const { return kTokens * getGroups() * 16; }
    int64_t bytes() const { return 4 * (recordsOffset() + kTokens * getGroups() * getSplits() * recordSize()); }
  }];
}

def Kernel_ExpertListsType : Kernel_Type<"ExpertLists", "expert_lists"> {
  let summary = "The slots of a chunk by the expert that serves them";
  let description = [{
    `!kernel.expert_lists<257, 9>`: for 257 experts of which 9 serve each token,
    as i32: the first list entry of each expert and the end of the last, 258
    elements padded to a multiple of 16, then 9 entries per token, in ascending
    order of expert, then token. An entry is token * 9 + slot.
  }];
  let parameters = (ins "int64_t":$numExperts, "int64_t":$slots);
  let assemblyFormat = "`<` $numExperts `,` $slots `>`";
  let extraClassDeclaration = [{
    /// Elements before the entries.
    int64_t entriesOffset() const { return ::retort::roundUp<int64_t>(getNumExperts() + 1, 16); }
  }];
}

def Kernel_TokenClass : I32EnumAttr<"TokenClass", "how many tokens an entry is specialised for", [
    I32EnumAttrCase<"One", 0, "one">, I32EnumAttrCase<"Many", 1, "many">,
    I32EnumAttrCase<"Few", 2, "few">, I32EnumAttrCase<"Any", 3, "any">]> {
  let cppNamespace = "::retort::kernel";
}

def Kernel_Epilogue : I32EnumAttr<"Epilogue", "what a linear launch does with its sums", [
    I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Swiglu", 1, "swiglu">]> {
  let cppNamespace = "::retort::kernel";
}

class Kernel_Op<string opMnemonic, list<Trait> traits = []> : Op<Kernel_Dialect, opMnemonic, traits>;

/// f32 [tokens, stride].
def Kernel_Activation : Type<CPred<"::retort::kernel::isPlainActivation($_self)">,
    "an activation tensor<?xNxf32>", "::mlir::RankedTensorType">;
/// The same, or quantized rows of it.
def Kernel_Rows : Type<CPred<"::retort::kernel::isActivation($_self)">,
    "an activation tensor<?xNxf32> or tensor<?xNxf32, #encoding.activation<...>>", "::mlir::RankedTensorType">;
def Kernel_Tokens : Type<CPred<"::retort::kernel::isTokens($_self)">,
    "token ids tensor<?xi32>", "::mlir::RankedTensorType">;
/// i32 [tokens, stride].
def Kernel_Ids : Type<CPred<"::retort::kernel::isIds($_self)">,
    "expert ids tensor<?xNxi32>", "::mlir::RankedTensorType">;
/// A matrix with #encoding.packed.
def Kernel_Matrix : Type<CPred<"::retort::kernel::isPackedMatrix($_self)">,
    "a weight matrix tensor<RxCxf32, #encoding.packed<...>>", "::mlir::RankedTensorType">;
def Kernel_Vector : Type<CPred<"::retort::kernel::isStaticVector($_self)">,
    "a vector tensor<Nxf32> or tensor<Nxf64>", "::mlir::RankedTensorType">;

//===-- Symbols and entries ------------------------------------------------===//

def Kernel_WeightOp : Kernel_Op<"weight", [Symbol]> {
  let summary = "A packed weight and where it comes from";
  let description = [{
    ```
    kernel.weight @"layers.0.qkv" : tensor<2048x1536xf32, #encoding.packed<int4, 32>>
        rows [["model.layers.0.self_attn.q_proj.weight", 0, 64, 0], ...] cols [[0, 1536, 0]]
    ```
    A row run `[tensor, first source row, count, first packed row]` and a column
    run `[first source column, count, first packed column]` say which elements
    go where; what no run covers is zero. Vectors have row runs alone, in
    elements. A `literal` is a constant that the compiler computed.

    The long form of a row run, `[tensor, src, count, dst, strip_stride,
    col_shift, transposed]`, sends source row `src + i` to packed row
    `dst + (i / 32) * strip_stride + i % 32` (the short form means 32), adds
    `col_shift` to the source column of every column run, and with `transposed`
    1 takes the tensor's columns for rows: packed element `(dst + i, c + j)` is
    `tensor[s + col_shift + j][src + i]` for a column run `[s, n, c]`. So gate
    and up alternate in strips:
    ```
    rows [["gate", 0, 4864, 0, 64, 0, 0], ["up", 0, 4864, 32, 64, 0, 0]]
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<AnyRankedTensor>:$type,
      OptionalAttr<ArrayAttr>:$rows, OptionalAttr<ArrayAttr>:$cols, OptionalAttr<DenseF64ArrayAttr>:$literal);
  let assemblyFormat = "$sym_name `:` $type (`rows` $rows^)? (`cols` $cols^)? (`literal` $literal^)? attr-dict";
  let hasVerifier = 1;
}

def Kernel_LoadWeightOp : Kernel_Op<"load_weight", [Pure]> {
  let summary = "The value of a kernel.weight";
  let arguments = (ins FlatSymbolRefAttr:$weight);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$weight `:` type($result) attr-dict";
}

def Kernel_LoadCacheOp : Kernel_Op<"load_cache", []> {
  let summary = "The cache of a layer as the chunk finds it";
  let arguments = (ins I64Attr:$layer);
  let results = (outs Kernel_CacheType:$result);
  let assemblyFormat = "$layer `:` type($result) attr-dict";
}

def Kernel_LoadPartialsOp : Kernel_Op<"load_partials", []> {
  let summary = "Memory for partial results, which launches use in turn";
  let results = (outs Kernel_PartialsType:$result);
  let assemblyFormat = "`:` type($result) attr-dict";
}

def Kernel_EntryOp : Kernel_Op<"entry", [Symbol, IsolatedFromAbove, SingleBlock, NoTerminator]> {
  let summary = "One launch as a function of its operands";
  let description = [{
    The body holds exactly one launch op whose operands are the block's
    arguments in order, each once. The compiled function takes pointers to these,
    then to the results that are not caches.
    ```
    kernel.entry @linear_0 tokens(one) {
    ^bb0(%x: tensor<?x1536xf32>, %w: tensor<2048x1536xf32, #encoding.packed<bf16>>):
      %y = kernel.linear %x, %w : (tensor<?x1536xf32>, tensor<2048x1536xf32, #encoding.packed<bf16>>) -> tensor<?x2048xf32>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Kernel_TokenClass:$tokens);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `tokens` `(` $tokens `)` attr-dict-with-keyword $body";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The launch op.
    ::mlir::Operation *getLaunch() { return &getBody().front().front(); }
  }];
}

//===-- Launches -----------------------------------------------------------===//

/// What a token's row becomes depends on its position or on a cache, and on no
/// other row of the launch's activations; a single token may be launched alone.
def Kernel_ReadsPosition : NativeOpTrait<"ReadsPosition"> {
  let cppNamespace = "::retort::kernel";
}

class Kernel_LaunchOp<string opMnemonic, list<Trait> traits = []> : Kernel_Op<opMnemonic, [Pure] # traits> {
  let hasVerifier = 1;
}

def Kernel_EmbedOp : Kernel_LaunchOp<"embed"> {
  let summary = "Rows of the embedding matrix";
  let description = [{ `result[t, :] = weight[tokens[t], :]`; token ids are valid. }];
  let arguments = (ins Kernel_Tokens:$tokens, Kernel_Matrix:$weight);
  let results = (outs Kernel_Activation:$result);
  let assemblyFormat = "$tokens `,` $weight attr-dict `:` functional-type(operands, results)";
}

def Kernel_RmsNormOp : Kernel_LaunchOp<"rms_norm"> {
  let summary = "Root-mean-square normalization of each token";
  let description = [{
    `result[t, i] = y[i] / sqrt(sum_i y[i]^2 / width + eps) * weight[i]` with
    `y[i] = x[r, offset + i]` (arXiv 1910.07467) where `width` is the logical
    width, the length of `weight`. r = t, or t + first_row with `from_first_row`.
    Elements of the result beyond `width` are zero. `offset` is a multiple of 32.
    A result may be quantized. Consumers that want several forms get them from
    one launch, the plain rows first:
    ```
    %y:2 = kernel.rms_norm %x, %w eps 1e-6 : (...) -> (tensor<?x1536xf32>, tensor<?x1536xf32, #encoding.activation<int8, 32>>)
    ```
  }];
  let arguments = (ins Kernel_Activation:$x, Kernel_Vector:$weight, F64Attr:$eps, UnitAttr:$from_first_row,
      DefaultValuedAttr<I64Attr, "0">:$offset);
  let results = (outs Kernel_Rows:$result, Variadic<Kernel_Rows>:$quantized);
  let assemblyFormat = [{$x `,` $weight `eps` $eps (`from_first_row` $from_first_row^)? (`offset` $offset^)? attr-dict
      `:` functional-type(operands, results)}];
}

def Kernel_LinearOp : Kernel_LaunchOp<"linear", [AttrSizedOperandSegments]> {
  let summary = "A matrix product with everything that follows in the same launch";
  let description = [{
    `s[t, r] = bias[r] + sum_k x[t, k] * weight[r, k]`, accumulated in f32. Then
    - epilogue none: `result[t, r] = s[t, r] (+ residual[t, r])`;
    - epilogue swiglu: the rows alternate in strips of 32 between gate and up, and
      `result[t, 32 p + i] = silu(s[t, 64 p + i]) * s[t, 64 p + 32 + i]`
      (arXiv 2002.05202), silu(g) = g / (1 + exp(-g)).

    Integer weights take quantized inputs, whose products are summed as integers
    over each group of 32 columns; they take plain ones too, decoded to f32. With
    the swiglu epilogue the result may be quantized.

    The rows of `weight` are a multiple of 32 (of 64 with swiglu); the result's
    stride may be wider, its elements beyond stay untouched. `residual` may be the
    same memory as the result.
  }];
  let arguments = (ins Kernel_Rows:$x, Kernel_Matrix:$weight, Optional<Kernel_Vector>:$bias,
      Optional<Kernel_Activation>:$residual, DefaultValuedAttr<Kernel_Epilogue, "Epilogue::None">:$epilogue);
  let results = (outs Kernel_Rows:$result);
  let assemblyFormat = [{
    $x `,` $weight (`bias` $bias^ `:` type($bias))? (`residual` $residual^ `:` type($residual))?
    (`epilogue` $epilogue^)? attr-dict `:` `(` type($x) `,` type($weight) `)` `->` type($result)
  }];
}
def Kernel_RopeTableOp : Kernel_LaunchOp<"rope_table", [Kernel_ReadsPosition]> {
  let summary = "Cosines and sines of the chunk's positions";
  let description = [{
    `inv_freq` holds one angular frequency per rotated pair, in radians per
    position, zero in the padding. With h its length and p = position + t:
    `result[t, i] = scale * cos(p * inv_freq[i])` and
    `result[t, h + i] = scale * sin(p * inv_freq[i])`, the angle in f64.
  }];
  let arguments = (ins Kernel_Vector:$inv_freq, F64Attr:$scale);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$inv_freq `scale` $scale attr-dict `:` functional-type(operands, results)";
}

def Kernel_RopeCacheOp : Kernel_LaunchOp<"rope_cache", [Kernel_ReadsPosition]> {
  let summary = "Rotary embedding of queries and keys, and the cache write";
  let description = [{
    `qkv[t]` holds `num_heads` query heads, then the key heads, then the value
    heads. Queries and keys are rotated by `table` (arXiv 2104.09864; kernel
    dialect: padded halves); queries go to the result, keys and values into the caches
    at position + t.
  }];
  let arguments = (ins Kernel_Activation:$qkv, AnyRankedTensor:$table, Kernel_CacheType:$keys,
      Kernel_CacheType:$values, I64Attr:$num_heads);
  let results = (outs Kernel_Activation:$q, Kernel_CacheType:$new_keys, Kernel_CacheType:$new_values);
  let assemblyFormat = "$qkv `,` $table `,` $keys `,` $values `heads` $num_heads attr-dict `:` functional-type(operands, results)";
}

def Kernel_YieldOp : Kernel_Op<"yield", [Pure, Terminator, HasParent<"FusedOp">]> {
  let summary = "The results of a fused launch";
  let arguments = (ins Variadic<AnyType>:$results);
  let assemblyFormat = "$results attr-dict `:` type($results)";
}

def Kernel_FusedOp : Kernel_LaunchOp<"fused", [IsolatedFromAbove, SingleBlock]> {
  let summary = "Launches as one, whose values in between need no memory";
  let description = [{
    A `kernel.linear`, in front of it the `kernel.rms_norm` of its rows, behind it
    the `kernel.rope_cache` of its result: two of them or all. `plan-program` makes
    these for phases that gain by them: a norm is computed by every worker for
    itself, so for one token alone; a `rope_cache` keeps its launch where the rows
    are of several sequences, with a position each.
    ```
    %q, %nk, %nv = kernel.fused %x, %w, %t, %k, %v : (...) -> (...) {
    ^bb0(%x_: ..., %w_: ..., %t_: ..., %k_: ..., %v_: ...):
      %qkv = kernel.linear %x_, %w_ : ...
      %q_, %nk_, %nv_ = kernel.rope_cache %qkv, %t_, %k_, %v_ heads 2 : ...
      kernel.yield %q_, %nk_, %nv_ : ...
    }
    ```
  }];
  let arguments = (ins Variadic<AnyType>:$inputs);
  let results = (outs Variadic<AnyType>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$inputs attr-dict `:` functional-type($inputs, $results) $body";
  let extraClassDeclaration = [{
    /// The parts; null if there is no such.
    RmsNormOp getNorm();
    LinearOp getLinear();
    RopeCacheOp getRope();
    /// The number of a part's operand, or of the linear's input if the norm
    /// isn't fused, among those of this op.
    static unsigned inputOf(::mlir::Value operand) {
      return ::mlir::cast<::mlir::BlockArgument>(operand).getArgNumber();
    }
  }];
}

def Kernel_AttentionOp : Kernel_LaunchOp<"attention", [Kernel_ReadsPosition]> {
  let summary = "Causal grouped-query attention over the cache";
  let description = [{
    Query head h uses key/value head h / (num_heads / kv heads). For token t, over
    the positions j <= position + t:
    `result[t, h, :] = sum_j softmax_j(scale * q[t, h, :] . keys[j]) * values[j, :]`,
    the softmax streamed in f32 (arXiv 2205.14135).

    With `partials`, one or a few tokens have a tile for each of as many sets of
    positions, however many threads there are: blocks of 64 positions go round the
    tiles, and whichever tile of a group of heads ends last puts the parts together
    in order.
  }];
  let arguments = (ins Kernel_Activation:$q, Kernel_CacheType:$keys, Kernel_CacheType:$values,
      Optional<Kernel_PartialsType>:$partials, I64Attr:$num_heads, F64Attr:$scale);
  let results = (outs Kernel_Rows:$result);
  let assemblyFormat = [{$q `,` $keys `,` $values (`,` $partials^)? `heads` $num_heads `scale` $scale attr-dict
      `:` functional-type(operands, results)}];
}

//===-- Multi-head latent attention ----------------------------------------===//

def Kernel_HeadLinearOp : Kernel_LaunchOp<"head_linear"> {
  let summary = "A matrix of its own for every head";
  let description = [{
    The weight's rows are those of `heads` matrices of R rows, R a multiple of 32:
    `result[t, h * result_head + r] = sum_k x[t, h * x_head + k] * weight[h * R + r, k]`.
    Elements of the result that no row is written to stay untouched.

    Multi-head latent attention absorbs its key and value matrices so: with
    kv_b's rows [nope + v] of a head, `q . (K c) = (K^T q) . c` and
    `sum_p w[p] V c[p] = V (sum_p w[p] c[p])` (arXiv 2405.04434, section 2.1.2).
  }];
  let arguments = (ins Kernel_Rows:$x, Kernel_Matrix:$weight, I64Attr:$heads, I64Attr:$x_head, I64Attr:$result_head);
  let results = (outs Kernel_Rows:$result);
  let assemblyFormat = [{$x `,` $weight `heads` $heads `x_head` $x_head `result_head` $result_head attr-dict
      `:` functional-type(operands, results)}];
}

def Kernel_LatentCacheOp : Kernel_LaunchOp<"latent_cache", [Kernel_ReadsPosition]> {
  let summary = "What latent attention caches of each token";
  let description = [{
    From `offset` on a row of `kv` holds the latent, as long as `norm`, and at the
    next multiple of 32 the shared key: as many elements as a row of `table`, in
    padded halves or, `interleaved`, in pairs that are rotated together and zeros
    behind them. The cache's row gets `rms_norm(latent, norm, eps)` (see
    `kernel.rms_norm`), at the next multiple of 32 the key rotated by `table`,
    in padded halves.
  }];
  let arguments = (ins Kernel_Activation:$kv, Kernel_Vector:$norm, AnyRankedTensor:$table, Kernel_CacheType:$cache,
      F64Attr:$eps, I64Attr:$offset, UnitAttr:$interleaved);
  let results = (outs Kernel_CacheType:$new_cache);
  let assemblyFormat = [{$kv `,` $norm `,` $table `,` $cache `eps` $eps `offset` $offset (`interleaved` $interleaved^)? attr-dict
      `:` functional-type(operands, results)}];
}

def Kernel_LatentAttentionOp : Kernel_LaunchOp<"latent_attention", [Kernel_ReadsPosition]> {
  let summary = "Causal attention of all heads over one cached latent";
  let description = [{
    The query of head h is what `absorbed` has at h * rank, rank elements (a
    multiple of 32), and behind it the head's rotary part, which `q` has at
    h * q_head + q_rope, laid out as `kernel.latent_cache` takes the shared key,
    and which `table` rotates. Over the positions
    j <= position + t of the latent cache c:
    `result[t, h * result_head + i] = sum_j softmax_j(scale * query . c[j]) * c[j, i]` for i < rank,
    the softmax streamed in f32 (arXiv 2205.14135); up to result_head zeros follow.
  }];
  let arguments = (ins Kernel_Activation:$absorbed, Kernel_Activation:$q, AnyRankedTensor:$table, Kernel_CacheType:$cache,
      I64Attr:$num_heads, I64Attr:$rank, I64Attr:$q_head, I64Attr:$q_rope, I64Attr:$result_head, F64Attr:$scale,
      UnitAttr:$interleaved);
  let results = (outs Kernel_Rows:$result);
  let assemblyFormat = [{$absorbed `,` $q `,` $table `,` $cache `heads` $num_heads `rank` $rank `q_head` $q_head `q_rope` $q_rope
      `result_head` $result_head `scale` $scale (`interleaved` $interleaved^)? attr-dict
      `:` functional-type(operands, results)}];
}

//===-- Mixture of experts -------------------------------------------------===//

def Kernel_MoeRouteOp : Kernel_LaunchOp<"moe_route"> {
  let summary = "Which experts serve a token, and with what weight";
  let description = [{
    `logits[t]` holds `experts` router outputs. `model.moe` says how `top_k` of them
    are chosen. A row of the results holds them in ascending order, then `shared`
    more that always fire, numbered from `experts` on, with weight 1.
  }];
  let arguments = (ins Kernel_Activation:$logits, Optional<Kernel_Vector>:$bias, I64Attr:$experts, I64Attr:$shared,
      I64Attr:$top_k, I64Attr:$groups, I64Attr:$top_groups, UnitAttr:$normalize, F64Attr:$scale);
  let results = (outs Kernel_Activation:$weights, Kernel_Ids:$ids);
  let assemblyFormat = [{$logits (`bias` $bias^ `:` type($bias))? `experts` $experts `shared` $shared `top_k` $top_k `groups` $groups
      `top_groups` $top_groups (`normalize` $normalize^)? `scale` $scale attr-dict `:` type($logits) `->` type($weights) `,` type($ids)}];
}

def Kernel_MoeGroupOp : Kernel_LaunchOp<"moe_group"> {
  let summary = "The tokens of each expert";
  let description = [{ Not launched for one token, whose slots are already in order. }];
  let arguments = (ins Kernel_Ids:$ids);
  let results = (outs Kernel_ExpertListsType:$lists);
  let assemblyFormat = "$ids attr-dict `:` functional-type(operands, results)";
}

def Kernel_MoeUpOp : Kernel_LaunchOp<"moe_up"> {
  let summary = "Gate and up of the experts that fire, with SwiGLU";
  let description = [{
    The weight's rows are those of all experts one behind the other, each as
    `kernel.linear` wants them for its swiglu epilogue. The result's row has one
    part for each slot, `result_slot` elements apart.
  }];
  let arguments = (ins Kernel_Rows:$x, Kernel_Matrix:$weight, Kernel_Ids:$ids, Kernel_ExpertListsType:$lists,
      I64Attr:$result_slot);
  let results = (outs Kernel_Rows:$result);
  let assemblyFormat = "$x `,` $weight `,` $ids `,` $lists `result_slot` $result_slot attr-dict `:` functional-type(operands, results)";
}

def Kernel_MoeDownOp : Kernel_LaunchOp<"moe_down"> {
  let summary = "Down of the experts that fire, their weighted sum and the residual";
  let description = [{
    `result[t, r] = residual[t, r] + sum_s weights[t, s] * sum_k x[t, s * x_slot + k] * weight[ids[t, s] * R + r, k]`
    for the slots s in order, R being an expert's rows. `residual` may be the same
    memory as the result.
  }];
  let arguments = (ins Kernel_Rows:$x, Kernel_Matrix:$weight, Kernel_Ids:$ids, Kernel_Activation:$weights,
      Kernel_ExpertListsType:$lists, Kernel_Activation:$residual, I64Attr:$x_slot);
  let results = (outs Kernel_Activation:$result);
  let assemblyFormat = [{$x `,` $weight `,` $ids `,` $weights `,` $lists `residual` $residual `x_slot` $x_slot attr-dict
      `:` functional-type(operands, results)}];
}

#endif // RETORT_DIALECTS_KERNEL_TD
