//===- BisectCommand.h - retort bisect --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_RETORT_BISECTCOMMAND_H
#define RETORT_TOOLS_RETORT_BISECTCOMMAND_H

#include "tools/common/Cli.h"

namespace retort::tools {

/// `retort bisect A B`: the first layer, op and token where two models part.
Action addBisectCommand(CLI::App &command);

} // namespace retort::tools

#endif // RETORT_TOOLS_RETORT_BISECTCOMMAND_H
