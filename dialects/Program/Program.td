//===- Program.td - The program dialect --------------------*- tablegen -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_DIALECTS_PROGRAM_TD
#define RETORT_DIALECTS_PROGRAM_TD

include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"

def Program_Dialect : Dialect {
  let name = "program";
  let cppNamespace = "::retort::program";
  let summary = "The artifact's program, one op per table of the file";
  let description = [{
    Mirrors `runtime/abi/artifact.fbs`, so that writing an artifact takes no
    decision: buffers, phases and launches as the runtime will see them. Launches
    name `kernel.entry` symbols for code and `kernel.weight` symbols for data.
  }];
}

class Program_Op<string opMnemonic, list<Trait> traits = []> : Op<Program_Dialect, opMnemonic, traits>;

def Program_BufferKind : I32EnumAttr<"BufferKind", "what a buffer is for", [
    I32EnumAttrCase<"Activation", 0, "activation">, I32EnumAttrCase<"Cache", 1, "cache">]> {
  let cppNamespace = "::retort::program";
}

def Program_PhaseKind : I32EnumAttr<"PhaseKind", "what a phase computes", [
    I32EnumAttrCase<"Body", 0, "body">, I32EnumAttrCase<"Head", 1, "head">,
    I32EnumAttrCase<"DraftBody", 2, "draft_body">, I32EnumAttrCase<"DraftHead", 3, "draft_head">]> {
  let cppNamespace = "::retort::program";
}

def Program_BufferOp : Program_Op<"buffer", [Symbol]> {
  let summary = "Memory that a session owns, zeroed when it opens";
  let description = [{
    `program.buffer @hidden activation per_token 6144` takes 6144 bytes for each
    token of a chunk, `activation fixed 4096` 4096 bytes in all, and
    `cache per_position 1024` 1024 bytes for each position of the context. A cache
    belongs to one sequence; `cache fixed 4096` is memory of that kind whose size
    does not depend on the context.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Program_BufferKind:$kind,
      DefaultValuedAttr<I64Attr, "0">:$fixed_bytes, DefaultValuedAttr<I64Attr, "0">:$bytes_per_token,
      DefaultValuedAttr<I64Attr, "0">:$bytes_per_position);
  let assemblyFormat = [{$sym_name $kind (`fixed` $fixed_bytes^)? (`per_token` $bytes_per_token^)? (`per_position` $bytes_per_position^)? attr-dict}];
  let hasVerifier = 1;
}

def Program_PhaseOp : Program_Op<"phase", [Symbol, SingleBlock, NoTerminator]> {
  let summary = "Launches in order, for chunks of min to max tokens";
  let arguments = (ins SymbolNameAttr:$sym_name, Program_PhaseKind:$kind, I64Attr:$min_tokens, I64Attr:$max_tokens);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name $kind `tokens` `(` $min_tokens `,` $max_tokens `)` attr-dict-with-keyword $body";
  let hasVerifier = 1;
}

def Program_LaunchOp : Program_Op<"launch", [HasParent<"PhaseOp">, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "One kernel over all its tiles";
  let description = [{
    ```
    program.launch @linear_3(@xn, @layers.0.qkv, @qkv) tiles 16 tokens_per_tile 0 layer 0 label "linear qkv"
        weight_bytes 1769472 bytes_per_token 14336 flops_per_token 6291456
    ```
    The tile count is `tiles * ceil(n_tokens / tokens_per_tile)`, or `tiles` if
    tokens_per_tile is 0. Bytes and flops feed the ledger; those per pair count
    (query, key) pairs of attention. `reads_position` launches take the tokens
    of several sequences one at a time; one with a cache among its arguments is
    always one of these.
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, ArrayAttr:$args, I64Attr:$tiles, I64Attr:$tokens_per_tile,
      I64Attr:$layer, StrAttr:$label, DefaultValuedAttr<I64Attr, "0">:$weight_bytes,
      DefaultValuedAttr<I64Attr, "0">:$bytes_per_token, DefaultValuedAttr<I64Attr, "0">:$bytes_per_pair,
      DefaultValuedAttr<I64Attr, "0">:$flops_per_token, DefaultValuedAttr<I64Attr, "0">:$flops_per_pair,
      UnitAttr:$reads_position);
  let assemblyFormat = [{
    $kernel $args `tiles` $tiles `tokens_per_tile` $tokens_per_tile `layer` $layer `label` $label
    (`weight_bytes` $weight_bytes^)? (`bytes_per_token` $bytes_per_token^)? (`bytes_per_pair` $bytes_per_pair^)?
    (`flops_per_token` $flops_per_token^)? (`flops_per_pair` $flops_per_pair^)?
    (`reads_position` $reads_position^)? attr-dict
  }];
  let hasVerifier = 1;
}

#endif // RETORT_DIALECTS_PROGRAM_TD
