//===- Semantics.h - The rules of an artifact's index -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What artifact.fbs says in comments, as checks: indices in range, tensors
/// that tile the weights section, phases that cover every number of tokens,
/// buffers that hold what the runtime reads and writes.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_SEMANTICS_H
#define RETORT_RUNTIME_LOADER_SEMANTICS_H

#include "runtime/abi/artifact_generated.h"
#include "runtime/support/Status.h"

#include <cstdint>
#include <optional>

namespace retort {

/// Checks every rule beyond the container's. The index must have passed
/// checkContainer().
Status checkSemantics(const abi::Index &index);

/// "body", "head", "draft body" or "draft head".
std::string phaseKindName(abi::PhaseKind kind);

/// Whether the program predicts the token after the next one.
bool hasDraft(const abi::Program &program);

/// Bytes of a buffer: fixed_bytes + bytes_per_token * roundUp(tokens, 8) +
/// bytes_per_position * roundUp(positions, 64); nullopt if that overflows.
std::optional<uint64_t> bufferBytes(const abi::Buffer &buffer, uint64_t tokens,
                                    uint64_t positions);

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_SEMANTICS_H
