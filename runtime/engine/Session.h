//===- Session.h - A context that tokens are fed to -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Executes an artifact's program. A Model is the artifact with its code and is
/// shared; a Session owns buffers, KV cache and worker threads.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_SESSION_H
#define RETORT_RUNTIME_ENGINE_SESSION_H

#include "runtime/engine/Ledger.h"
#include "runtime/engine/Memory.h"
#include "runtime/engine/Workers.h"
#include "runtime/loader/CodeModule.h"

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace retort {

/// An artifact whose code is loaded. Immutable; sessions share it.
class Model {
public:
  /// Loads the code of the best target, or of the one named `target`.
  static Result<std::shared_ptr<const Model>>
  load(std::shared_ptr<const Artifact> artifact, std::string_view target = {});

  const Artifact &artifact() const { return *source; }
  const abi::Index &index() const { return source->index(); }
  const abi::Model &info() const { return *source->index().model(); }
  const CodeModule &code() const { return module; }

private:
  Model(std::shared_ptr<const Artifact> artifact, CodeModule code)
      : source(std::move(artifact)), module(std::move(code)) {}
  std::shared_ptr<const Artifact> source;
  CodeModule module;
};

/// A launch that has just ended, as SessionOptions::observer sees it.
struct LaunchEvent {
  const abi::Launch &launch;
  const retort_kernel_scalars &scalars;
  /// The launch's last argument: the buffer of its result, and the bytes of one
  /// token's row there (0 if its rows are not counted by token).
  const std::byte *result;
  uint64_t rowBytes;
};

struct SessionOptions {
  /// Positions that may be used. 0: max_context, or as many as the available
  /// memory holds if that is less.
  uint32_t context = 0;
  /// Workers including the caller; 0: all processors.
  unsigned threads = 0;
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
  static constexpr size_t kMaxSpeculation = 8;

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
  std::span<const int32_t> tokens() const { return history; }
  uint32_t position() const { return static_cast<uint32_t>(history.size()); }
  uint32_t context() const { return limit; }
  uint32_t prefillChunk() const { return chunk; }
  unsigned threads() const { return workers->size(); }
  bool drafts() const { return options.draft; }
  const Model &model() const { return *shared; }

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
  void cancel() { cancelled.store(true, std::memory_order_relaxed); }
  /// Takes back a cancel() that no feed has seen.
  void clearCancel() { cancelled.store(false, std::memory_order_relaxed); }

  /// What was recorded since the session began or resetLedger(). Empty unless
  /// SessionOptions::ledger is set.
  const Ledger &ledger() const { return times; }
  void resetLedger() { times.clear(); }

private:
  struct Launch;
  struct Phase;
  struct Step;

  Session(std::shared_ptr<const Model> model, const SessionOptions &options);
  Status bind();
  const Phase &phaseFor(abi::PhaseKind kind, uint64_t tokens) const;
  bool walk(std::span<const Step> steps);
  void observe(const Phase &phase, size_t launch,
               const retort_kernel_scalars &scalars);
  Status checkFeed(std::span<const int32_t> tokens) const;
  Status feedChunk(std::span<const int32_t> tokens, uint64_t first, bool last,
                   const LogitsSink &sink);
  /// Computes the hidden states of a chunk behind the context, then, if
  /// headCount is not 0, the logits of as many of its rows.
  Status runBody(std::span<const int32_t> tokens, int64_t headRow,
                 int64_t headCount);
  /// Logits of rows of a chunk behind the context.
  Step head(int64_t row, int64_t count) const;
  /// Lets the draft layer see the rows of the last chunk, now that it is known
  /// what follows them.
  Status runDraftBody(int32_t next);
  Status runSteps(std::span<const Step> steps);
  void setTokens(std::span<const int32_t> tokens);
  /// `count` rows of a buffer of the program.
  float *rowsOf(uint32_t buffer) {
    return reinterpret_cast<float *>(buffers[buffer].data());
  }
  /// Makes row `row` of the logits the one that logits() gives.
  void keepLogits(int64_t row);
  /// Counts tokens of the last chunk as part of the context.
  void append(std::span<const int32_t> tokens);

  std::shared_ptr<const Model> shared;
  SessionOptions options;
  uint32_t limit = 0;
  uint32_t chunk = 0;
  uint64_t headTokens = 0; ///< most tokens that a Head phase takes
  std::unique_ptr<Workers> workers;
  std::vector<Pages> buffers;
  Pages scratch;
  uint64_t scratchStride = 0; ///< bytes from one worker's scratch to the next
  std::vector<Phase> phases;
  std::vector<int32_t> history;
  bool hasLogits = false;
  /// Rows at the start of the hidden buffer that belong to the end of the
  /// context and that the draft layer has not seen.
  uint64_t undrafted = 0;
  Ledger times;
  std::atomic<bool> cancelled{false};
  alignas(64) std::atomic<uint64_t> nextTile{0};
};

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_SESSION_H
