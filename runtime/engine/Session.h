//===- Session.h - A context that tokens are fed to -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// One sequence, with the buffers and worker threads that compute it.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_SESSION_H
#define RETORT_RUNTIME_ENGINE_SESSION_H

#include "runtime/abi/Format.h"
#include "runtime/engine/Executor.h"

#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace retort {

struct SessionOptions {
  /// Positions that may be used. 0: max_context, or as many as the available
  /// memory holds if that is less.
  uint32_t context = 0;
  /// Workers including the caller; 0: all processors.
  unsigned threads = 0;
  /// Whether they are bound to processors; see Workers::create().
  Placement pin = Placement::Auto;
  /// Tokens per Body phase at most; 0: max_chunk.
  uint32_t prefillChunk = 0;
  /// Keep the draft layer's cache, so that draft() can be asked.
  bool draft = false;
  /// Record the time of every launch.
  bool ledger = false;
  /// Called after each launch, by one thread at a time while the workers wait:
  /// for comparing compiled code with a reference.
  std::function<void(const LaunchEvent &)> observer;
};

/// Receives logits of consecutive tokens of a feed: `first` is the index in the
/// feed of the first one, `rows` holds `count` rows of `stride` floats, of
/// which the first vocab_size count. An error ends the feed.
using LogitsSink = std::function<Status(uint64_t first, uint64_t count,
                                        const float *rows, uint64_t stride)>;

/// Receives the logits [vocab_size] after token `row` of a speculative feed and
/// says whether the token after it is wanted.
using SpeculationJudge =
    std::function<Result<bool>(uint64_t row, std::span<const float> logits)>;

/// One sequence. Not thread-safe, except for cancel().
class Session {
public:
  /// Reserves buffers and starts workers. Errors: InvalidArgument for options
  /// out of range, Unsupported for `draft` with a model that has no draft
  /// layer, OutOfMemory naming the bytes needed and available.
  static Result<std::unique_ptr<Session>>
  create(std::shared_ptr<const Model> model,
         const SessionOptions &options = {});
  ~Session();

  /// Appends tokens to the context, in chunks, and computes the logits of the
  /// last one; of all, passed to `sink`, if it is set. Nothing is fed if an id
  /// is outside of the vocabulary, there are none, or they don't fit in the
  /// context (InvalidArgument). After Cancelled or an error of the sink,
  /// position() tells how many tokens have been taken, and there are no logits.
  Status feed(std::span<const int32_t> tokens, const LogitsSink &sink = {});

  /// Feeds tokens of which all but the first are guesses, at most
  /// kMaxSpeculation: the judge sees the logits after each in turn, until it
  /// says no or there are no more. Those that it has not asked for are
  /// forgotten: the context and logits() are then what feed() of the others
  /// would have left, bit by bit if feed() had got them one by one. Errors as
  /// for feed().
  Status speculate(std::span<const int32_t> tokens,
                   const SpeculationJudge &judge);
  static constexpr size_t kMaxSpeculation = abi::kExactTokens;

  /// What the draft layer expects after `next`, which is to come after the
  /// context but has not been fed: logits [vocab_size], valid until the next
  /// call; empty if the model's state after the context is gone (nothing fed,
  /// or rewound). Needs SessionOptions::draft. After rewind() into what was fed
  /// before the last feed, the draft layer may see what was forgotten: a worse
  /// guess, no more. Errors: InvalidArgument for an id outside the vocabulary,
  /// Cancelled.
  Result<std::span<const float>> draft(int32_t next);

  /// Logits [vocab_size] of the last token fed; empty if there are none.
  std::span<const float> logits() const;

  /// Tokens in the context, in order.
  std::span<const int32_t> tokens() const { return sequence->tokens(); }
  uint32_t position() const { return sequence->position(); }
  uint32_t context() const { return limit; }
  uint32_t prefillChunk() const { return chunk; }
  unsigned threads() const { return executor->threads(); }
  bool drafts() const { return options.draft; }
  const Model &model() const { return executor->model(); }

  /// Forgets all tokens from `position` on. The logits are gone.
  Status rewind(uint32_t position);

  /// For measuring: lets the context and what is cached of it follow itself
  /// until `position`, as if that many tokens had been fed. The logits stay.
  /// Errors: InvalidArgument unless the context holds a multiple of
  /// abi::kPositionPadding tokens, at least one, and `position` is neither
  /// before its end nor beyond context().
  Status repeatContext(uint32_t position);

  /// Makes the feed that is running, or the next one, return Cancelled at its
  /// next launch. Callable from any thread and from signal handlers.
  void cancel() { executor->cancel(); }
  /// Takes back a cancel() that no feed has seen.
  void clearCancel() { executor->clearCancel(); }

  /// What was recorded since the session began or resetLedger(). Empty unless
  /// SessionOptions::ledger is set.
  const Ledger &ledger() const { return executor->ledger(); }
  void resetLedger() { executor->resetLedger(); }

private:
  explicit Session(const SessionOptions &options) : options(options) {}
  Status feedChunk(std::span<const int32_t> tokens, uint64_t first, bool last,
                   const LogitsSink &sink);
  /// Computes the hidden states of a chunk behind the context, then, if
  /// headCount is not 0, the logits of as many of its rows.
  Status runBody(std::span<const int32_t> tokens, int64_t headRow,
                 int64_t headCount);
  /// Logits of rows of a chunk behind the context.
  Status runHead(int64_t row, int64_t count);
  /// Lets the draft layer see the rows of the last chunk, now that it is known
  /// what follows them.
  Status runDraftBody(int32_t next);
  Status runSteps(std::span<const PhaseStep> steps);
  Lane laneAt(int64_t position) const { return {&*sequence, position}; }
  /// Makes row `row` of the logits the one that logits() gives.
  void keepLogits(int64_t row);
  /// Counts tokens of the last chunk as part of the context.
  void append(std::span<const int32_t> tokens);

  SessionOptions options;
  uint32_t limit = 0;
  uint32_t chunk = 0;
  std::unique_ptr<Executor> executor;
  std::optional<Sequence> sequence;
  bool hasLogits = false;
  /// Rows at the start of the hidden buffer that belong to the end of the
  /// context and that the draft layer has not seen.
  uint64_t undrafted = 0;
};

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_SESSION_H
