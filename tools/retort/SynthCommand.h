//===- SynthCommand.h - retort synth ----------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort synth`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_RETORT_SYNTHCOMMAND_H
#define RETORT_TOOLS_RETORT_SYNTHCOMMAND_H

#include "tools/common/Cli.h"

namespace retort::tools {

/// Declares the options of `synth` and returns what it does.
Action addSynthCommand(CLI::App &command);

} // namespace retort::tools

#endif // RETORT_TOOLS_RETORT_SYNTHCOMMAND_H
