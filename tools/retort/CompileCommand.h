//===- CompileCommand.h - retort compile ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort compile`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_RETORT_COMPILECOMMAND_H
#define RETORT_TOOLS_RETORT_COMPILECOMMAND_H

#include "tools/common/Cli.h"

namespace retort::tools {

/// Declares the options of `compile` and returns what it does.
Action addCompileCommand(CLI::App &command);

} // namespace retort::tools

#endif // RETORT_TOOLS_RETORT_COMPILECOMMAND_H
