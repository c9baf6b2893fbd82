// Latent attention and experts, as docs/teacher-ir.md shows them.

// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches %s | FileCheck %s
// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches %s | FileCheck %s --check-prefix=WEIGHTS

model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @q : tensor<192x128xbf16>
model.weight @kv_a : tensor<80x128xbf16>
model.weight @kv_norm : tensor<64xbf16>
model.weight @kv_b : tensor<256x64xbf16>
model.weight @o : tensor<128x128xbf16>
model.weight @norm2 : tensor<128xbf16>
model.weight @router : tensor<4x128xf32>
model.weight @bias : tensor<4xf32>
model.weight @gate.0 : tensor<64x128xbf16>
model.weight @gate.1 : tensor<64x128xbf16>
model.weight @gate.2 : tensor<64x128xbf16>
model.weight @gate.3 : tensor<64x128xbf16>
model.weight @up.0 : tensor<64x128xbf16>
model.weight @up.1 : tensor<64x128xbf16>
model.weight @up.2 : tensor<64x128xbf16>
model.weight @up.3 : tensor<64x128xbf16>
model.weight @down.0 : tensor<128x64xbf16>
model.weight @down.1 : tensor<128x64xbf16>
model.weight @down.2 : tensor<128x64xbf16>
model.weight @down.3 : tensor<128x64xbf16>
model.weight @final : tensor<128xbf16>

func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  // doc: model
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %q = model.linear %n, @q : (tensor<?x128xf32>) -> tensor<?x192xf32>
  %kv = model.linear %n, @kv_a : (tensor<?x128xf32>) -> tensor<?x80xf32>
  %a = model.mla %q, %kv norm @kv_norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 32 rope 16 v 32 scale 0.125
      inv_freq [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125] rope_scale 1.0 interleaved
      : (tensor<?x192xf32>, tensor<?x80xf32>) -> tensor<?x128xf32>
  %o = model.linear %a, @o : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %y = model.add %x, %o : tensor<?x128xf32>
  %m = model.rms_norm %y, @norm2 eps 1.0e-3 : tensor<?x128xf32>
  %e = model.moe %m router @router bias @bias gates [@gate.0, @gate.1, @gate.2, @gate.3] ups [@up.0, @up.1, @up.2, @up.3]
      downs [@down.0, @down.1, @down.2, @down.3] layer 0 top_k 2 groups 2 top_groups 1 normalize scale 2.5
      : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %y, %e : tensor<?x128xf32>
  // doc: end
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

