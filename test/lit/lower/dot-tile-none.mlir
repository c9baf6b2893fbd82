// RUN: retort-opt --lower-kernels=target=x86-64-amx %s | FileCheck %s --implicit-check-not=llvm.x86.t
// RUN: retort-opt --lower-kernels=target=aarch64-i8mm %s | FileCheck %s --check-prefixes=CHECK,I8MM

// A few tokens don't fill the rows of AMX's tiles; they do those of smmla.
// CHECK-LABEL: func.func @few
// I8MM: llvm.aarch64.neon.smmla
kernel.entry @few tokens(few) {
^bb0(%x: tensor<?x128xf32, #encoding.activation<int8, 32>>, %w: tensor<64x128xf32, #encoding.packed<int4, 32>>):
  %y = kernel.linear %x, %w : (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<64x128xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
}

// Inputs in f32 are multiplied in f32, whatever the weights are.
// CHECK-LABEL: func.func @plain
// I8MM-NOT: mmla
// CHECK: math.fma
kernel.entry @plain tokens(many) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<64x128xf32, #encoding.packed<int8, 32>>):
  %y = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<64x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x128xf32>
}

// So are weights in bf16: rounding the inputs to it would cost too much.
// CHECK-LABEL: func.func @bf16
// CHECK: math.fma
kernel.entry @bf16 tokens(many) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<64x128xf32, #encoding.packed<bf16>>):
  %y = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<64x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
}
