// RUN: not retort-opt --quantize-weights="weights=int7" %s 2>&1 | FileCheck %s --check-prefix=ENCODING
// RUN: not retort-opt --quantize-weights="weights=int4,mlp=int8" %s 2>&1 | FileCheck %s --check-prefix=CLASS
// RUN: not retort-opt --quantize-weights="weights=int4,head=int8,embedding=bf16" %s 2>&1 | FileCheck %s --check-prefix=TIED
// RUN: not retort-opt --quantize-weights="weights=int4,head=int8 group-size=48" %s 2>&1 | FileCheck %s --check-prefix=GROUP
// RUN: retort-opt --quantize-weights="weights=int4,embedding=bf16" %s | FileCheck %s --check-prefix=ONE

// ENCODING: encoding of weights: expected one of keep, f32, f16, bf16, int8, int6, int5, int4, nf4, int3, int2, found 'int7'
// CLASS: class of weights: expected one of attention, experts, dense, embedding, head, found 'mlp'
// TIED: expected one encoding for embedding and head, which are this matrix
// GROUP: expected a group size of 32, 64 or 128, found 48

// A tied matrix follows whichever of the two is named.
// ONE: @w : tensor<64x32xf32, #encoding.packed<bf16>>
model.weight @w : tensor<64x32xbf16>

func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x64xf32> {
  %x = model.embedding %tokens, @w : (tensor<?xi32>) -> tensor<?x32xf32>
  %logits = model.linear %x, @w : (tensor<?x32xf32>) -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
