//===- LaunchEntry.h - Entries of launches ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A launch as a kernel of its own, and what tells kernels apart.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PLAN_LAUNCHENTRY_H
#define RETORT_COMPILER_PLAN_LAUNCHENTRY_H

#include "dialects/Kernel/Kernel.h"

#include "mlir/IR/Builders.h"

#include <string>

namespace retort {

/// All that makes a launch's code, but for its class of tokens: launches with
/// equal descriptions share a kernel.
std::string describeLaunch(mlir::Operation *launch);

/// An entry, at the builder's insertion point, whose launch is a copy of
/// `launch` over arguments.
kernel::EntryOp createEntry(mlir::OpBuilder &b, llvm::StringRef name,
                            mlir::Operation *launch, kernel::TokenClass tokens);

} // namespace retort

#endif // RETORT_COMPILER_PLAN_LAUNCHENTRY_H
