// RUN: retort-opt %s | retort-opt | FileCheck %s

// Latent attention: 4 heads of 128 + 32 elements, a rank of 64.

// CHECK-LABEL: @latent
func.func @latent(%x: tensor<?x256xf32>, %q: tensor<?x640xf32>, %k: tensor<256x100xf32, #encoding.packed<bf16>>, %norm: tensor<64xf32>,
                  %table: tensor<?x32xf32>) -> tensor<?x512xf32> {
  // CHECK: kernel.load_cache 3 : <latent, 1 x 96>
  %cache = kernel.load_cache 3 : !kernel.cache<latent, 1 x 96>
  // CHECK: kernel.latent_cache %{{.*}} eps 1.000000e-03 offset 128 interleaved
  %new = kernel.latent_cache %x, %norm, %table, %cache eps 1.0e-3 offset 128 interleaved
      : (tensor<?x256xf32>, tensor<64xf32>, tensor<?x32xf32>, !kernel.cache<latent, 1 x 96>) -> !kernel.cache<latent, 1 x 96>
  // CHECK: kernel.head_linear %{{.*}} heads 4 x_head 160 result_head 64
  %a = kernel.head_linear %q, %k heads 4 x_head 160 result_head 64
      : (tensor<?x640xf32>, tensor<256x100xf32, #encoding.packed<bf16>>) -> tensor<?x256xf32>
  // CHECK: kernel.latent_attention %{{.*}} heads 4 rank 64 q_head 160 q_rope 128 result_head 128 scale 1.000000e-01 interleaved
  %y = kernel.latent_attention %a, %q, %table, %new heads 4 rank 64 q_head 160 q_rope 128 result_head 128 scale 0.1 interleaved
      : (tensor<?x256xf32>, tensor<?x640xf32>, tensor<?x32xf32>, !kernel.cache<latent, 1 x 96>) -> tensor<?x512xf32>
  return %y : tensor<?x512xf32>
}

// 8 experts in 4 groups and one that always fires; 2 + 1 slots.

// CHECK-LABEL: @experts
func.func @experts(%x: tensor<?x128xf32>, %logits: tensor<?x128xf32>, %bias: tensor<8xf32>, %r: tensor<?x128xf32>,
                   %up: tensor<576x128xf32, #encoding.packed<bf16>>, %down: tensor<1152x20xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32> {
  // CHECK: kernel.moe_route %{{.*}} bias %{{.*}} : tensor<8xf32> experts 8 shared 1 top_k 2 groups 4 top_groups 2 normalize scale 2.500000e+00
  %w, %ids = kernel.moe_route %logits bias %bias : tensor<8xf32> experts 8 shared 1 top_k 2 groups 4 top_groups 2 normalize scale 2.5
      : tensor<?x128xf32> -> tensor<?x16xf32>, tensor<?x16xi32>
  // CHECK: kernel.moe_group %{{.*}} : (tensor<?x16xi32>) -> !kernel.expert_lists<9, 3>
  %lists = kernel.moe_group %ids : (tensor<?x16xi32>) -> !kernel.expert_lists<9, 3>
  // CHECK: kernel.moe_up %{{.*}} result_slot 128
  %h = kernel.moe_up %x, %up, %ids, %lists result_slot 128
      : (tensor<?x128xf32>, tensor<576x128xf32, #encoding.packed<bf16>>, tensor<?x16xi32>, !kernel.expert_lists<9, 3>) -> tensor<?x384xf32>
  // CHECK: kernel.moe_down %{{.*}} residual %{{.*}} x_slot 128
  %y = kernel.moe_down %h, %down, %ids, %w, %lists residual %r x_slot 128
      : (tensor<?x384xf32>, tensor<1152x20xf32, #encoding.packed<bf16>>, tensor<?x16xi32>, tensor<?x16xf32>, !kernel.expert_lists<9, 3>, tensor<?x128xf32>) -> tensor<?x128xf32>
  return %y : tensor<?x128xf32>
}
