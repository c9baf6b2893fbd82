// RUN: retort-opt --lower-kernels --split-input-file --verify-diagnostics %s | FileCheck %s

// Angles are in turns and in f64, four lanes to a register of eight f32.
// CHECK-LABEL: func.func @table(
// CHECK-SAME: %[[F:.*]]: memref<16xf64>
// CHECK: %[[FREQUENCY:.*]] = vector.load %[[F]]
// CHECK: arith.divf %[[FREQUENCY]], %{{.*}} : vector<4xf64>
// CHECK: math.fma %{{.*}} : vector<4xf64>
// CHECK: arith.truncf %{{.*}} : vector<4xf64> to vector<4xf32>
kernel.entry @table tokens(many) {
^bb0(%f: tensor<16xf64>):
  %y = kernel.rope_table %f scale 1.0 : (tensor<16xf64>) -> tensor<?x32xf32>
}

// -----

// Keys go through scratch and scatter over their block, values stay together. The
// caches are arguments once, though the launch returns them.
// CHECK-LABEL: func.func @cache(
// CHECK-SAME: %[[QKV:[^:]*]]: memref<1099511627776xf32>, %[[TABLE:[^:]*]]: memref<1099511627776xf32>, %[[KEYS:[^:]*]]: memref<1099511627776xf32>, %[[VALUES:[^:]*]]: memref<1099511627776xf32>, %[[Q:[^:]*]]: memref<1099511627776xf32>, %{{.*}}: memref<128xi8>
// CHECK: vector.store %{{.*}}, %[[Q]]
// CHECK-COUNT-8: memref.store %{{.*}}, %[[KEYS]]
// CHECK: vector.store %{{.*}}, %[[VALUES]]
kernel.entry @cache tokens(one) {
^bb0(%x: tensor<?x128xf32>, %t: tensor<?x32xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 32>):
  %q, %nk, %nv = kernel.rope_cache %x, %t, %k, %v heads 2
      : (tensor<?x128xf32>, tensor<?x32xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>)
      -> (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>)
}

// -----

kernel.entry @f32_table tokens(one) {
^bb0(%f: tensor<16xf32>):
  // expected-error@+1 {{expected frequencies of f64, found 'tensor<16xf32>'}}
  %y = kernel.rope_table %f scale 1.0 : (tensor<16xf32>) -> tensor<?x32xf32>
}
