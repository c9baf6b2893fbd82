//===- Encoding.td - The encoding dialect ------------------*- tablegen -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_DIALECTS_ENCODING_TD
#define RETORT_DIALECTS_ENCODING_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/DialectBase.td"

def Encoding_Dialect : Dialect {
  let name = "encoding";
  let cppNamespace = "::retort::encoding";
  let summary = "How the bytes of a weight or an activation are stored";
  let description = [{
    Attributes only. A weight keeps its logical type, e.g.
    `tensor<2048x1536xf32, #encoding.packed<int4, 32>>`: 2048 outputs by 1536
    inputs that decode to f32, stored as 4-bit integers in groups of 32 inputs.
    `compiler/encoding/PackedEncoding.h` defines the bytes.
  }];
  let useDefaultAttributePrinterParser = 1;
}

def Encoding_PackedAttr : AttrDef<Encoding_Dialect, "Packed"> {
  let mnemonic = "packed";
  let summary = "The packed layout in strips of 32 rows";
  let description = [{
    ```
    #encoding.packed<bf16>
    #encoding.packed<fp8>
    #encoding.packed<int8, 64>
    #encoding.packed<int4, 32, zero_points>
    ```
    The first word is the kind (`f32`, `f16`, `bf16`, `fp8`, `int2` to `int6`, `int8`,
    `nf4`), then for integers the group size (32, 64 or 128), then for `int2` to
    `int6` whether every group has a zero point of its own instead of the middle.
  }];
  let parameters = (ins "::retort::PackedEncoding":$encoding);
  let hasCustomAssemblyFormat = 1;
}

def Encoding_ActivationAttr : AttrDef<Encoding_Dialect, "Activation"> {
  let mnemonic = "activation";
  let summary = "Rows of an activation, quantized in groups of 32";
  let description = [{
    ```
    #encoding.activation<int8, 32>
    #encoding.activation<int16, 32>
    ```
    The first is what weights of up to 4 bits are multiplied with, the second what
    those of more bits, or of a codebook, are. `compiler/encoding/ActivationEncoding.h` defines the bytes.
  }];
  let parameters = (ins "::retort::ActivationEncoding":$encoding);
  let hasCustomAssemblyFormat = 1;
}

#endif // RETORT_DIALECTS_ENCODING_TD
