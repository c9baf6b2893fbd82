// A kernel entry and the function over vectors that it becomes, as
// docs/pipeline.md shows them.

// RUN: retort-opt --lower-kernels="target=x86-64-v3" --canonicalize --cse %s | FileCheck %s

// doc: before
kernel.entry @rms_norm tokens(one) {
^bb0(%x: tensor<?x128xf32>, %weight: tensor<128xf32>):
  %y = kernel.rms_norm %x, %weight eps 1.0e-3 : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
}
// doc: end

// doc: after
// CHECK: func.func @rms_norm(%arg0: memref<1099511627776xf32>, %arg1: memref<128xf32>, %arg2: memref<1099511627776xf32>, %arg3: memref<64xi8>, %arg4: index, %arg5: index, %arg6: index, %arg7: index) {
//   ...
// CHECK:     %4:4 = scf.for %arg9 = %c0 to %c128 step %c32 iter_args(%arg10 = %cst_2, %arg11 = %cst_2, %arg12 = %cst_2, %arg13 = %cst_2) -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>) {
// CHECK-NEXT:       %25 = arith.addi %3, %arg9 : index
// CHECK-NEXT:       %26 = vector.load %arg0[%25] {alignment = 32 : i64} : memref<1099511627776xf32>, vector<8xf32>
// CHECK-NEXT:       %27 = math.fma %26, %26, %arg10 : vector<8xf32>
// CHECK-NEXT:       %28 = arith.addi %25, %c8 : index
// CHECK-NEXT:       %29 = vector.load %arg0[%28] {alignment = 32 : i64} : memref<1099511627776xf32>, vector<8xf32>
// CHECK-NEXT:       %30 = math.fma %29, %29, %arg11 : vector<8xf32>
//       ...
// doc: end
