//===- LoadedCode.h - Run compiled kernels in this process ------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Loads a shared object of `compileToSharedObject` into the compiler's own
/// process, for tests and measurements.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CODEGEN_LOADEDCODE_H
#define RETORT_COMPILER_CODEGEN_LOADEDCODE_H

#include "runtime/abi/Kernel.h"
#include "runtime/support/Status.h"

#include <span>
#include <string>

namespace retort {

class LoadedCode {
public:
  static Result<LoadedCode> load(std::span<const char> object);
  LoadedCode(LoadedCode &&other) noexcept : handle(other.handle) {
    other.handle = nullptr;
  }
  LoadedCode &operator=(LoadedCode &&) = delete;
  ~LoadedCode();

  /// The kernel of that name, or null.
  retort_kernel_fn find(const std::string &symbol) const;

private:
  explicit LoadedCode(void *handle) : handle(handle) {}
  void *handle;
};

} // namespace retort

#endif // RETORT_COMPILER_CODEGEN_LOADEDCODE_H
