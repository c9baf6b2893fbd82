//===- Commands.h - The commands of the runtime's tools ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Each function declares a command's options on `command` and returns what it
/// does, to be called after parsing. None of them needs the compiler, so that
/// `retort-run` is made of them without LLVM.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_COMMON_COMMANDS_H
#define RETORT_TOOLS_COMMON_COMMANDS_H

#include "runtime/score/LogitsSource.h"
#include "tools/common/Cli.h"

namespace retort::tools {

/// Opens a checkpoint directory as a model to score; `reference` computes it
/// with the reference interpreter. Absent where there is no compiler.
using CheckpointOpener = std::function<Result<score::ScoreModel>(
    const std::string &path, const score::OpenModelOptions &options,
    bool reference)>;

/// `run`: text or logits from a model. With `carried` not empty, the model is
/// the one that this executable carries and there is no argument for it.
Action addRunCommand(CLI::App &command, const std::string &carried = {});

/// `bench`: speed of prefill, decode and loading, and the ledger of launches.
Action addBenchCommand(CLI::App &command);

/// `inspect`: what an artifact holds, without running it.
Action addInspectCommand(CLI::App &command);

/// `check`: all hashes, all text, and the self test.
Action addCheckCommand(CLI::App &command);

/// `score`: loss, divergence from a teacher, solved problems. With `carried`
/// not empty, the model is the one that this executable carries.
Action addScoreCommand(CLI::App &command, const CheckpointOpener &opener = {},
                       const std::string &carried = {});

/// `tokenize`: text to ids and back.
Action addTokenizeCommand(CLI::App &command);

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_COMMANDS_H
