// Variants of latent attention and experts that docs/teacher.mlir doesn't show.

// RUN: split-file %s %t
// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches %t/ranks.mlir | FileCheck %s --check-prefix=RANKS
// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches %t/shared.mlir | FileCheck %s --check-prefix=SHARED
// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches %t/plain.mlir | FileCheck %s --check-prefix=PLAIN
// RUN: retort-opt --quantize-weights="weights=int4,experts=int8" --fuse-launches %t/shared.mlir | FileCheck %s --check-prefix=CLASSES

// Queries with a rank: one launch for both latents, a norm of its first
// columns, and queries from that. Halves that aren't interleaved stay apart.
// RANKS-LABEL: func.func @body
// RANKS: %[[LATENT:.*]] = kernel.linear %{{.*}} {kernel.label = "linear latent"
// RANKS: %[[NORM:.*]] = kernel.rms_norm %[[LATENT]], {{.*}}kernel.label = "rms_norm q"
// RANKS: %[[Q:.*]] = kernel.linear %[[NORM]], %{{.*}} {kernel.label = "linear q"
// RANKS: %[[CACHE:.*]] = kernel.latent_cache %[[LATENT]], {{.*}} offset 64 {kernel.label
// RANKS: %[[ABSORBED:.*]] = kernel.head_linear %[[Q]], {{.*}} heads 4
// RANKS: %[[SUM:.*]] = kernel.latent_attention %[[ABSORBED]], %[[Q]], %{{.*}}, %[[CACHE]] heads 4 rank 64
// RANKS-NOT: interleaved
// RANKS: kernel.head_linear %[[SUM]], {{.*}} heads 4

// A shared MLP of twice the width is two experts behind the others.
// SHARED-LABEL: func.func @body
// SHARED: %[[LOGITS:.*]] = kernel.linear {{.*}} {kernel.label = "linear router"
// SHARED: %[[W:.*]], %[[IDS:.*]] = kernel.moe_route %[[LOGITS]] bias {{.*}} experts 4 shared 2 top_k 2 groups 2 top_groups 1 normalize scale 2.500000e+00
// SHARED: %[[LISTS:.*]] = kernel.moe_group %[[IDS]] {{.*}} -> !kernel.expert_lists<6, 4>
// SHARED: %[[UP:.*]] = kernel.moe_up %{{.*}}, %{{.*}}, %[[IDS]], %[[LISTS]]
// SHARED: kernel.moe_down %[[UP]], %{{.*}}, %[[IDS]], %[[W]], %[[LISTS]] residual
// SHARED{LITERAL}: ["down.3", 0, 128, 384], ["shared.down", 0, 128, 512], ["shared.down", 0, 128, 640, 32, 64, 0]

// No bias, one group, no normalisation.
// PLAIN-LABEL: func.func @body
// PLAIN: kernel.moe_route %{{[^ ]*}} experts 4 shared 0 top_k 1 groups 1 top_groups 1 scale 1.000000e+00
// PLAIN: kernel.moe_group {{.*}} -> !kernel.expert_lists<4, 1>

// Classes differ, and a router keeps its type.
// CLASSES-LABEL: func.func @body
// CLASSES-DAG: kernel.load_weight @packed.router : {{.*}}packed<f32>
// CLASSES-DAG: kernel.load_weight @packed.layers.0.experts.gate_up : {{.*}}packed<int8, 32>
// CLASSES-DAG: kernel.load_weight @packed.embed : {{.*}}packed<int8, 32>
// CLASSES-DAG: kernel.load_weight @packed.layers.0.experts.down : {{.*}}packed<int8, 32>

//--- ranks.mlir
model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @kv_a : tensor<80x128xbf16>
model.weight @kv_norm : tensor<64xbf16>
model.weight @kv_b : tensor<256x64xbf16>
model.weight @o : tensor<128x128xbf16>
model.weight @final : tensor<128xbf16>
model.weight @q_a : tensor<40x128xbf16>
model.weight @q_norm : tensor<40xbf16>
model.weight @q_b : tensor<192x40xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %qa = model.linear %n, @q_a : (tensor<?x128xf32>) -> tensor<?x40xf32>
  %qn = model.rms_norm %qa, @q_norm eps 1.0e-3 : tensor<?x40xf32>
  %q = model.linear %qn, @q_b : (tensor<?x40xf32>) -> tensor<?x192xf32>
  %kv = model.linear %n, @kv_a : (tensor<?x128xf32>) -> tensor<?x80xf32>
  %a = model.mla %q, %kv norm @kv_norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 32 rope 16 v 32 scale 0.125
      inv_freq [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125] rope_scale 1.0
      : (tensor<?x192xf32>, tensor<?x80xf32>) -> tensor<?x128xf32>
  %o = model.linear %a, @o : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %o : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

//--- shared.mlir
model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @router : tensor<4x128xf32>
model.weight @bias : tensor<4xf32>
model.weight @gate.0 : tensor<64x128xbf16>
model.weight @up.0 : tensor<64x128xbf16>
model.weight @down.0 : tensor<128x64xbf16>
model.weight @gate.1 : tensor<64x128xbf16>
model.weight @up.1 : tensor<64x128xbf16>
model.weight @down.1 : tensor<128x64xbf16>
model.weight @gate.2 : tensor<64x128xbf16>
model.weight @up.2 : tensor<64x128xbf16>
model.weight @down.2 : tensor<128x64xbf16>
model.weight @gate.3 : tensor<64x128xbf16>
model.weight @up.3 : tensor<64x128xbf16>
model.weight @down.3 : tensor<128x64xbf16>
model.weight @shared.gate : tensor<128x128xbf16>
model.weight @shared.up : tensor<128x128xbf16>
model.weight @shared.down : tensor<128x128xbf16>
model.weight @final : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %e = model.moe %n router @router bias @bias gates [@gate.0, @gate.1, @gate.2, @gate.3] ups [@up.0, @up.1, @up.2, @up.3]
      downs [@down.0, @down.1, @down.2, @down.3] shared [@shared.gate, @shared.up, @shared.down] layer 0 top_k 2 groups 2 top_groups 1 normalize scale 2.5
      : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %e : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

//--- plain.mlir
model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @router : tensor<4x128xf32>
model.weight @gate.0 : tensor<64x128xbf16>
model.weight @up.0 : tensor<64x128xbf16>
model.weight @down.0 : tensor<128x64xbf16>
model.weight @gate.1 : tensor<64x128xbf16>
model.weight @up.1 : tensor<64x128xbf16>
model.weight @down.1 : tensor<128x64xbf16>
model.weight @gate.2 : tensor<64x128xbf16>
model.weight @up.2 : tensor<64x128xbf16>
model.weight @down.2 : tensor<128x64xbf16>
model.weight @gate.3 : tensor<64x128xbf16>
model.weight @up.3 : tensor<64x128xbf16>
model.weight @down.3 : tensor<128x64xbf16>
model.weight @final : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %e = model.moe %n router @router gates [@gate.0, @gate.1, @gate.2, @gate.3] ups [@up.0, @up.1, @up.2, @up.3]
      downs [@down.0, @down.1, @down.2, @down.3] layer 0 top_k 1 groups 1 top_groups 1 scale 1.0
      : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %e : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}
