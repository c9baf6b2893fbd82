//===- ScoreCheckpoint.h - Checkpoints to score -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_RETORT_SCORECHECKPOINT_H
#define RETORT_TOOLS_RETORT_SCORECHECKPOINT_H

#include "runtime/score/LogitsSource.h"

namespace retort::tools {

/// Opens a checkpoint directory as it is: compiled with its own weights into a
/// temporary file (in TMPDIR) that is gone once it is mapped, or, with
/// `reference`, computed by the reference interpreter.
Result<score::ScoreModel> openCheckpoint(const std::string &path,
                                         const score::OpenModelOptions &options,
                                         bool reference);

} // namespace retort::tools

#endif // RETORT_TOOLS_RETORT_SCORECHECKPOINT_H
