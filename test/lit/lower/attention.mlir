// RUN: retort-opt --lower-kernels --split-input-file %s | FileCheck %s

// Many tokens: keys and values are multiplied in register tiles of six rows by
// two registers, nothing is prefetched, and exponentials are polynomials.
// CHECK-LABEL: func.func @many(
// CHECK-SAME: %[[Q:[^:]*]]: memref<1099511627776xf32>, %[[KEYS:[^:]*]]: memref<1099511627776xf32>, %[[VALUES:[^:]*]]: memref<1099511627776xf32>, %[[RESULT:[^:]*]]: memref<1099511627776xf32>
// CHECK-NOT: memref.prefetch
// CHECK-NOT: math.exp
// CHECK: vector.load %[[Q]]
// CHECK: iter_args({{(%[^,]*, ){11}%[^,]*}}) -> (vector<8xf32>
// CHECK: vector.load %[[KEYS]]
// CHECK: arith.cmpi slt, %{{.*}} : vector<8xi32>
// CHECK: iter_args({{(%[^,]*, ){11}%[^,]*}}) -> (vector<8xf32>
// CHECK: vector.load %[[VALUES]]
// CHECK: vector.store %{{.*}}, %[[RESULT]]
kernel.entry @many tokens(many) {
^bb0(%q: tensor<?x768xf32>, %k: !kernel.cache<keys, 2 x 64>, %v: !kernel.cache<values, 2 x 64>):
  %y = kernel.attention %q, %k, %v heads 12 scale 0.125
      : (tensor<?x768xf32>, !kernel.cache<keys, 2 x 64>, !kernel.cache<values, 2 x 64>) -> tensor<?x768xf32>
}

// -----

// One token: seven heads of a group make two register tiles of four rows. The
// product with keys prefetches values and the other way round.
// CHECK-LABEL: func.func @one(
// CHECK-SAME: %{{[^:]*}}: memref<1099511627776xf32>, %[[KEYS:[^:]*]]: memref<1099511627776xf32>, %[[VALUES:[^:]*]]: memref<1099511627776xf32>
// CHECK: iter_args({{(%[^,]*, ){7}%[^,]*}}) -> (vector<8xf32>
// CHECK: memref.prefetch %[[VALUES]]
// CHECK: vector.load %[[KEYS]]
// CHECK: iter_args({{(%[^,]*, ){7}%[^,]*}}) -> (vector<8xf32>
// CHECK: memref.prefetch %[[KEYS]]
// CHECK: vector.load %[[VALUES]]
kernel.entry @one tokens(one) {
^bb0(%q: tensor<?x896xf32>, %k: !kernel.cache<keys, 2 x 64>, %v: !kernel.cache<values, 2 x 64>):
  %y = kernel.attention %q, %k, %v heads 14 scale 0.125
      : (tensor<?x896xf32>, !kernel.cache<keys, 2 x 64>, !kernel.cache<values, 2 x 64>) -> tensor<?x896xf32>
}
