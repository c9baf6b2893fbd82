//===- CodeModule.h - Kernels of an artifact, callable ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Brings an artifact's code section into the process. The ELF object goes
/// through a sealed memory file to the dynamic linker, so nothing is written to
/// disk and nobody can change it in between.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_CODEMODULE_H
#define RETORT_RUNTIME_LOADER_CODEMODULE_H

#include "runtime/abi/Kernel.h"
#include "runtime/loader/Artifact.h"

#include <string>
#include <string_view>
#include <vector>

namespace retort {

/// Loaded code; the kernels are callable while the object lives.
class CodeModule {
public:
  /// Chooses the best target for this machine, or the one named `wanted`, and
  /// loads its code. Errors: Incompatible if no target fits, InvalidData if the
  /// object is malformed, imports something or lacks a kernel.
  static Result<CodeModule> load(const Artifact &artifact,
                                 std::string_view wanted = {});
  CodeModule(CodeModule &&other) noexcept;
  CodeModule &operator=(CodeModule &&other) noexcept;
  ~CodeModule();

  /// The function of kernel `i` of the program.
  retort_kernel_fn kernel(uint32_t i) const { return kernels[i]; }
  /// Name of the target whose code was loaded.
  const std::string &target() const { return name; }

private:
  CodeModule() = default;
  int fd = -1; ///< kept open: the linker knows the object by its number
  void *handle = nullptr;
  std::string name;
  std::vector<retort_kernel_fn> kernels;
};

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_CODEMODULE_H
