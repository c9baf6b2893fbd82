//===- PackInputs.h - What decides the packed bytes -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_PACKINPUTS_H
#define RETORT_COMPILER_PACK_PACKINPUTS_H

#include "compiler/pack/Journal.h"

namespace retort {

/// A hash of the executable's bytes: another build may pack another way, and
/// make other code.
std::string describeBuild();

/// What packed weights depend on: this executable, the checkpoint's files (by
/// name, size, time of change, and what their headers say of the tensors in
/// use) and the specs. Tensors are not read. Errors: a file that is gone.
Result<std::vector<JournalInput>>
packInputs(std::span<const WeightSpec> specs,
           const checkpoint::Checkpoint &checkpoint);

} // namespace retort

#endif // RETORT_COMPILER_PACK_PACKINPUTS_H
