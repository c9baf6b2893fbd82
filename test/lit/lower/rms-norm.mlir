// RUN: retort-opt --lower-kernels --split-input-file --verify-diagnostics %s | FileCheck %s

// Four chains of squares, then the inverse root in f64; the width is whole
// vectors, and what lies beyond is cleared.
// CHECK-LABEL: func.func @norm(
// CHECK-SAME: %[[X:.*]]: memref<1099511627776xf32>, %[[W:.*]]: memref<96xf32>, %[[Y:.*]]: memref<1099511627776xf32>, %{{.*}}: memref<64xi8>, %{{.*}}: index, %{{.*}}: index, %[[FIRST:.*]]: index, %{{.*}}: index)
// CHECK-NOT: %[[FIRST]]
// CHECK: iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>)
// CHECK: math.sqrt %{{.*}} : f64
// CHECK: vector.load %[[W]]
// CHECK: vector.store %{{.*}}, %[[Y]]
// CHECK: vector.store %{{.*}}, %[[Y]]
kernel.entry @norm tokens(many) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<96xf32>):
  %y = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<96xf32>) -> tensor<?x128xf32>
}

// -----

// The last elements of an odd width go one by one.
// CHECK-LABEL: func.func @odd_from_first_row(
// CHECK-SAME: %{{.*}}: index, %{{.*}}: index, %[[FIRST:.*]]: index, %{{.*}}: index)
// CHECK: arith.addi %{{.*}}, %[[FIRST]]
// CHECK: memref.load %{{.*}} : memref<9xf32>
kernel.entry @odd_from_first_row tokens(one) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<9xf32>):
  %y = kernel.rms_norm %x, %w eps 1.0e-6 from_first_row : (tensor<?x128xf32>, tensor<9xf32>) -> tensor<?x128xf32>
}

// -----

kernel.entry @f64_weight tokens(one) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<128xf64>):
  // expected-error@+1 {{expected a weight of f32, found 'tensor<128xf64>'}}
  %y = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<128xf64>) -> tensor<?x128xf32>
}
