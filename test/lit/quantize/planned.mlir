// What a weight plan marks gets its encoding, whatever the options say.

// RUN: retort-opt --quantize-weights="weights=int4,embedding=bf16" %s | FileCheck %s

// CHECK: @w0 : tensor<64x32xf32, #encoding.packed<int4, 64, zero_points>>
// CHECK-NEXT: @w1 : tensor<32x32xf32, #encoding.packed<f16>>
// CHECK-NEXT: @w2 : tensor<64x32xf32, #encoding.packed<int8, 32>>
// CHECK-NOT: planned_encoding
// CHECK-NOT: kept_encoding

model.weight @w0 : tensor<64x32xbf16> {model.planned_encoding = #encoding.packed<int4, 64, zero_points>}
model.weight @w1 : tensor<32x32xbf16> {model.planned_encoding = #encoding.packed<f16>, model.kept_encoding = #encoding.packed<int4, 32>}
model.weight @w2 : tensor<64x32xbf16>

func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x64xf32> {
  %x = model.embedding %tokens, @w0 : (tensor<?xi32>) -> tensor<?x32xf32>
  %y = model.linear %x, @w1 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %logits = model.linear %y, @w2 : (tensor<?x32xf32>) -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
