// RUN: retort-opt --lower-kernels=target=x86-64-amx %s | FileCheck %s --check-prefix=AMX
// RUN: retort-opt --lower-kernels=target=aarch64-i8mm %s | FileCheck %s --check-prefix=I8MM
// RUN: retort-opt --lower-kernels=target=aarch64 %s | FileCheck %s --check-prefix=ARM
// RUN: retort-opt --lower-kernels=target=x86-64-v4 %s | FileCheck %s --check-prefix=V4

// Many tokens meet a strip's rows in the target's instructions for matrices:
// two tiles of rows by two of tokens with AMX, two rows by two tokens with
// smmla. Where there are none, words of four columns meet lanes of rows.
// AMX-LABEL: func.func @int4_many
// AMX-COUNT-2: llvm.x86.tileloadd64.internal
// AMX: llvm.x86.tileloadd64.internal
// AMX: llvm.x86.tilezero.internal
// AMX: llvm.x86.tdpbssd.internal
// AMX: llvm.x86.tilestored64.internal
// AMX-COUNT-3: llvm.x86.tdpbssd.internal
// AMX-NOT: llvm.x86.tdpbssd.internal
// AMX-NOT: llvm.x86.avx512.vpdpbusd
// I8MM-LABEL: func.func @int4_many
// I8MM-COUNT-128: llvm.aarch64.neon.smmla.v4i32.v16i8
// I8MM-NOT: llvm.aarch64.neon.{{smmla|usmmla|sdot}}
// ARM-LABEL: func.func @int4_many
// ARM-NOT: smmla
// ARM: llvm.aarch64.neon.sdot.v4i32.v16i8
// V4-LABEL: func.func @int4_many
// V4-NOT: tdp
// V4: llvm.x86.avx512.vpdpbusd.512
kernel.entry @int4_many tokens(many) {
^bb0(%x: tensor<?x128xf32, #encoding.activation<int8, 32>>, %w: tensor<64x128xf32, #encoding.packed<int4, 32>>):
  %y = kernel.linear %x, %w : (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<64x128xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
}

// 16-bit inputs are 256 times their high bytes and their low ones, which have
// no sign. Without an instruction for these, they are less 128, and the
// weights are summed once for all tokens.
// AMX-LABEL: func.func @int8_many
// AMX-COUNT-2: llvm.x86.tdpbssd.internal
// AMX-COUNT-2: llvm.x86.tdpbusd.internal
// AMX-NOT: llvm.x86.tdp
// I8MM-LABEL: func.func @int8_many
// I8MM-COUNT-64: llvm.aarch64.neon.smmla.v4i32.v16i8
// I8MM-COUNT-64: llvm.aarch64.neon.usmmla.v4i32.v16i8
// ARM-LABEL: func.func @int8_many
// ARM: arith.constant dense<-128> : vector<32xi8>
// ARM: llvm.aarch64.neon.sdot.v4i32.v16i8
// ARM-NOT: usdot
// V4-LABEL: func.func @int8_many
// V4: llvm.x86.avx512.vpdpwssd.512
kernel.entry @int8_many tokens(many) {
^bb0(%x: tensor<?x128xf32, #encoding.activation<int16, 32>>, %w: tensor<64x128xf32, #encoding.packed<int8, 32>>):
  %y = kernel.linear %x, %w : (tensor<?x128xf32, #encoding.activation<int16, 32>>, tensor<64x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x128xf32>
}

// One token reads memory, not tiles: bytes by bytes, in lanes of rows.
// AMX-LABEL: func.func @int8_one
// AMX-NOT: llvm.x86.t
// AMX: llvm.x86.avx512.vpdpwssd.512
// I8MM-LABEL: func.func @int8_one
// I8MM-NOT: mmla
// I8MM: llvm.aarch64.neon.sdot.v4i32.v16i8
// I8MM: llvm.aarch64.neon.usdot.v4i32.v16i8
// ARM-LABEL: func.func @int8_one
// ARM-NOT: usdot
// ARM: llvm.aarch64.neon.sdot.v4i32.v16i8
kernel.entry @int8_one tokens(one) {
^bb0(%x: tensor<?x128xf32, #encoding.activation<int16, 32>>, %w: tensor<64x128xf32, #encoding.packed<int8, 32>>):
  %y = kernel.linear %x, %w : (tensor<?x128xf32, #encoding.activation<int16, 32>>, tensor<64x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x128xf32>
}
