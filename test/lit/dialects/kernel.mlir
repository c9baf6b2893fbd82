// RUN: retort-opt %s | retort-opt | FileCheck %s

// Every op survives printing and parsing.

// CHECK: kernel.weight @qkv : tensor<64x100xf32, #encoding.packed<int4, 32, zero_points>>
kernel.weight @qkv : tensor<64x100xf32, #encoding.packed<int4, 32, zero_points>> rows [["q", 0, 64, 0]] cols [[0, 100, 0]]

// CHECK{LITERAL}: kernel.weight @interleaved : tensor<128x64xf32, #encoding.packed<bf16>> rows [["gate", 0, 64, 0, 64, 0, 0], ["up", 0, 64, 32, 64, 16, 1]] cols [[0, 64, 0]]
kernel.weight @interleaved : tensor<128x64xf32, #encoding.packed<bf16>> rows [["gate", 0, 64, 0, 64, 0, 0], ["up", 0, 64, 32, 64, 16, 1]] cols [[0, 64, 0]]

// CHECK{LITERAL}: kernel.weight @bias : tensor<128xf32> rows [["b", 0, 64, 32, 64, 0, 0]]
kernel.weight @bias : tensor<128xf32> rows [["b", 0, 64, 32, 64, 0, 0]]

// CHECK: kernel.entry @rms_norm tokens(many)
// CHECK: kernel.rms_norm %{{.*}}, %{{.*}} eps 9.9{{[0-9]*}}E-7 from_first_row
kernel.entry @rms_norm tokens(many) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<100xf32>):
  %y = kernel.rms_norm %x, %w eps 1.0e-6 from_first_row : (tensor<?x128xf32>, tensor<100xf32>) -> tensor<?x128xf32>
}

// CHECK: kernel.entry @gate_up tokens(one)
// CHECK: kernel.linear %{{.*}}, %{{.*}} bias %{{.*}} : tensor<64xf32> epilogue swiglu
kernel.entry @gate_up tokens(one) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<64x100xf32, #encoding.packed<int8, 128>>, %b: tensor<64xf32>):
  %y = kernel.linear %x, %w bias %b : tensor<64xf32> epilogue swiglu : (tensor<?x128xf32>, tensor<64x100xf32, #encoding.packed<int8, 128>>) -> tensor<?x128xf32>
}

// CHECK: kernel.rope_table
kernel.entry @rope_table tokens(one) {
^bb0(%f: tensor<16xf64>):
  %y = kernel.rope_table %f scale 1.0 : (tensor<16xf64>) -> tensor<?x32xf32>
}

// CHECK: kernel.rope_cache {{.*}} heads 2
kernel.entry @rope_cache tokens(one) {
^bb0(%x: tensor<?x128xf32>, %t: tensor<?x32xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 32>):
  %q, %nk, %nv = kernel.rope_cache %x, %t, %k, %v heads 2 : (tensor<?x128xf32>, tensor<?x32xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>)
}

// CHECK: kernel.attention {{.*}} heads 2 scale 2.500000e-01
kernel.entry @attention tokens(many) {
^bb0(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 32>):
  %y = kernel.attention %q, %k, %v heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> tensor<?x128xf32>
}

// CHECK: !kernel.cache<keys, 1 x 32, int8>, %{{.*}}: !kernel.cache<values, 1 x 32, int8>, %{{.*}}: !kernel.partials<4, 1 x 2 x 32>
// CHECK: kernel.attention %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} heads 2
kernel.entry @split_attention tokens(one) {
^bb0(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32, int8>, %v: !kernel.cache<values, 1 x 32, int8>, %p: !kernel.partials<4, 1 x 2 x 32>):
  %y = kernel.attention %q, %k, %v, %p heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32, int8>, !kernel.cache<values, 1 x 32, int8>, !kernel.partials<4, 1 x 2 x 32>) -> tensor<?x128xf32>
}
