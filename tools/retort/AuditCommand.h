//===- AuditCommand.h - retort audit ----------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort audit`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_RETORT_AUDITCOMMAND_H
#define RETORT_TOOLS_RETORT_AUDITCOMMAND_H

#include "tools/common/Cli.h"

namespace retort::tools {

/// Declares the options of `audit` and returns what it does.
Action addAuditCommand(CLI::App &command);

} // namespace retort::tools

#endif // RETORT_TOOLS_RETORT_AUDITCOMMAND_H
