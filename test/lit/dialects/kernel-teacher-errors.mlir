// RUN: retort-opt --split-input-file --verify-diagnostics %s

func.func @heads(%x: tensor<?x640xf32>, %w: tensor<200x100xf32, #encoding.packed<bf16>>) {
  // expected-error@+1 {{expected weight rows that are a multiple of 32 for each of 4 heads, found 200}}
  %y = kernel.head_linear %x, %w heads 4 x_head 160 result_head 64 : (tensor<?x640xf32>, tensor<200x100xf32, #encoding.packed<bf16>>) -> tensor<?x256xf32>
  return
}

// -----

func.func @inputs(%x: tensor<?x512xf32>, %w: tensor<256x100xf32, #encoding.packed<bf16>>) {
  // expected-error@+1 {{expected inputs of 4 heads at multiples of 32 in a row of 512, found x_head 160 and 128 columns}}
  %y = kernel.head_linear %x, %w heads 4 x_head 160 result_head 64 : (tensor<?x512xf32>, tensor<256x100xf32, #encoding.packed<bf16>>) -> tensor<?x256xf32>
  return
}

// -----

func.func @results(%x: tensor<?x640xf32>, %w: tensor<256x100xf32, #encoding.packed<bf16>>) {
  // expected-error@+1 {{expected results of 64 elements at multiples of 32 in a row of 256, found result_head 32}}
  %y = kernel.head_linear %x, %w heads 4 x_head 160 result_head 32 : (tensor<?x640xf32>, tensor<256x100xf32, #encoding.packed<bf16>>) -> tensor<?x256xf32>
  return
}

// -----

func.func @cache_kind(%x: tensor<?x256xf32>, %n: tensor<64xf32>, %t: tensor<?x32xf32>, %c: !kernel.cache<keys, 1 x 96>) {
  // expected-error@+1 {{expected a latent cache of one head}}
  %y = kernel.latent_cache %x, %n, %t, %c eps 1.0e-6 offset 0 : (tensor<?x256xf32>, tensor<64xf32>, tensor<?x32xf32>, !kernel.cache<keys, 1 x 96>) -> !kernel.cache<keys, 1 x 96>
  return
}

// -----

func.func @cache_size(%x: tensor<?x256xf32>, %n: tensor<33xf32>, %t: tensor<?x64xf32>, %c: !kernel.cache<latent, 1 x 96>) {
  // expected-error@+1 {{expected a cache of 128 elements}}
  %y = kernel.latent_cache %x, %n, %t, %c eps 1.0e-6 offset 0 : (tensor<?x256xf32>, tensor<33xf32>, tensor<?x64xf32>, !kernel.cache<latent, 1 x 96>) -> !kernel.cache<latent, 1 x 96>
  return
}

// -----

func.func @cache_offset(%x: tensor<?x128xf32>, %n: tensor<64xf32>, %t: tensor<?x32xf32>, %c: !kernel.cache<latent, 1 x 96>) {
  // expected-error@+1 {{expected 96 elements from a multiple of 32 on in a row of 128, found offset 64}}
  %y = kernel.latent_cache %x, %n, %t, %c eps 1.0e-6 offset 64 : (tensor<?x128xf32>, tensor<64xf32>, tensor<?x32xf32>, !kernel.cache<latent, 1 x 96>) -> !kernel.cache<latent, 1 x 96>
  return
}

// -----

func.func @rank(%a: tensor<?x256xf32>, %q: tensor<?x640xf32>, %t: tensor<?x32xf32>, %c: !kernel.cache<latent, 1 x 96>) {
  // expected-error@+1 {{expected a rank that is a multiple of 32, found 40}}
  %y = kernel.latent_attention %a, %q, %t, %c heads 4 rank 40 q_head 160 q_rope 128 result_head 128 scale 0.1 : (tensor<?x256xf32>, tensor<?x640xf32>, tensor<?x32xf32>, !kernel.cache<latent, 1 x 96>) -> tensor<?x512xf32>
  return
}

// -----

func.func @rotary(%a: tensor<?x256xf32>, %q: tensor<?x512xf32>, %t: tensor<?x32xf32>, %c: !kernel.cache<latent, 1 x 96>) {
  // expected-error@+1 {{expected rotary parts at multiples of 32 in a row of 512, found q_head 160 and q_rope 128}}
  %y = kernel.latent_attention %a, %q, %t, %c heads 4 rank 64 q_head 160 q_rope 128 result_head 128 scale 0.1 : (tensor<?x256xf32>, tensor<?x512xf32>, tensor<?x32xf32>, !kernel.cache<latent, 1 x 96>) -> tensor<?x512xf32>
  return
}

// -----

func.func @groups(%l: tensor<?x128xf32>) {
  // expected-error@+1 {{expected groups of at least two that divide the 8 experts, found 8}}
  %w, %i = kernel.moe_route %l experts 8 shared 0 top_k 2 groups 8 top_groups 2 scale 1.0 : tensor<?x128xf32> -> tensor<?x16xf32>, tensor<?x16xi32>
  return
}

// -----

func.func @top_k(%l: tensor<?x128xf32>) {
  // expected-error@+1 {{expected top_k of the experts of top_groups groups, found 3 and 1}}
  %w, %i = kernel.moe_route %l experts 8 shared 0 top_k 3 groups 4 top_groups 1 scale 1.0 : tensor<?x128xf32> -> tensor<?x16xf32>, tensor<?x16xi32>
  return
}

// -----

func.func @slots(%i: tensor<?x16xi32>) {
  // expected-error@+1 {{expected experts, and from 1 to 16 slots}}
  %l = kernel.moe_group %i : (tensor<?x16xi32>) -> !kernel.expert_lists<9, 17>
  return
}

// -----

func.func @up_rows(%x: tensor<?x128xf32>, %w: tensor<288x128xf32, #encoding.packed<bf16>>, %i: tensor<?x16xi32>, %l: !kernel.expert_lists<9, 3>) {
  // expected-error@+1 {{expected weight rows that are a multiple of 64 for each of 9 experts, found 288}}
  %y = kernel.moe_up %x, %w, %i, %l result_slot 128 : (tensor<?x128xf32>, tensor<288x128xf32, #encoding.packed<bf16>>, tensor<?x16xi32>, !kernel.expert_lists<9, 3>) -> tensor<?x384xf32>
  return
}

// -----

func.func @down_slot(%x: tensor<?x384xf32>, %d: tensor<1152x160xf32, #encoding.packed<bf16>>, %i: tensor<?x16xi32>, %s: tensor<?x16xf32>, %l: !kernel.expert_lists<9, 3>, %r: tensor<?x128xf32>) {
  // expected-error@+1 {{expected inputs of 160 elements at multiples of 32 in a row of 384, found x_slot 128}}
  %y = kernel.moe_down %x, %d, %i, %s, %l residual %r x_slot 128 : (tensor<?x384xf32>, tensor<1152x160xf32, #encoding.packed<bf16>>, tensor<?x16xi32>, tensor<?x16xf32>, !kernel.expert_lists<9, 3>, tensor<?x128xf32>) -> tensor<?x128xf32>
  return
}