// doc: fuse
// CHECK: %5 = kernel.load_weight @packed.layers.0.latent : tensor<736x128xf32, #encoding.packed<bf16>>
// CHECK-NEXT: %6 = kernel.linear %result, %5 {kernel.label = "linear latent", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<736x128xf32, #encoding.packed<bf16>>) -> tensor<?x768xf32>
// CHECK-NEXT: %7 = kernel.load_weight @packed.kv_norm : tensor<64xf32>
// CHECK-NEXT: %8 = kernel.load_cache 0 : <latent, 1 x 96>
// CHECK-NEXT: %9 = kernel.latent_cache %6, %7, %1, %8 eps 1.000000e-03 offset 640 interleaved {kernel.label = "latent_cache", kernel.layer = 0 : i64} : (tensor<?x768xf32>, tensor<64xf32>, tensor<?x32xf32>, !kernel.cache<latent, 1 x 96>) -> !kernel.cache<latent, 1 x 96>
// CHECK-NEXT: %10 = kernel.load_weight @packed.layers.0.absorbed_k : tensor<256x32xf32, #encoding.packed<bf16>>
// CHECK-NEXT: %11 = kernel.load_weight @packed.layers.0.absorbed_v : tensor<128x64xf32, #encoding.packed<bf16>>
// CHECK-NEXT: %12 = kernel.head_linear %6, %10 heads 4 x_head 160 result_head 64 {kernel.label = "head_linear k", kernel.layer = 0 : i64} : (tensor<?x768xf32>, tensor<256x32xf32, #encoding.packed<bf16>>) -> tensor<?x256xf32>
// CHECK-NEXT: %13 = kernel.latent_attention %12, %6, %1, %9 heads 4 rank 64 q_head 160 q_rope 128 result_head 128 scale 1.250000e-01 interleaved {kernel.label = "latent_attention", kernel.layer = 0 : i64} : (tensor<?x256xf32>, tensor<?x768xf32>, tensor<?x32xf32>, !kernel.cache<latent, 1 x 96>) -> tensor<?x512xf32>
// CHECK-NEXT: %14 = kernel.head_linear %13, %11 heads 4 x_head 128 result_head 32 {kernel.label = "head_linear v", kernel.layer = 0 : i64} : (tensor<?x512xf32>, tensor<128x64xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
// CHECK-NEXT: %15 = kernel.load_weight @packed.o : tensor<128x128xf32, #encoding.packed<bf16>>
// CHECK-NEXT: %16 = kernel.linear %14, %15 residual %3 : tensor<?x128xf32> {kernel.label = "linear o", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
// CHECK-NEXT: %17 = kernel.load_weight @packed.norm2 : tensor<128xf32>
// CHECK-NEXT: %result_0 = kernel.rms_norm %16, %17 eps 1.000000e-03 {kernel.label = "rms_norm", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
// CHECK-NEXT: %18 = kernel.load_weight @packed.router : tensor<32x128xf32, #encoding.packed<f32>>
// CHECK-NEXT: %19 = kernel.load_weight @packed.layers.0.experts.gate_up : tensor<512x128xf32, #encoding.packed<bf16>>
// CHECK-NEXT: %20 = kernel.load_weight @packed.layers.0.experts.down : tensor<512x64xf32, #encoding.packed<bf16>>
// CHECK-NEXT: %21 = kernel.load_weight @packed.bias : tensor<4xf32>
// CHECK-NEXT: %22 = kernel.linear %result_0, %18 {kernel.label = "linear router", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<32x128xf32, #encoding.packed<f32>>) -> tensor<?x128xf32>
// CHECK-NEXT: %weights, %ids = kernel.moe_route %22 bias %21 : tensor<4xf32> experts 4 shared 0 top_k 2 groups 2 top_groups 1 normalize scale 2.500000e+00 {kernel.label = "moe_route", kernel.layer = 0 : i64} : tensor<?x128xf32> -> tensor<?x16xf32>, tensor<?x16xi32>
// CHECK-NEXT: %23 = kernel.moe_group %ids {kernel.label = "moe_group", kernel.layer = 0 : i64} : (tensor<?x16xi32>) -> !kernel.expert_lists<4, 2>
// CHECK-NEXT: %24 = kernel.moe_up %result_0, %19, %ids, %23 result_slot 128 {kernel.label = "moe_up", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<512x128xf32, #encoding.packed<bf16>>, tensor<?x16xi32>, !kernel.expert_lists<4, 2>) -> tensor<?x256xf32>
// CHECK-NEXT: %25 = kernel.moe_down %24, %20, %ids, %weights, %23 residual %16 x_slot 128 {kernel.label = "moe_down", kernel.layer = 0 : i64} : (tensor<?x256xf32>, tensor<512x64xf32, #encoding.packed<bf16>>, tensor<?x16xi32>, tensor<?x16xf32>, !kernel.expert_lists<4, 2>, tensor<?x128xf32>) -> tensor<?x128xf32>
// doc: end

// doc: weights
// WEIGHTS{LITERAL}: %20 = kernel.load_weight @packed.layers.0.experts.down : tensor<512x64xf32, #encoding.packed<bf16>>
// WEIGHTS{LITERAL}: kernel.weight @packed.layers.0.absorbed_k : tensor<256x32xf32, #encoding.packed<bf16>> rows [["kv_b", 0, 64, 0, 32, 0, 1], ["kv_b", 0, 64, 64, 32, 64, 1], ["kv_b", 0, 64, 128, 32, 128, 1], ["kv_b", 0, 64, 192, 32, 192, 1]] cols [[0, 32, 0]]
// WEIGHTS{LITERAL}: kernel.weight @packed.layers.0.experts.down : tensor<512x64xf32, #encoding.packed<bf16>> rows [["down.0", 0, 128, 0], ["down.1", 0, 128, 128], ["down.2", 0, 128, 256], ["down.3", 0, 128, 384]] cols [[0, 64, 0]]
// doc: end
