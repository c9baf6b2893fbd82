//===- Codegen.h - From kernel entries to machine code ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Compiles the `kernel.entry` ops of a module to a shared object for a CPU
/// target: lowering (compiler/lower), LLVM, LLD. Entries are compiled in
/// parallel, each in a context of its own; the bytes do not depend on the
/// number of threads.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CODEGEN_CODEGEN_H
#define RETORT_COMPILER_CODEGEN_CODEGEN_H

#include "compiler/targets/Target.h"
#include "runtime/support/Status.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

#include <string>
#include <vector>

namespace retort {

/// After this pipeline a module of kernel entries is in the LLVM dialect, with
/// an exported function of type retort_kernel_fn per entry.
void buildLowerToLLVMPipeline(mlir::OpPassManager &pm, const Target &target);

/// Registers every dialect and interface that kernel entries and their lowering
/// need.
void registerCodegenDialects(mlir::DialectRegistry &registry);

/// An ELF shared object that imports nothing and exports one function per
/// `kernel.entry` of `module`. Other ops of the module are ignored. Errors:
/// Unsupported where an entry cannot be lowered, Internal where LLVM or the
/// linker refuse their input, Io where temporary files cannot be written.
Result<std::vector<char>> compileToSharedObject(mlir::ModuleOp module,
                                                const Target &target,
                                                unsigned threads);

enum class TextForm { Vector, LLVMDialect, LLVMIR, Assembly };

/// The module's entries as text, at one of the stages of their compilation.
Result<std::string> dumpCode(mlir::ModuleOp module, const Target &target,
                             TextForm form);

} // namespace retort

#endif // RETORT_COMPILER_CODEGEN_CODEGEN_H
