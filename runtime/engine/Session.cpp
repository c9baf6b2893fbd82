//===- Session.cpp - A context that tokens are fed to -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Session.h"

#include "runtime/abi/Format.h"
#include "runtime/loader/Semantics.h"
#include "runtime/support/CheckedMath.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace retort {

struct Session::Launch {
  retort_kernel_fn run;
  std::vector<void *> args;
  uint64_t tiles;
  uint64_t tokensPerTile; ///< 0: tiles don't depend on the number of tokens

  uint64_t tileCount(uint64_t tokens) const {
    return tokensPerTile == 0 ? tiles : tiles * ceilDiv(tokens, tokensPerTile);
  }
};

struct Session::Phase {
  abi::PhaseKind kind;
  uint32_t index; ///< into Program.phases
  uint64_t minTokens, maxTokens;
  std::vector<Launch> launches;
};

/// A phase with the scalars that its launches are told.
struct Session::Step {
  const Phase *phase;
  retort_kernel_scalars scalars;
};

namespace {

Status invalidArgument(std::string message) {
  return Status::error(Code::InvalidArgument, std::move(message));
}

/// The context for a session that didn't ask for one: all of it, or else what
/// fits in memory. Caches grow with use, so an estimate from above would refuse
/// short prompts of models with a long context.
Result<uint32_t> defaultContext(const abi::Index &index, unsigned threads) {
  uint64_t available = availableMemory();
  uint64_t low = 0, high = index.model()->max_context();
  RETORT_ASSIGN_OR_RETURN(MemoryUse all, predictMemory(index, high, threads));
  if (all.session() <= available)
    return static_cast<uint32_t>(high);
  while (low + 1 < high) { // low fits or is 0, high does not
    uint64_t middle = (low + high) / 2;
    RETORT_ASSIGN_OR_RETURN(MemoryUse use,
                            predictMemory(index, middle, threads));
    (use.session() <= available ? low : high) = middle;
  }
  if (low == 0) {
    RETORT_ASSIGN_OR_RETURN(MemoryUse least, predictMemory(index, 1, threads));
    return Status::error(Code::OutOfMemory,
                         "a session needs " + formatBytes(least.session()) +
                             ", of which " + formatBytes(available) +
                             " are available");
  }
  return static_cast<uint32_t>(low);
}

Status checkMemory(const abi::Index &index, uint32_t context,
                   unsigned threads) {
  RETORT_ASSIGN_OR_RETURN(MemoryUse use,
                          predictMemory(index, context, threads));
  uint64_t available = availableMemory();
  if (use.session() > available)
    return Status::error(Code::OutOfMemory,
                         "a context of " + std::to_string(context) +
                             " positions needs " + formatBytes(use.session()) +
                             ", of which " + formatBytes(available) +
                             " are available; ask for a smaller one");
  return Status::ok();
}

} // namespace

Result<std::shared_ptr<const Model>>
Model::load(std::shared_ptr<const Artifact> artifact, std::string_view target) {
  RETORT_ASSIGN_OR_RETURN(CodeModule code, CodeModule::load(*artifact, target));
  return std::shared_ptr<const Model>(
      new Model(std::move(artifact), std::move(code)));
}

Session::Session(std::shared_ptr<const Model> model,
                 const SessionOptions &options)
    : shared(std::move(model)), options(options) {}

Session::~Session() = default;

Result<std::unique_ptr<Session>>
Session::create(std::shared_ptr<const Model> model,
                const SessionOptions &options) {
  const abi::Index &index = model->index();
  const abi::Model &info = *index.model();
  std::unique_ptr<Session> session(new Session(std::move(model), options));
  if (options.prefillChunk > info.max_chunk())
    return invalidArgument("prefill chunk: expected at most " +
                           std::to_string(info.max_chunk()) + ", found " +
                           std::to_string(options.prefillChunk));
  session->chunk =
      options.prefillChunk ? options.prefillChunk : info.max_chunk();
  if (options.draft && !hasDraft(*index.program()))
    return Status::error(Code::Unsupported,
                         "the model has no multi-token-prediction layer to "
                         "draft with");
  RETORT_ASSIGN_OR_RETURN(session->workers, Workers::create(options.threads));
  unsigned threads = session->workers->size();
  if (options.context == 0) {
    RETORT_ASSIGN_OR_RETURN(session->limit, defaultContext(index, threads));
  } else {
    RETORT_RETURN_IF_ERROR(checkMemory(index, options.context, threads));
    session->limit = options.context;
  }
  RETORT_RETURN_IF_ERROR(session->bind());
  return session;
}

