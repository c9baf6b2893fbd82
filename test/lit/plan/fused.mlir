// RUN: retort-opt --plan-program %s | FileCheck %s

// A norm that one linear takes is part of its launch for one token; a rope_cache
// is part of that of the linear whose heads it takes, but not for few tokens,
// which may be of several sequences. A norm with two readers stays.

kernel.weight @embed : tensor<128x128xf32, #encoding.packed<bf16>> rows [["e", 0, 128, 0]] cols [[0, 128, 0]]
kernel.weight @qkv : tensor<128x128xf32, #encoding.packed<bf16>> rows [["q", 0, 128, 0]] cols [[0, 128, 0]]
kernel.weight @norm : tensor<128xf32> rows [["n", 0, 128, 0]]
kernel.weight @frequencies : tensor<16xf64> literal [1.0, 0.5, 0.25, 0.125, 1.0, 0.5, 0.25, 0.125, 1.0, 0.5, 0.25, 0.125, 1.0, 0.5, 0.25, 0.125]

// The norm's input is read when the queries are written: three buffers.
// CHECK: program.buffer @[[X:row_[0-9]+]]
// CHECK: program.phase @body_one
// CHECK-NEXT: program.launch @embed_0 [@tokens, @embed, @[[X]]]
// CHECK-NEXT: program.launch @rope_table_0
// CHECK-NEXT: program.launch @fused_0_one [@[[X]], @norm, @qkv, @{{row_[0-9]+}}, @layers.0.keys, @layers.0.values, @[[Q:row_[0-9]+]]] tiles 4 {{.*}} layer 0 label "linear qkv" weight_bytes 32768 {{.*}} reads_position
// CHECK-NEXT: program.launch @attention_0_one [@[[Q]],
// CHECK-NEXT: program.launch @rms_norm_0
// CHECK-NEXT: program.launch @linear_{{[0-9]+}}_one
// CHECK-NEXT: program.launch @linear_{{[0-9]+}}_one
// CHECK-NEXT: }
// CHECK: program.phase @body_few
// CHECK-NEXT: program.launch @embed_0
// CHECK-NEXT: program.launch @rope_table_0
// CHECK-NEXT: program.launch @rms_norm_0
// CHECK-NEXT: program.launch @linear_{{[0-9]+}}_few {{.*}} label "linear qkv"
// CHECK-NEXT: program.launch @rope_cache_0
// CHECK-NEXT: program.launch @attention_0_one
// CHECK-NEXT: program.launch @rms_norm_0
// CHECK-NEXT: program.launch @linear_{{[0-9]+}}_few
// CHECK-NEXT: program.launch @linear_{{[0-9]+}}_few
// CHECK-NEXT: }
// CHECK: program.phase @body_many
// CHECK-NEXT: program.launch @embed_0
// CHECK-NEXT: program.launch @rope_table_0
// CHECK-NEXT: program.launch @rms_norm_0
// CHECK-NEXT: program.launch @fused_{{[0-9]}}_many {{.*}} label "linear qkv" {{.*}} reads_position
// CHECK-NEXT: program.launch @attention_{{[0-9]}}_many
// CHECK-NEXT: program.launch @rms_norm_0
// CHECK-NEXT: program.launch @linear_{{[0-9]+}}_many
// CHECK-NEXT: program.launch @linear_{{[0-9]+}}_many
// CHECK-NEXT: }
// CHECK: program.phase @head_one
// CHECK-NEXT: program.launch @fused_{{[0-9]}}_one [@hidden, @norm, @embed, @logits] {{.*}} label "linear head"
// CHECK-NEXT: }
// CHECK: program.phase @head_few
// CHECK-NEXT: program.launch @rms_norm_1
// CHECK-NEXT: program.launch @linear_
func.func @body(%tokens: tensor<?xi32>) -> tensor<?x128xf32> {
  %f = kernel.load_weight @frequencies : tensor<16xf64>
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %x = kernel.embed %tokens, %w : (tensor<?xi32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  %t = kernel.rope_table %f scale 1.0 : (tensor<16xf64>) -> tensor<?x32xf32>
  %n = kernel.load_weight @norm : tensor<128xf32>
  %h = kernel.rms_norm %x, %n eps 1.0e-3 {kernel.label = "rms_norm", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
  %qkv = kernel.load_weight @qkv : tensor<128x128xf32, #encoding.packed<bf16>>
  %y = kernel.linear %h, %qkv {kernel.label = "linear qkv", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  %k = kernel.load_cache 0 : !kernel.cache<keys, 1 x 32>
  %v = kernel.load_cache 0 : !kernel.cache<values, 1 x 32>
  %q, %nk, %nv = kernel.rope_cache %y, %t, %k, %v heads 2 {kernel.label = "rope_cache", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<?x32xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>)
  %a = kernel.attention %q, %nk, %nv heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> tensor<?x128xf32>
  %m = kernel.rms_norm %a, %n eps 1.0e-3 : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
  %b = kernel.linear %m, %qkv : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  %c = kernel.linear %m, %qkv residual %b : tensor<?x128xf32> : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %c : tensor<?x128xf32>
}
func.func @head(%x: tensor<?x128xf32>) -> tensor<?x128xf32> {
  %n = kernel.load_weight @norm : tensor<128xf32>
  %h = kernel.rms_norm %x, %n eps 1.0e-3 from_first_row {kernel.label = "rms_norm"} : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %l = kernel.linear %h, %w {kernel.label = "linear head"} : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %l : tensor<?x128xf32>
}
