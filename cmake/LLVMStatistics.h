//===- LLVMStatistics.h - One view of LLVM's statistics ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Included in front of every source that uses LLVM. llvm::Statistic, which
/// MLIR's passes hold, has fields if NDEBUG is not defined and none if it is.
/// Debian's libraries are built with NDEBUG, so ours must see the class as they
/// do, while assertions of our own code stay on.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_CMAKE_LLVMSTATISTICS_H
#define RETORT_CMAKE_LLVMSTATISTICS_H

#ifndef NDEBUG
#define NDEBUG
#include "llvm/ADT/Statistic.h"
#undef NDEBUG
// <cassert> follows NDEBUG anew each time it is included.
#include <cassert>
#endif

#endif // RETORT_CMAKE_LLVMSTATISTICS_H
