//===- Batch.h - Sequences decoded together ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Several sequences that share weights, activations and workers. A step gives
/// one token to each of some of them: launches that read weights read them once
/// for all, those that read positions and caches run for each. Up to
/// Executor::lanes() sequences are computed at a time, so that every sequence
/// gets the bits that it would get alone.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_BATCH_H
#define RETORT_RUNTIME_ENGINE_BATCH_H

#include "runtime/engine/Executor.h"

#include <memory>
#include <span>
#include <vector>

namespace retort {

struct BatchOptions {
  /// Sequences that there are, 1 to Batch::kMaxSequences.
  uint32_t sequences = 1;
  /// Positions that each may use. 0: max_context, or as many as the available
  /// memory holds for all of them if that is less.
  uint32_t context = 0;
  /// Workers including the caller; 0: all processors.
  unsigned threads = 0;
  /// Whether they are bound to processors; see Workers::create().
  Placement pin = Placement::Auto;
  /// Tokens of a feed that are computed at once; 0: max_chunk.
  uint32_t prefillChunk = 0;
  /// Record the time of every launch.
  bool ledger = false;
};

/// A token for a sequence.
struct BatchToken {
  uint32_t sequence;
  int32_t id;
};

/// Sequences 0, 1, ..., all empty at first. Not thread-safe, except for
/// cancel(). Functions that return a status check the sequence's number; of the
/// others it must be one that check() accepts.
class Batch {
public:
  /// Reserves buffers and starts workers. Errors: InvalidArgument for options
  /// out of range, Unsupported for an artifact that doesn't say which launches
  /// read positions, OutOfMemory naming the bytes needed and available.
  static Result<std::unique_ptr<Batch>>
  create(std::shared_ptr<const Model> model, const BatchOptions &options);
  ~Batch();
  static constexpr uint32_t kMaxSequences = 1024;

  /// Appends tokens to one sequence, in chunks, and computes the logits of the
  /// last one, all as Session::feed() does; errors as there.
  Status feed(uint32_t sequence, std::span<const int32_t> tokens);

  /// Appends one token to each of some sequences, in any order, and computes
  /// their logits. InvalidArgument, and nothing is fed, if there are none, a
  /// sequence is named twice, an id is outside of the vocabulary, or a context
  /// is full. After Cancelled position() tells which sequences have their
  /// token.
  Status step(std::span<const BatchToken> tokens);

  /// Forgets all tokens of a sequence from `position` on; its logits are gone
  /// if there were any. Position 0 makes room for another text.
  Status rewind(uint32_t sequence, uint32_t position);

  uint32_t sequences() const;
  /// Logits [vocab_size] after the sequence's last token, valid until it is
  /// changed; empty if there are none.
  std::span<const float> logits(uint32_t sequence) const;
  std::span<const int32_t> tokens(uint32_t sequence) const;
  uint32_t position(uint32_t sequence) const;
  uint32_t context() const { return limit; }
  unsigned threads() const { return executor->threads(); }
  const Model &model() const { return executor->model(); }
  /// Sequences that are computed at a time.
  uint64_t lanes() const { return executor->lanes(); }

  /// InvalidArgument if there is no such sequence.
  Status check(uint32_t sequence) const;

  /// Makes the feed or step that is running, or the next one, return Cancelled
  /// at its next launch. Callable from any thread and from signal handlers.
  void cancel() { executor->cancel(); }

  /// What was recorded since the batch began or resetLedger(). Empty unless
  /// BatchOptions::ledger is set.
  const Ledger &ledger() const { return executor->ledger(); }
  void resetLedger() { executor->resetLedger(); }

private:
  struct Slot;

  Batch();
  Status checkStep(std::span<const BatchToken> tokens) const;
  /// A step of at most lanes() sequences.
  Status stepLanes(std::span<const BatchToken> tokens);

  uint32_t limit = 0;
  uint32_t chunk = 0;
  std::unique_ptr<Executor> executor;
  std::vector<Slot> slots;
};

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_BATCH_H
