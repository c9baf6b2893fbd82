//===- Topology.h - Processors, cores and memory nodes ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Where threads run and where memory lies, on machines where that matters:
/// with two threads a core, or with several memory nodes (NUMA).
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_TOPOLOGY_H
#define RETORT_RUNTIME_SUPPORT_TOPOLOGY_H

#include "runtime/support/Status.h"

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

/// Whether threads are bound to processors, or weights spread over nodes.
enum class Placement {
  Auto, ///< where the machine gains by it
  On,
  Off,
};

struct Processor {
  int id;       ///< as the kernel numbers it
  int core = 0; ///< the lowest number among the threads of its core
  int node = 0;
  bool operator==(const Processor &) const = default;
};

struct Topology {
  /// Those that this process may run on, in ascending order.
  std::vector<Processor> processors;
  /// Of these, in ascending order.
  std::vector<int> nodes() const;
  bool sharesCores() const; ///< two of them are threads of one core

  /// What Linux says below `root` of the processors `allowed`; each is a core
  /// of its own on node 0 where it says nothing.
  static Topology read(std::span<const int> allowed,
                       const std::string &root = "/sys/devices/system");
  /// Of this process.
  static Topology ofThisProcess();

  /// The processor for each of `threads` threads: one of every core before any
  /// core has two, nodes in turn. Empty if threads should be left to the
  /// scheduler: with Off, where they outnumber the processors, and with Auto
  /// where no two processors share a core and there is one node.
  std::vector<int> assign(unsigned threads, Placement pin) const;
};

/// "0-3,8" as Linux writes it; nullopt for anything else.
std::optional<std::vector<int>> parseCpuList(std::string_view text);

/// Binds the calling thread. False if the system refuses.
bool pinThisThread(int processor);

/// Spreads pages over `nodes`, 2 MiB to each in turn, moving those that lie
/// elsewhere; pages that other processes map too stay. Reads all of `memory`.
/// Unsupported if the system can't move pages.
Status interleave(std::span<const std::byte> memory,
                  std::span<const int> nodes);

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_TOPOLOGY_H
