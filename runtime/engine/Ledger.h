//===- Ledger.h - Time, bytes and flops per launch --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The roofline ledger: what each launch of a program took beside what it had
/// to read and compute.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_LEDGER_H
#define RETORT_RUNTIME_ENGINE_LEDGER_H

#include "runtime/abi/artifact_generated.h"

#include <cstdint>
#include <string>
#include <vector>

namespace retort {

/// Work that the index states for a launch.
struct LaunchWork {
  uint64_t bytes = 0;
  uint64_t flops = 0;
};

/// (query, key) pairs of causal attention over `tokens` tokens, the first at
/// `position`: the token at p attends to p + 1 keys.
uint64_t attentionPairs(uint64_t tokens, uint64_t position);

/// x + x_per_token * tokens + x_per_pair * pairs, saturating.
LaunchWork launchWork(const abi::Launch &launch, uint64_t tokens,
                      uint64_t position);

/// The work of the phase of a kind that serves `tokens`; none if there is none.
LaunchWork phaseWork(const abi::Program &program, abi::PhaseKind kind,
                     uint64_t tokens, uint64_t position);

/// The work of a step: one Body phase over `tokens` tokens at `position` and a
/// Head phase over the last one.
LaunchWork stepWork(const abi::Program &program, uint64_t tokens,
                    uint64_t position);

/// The phase of that kind which serves `tokens`; null if none does.
const abi::Phase *findPhase(const abi::Program &program, abi::PhaseKind kind,
                            uint64_t tokens);

/// One line: a launch of a phase, summed over its runs.
struct LedgerEntry {
  uint32_t phase = 0;  ///< index into Program.phases
  uint32_t launch = 0; ///< index into Phase.launches
  uint64_t runs = 0;
  uint64_t nanoseconds = 0;
  uint64_t bytes = 0;
  uint64_t flops = 0;
};

/// Entries by phase and launch.
class Ledger {
public:
  void clear() { rows.clear(); }
  void record(const abi::Program &program, uint32_t phase, uint32_t launch,
              LaunchWork work, uint64_t nanoseconds);
  /// Entries that have run, in program order.
  std::vector<LedgerEntry> entries() const;

private:
  std::vector<std::vector<LedgerEntry>> rows; ///< [phase][launch]
};

/// Ledger entries of one label, summed over layers, of one kind of phase.
struct LedgerLine {
  std::string label;
  std::string phase; ///< "body 1", "body 2-512", "head 1"
  bool integers;     ///< multiplies integer weights by quantized inputs
  LedgerEntry sum;
};

/// Sums a ledger by phase and label, in program order.
std::vector<LedgerLine> summarize(const Ledger &ledger,
                                  const abi::Program &program);

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_LEDGER_H
