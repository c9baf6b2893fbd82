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

// -----

// With partials, one token's tiles of a head count themselves, and the last one
// puts the parts together. Elements of f16 become f32 as they are loaded.
// CHECK-LABEL: func.func @split(
// CHECK-SAME: %{{[^:]*}}: memref<1099511627776xf32>, %[[KEYS:[^:]*]]: memref<1099511627776xf16>, %[[VALUES:[^:]*]]: memref<1099511627776xf16>, %[[PARTS:[^:]*]]: memref<{{[0-9]+}}xi8>
// CHECK: vector.load %[[KEYS]]{{.*}} vector<8xf16>
// CHECK: arith.extf {{.*}} vector<8xf16> to vector<8xf32>
// CHECK: vector.load %[[VALUES]]{{.*}} vector<8xf16>
// CHECK: memref.view %[[PARTS]]
// CHECK: memref.atomic_rmw addi
kernel.entry @split tokens(one) {
^bb0(%q: tensor<?x896xf32>, %k: !kernel.cache<keys, 2 x 64, f16>, %v: !kernel.cache<values, 2 x 64, f16>, %p: !kernel.partials<4, 2 x 7 x 64>):
  %y = kernel.attention %q, %k, %v, %p heads 14 scale 0.125
      : (tensor<?x896xf32>, !kernel.cache<keys, 2 x 64, f16>, !kernel.cache<values, 2 x 64, f16>, !kernel.partials<4, 2 x 7 x 64>) -> tensor<?x896xf32>
}

// -----

// Many tokens never count.
// CHECK-LABEL: func.func @many_of_int8(
// CHECK-NOT: memref.atomic_rmw
// CHECK: arith.sitofp
kernel.entry @many_of_int8 tokens(many) {
^bb0(%q: tensor<?x896xf32>, %k: !kernel.cache<keys, 2 x 64, int8>, %v: !kernel.cache<values, 2 x 64, int8>, %p: !kernel.partials<4, 2 x 7 x 64>):
  %y = kernel.attention %q, %k, %v, %p heads 14 scale 0.125
      : (tensor<?x896xf32>, !kernel.cache<keys, 2 x 64, int8>, !kernel.cache<values, 2 x 64, int8>, !kernel.partials<4, 2 x 7 x 64>) -> tensor<?x896xf32>
}