Status Session::bind() {
  const abi::Program &program = *shared->index().program();
  // Kernels may have the layout of the full context compiled in, so the caches
  // are reserved for it; positions beyond the limit are never touched.
  for (const abi::Buffer *buffer : *program.buffers()) {
    uint64_t bytes = *bufferBytes(*buffer, shared->info().max_chunk(),
                                  shared->info().max_context());
    auto pages = Pages::allocate(bytes);
    if (!pages.isOk())
      return pages.takeStatus().withContext("buffer '" + buffer->name()->str() +
                                            "'");
    buffers.push_back(std::move(*pages));
  }
  for (const abi::Kernel *kernel : *program.kernels())
    scratchStride = std::max(scratchStride, kernel->scratch_bytes());
  scratchStride = roundUp(scratchStride, abi::kPageSize);
  auto pages = Pages::allocate(scratchStride * workers->size());
  if (!pages.isOk())
    return pages.takeStatus().withContext("scratch");
  scratch = std::move(*pages);

  for (const abi::Phase *source : *program.phases()) {
    Phase phase{source->kind(),
                static_cast<uint32_t>(phases.size()),
                source->min_tokens(),
                source->max_tokens(),
                {}};
    for (const abi::Launch *launch : *source->launches()) {
      Launch out{shared->code().kernel(launch->kernel()),
                 {},
                 launch->tiles(),
                 launch->tokens_per_tile()};
      for (const abi::Arg *arg : *launch->args())
        out.args.push_back(
            arg->kind() == abi::ArgKind::Buffer
                ? buffers[arg->index()].data()
                : const_cast<std::byte *>(
                      shared->artifact().weight(arg->index()).data()));
      phase.launches.push_back(std::move(out));
    }
    if (phase.kind == abi::PhaseKind::Head)
      headTokens = std::max(headTokens, phase.maxTokens);
    phases.push_back(std::move(phase));
  }
  history.reserve(limit);
  return Status::ok();
}

const Session::Phase &Session::phaseFor(abi::PhaseKind kind,
                                        uint64_t tokens) const {
  for (const Phase &phase : phases)
    if (phase.kind == kind && phase.minTokens <= tokens &&
        tokens <= phase.maxTokens)
      return phase;
  assert(false && "the loader has checked that phases cover all counts");
  __builtin_unreachable();
}

/// Runs the launches of the steps in order on all workers. False if cancelled:
/// then some launches have not run.
void Session::observe(const Phase &phase, size_t i,
                      const retort_kernel_scalars &scalars) {
  const abi::Program &program = *shared->index().program();
  const abi::Launch &launch =
      *program.phases()->Get(phase.index)->launches()->Get(i);
  const abi::Arg &arg = *launch.args()->Get(launch.args()->size() - 1);
  uint64_t rowBytes =
      arg.kind() == abi::ArgKind::Buffer
          ? program.buffers()->Get(arg.index())->bytes_per_token()
          : 0;
  options.observer(
      {launch, scalars,
       static_cast<const std::byte *>(phase.launches[i].args.back()),
       rowBytes});
}

bool Session::walk(std::span<const Step> steps) {
  using Clock = std::chrono::steady_clock;
  bool stop = cancelled.load(std::memory_order_relaxed);
  if (stop)
    return false;
  nextTile.store(0, std::memory_order_relaxed);
  Clock::time_point began = Clock::now();
  const abi::Program &program = *shared->index().program();

  workers->run([&](unsigned worker) {
    void *workspace = scratch.data() + worker * scratchStride;
    for (const Step &step : steps) {
      const retort_kernel_scalars &scalars = step.scalars;
      for (size_t i = 0; i < step.phase->launches.size(); ++i) {
        const Launch &launch = step.phase->launches[i];
        uint64_t tiles = launch.tileCount(scalars.n_tokens);
        for (uint64_t tile;
             (tile = nextTile.fetch_add(1, std::memory_order_relaxed)) < tiles;)
          launch.run(launch.args.data(), &scalars, workspace,
                     static_cast<int64_t>(tile));
        // Whoever comes last prepares the next launch for all.
        workers->barrier().arrive([&] {
          nextTile.store(0, std::memory_order_relaxed);
          stop = cancelled.load(std::memory_order_relaxed);
          if (options.observer)
            observe(*step.phase, i, scalars);
          if (!options.ledger)
            return;
          Clock::time_point now = Clock::now();
          times.record(program, step.phase->index, static_cast<uint32_t>(i),
                       scalars.n_tokens, scalars.position,
                       std::chrono::nanoseconds(now - began).count());
          began = Clock::now();
        });
        if (stop)
          return;
      }
    }
  });
  return !stop;
}

