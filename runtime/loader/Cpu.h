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

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace retort {

/// A processor: an architecture and the features that code may use on it.
struct Cpu {
  std::string arch;               ///< first part of a triple: "x86_64"
  std::set<std::string> features; ///< e.g. "avx2"; see hostCpu()
  /// Features that the processor has and the system keeps from programs, with
  /// the reason.
  std::map<std::string, std::string> withheld = {};

  bool has(std::string_view feature) const {
    return features.contains(std::string(feature));
  }
};

/// This machine, found once through CPUID (and XCR0: registers that the system
/// does not save don't count; for AMX also what the kernel says it grants) or
/// the auxiliary vector.
const Cpu &hostCpu();

#if defined(__x86_64__)
/// What hostCpu() asks, for tests to answer otherwise.
struct X86Machine {
  struct Registers {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  };
  /// CPUID of a leaf and subleaf, zeros beyond the last.
  std::function<Registers(uint32_t leaf, uint32_t subleaf)> cpuid;
  /// XCR0: state that the system saves. Asked only if CPUID says it exists.
  std::function<uint64_t()> xcr0;
  /// arch_prctl(code, argument): 0 or an errno.
  std::function<int(int code, uint64_t *argument)> archPrctl;

  static X86Machine host();
};
Cpu detectCpu(const X86Machine &machine);

/// Asks the kernel to let this process use the registers that code of these
/// features needs: AMX's tiles, which Linux (5.16 and later) grants on request.
/// An error (Incompatible) says what it answered.
Status requestFeatures(const std::set<std::string> &features,
                       const X86Machine &machine = X86Machine::host());
#endif

/// The same on this machine, whatever it is; nothing to ask for elsewhere.
Status requestFeatures(const abi::Target &target);

/// The index of the target to run on `cpu`: of those whose features it has, the
/// one with the most. With `wanted` not empty, the target of that name. An
/// error (Incompatible) says what each target needs and this machine lacks.
Result<uint32_t> chooseTarget(const abi::Index &index, const Cpu &cpu,
                              std::string_view wanted = {});

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_CPU_H
