//===- Cpu.h - What this processor can execute ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// CPU features by the names that LLVM gives them, as artifacts list them, and
/// the choice of the code section that this machine can run.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_CPU_H
#define RETORT_RUNTIME_LOADER_CPU_H

#include "runtime/abi/artifact_generated.h"
#include "runtime/support/Status.h"

#include <set>
#include <string>
#include <string_view>

namespace retort {

/// A processor: an architecture and the features that code may use on it.
struct Cpu {
  std::string arch;               ///< first part of a triple: "x86_64"
  std::set<std::string> features; ///< e.g. "avx2"; see hostCpu()

  bool has(std::string_view feature) const {
    return features.contains(std::string(feature));
  }
};

/// This machine, found once through CPUID (and XCR0: registers that the system
/// does not save don't count) or the auxiliary vector.
const Cpu &hostCpu();

/// The index of the target to run on `cpu`: of those whose features it has, the
/// one with the most. With `wanted` not empty, the target of that name. An
/// error (Incompatible) says what each target needs and this machine lacks.
Result<uint32_t> chooseTarget(const abi::Index &index, const Cpu &cpu,
                              std::string_view wanted = {});

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_CPU_H