Status Session::runSteps(std::span<const Step> steps) {
  if (walk(steps))
    return Status::ok();
  clearCancel();
  return Status::error(Code::Cancelled, "cancelled after " +
                                            std::to_string(position()) +
                                            " tokens of context");
}

void Session::setTokens(std::span<const int32_t> tokens) {
  std::memcpy(buffers[shared->index().program()->tokens_buffer()].data(),
              tokens.data(), tokens.size_bytes());
}

Session::Step Session::head(int64_t row, int64_t count) const {
  return {&phaseFor(abi::PhaseKind::Head, count),
          {count, position() + row, row}};
}

Status Session::runBody(std::span<const int32_t> tokens, int64_t headRow,
                        int64_t headCount) {
  if (undrafted > 0)
    RETORT_RETURN_IF_ERROR(runDraftBody(tokens.front()));
  setTokens(tokens);
  int64_t n = static_cast<int64_t>(tokens.size());
  std::vector<Step> steps = {
      {&phaseFor(abi::PhaseKind::Body, n), {n, position(), 0}}};
  if (headCount > 0)
    steps.push_back(head(headRow, headCount));
  return runSteps(steps);
}

Status Session::runDraftBody(int32_t next) {
  int64_t n = static_cast<int64_t>(undrafted);
  std::vector<int32_t> following(history.end() - (n - 1), history.end());
  following.push_back(next);
  setTokens(following);
  Step body{&phaseFor(abi::PhaseKind::DraftBody, n), {n, position() - n, 0}};
  RETORT_RETURN_IF_ERROR(runSteps({&body, 1}));
  undrafted = 0;
  return Status::ok();
}

void Session::keepLogits(int64_t row) {
  const abi::Program &program = *shared->index().program();
  float *rows = rowsOf(program.logits_buffer());
  if (row > 0)
    std::memmove(rows, rows + row * program.logits_stride(),
                 shared->info().vocab_size() * sizeof(float));
}

void Session::append(std::span<const int32_t> tokens) {
  history.insert(history.end(), tokens.begin(), tokens.end());
  if (options.draft)
    undrafted += tokens.size();
}

/// Feeds one chunk. `first` is the index of its first token in the feed.
Status Session::feedChunk(std::span<const int32_t> tokens, uint64_t first,
                          bool last, const LogitsSink &sink) {
  const abi::Program &program = *shared->index().program();
  int64_t n = static_cast<int64_t>(tokens.size());
  RETORT_RETURN_IF_ERROR(runBody(tokens, n - 1, last && !sink ? 1 : 0));
  if (!sink) {
    append(tokens);
    return Status::ok();
  }
  for (int64_t row = 0; row < n;) {
    int64_t count = std::min<int64_t>(n - row, headTokens);
    Step step = head(row, count);
    RETORT_RETURN_IF_ERROR(runSteps({&step, 1}));
    RETORT_RETURN_IF_ERROR(sink(first + row, count,
                                rowsOf(program.logits_buffer()),
                                program.logits_stride()));
    row += count;
    // logits() is the first row, wherever the last token's came out.
    if (row == n)
      keepLogits(count - 1);
  }
  append(tokens);
  return Status::ok();
}

Status Session::checkFeed(std::span<const int32_t> tokens) const {
  if (tokens.empty())
    return invalidArgument("expected at least one token to feed, found none");
  if (tokens.size() > limit - position())
    return invalidArgument("the context of " + std::to_string(limit) +
                           " positions holds " + std::to_string(position()) +
                           " tokens, " + std::to_string(tokens.size()) +
                           " more don't fit");
  int64_t vocab = shared->info().vocab_size();
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= vocab)
      return invalidArgument(
          "token " + std::to_string(i) + ": id " + std::to_string(tokens[i]) +
          " is not in the vocabulary of " + std::to_string(vocab));
  return Status::ok();
}

