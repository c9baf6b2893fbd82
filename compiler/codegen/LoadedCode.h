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
#include <utility>

namespace retort {

class LoadedCode {
public:
  static Result<LoadedCode> load(std::span<const char> object);
  LoadedCode(LoadedCode &&other) noexcept
      : handle(std::exchange(other.handle, nullptr)),
        fd(std::exchange(other.fd, -1)) {}
  LoadedCode &operator=(LoadedCode &&) = delete;
  ~LoadedCode();

  /// The kernel of that name, or null.
  retort_kernel_fn find(const std::string &symbol) const;

private:
  LoadedCode(void *handle, int fd) : handle(handle), fd(fd) {}
  void *handle;
  /// Kept open: dlopen knows objects by path, and the path holds this number.
  int fd;
};

} // namespace retort

#endif // RETORT_COMPILER_CODEGEN_LOADEDCODE_H
