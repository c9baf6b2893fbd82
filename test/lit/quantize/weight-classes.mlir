// Weights by class. Names say nothing: classes follow from the ops.

// RUN: retort-opt --split-input-file --quantize-weights="weights=int4,attention=int8,experts=bf16,dense=f16,embedding=f32,head=int4 group-size=32" %s | FileCheck %s
// RUN: retort-opt --split-input-file --quantize-weights="weights=int4 group-size=32" %s | FileCheck %s --check-prefix=PLAIN
// RUN: retort-opt --split-input-file --quantize-weights="weights=bf16,dense=keep" %s | FileCheck %s --check-prefix=KEEP

// Grouped-query attention and a plain MLP.

// CHECK: @w0 : tensor<64x32xf32, #encoding.packed<f32>>
// CHECK-NEXT: @w1 : tensor<32xbf16>
// CHECK-NEXT: @w2 : tensor<32x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w3 : tensor<16x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w4 : tensor<16x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w5 : tensor<32x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w6 : tensor<64x32xf32, #encoding.packed<f16>>
// CHECK-NEXT: @w7 : tensor<64x32xf32, #encoding.packed<f16>>
// CHECK-NEXT: @w8 : tensor<32x64xf32, #encoding.packed<f16>>
// CHECK-NEXT: @w9 : tensor<64x32xf32, #encoding.packed<int4, 32>>

// PLAIN: @w0 : tensor<64x32xf32, #encoding.packed<int8, 32>>
// PLAIN: @w2 : tensor<32x32xf32, #encoding.packed<int4, 32>>
// PLAIN: @w8 : tensor<32x64xf32, #encoding.packed<int4, 32>>
// PLAIN: @w9 : tensor<64x32xf32, #encoding.packed<int8, 32>>

// KEEP: @w5 : tensor<32x32xf32, #encoding.packed<bf16>>
// KEEP: @w6 : tensor<64x32xf32, #encoding.packed<f16>>
// KEEP: @w9 : tensor<64x32xf32, #encoding.packed<bf16>>

model.weight @w0 : tensor<64x32xbf16>
model.weight @w1 : tensor<32xbf16>
model.weight @w2 : tensor<32x32xbf16>
model.weight @w3 : tensor<16x32xbf16>
model.weight @w4 : tensor<16x32xbf16>
model.weight @w5 : tensor<32x32xbf16>
model.weight @w6 : tensor<64x32xf16>
model.weight @w7 : tensor<64x32xf16>
model.weight @w8 : tensor<32x64xf16>
model.weight @w9 : tensor<64x32xbf16>

func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x64xf32> {
  %x = model.embedding %tokens, @w0 : (tensor<?xi32>) -> tensor<?x32xf32>
  %n = model.rms_norm %x, @w1 eps 1.0e-3 : tensor<?x32xf32>
  %q = model.linear %n, @w2 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %k = model.linear %n, @w3 : (tensor<?x32xf32>) -> tensor<?x16xf32>
  %v = model.linear %n, @w4 : (tensor<?x32xf32>) -> tensor<?x16xf32>
  %rq = model.rope %q heads 4 inv_freq [1.0, 0.5, 0.25, 0.125] scale 1.0 : tensor<?x32xf32>
  %rk = model.rope %k heads 2 inv_freq [1.0, 0.5, 0.25, 0.125] scale 1.0 : tensor<?x16xf32>
  %a = model.attention %rq, %rk, %v layer 0 heads 4 kv_heads 2 scale 0.5 : (tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x32xf32>
  %o = model.linear %a, @w5 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %y = model.add %x, %o : tensor<?x32xf32>
  %m = model.rms_norm %y, @w1 eps 1.0e-3 : tensor<?x32xf32>
  %gate = model.linear %m, @w6 : (tensor<?x32xf32>) -> tensor<?x64xf32>
  %up = model.linear %m, @w7 : (tensor<?x32xf32>) -> tensor<?x64xf32>
  %act = model.swiglu %gate, %up : tensor<?x64xf32>
  %down = model.linear %act, @w8 : (tensor<?x64xf32>) -> tensor<?x32xf32>
  %z = model.add %y, %down : tensor<?x32xf32>
  %last = model.rms_norm %z, @w1 eps 1.0e-3 : tensor<?x32xf32>
  %logits = model.linear %last, @w9 : (tensor<?x32xf32>) -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}

// -----

// Latent attention, and experts behind a router, which stays as it is.

// CHECK: @w1 : tensor<32x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w2 : tensor<48x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w3 : tensor<40x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w4 : tensor<64x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w5 : tensor<32x32xf32, #encoding.packed<int8, 32>>
// CHECK-NEXT: @w6 : tensor<2x32xf32, #encoding.packed<bf16>>
// CHECK-NEXT: @w7 : tensor<16x32xf32, #encoding.packed<bf16>>
// CHECK-NEXT: @w8 : tensor<32x16xf32, #encoding.packed<bf16>>
// CHECK-NEXT: @w9 : tensor<16x32xf32, #encoding.packed<bf16>>

// PLAIN: @w6 : tensor<2x32xf32, #encoding.packed<bf16>>
// PLAIN-NEXT: @w7 : tensor<16x32xf32, #encoding.packed<int4, 32>>

model.weight @w0 : tensor<32xbf16>
model.weight @w1 : tensor<32x32xbf16>
model.weight @w2 : tensor<48x32xbf16>
model.weight @w3 : tensor<40x32xbf16>
model.weight @w4 : tensor<64x32xbf16>
model.weight @w5 : tensor<32x32xbf16>
model.weight @w6 : tensor<2x32xbf16>
model.weight @w7 : tensor<16x32xbf16>
model.weight @w8 : tensor<32x16xbf16>
model.weight @w9 : tensor<16x32xbf16>
model.weight @w10 : tensor<64x32xbf16>
model.weight @w11 : tensor<64x32xbf16>

func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x64xf32> {
  %x = model.embedding %tokens, @w10 : (tensor<?xi32>) -> tensor<?x32xf32>
  %n = model.rms_norm %x, @w0 eps 1.0e-3 : tensor<?x32xf32>
  %qa = model.linear %n, @w1 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %qn = model.rms_norm %qa, @w0 eps 1.0e-3 : tensor<?x32xf32>
  %q = model.linear %qn, @w2 : (tensor<?x32xf32>) -> tensor<?x48xf32>
  %kv = model.linear %n, @w3 : (tensor<?x32xf32>) -> tensor<?x40xf32>
  %a = model.mla %q, %kv norm @w0 eps 1.0e-6 up @w4 layer 0 heads 2 nope 16 rope 8 v 16 scale 0.25 inv_freq [1.0, 0.5, 0.25, 0.125] rope_scale 1.0 : (tensor<?x48xf32>, tensor<?x40xf32>) -> tensor<?x32xf32>
  %o = model.linear %a, @w5 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %y = model.add %x, %o : tensor<?x32xf32>
  %m = model.rms_norm %y, @w0 eps 1.0e-3 : tensor<?x32xf32>
  %e = model.moe %m router @w6 gates [@w7, @w7] ups [@w7, @w7] downs [@w8, @w8] shared [@w9, @w9, @w8] layer 0 top_k 1 groups 1 top_groups 1 scale 1.0 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %z = model.add %y, %e : tensor<?x32xf32>
  %last = model.rms_norm %z, @w0 eps 1.0e-3 : tensor<?x32xf32>
  %logits = model.linear %last, @w11 : (tensor<?x32xf32>) -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
