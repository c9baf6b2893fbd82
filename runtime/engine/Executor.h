//===- Executor.h - Runs phases of a program --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What sessions and batches have in common: activations, scratch and workers,
/// and the walk over launches. Sequences, with their caches, are the caller's.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_EXECUTOR_H
#define RETORT_RUNTIME_ENGINE_EXECUTOR_H

#include "runtime/abi/Kernel.h"
#include "runtime/engine/Ledger.h"
#include "runtime/engine/Sequence.h"
#include "runtime/engine/Workers.h"

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace retort {

/// A launch that has just ended, as SessionOptions::observer sees it.
struct LaunchEvent {
  const abi::Launch &launch;
  const retort_kernel_scalars &scalars;
  /// The launch's last argument: the buffer of its result, and the bytes of one
  /// token's row there (0 if its rows are not counted by token). What the
  /// observer writes there is what later launches read.
  std::byte *result;
  uint64_t rowBytes;
};

struct ExecutorOptions {
  /// Workers including the caller; 0: all processors.
  unsigned threads = 0;
  Placement pin = Placement::Auto; ///< of the workers
  /// Record the time of every launch.
  bool ledger = false;
  /// Called after each launch, by one thread at a time while the workers wait.
  std::function<void(const LaunchEvent &)> observer;
};

/// A sequence's part of a step.
struct Lane {
  const Sequence *sequence = nullptr;
  int64_t position = 0; ///< of its first token in the step
};

/// A phase over some tokens: all of them the only lane's, or one of each lane,
/// lane i's being row i.
struct PhaseStep {
  abi::PhaseKind kind;
  int64_t tokens;
  int64_t firstRow; ///< see retort_kernel_scalars
  std::span<const Lane> lanes;
};

class Executor {
public:
  /// Reserves activations and scratch, and starts workers. OutOfMemory,
  /// InvalidArgument for the number of threads.
  static Result<std::unique_ptr<Executor>>
  create(std::shared_ptr<const Model> model, ExecutorOptions options);
  ~Executor();

  const Model &model() const { return *shared; }
  unsigned threads() const { return workers->size(); }
  /// Most tokens that a Head phase takes.
  uint64_t headTokens() const { return maxHeadTokens; }
  /// Most lanes that a step may have, each of which gets the bits that it would
  /// get alone. 1 if the program doesn't say which launches read positions, as
  /// older artifacts don't.
  uint64_t lanes() const { return maxLanes; }

  /// Puts ids where Body phases look for them.
  void setTokens(std::span<const int32_t> tokens);
  /// Rows of an activation buffer of the program.
  float *rows(uint32_t buffer) const {
    return reinterpret_cast<float *>(activations[buffer].data());
  }

  /// Runs the launches of the steps in order on all workers. Cancelled if
  /// cancel() was called since the last time that it returned this: then some
  /// launches have not run.
  Status run(std::span<const PhaseStep> steps);

  void cancel() { cancelled.store(true, std::memory_order_relaxed); }
  void clearCancel() { cancelled.store(false, std::memory_order_relaxed); }

  const Ledger &ledger() const { return times; }
  void resetLedger() { times.clear(); }

private:
  struct Launch;
  struct Phase;

  Executor(std::shared_ptr<const Model> model, ExecutorOptions options);
  Status reserve();
  void bindPhases();
  uint64_t findLanes() const;
  Phase &phaseFor(abi::PhaseKind kind, uint64_t tokens);
  /// Points the launches that read caches to those of the lanes.
  void bindLanes(Phase &phase, std::span<const Lane> lanes);
  bool walk(std::span<const PhaseStep> steps);
  void record(const Phase &phase, size_t launch, const PhaseStep &step,
              uint64_t nanoseconds);
  void observe(const Phase &phase, size_t launch, const PhaseStep &step);

  std::shared_ptr<const Model> shared;
  ExecutorOptions options;
  uint64_t maxHeadTokens = 0;
  uint64_t maxLanes = 1;
  std::unique_ptr<Workers> workers;
  std::vector<Pages> activations; ///< by buffer; empty for caches
  Pages scratch;
  uint64_t scratchStride = 0; ///< bytes from one worker's scratch to the next
  std::vector<Phase> phases;
  Ledger times;
  std::atomic<bool> cancelled{false};
  alignas(64) std::atomic<uint64_t> nextTile{0};
};

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_EXECUTOR_H
