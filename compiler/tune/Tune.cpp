//===- Tune.cpp - Tile shapes by timing -----------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/tune/Tune.h"

#include "compiler/plan/LaunchEntry.h"
#include "compiler/plan/PhaseLaunches.h"
#include "compiler/tune/KernelTimer.h"
#include "compiler/tune/TuningCache.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/TargetParser/Host.h"

#include <algorithm>
#include <chrono>

using namespace mlir;

namespace retort {
namespace {

using kernel::LinearOp;
using kernel::TokenClass;

/// Rounds in which the variants of a kernel are timed in turn.
constexpr int kRounds = 7;
/// What a tile shape must gain to be chosen: less is noise.
constexpr double kLeastGain = 1.03;

/// One kernel to tune: a launch as a phase makes it, and the launches of the
/// function that become it.
struct Job {
  Operation *launch;
  TokenClass tokens;
  llvm::SmallVector<LinearOp> linears;
};

LinearOp linearOf(Operation *launch) {
  if (auto fused = dyn_cast<kernel::FusedOp>(launch))
    return fused.getLinear();
  return dyn_cast<LinearOp>(launch);
}

/// The function's own op, of which a fused launch has a copy.
LinearOp originalOf(const PhaseLaunches::Launch &launch) {
  Operation *op = launch.results.front().getDefiningOp();
  if (auto rope = dyn_cast<kernel::RopeCacheOp>(op))
    op = rope.getQkv().getDefiningOp();
  return cast<LinearOp>(op);
}

LinearTiling tilingOf(Operation *launch, TokenClass tokens) {
  if (auto fused = dyn_cast<kernel::FusedOp>(launch))
    return FusedTiling(fused, tokens).linear;
  return getLinearTiling(cast<LinearOp>(launch), tokens);
}

/// As many as a class typically has, but no more than some 20 GFLOP of them.
int64_t tokensFor(LinearOp op, TokenClass tokens) {
  if (tokens == TokenClass::One)
    return 1;
  if (tokens == TokenClass::Few)
    return kFewTokens / 2;
  auto weight = cast<RankedTensorType>(op.getWeight().getType());
  constexpr int64_t kMost = 256, kLeast = 16;
  return std::clamp(int64_t(10'000'000'000) / weight.getNumElements() / 16 * 16,
                    kLeast, kMost);
}

/// Strips a tile that differ from the table's and leave every thread a tile.
llvm::SmallVector<int64_t> candidates(const LinearTiling &table,
                                      TokenClass tokens, unsigned threads) {
  llvm::SmallVector<int64_t> list;
  int64_t least = tokens == TokenClass::Many ? 4 : 1;
  for (int64_t strips = least; strips <= 8 * least; strips *= 2)
    if (strips % table.unitStrips == 0 && strips != table.stripsPerTile() &&
        ceilDiv(table.units, strips / table.unitStrips) >=
            static_cast<int64_t>(threads))
      list.push_back(strips);
  return list;
}

double median(std::vector<double> values) {
  auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class Tuner {
public:
  Tuner(const Target &target, Workers &workers)
      : target(target), workers(workers) {}

  /// Times the table's tiles and all candidates.
  Result<Tuned> tune(const Job &job);

private:
  Result<KernelTimer> timerFor(const Job &job, int64_t strips);

  const Target &target;
  Workers &workers;
};

Result<KernelTimer> Tuner::timerFor(const Job &job, int64_t strips) {
  OwningOpRef<ModuleOp> module = ModuleOp::create(job.launch->getLoc());
  OpBuilder b = OpBuilder::atBlockEnd(module->getBody());
  kernel::EntryOp entry = createEntry(b, "k", job.launch, job.tokens);
  LinearOp linear = linearOf(entry.getLaunch());
  llvm::SmallVector<int64_t> all(3, 0);
  all[static_cast<size_t>(job.tokens)] = strips;
  linear->setAttr(kStripsAttr, b.getDenseI64ArrayAttr(all));
  return KernelTimer::create(*module, target, tokensFor(linear, job.tokens),
                             workers.size());
}

Result<Tuned> Tuner::tune(const Job &job) {
  llvm::SmallVector<int64_t> strips = {0};
  strips.append(
      candidates(tilingOf(job.launch, job.tokens), job.tokens, workers.size()));
  if (strips.size() == 1)
    return Tuned();
  std::vector<KernelTimer> timers;
  for (int64_t n : strips) {
    RETORT_ASSIGN_OR_RETURN(KernelTimer timer, timerFor(job, n));
    timers.push_back(std::move(timer));
  }
  // What else the machine does falls on all of a round; the first is a trial.
  std::vector<std::vector<double>> seconds(timers.size());
  for (int round = 0; round <= kRounds; ++round)
    for (auto [i, timer] : llvm::enumerate(timers)) {
      double t = timer.run(workers);
      if (round > 0)
        seconds[i].push_back(t);
    }
  Tuned best;
  for (size_t i = 1; i < timers.size(); ++i) {
    std::vector<double> gains;
    for (int round = 0; round < kRounds; ++round)
      gains.push_back(seconds[0][round] / seconds[i][round]);
    double fastest =
        *llvm::min_element(seconds[0]) / *llvm::min_element(seconds[i]);
    double gain = median(gains);
    if (gain > kLeastGain && fastest > 1 && gain > best.gain)
      best = {strips[i], gain};
  }
  return best;
}

/// Notes a choice on all launches that it is for.
void note(const Job &job, const Tuned &tuned) {
  for (LinearOp op : job.linears) {
    llvm::SmallVector<int64_t> strips(3, 0);
    llvm::SmallVector<double> gains(3, 1.0);
    if (auto known = op->getAttrOfType<DenseI64ArrayAttr>(kStripsAttr))
      strips.assign(known.asArrayRef().begin(), known.asArrayRef().end());
    if (auto known = op->getAttrOfType<DenseF64ArrayAttr>(kGainsAttr))
      gains.assign(known.asArrayRef().begin(), known.asArrayRef().end());
    strips[static_cast<size_t>(job.tokens)] = tuned.strips;
    gains[static_cast<size_t>(job.tokens)] = tuned.gain;
    Builder b(op.getContext());
    op->setAttr(kStripsAttr, b.getDenseI64ArrayAttr(strips));
    op->setAttr(kGainsAttr, b.getDenseF64ArrayAttr(gains));
  }
}

} // namespace

Result<TuneReport> tuneKernels(ModuleOp module, const Target &target,
                               const TuneOptions &options) {
  auto start = std::chrono::steady_clock::now();
  RETORT_ASSIGN_OR_RETURN(TuningCache cache, TuningCache::read(options.cache));
  RETORT_ASSIGN_OR_RETURN(std::unique_ptr<Workers> workers,
                          Workers::create(options.threads));
  std::string machine = options.build + ", " + target.name.str() + " on " +
                        llvm::sys::getHostCPUName().str() + ", " +
                        std::to_string(workers->size()) + " threads: ";

  std::vector<std::unique_ptr<PhaseLaunches>> phases;
  llvm::MapVector<std::string, Job, std::map<std::string, unsigned>> jobs;
  for (auto func : module.getOps<func::FuncOp>())
    for (TokenClass tokens :
         {TokenClass::One, TokenClass::Few, TokenClass::Many}) {
      phases.push_back(std::make_unique<PhaseLaunches>(func, tokens));
      for (const PhaseLaunches::Launch &launch : phases.back()->launches()) {
        if (!linearOf(launch.op))
          continue;
        std::string key = machine + kernel::stringifyTokenClass(tokens).str() +
                          ", " + describeLaunch(launch.op);
        Job &job = jobs[key];
        job.launch = launch.op;
        job.tokens = tokens;
        job.linears.push_back(originalOf(launch));
      }
    }

  TuneReport report;
  report.kernels = jobs.size();
  Tuner tuner(target, *workers);
  Status stopped;
  for (auto &[key, job] : jobs) {
    std::optional<Tuned> tuned = cache.find(key);
    if (!tuned) {
      if (options.cancel && options.cancel->load()) {
        stopped = Status::error(Code::Cancelled, "cancelled");
        break;
      }
      if (options.progress)
        options.progress(report.timed, jobs.size());
      RETORT_ASSIGN_OR_RETURN(tuned, tuner.tune(job));
      cache.set(key, *tuned);
      ++report.timed;
    }
    if (tuned->strips == 0)
      continue;
    note(job, *tuned);
    ++report.changed;
  }
  if (report.timed != 0)
    RETORT_RETURN_IF_ERROR(cache.write(options.cache));
  if (!stopped.isOk())
    return stopped;
  report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return report;
}

} // namespace retort
