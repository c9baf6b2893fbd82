//===- PlanCommand.h - retort plan ------------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The command line of `retort plan`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_RETORT_PLANCOMMAND_H
#define RETORT_TOOLS_RETORT_PLANCOMMAND_H

#include "tools/common/Cli.h"

namespace retort::tools {

/// Declares the options of `retort plan` on `command`.
Action addPlanCommand(CLI::App &command);

} // namespace retort::tools

#endif // RETORT_TOOLS_RETORT_PLANCOMMAND_H
