//===- Link.h - Link objects with LLD ---------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// LLD as a library.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CODEGEN_LINK_H
#define RETORT_COMPILER_CODEGEN_LINK_H

#include "runtime/support/Status.h"

#include "llvm/ADT/ArrayRef.h"

#include <string>
#include <vector>

namespace retort {

/// Links relocatable objects to a shared object without undefined symbols.
Result<std::vector<char>> linkSharedObject(llvm::ArrayRef<std::string> objects);

} // namespace retort

#endif // RETORT_COMPILER_CODEGEN_LINK_H
