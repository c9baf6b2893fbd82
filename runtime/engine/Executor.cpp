//===- Executor.cpp - Runs phases of a program ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Executor.h"

#include "runtime/abi/Format.h"
#include "runtime/loader/Semantics.h"
#include "runtime/support/CheckedMath.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace retort {

struct Executor::Launch {
  const abi::Launch *source;
  retort_kernel_fn run;
  /// The arguments for lane 0, then for lane 1, ...; for one lane unless the
  /// launch reads the position.
  std::vector<void *> args;
  uint64_t tiles;
  uint64_t tokensPerTile; ///< 0: tiles don't depend on the number of tokens
  bool readsPosition;
  bool hasCaches;
  bool prepares; ///< see Kernel.prepares in the schema

  uint64_t tileCount(uint64_t tokens) const {
    return tokensPerTile == 0 ? tiles : tiles * ceilDiv(tokens, tokensPerTile);
  }
  void *const *laneArgs(uint64_t lane) const {
    return args.data() + lane * source->args()->size();
  }
};

struct Executor::Phase {
  abi::PhaseKind kind;
  uint32_t index; ///< into Program.phases
  uint64_t minTokens, maxTokens;
  std::vector<Launch> launches;
  /// The sequence whose caches the launches have, by lane; 0: none.
  std::vector<uint64_t> bound;
};

namespace {

/// How often a launch is called in a step, and what for.
struct Calls {
  uint64_t lanes;
  int64_t tokens; ///< of each call

  Calls(const PhaseStep &step, bool readsPosition)
      : lanes(readsPosition ? std::max<uint64_t>(step.lanes.size(), 1) : 1),
        tokens(lanes > 1 ? 1 : step.tokens) {}
  /// Without lanes of its own a launch of several sequences has no position.
  retort_kernel_scalars scalars(const PhaseStep &step, uint64_t lane) const {
    bool known = lanes > 1 || step.lanes.size() == 1;
    return {tokens, known ? step.lanes[lane].position : 0, step.firstRow};
  }
};

} // namespace

Executor::Executor(std::shared_ptr<const Model> model, ExecutorOptions options)
    : shared(std::move(model)), options(std::move(options)) {}

Executor::~Executor() = default;

Result<std::unique_ptr<Executor>>
Executor::create(std::shared_ptr<const Model> model, ExecutorOptions options) {
  std::unique_ptr<Executor> made(
      new Executor(std::move(model), std::move(options)));
  RETORT_ASSIGN_OR_RETURN(
      made->workers, Workers::create(made->options.threads, made->options.pin));
  RETORT_RETURN_IF_ERROR(made->reserve());
  made->maxLanes = made->findLanes();
  made->bindPhases();
  return made;
}

Status Executor::reserve() {
  const abi::Program &program = shared->program();
  for (const abi::Buffer *buffer : *program.buffers()) {
    activations.emplace_back();
    if (buffer->kind() != abi::BufferKind::Activation)
      continue;
    auto pages =
        Pages::allocate(*bufferBytes(*buffer, shared->info().max_chunk(), 0));
    if (!pages.isOk())
      return pages.takeStatus().withContext("buffer '" + buffer->name()->str() +
                                            "'");
    activations.back() = std::move(*pages);
  }
  for (const abi::Kernel *kernel : *program.kernels())
    scratchStride = std::max(scratchStride, kernel->scratch_bytes());
  scratchStride = roundUp(scratchStride, abi::kPageSize);
  auto pages = Pages::allocate(scratchStride * workers->size());
  if (!pages.isOk())
    return pages.takeStatus().withContext("scratch");
  scratch = std::move(*pages);
  return Status::ok();
}

uint64_t Executor::findLanes() const {
  const abi::Program &program = shared->program();
  auto isCache = [&](const abi::Arg *arg) {
    return arg->kind() == abi::ArgKind::Buffer &&
           program.buffers()->Get(arg->index())->kind() ==
               abi::BufferKind::Cache;
  };
  for (const abi::Phase *phase : *program.phases())
    for (const abi::Launch *launch : *phase->launches())
      if (!launch->reads_position() &&
          std::any_of(launch->args()->begin(), launch->args()->end(), isCache))
        return 1;
  const abi::Phase *body = findPhase(program, abi::PhaseKind::Body, 2);
  const abi::Phase *head = findPhase(program, abi::PhaseKind::Head, 2);
  return body && head
             ? std::min<uint64_t>(
                   {abi::kExactTokens, body->max_tokens(), head->max_tokens()})
             : 1;
}

void Executor::bindPhases() {
  const abi::Program &program = shared->program();
  for (const abi::Phase *source : *program.phases()) {
    Phase phase{source->kind(),
                static_cast<uint32_t>(phases.size()),
                source->min_tokens(),
                source->max_tokens(),
                {},
                std::vector<uint64_t>(maxLanes)};
    for (const abi::Launch *launch : *source->launches()) {
      Launch out{launch,
                 shared->code().kernel(launch->kernel()),
                 {},
                 launch->tiles(),
                 launch->tokens_per_tile(),
                 launch->reads_position(),
                 false,
                 program.kernels()->Get(launch->kernel())->prepares()};
      for (uint64_t lane = 0; lane < (out.readsPosition ? maxLanes : 1); ++lane)
        for (const abi::Arg *arg : *launch->args()) {
          if (arg->kind() == abi::ArgKind::Weight) {
            out.args.push_back(const_cast<std::byte *>(
                shared->artifact().weight(arg->index()).data()));
            continue;
          }
          const abi::Buffer &buffer = *program.buffers()->Get(arg->index());
          bool isCache = buffer.kind() == abi::BufferKind::Cache;
          out.hasCaches |= isCache;
          out.args.push_back(isCache ? nullptr
                                     : activations[arg->index()].data() +
                                           lane * buffer.bytes_per_token());
        }
      phase.launches.push_back(std::move(out));
    }
    if (phase.kind == abi::PhaseKind::Head)
      maxHeadTokens = std::max(maxHeadTokens, phase.maxTokens);
    phases.push_back(std::move(phase));
  }
}

