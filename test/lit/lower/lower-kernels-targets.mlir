// RUN: retort-opt --lower-kernels=target=x86-64-v4 %s | FileCheck %s --check-prefix=V4
// RUN: retort-opt --lower-kernels=target=aarch64 %s | FileCheck %s --check-prefix=ARM

// Registers and their number come from the target's table.
// V4-LABEL: func.func @k
// V4: math.fma {{.*}} : vector<16xf32>
// ARM-LABEL: func.func @k
// ARM: math.fma {{.*}} : vector<4xf32>
kernel.entry @k tokens(many) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<64x64xf32, #encoding.packed<int8, 64>>):
  %y = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<64x64xf32, #encoding.packed<int8, 64>>) -> tensor<?x128xf32>
}
