//===- Workers.h - Threads that walk launches together ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A pool of threads and the barrier between their steps. Both spin for some
/// microseconds before they sleep, since a decode step has hundreds of barriers
/// a few microseconds apart; with more workers than processors they sleep at
/// once, because whoever is waited for needs the processor.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_WORKERS_H
#define RETORT_RUNTIME_ENGINE_WORKERS_H

#include "runtime/support/Status.h"
#include "runtime/support/Topology.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace retort {

/// Processors that this process may run on.
unsigned availableProcessors();

/// A counter that threads wait on until it changes; spins, then sleeps.
class WaitPoint {
public:
  explicit WaitPoint(unsigned spins) : spins(spins) {}
  uint32_t value() const { return counter.load(std::memory_order_acquire); }
  /// Adds one and wakes all who wait.
  void advance();
  /// Returns once the value is not `old`.
  void waitWhile(uint32_t old) const;

private:
  alignas(64) std::atomic<uint32_t> counter{0};
  unsigned spins;
};

/// Where `count` threads meet. The last to arrive runs a step alone while the
/// others wait.
class Barrier {
public:
  Barrier(unsigned count, unsigned spins) : count(count), gate(spins) {}

  template <typename Fn> void arrive(Fn &&lastOne) {
    uint32_t generation = gate.value();
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
      lastOne();
      arrived.store(0, std::memory_order_relaxed);
      gate.advance();
      return;
    }
    gate.waitWhile(generation);
  }

private:
  alignas(64) std::atomic<unsigned> arrived{0};
  unsigned count;
  WaitPoint gate;
};

/// `size()` workers, of which the caller of run() is number 0.
class Workers {
public:
  /// Starts threads - 1 threads; 0 stands for availableProcessors(). Fails with
  /// OutOfMemory if the system refuses one. `pin` binds them to processors of
  /// their own (Topology::assign); the caller's thread is left alone, as it is
  /// not ours, and so is the processor that would be its.
  static Result<std::unique_ptr<Workers>>
  create(unsigned threads, Placement pin = Placement::Auto);
  ~Workers();
  Workers(const Workers &) = delete;
  Workers &operator=(const Workers &) = delete;

  unsigned size() const { return count; }
  /// Threads that are bound to a processor.
  unsigned pinned() const { return numPinned; }
  /// Where the workers meet inside a job.
  Barrier &barrier() { return meeting; }

  /// Calls `job(worker)` on every worker and returns when all have. One job at
  /// a time; the job must not throw.
  void run(const std::function<void(unsigned)> &job);

  static constexpr unsigned kMaxThreads = 1024;

private:
  Workers(unsigned count, unsigned spins);
  void loop(unsigned worker, std::optional<int> processor);

  unsigned count;
  unsigned numPinned = 0;
  Barrier meeting;
  Barrier finished;
  WaitPoint start;
  const std::function<void(unsigned)> *current = nullptr;
  bool stopping = false;
  std::vector<std::thread> threads;
};

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_WORKERS_H