Executor::Phase &Executor::phaseFor(abi::PhaseKind kind, uint64_t tokens) {
  for (Phase &phase : phases)
    if (phase.kind == kind && phase.minTokens <= tokens &&
        tokens <= phase.maxTokens)
      return phase;
  assert(false && "the loader has checked that phases cover all counts");
  __builtin_unreachable();
}

void Executor::bindLanes(Phase &phase, std::span<const Lane> lanes) {
  assert(lanes.size() <= maxLanes);
  const auto &buffers = *shared->program().buffers();
  for (size_t lane = 0; lane < lanes.size(); ++lane) {
    const Sequence &sequence = *lanes[lane].sequence;
    if (phase.bound[lane] == sequence.id())
      continue;
    phase.bound[lane] = sequence.id();
    for (Launch &launch : phase.launches) {
      if (!launch.hasCaches)
        continue;
      const auto &args = *launch.source->args();
      for (uint32_t i = 0; i < args.size(); ++i)
        if (args[i]->kind() == abi::ArgKind::Buffer &&
            buffers[args[i]->index()]->kind() == abi::BufferKind::Cache)
          launch.args[lane * args.size() + i] =
              sequence.cache(args[i]->index());
    }
  }
}

void Executor::setTokens(std::span<const int32_t> tokens) {
  std::memcpy(activations[shared->program().tokens_buffer()].data(),
              tokens.data(), tokens.size_bytes());
}

void Executor::record(const Phase &phase, size_t i, const PhaseStep &step,
                      uint64_t nanoseconds) {
  const Launch &launch = phase.launches[i];
  Calls calls(step, launch.readsPosition);
  LaunchWork work;
  for (uint64_t lane = 0; lane < calls.lanes; ++lane) {
    LaunchWork part = launchWork(*launch.source, calls.tokens,
                                 calls.scalars(step, lane).position);
    work.bytes += part.bytes;
    work.flops += part.flops;
  }
  times.record(shared->program(), phase.index, static_cast<uint32_t>(i), work,
               nanoseconds);
}

void Executor::observe(const Phase &phase, size_t i, const PhaseStep &step) {
  const Launch &launch = phase.launches[i];
  const auto &args = *launch.source->args();
  const abi::Arg &last = *args[args.size() - 1];
  uint64_t rowBytes =
      last.kind() == abi::ArgKind::Buffer
          ? shared->program().buffers()->Get(last.index())->bytes_per_token()
          : 0;
  Calls calls(step, launch.readsPosition);
  for (uint64_t lane = 0; lane < calls.lanes; ++lane) {
    retort_kernel_scalars scalars = calls.scalars(step, lane);
    options.observer(
        {*launch.source, scalars,
         static_cast<std::byte *>(launch.laneArgs(lane)[args.size() - 1]),
         rowBytes});
  }
}

bool Executor::walk(std::span<const PhaseStep> steps) {
  using Clock = std::chrono::steady_clock;
  bool stop = cancelled.load(std::memory_order_relaxed);
  if (stop)
    return false;
  std::vector<Phase *> walked;
  for (const PhaseStep &step : steps) {
    walked.push_back(&phaseFor(step.kind, step.tokens));
    bindLanes(*walked.back(), step.lanes);
  }
  nextTile.store(0, std::memory_order_relaxed);
  Clock::time_point began = Clock::now();

  workers->run([&](unsigned worker) {
    void *workspace = scratch.data() + worker * scratchStride;
    for (size_t s = 0; s < steps.size(); ++s) {
      const PhaseStep &step = steps[s];
      const Phase &phase = *walked[s];
      for (size_t i = 0; i < phase.launches.size(); ++i) {
        const Launch &launch = phase.launches[i];
        // The tiles of all lanes are handed out together: one barrier.
        Calls calls(step, launch.readsPosition);
        uint64_t laneTiles = launch.tileCount(calls.tokens);
        uint64_t tiles = laneTiles * calls.lanes;
        bool isPrepared = !launch.prepares;
        for (uint64_t tile; (tile = nextTile.fetch_add(
                                 1, std::memory_order_relaxed)) < tiles;) {
          uint64_t lane = tile / laneTiles;
          retort_kernel_scalars scalars = calls.scalars(step, lane);
          if (!isPrepared)
            launch.run(launch.laneArgs(lane), &scalars, workspace, -1);
          isPrepared = true;
          launch.run(launch.laneArgs(lane), &scalars, workspace,
                     static_cast<int64_t>(tile % laneTiles));
        }
        // Whoever comes last prepares the next launch for all.
        workers->barrier().arrive([&] {
          nextTile.store(0, std::memory_order_relaxed);
          stop = cancelled.load(std::memory_order_relaxed);
          if (options.observer)
            observe(phase, i, step);
          if (!options.ledger)
            return;
          Clock::time_point now = Clock::now();
          record(phase, i, step, std::chrono::nanoseconds(now - began).count());
          began = Clock::now();
        });
        if (stop)
          return;
      }
    }
  });
  return !stop;
}

Status Executor::run(std::span<const PhaseStep> steps) {
  if (walk(steps))
    return Status::ok();
  clearCancel();
  return Status::error(Code::Cancelled, "cancelled");
}

} // namespace retort