Status Session::feed(std::span<const int32_t> tokens, const LogitsSink &sink) {
  RETORT_RETURN_IF_ERROR(checkFeed(tokens));
  hasLogits = false;
  for (size_t done = 0; done < tokens.size();) {
    auto part =
        tokens.subspan(done, std::min<size_t>(chunk, tokens.size() - done));
    done += part.size();
    Status fed =
        feedChunk(part, done - part.size(), done == tokens.size(), sink);
    if (!fed.isOk()) {
      if (fed.code() == Code::Cancelled)
        clearCancel();
      return fed;
    }
  }
  hasLogits = true;
  return Status::ok();
}

Status Session::speculate(std::span<const int32_t> tokens,
                          const SpeculationJudge &judge) {
  RETORT_RETURN_IF_ERROR(checkFeed(tokens));
  size_t most = std::min<size_t>({kMaxSpeculation, chunk, headTokens});
  if (tokens.size() > most)
    return invalidArgument("expected at most " + std::to_string(most) +
                           " tokens to speculate with, found " +
                           std::to_string(tokens.size()));
  const abi::Program &program = *shared->index().program();
  int64_t n = static_cast<int64_t>(tokens.size());
  hasLogits = false;
  RETORT_RETURN_IF_ERROR(runBody(tokens, 0, n));
  const float *rows = rowsOf(program.logits_buffer());
  int64_t row = 0;
  while (true) {
    append(tokens.subspan(row, 1));
    RETORT_ASSIGN_OR_RETURN(bool wanted,
                            judge(row, {rows + row * program.logits_stride(),
                                        shared->info().vocab_size()}));
    if (!wanted || row + 1 == n)
      break;
    ++row;
  }
  keepLogits(row);
  hasLogits = true;
  return Status::ok();
}

Result<std::span<const float>> Session::draft(int32_t next) {
  if (!options.draft)
    return invalidArgument("expected a session with drafts");
  if (next < 0 || next >= int64_t(shared->info().vocab_size()))
    return invalidArgument("id " + std::to_string(next) +
                           " is not in the vocabulary of " +
                           std::to_string(shared->info().vocab_size()));
  if (undrafted == 0)
    return std::span<const float>();
  int64_t row = static_cast<int64_t>(undrafted) - 1;
  RETORT_RETURN_IF_ERROR(runDraftBody(next));
  Step head{&phaseFor(abi::PhaseKind::DraftHead, 1), {1, position() - 1, row}};
  RETORT_RETURN_IF_ERROR(runSteps({&head, 1}));
  const abi::Program &program = *shared->index().program();
  return std::span<const float>(rowsOf(program.draft_logits_buffer()),
                                shared->info().vocab_size());
}

std::span<const float> Session::logits() const {
  if (!hasLogits)
    return {};
  const std::byte *data =
      buffers[shared->index().program()->logits_buffer()].data();
  return {reinterpret_cast<const float *>(data), shared->info().vocab_size()};
}

Status Session::rewind(uint32_t to) {
  if (to > position())
    return invalidArgument("cannot rewind to position " + std::to_string(to) +
                           ": the context holds " + std::to_string(position()) +
                           " tokens");
  if (to < position()) {
    undrafted -= std::min<uint64_t>(undrafted, position() - to);
    history.resize(to);
    hasLogits = false;
  }
  return Status::ok();
}

Status Session::repeatContext(uint32_t to) {
  uint64_t have = position();
  if (have == 0 || have % abi::kPositionPadding || to < have || to > limit)
    return invalidArgument(
        "cannot repeat a context of " + std::to_string(have) +
        " tokens up to " + std::to_string(to) + ": expected a multiple of " +
        std::to_string(abi::kPositionPadding) + " tokens and from as many to " +
        std::to_string(limit));
  const auto &described = *shared->index().program()->buffers();
  for (uint32_t i = 0; i < described.size(); ++i) {
    uint64_t perPosition = described[i]->bytes_per_position();
    std::byte *data = buffers[i].data();
    // Whole padded pieces: positions of a block share lines.
    uint64_t end = roundUp<uint64_t>(to, abi::kPositionPadding);
    for (uint64_t at = have; at < end; at += have)
      std::memcpy(data + at * perPosition, data,
                  std::min(have, end - at) * perPosition);
  }
  undrafted = 0;
  for (size_t i = 0; history.size() < to; ++i)
    history.push_back(history[i]);
  return Status::ok();
}

} // namespace retort
