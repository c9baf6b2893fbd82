//===- QuantizeCommand.h - Quantize a checkpoint ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort quantize`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_RETORT_QUANTIZECOMMAND_H
#define RETORT_TOOLS_RETORT_QUANTIZECOMMAND_H

#include "tools/common/Cli.h"

namespace retort::tools {

/// Declares the options and returns what runs them.
Action addQuantizeCommand(CLI::App &command);

} // namespace retort::tools

#endif // RETORT_TOOLS_RETORT_QUANTIZECOMMAND_H
