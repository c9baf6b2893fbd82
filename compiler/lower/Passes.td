//===- Passes.td - Lowering passes -------------------------*- tablegen -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_PASSES_TD
#define RETORT_COMPILER_LOWER_PASSES_TD

include "mlir/Pass/PassBase.td"

def LowerKernelsPass : Pass<"lower-kernels", "::mlir::ModuleOp"> {
  let summary = "Emit each kernel.entry as loops over vectors";
  let description = [{
    Every `kernel.entry` becomes a function over flat memory: the launch's
    operands, its results that are not caches (those are written where they are
    read), the scratch, then the scalars of `runtime/abi/Kernel.h` and the tile.
    Encoded weights and scratch are bytes of their real size; other buffers have
    a nominal size, so that they lower to bare pointers, quantized activations as
    bytes.
    ```
    kernel.entry @embed tokens(one) {
    ^bb0(%t: tensor<?xi32>, %w: tensor<64x100xf32, #encoding.packed<bf16>>):
      %y = kernel.embed %t, %w : (...) -> tensor<?x128xf32>
    }
    ```
    becomes
    ```
    func.func @embed(%t: memref<1099511627776xi32>, %w: memref<16384xi8>,
                     %y: memref<1099511627776xf32>, %scratch: memref<64xi8>,
                     %n_tokens: index, %position: index, %first_row: index,
                     %tile: index) {
      scf.for ...
    ```
    What the tile covers is `getTiling` of `compiler/lower/Tiling.h`.
  }];
  let options = [Option<"targetName", "target", "std::string", "\"x86-64-v3\"",
                        "the CPU target whose registers the code is made for">];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect",
    "::mlir::LLVM::LLVMDialect"];
}

def ExportKernelsPass : Pass<"export-kernels", "::mlir::ModuleOp"> {
  let summary = "Give each lowered kernel its C entry point";
  let description = [{
    Runs when functions are in the LLVM dialect. Every `llvm.func` that takes
    pointers and five scalars (see `lower-kernels`) becomes internal, and a
    function of type `retort_kernel_fn` (`runtime/abi/Kernel.h`) under its name
    loads the pointers and scalars and calls it.
    ```
    llvm.func @embed(%t: !llvm.ptr, %w: !llvm.ptr, %y: !llvm.ptr, %scratch: !llvm.ptr,
                     %n_tokens: i64, %position: i64, %first_row: i64, %tile: i64)
    ```
    becomes
    ```
    llvm.func internal @embed.body(...)
    llvm.func @embed(%args: !llvm.ptr, %scalars: !llvm.ptr, %scratch: !llvm.ptr, %tile: i64) {
      ...
      llvm.call @embed.body(...)
    ```
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

#endif // RETORT_COMPILER_LOWER_PASSES_TD
