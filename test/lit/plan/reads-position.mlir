// RUN: retort-opt --plan-program %s | FileCheck %s

kernel.weight @embed : tensor<128x128xf32, #encoding.packed<bf16>> rows [["e", 0, 128, 0]] cols [[0, 128, 0]]
kernel.weight @frequencies : tensor<16xf64> literal [1.0, 0.5, 0.25, 0.125, 1.0, 0.5, 0.25, 0.125, 1.0, 0.5, 0.25, 0.125, 1.0, 0.5, 0.25, 0.125]

// Launches that depend on positions or caches are told from those that take the
// rows of several sequences as they come, in phases for a few tokens too.
// CHECK: program.phase @body_few body tokens(2, 8)
// CHECK-NEXT: program.launch @embed_0 {{.*}} bytes_per_token {{[0-9]+$}}
// CHECK-NEXT: program.launch @rope_table_0 {{.*}} reads_position
// CHECK-NEXT: program.launch @rope_cache_0 {{.*}} reads_position
// CHECK-NEXT: program.launch @attention_0_one {{.*}} reads_position
// CHECK-NEXT: }
// CHECK: program.phase @head_few
// CHECK-NOT: reads_position
// CHECK: program.phase
func.func @body(%tokens: tensor<?xi32>) -> tensor<?x128xf32> {
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %x = kernel.embed %tokens, %w : (tensor<?xi32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  %f = kernel.load_weight @frequencies : tensor<16xf64>
  %t = kernel.rope_table %f scale 1.0 : (tensor<16xf64>) -> tensor<?x32xf32>
  %k = kernel.load_cache 0 : !kernel.cache<keys, 1 x 32>
  %v = kernel.load_cache 0 : !kernel.cache<values, 1 x 32>
  %q, %nk, %nv = kernel.rope_cache %x, %t, %k, %v heads 2 : (tensor<?x128xf32>, tensor<?x32xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>)
  %y = kernel.attention %q, %nk, %nv heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> tensor<?x128xf32>
  return %y : tensor<?x128xf32>
}
func.func @head(%x: tensor<?x128xf32>) -> tensor<?x128xf32> {
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %l = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %l : tensor<?x128xf32>
}
