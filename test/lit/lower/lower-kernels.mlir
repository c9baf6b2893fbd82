// RUN: retort-opt --lower-kernels --split-input-file %s | FileCheck %s

// An entry becomes a function over flat memory: operands, results, scratch,
// scalars, tile. Weights have their packed size in bytes.
// CHECK-LABEL: func.func @embed(
// CHECK-SAME: %[[TOKENS:.*]]: memref<1099511627776xi32>, %{{.*}}: memref<16384xi8>, %{{.*}}: memref<1099511627776xf32>, %{{.*}}: memref<64xi8>,
// CHECK-SAME: %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %[[TILE:.*]]: index)
// CHECK: memref.load %[[TOKENS]][%[[TILE]]]
kernel.entry @embed tokens(one) {
^bb0(%t: tensor<?xi32>, %w: tensor<64x100xf32, #encoding.packed<bf16>>):
  %y = kernel.embed %t, %w : (tensor<?xi32>, tensor<64x100xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
}

// -----

// One token: int4 quants are masked where they are, converted and multiplied by
// activations that make up for their places.
// CHECK-LABEL: func.func @one(
// CHECK: arith.mulf %{{.*}}, %{{.*}} : vector<8xf32>
// CHECK: scf.for
// CHECK: scf.for
// CHECK: scf.for
// CHECK: %[[WORDS:.*]] = vector.bitcast %{{.*}} : vector<32xi8> to vector<8xi32>
// CHECK: %[[Q:.*]] = arith.andi
// CHECK: %[[F:.*]] = arith.sitofp %[[Q]] : vector<8xi32> to vector<8xf32>
// CHECK: math.fma %[[F]]
kernel.entry @one tokens(one) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<64x100xf32, #encoding.packed<int4, 32>>):
  %y = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<64x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
}

// -----

// Many tokens: twelve accumulators, four registers of rows by three tokens. The
// residual is an operand before the result, which may be the same memory.
// CHECK-LABEL: func.func @many(
// CHECK-SAME: memref<1099511627776xf32>, %{{.*}}: memref<8192xi8>, %{{.*}}: memref<64xf32>, %[[RESIDUAL:.*]]: memref<1099511627776xf32>, %[[RESULT:.*]]: memref<1099511627776xf32>, %{{.*}}: memref<28672xi8>
// CHECK: iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>)
// CHECK: vector.load %[[RESIDUAL]]
// CHECK: vector.store %{{.*}}, %[[RESULT]]
kernel.entry @many tokens(many) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<64x50xf32, #encoding.packed<f16>>, %b: tensor<64xf32>, %r: tensor<?x128xf32>):
  %y = kernel.linear %x, %w bias %b : tensor<64xf32> residual %r : tensor<?x128xf32>
      : (tensor<?x128xf32>, tensor<64x50xf32, #encoding.packed<f16>>) -> tensor<?x128xf32>
}
