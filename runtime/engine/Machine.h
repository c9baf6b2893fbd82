//===- Machine.h - Ceilings of this machine ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Measures what the ledger compares launches with: the read bandwidth and the
/// f32 arithmetic peak, over the same threads as a session has.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_MACHINE_H
#define RETORT_RUNTIME_ENGINE_MACHINE_H

#include "runtime/engine/Workers.h"

#include <span>

namespace retort {

struct MachinePeaks {
  double readGbps = 0; ///< 10^9 bytes per second, streamed from memory
  double gflops = 0;   ///< 10^9 f32 operations per second, FMA counted as two
  /// 10^9 operations per second of the widest instruction that multiplies and
  /// adds 8-bit integers, each multiply-add counted as two; 0 where no such
  /// instruction is known.
  double int8Gops = 0;
};

/// Best of a few rounds over `workers`; takes about a quarter of a second and,
/// while it runs, 256 MB.
Result<MachinePeaks> measureMachine(Workers &workers);

/// Field by field: what else the machine does comes and goes. Zeros of none.
MachinePeaks medianOf(std::span<const MachinePeaks> rounds);

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_MACHINE_H
