//===- BenchBatch.cpp - Speed of sequences together -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Bench.h"

#include "runtime/engine/Batch.h"
#include "runtime/text/Sampler.h"
#include "tools/common/Cli.h"

#include <algorithm>

namespace retort::tools {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

/// Speed of `sequences` together, in tokens per second of all of them.
struct BatchSpeed {
  uint32_t sequences;
  std::vector<double> tps;
  double overOne = 0; ///< times the speed of one alone
};

/// The numbers asked for, in order and once each, and 1 to compare with.
std::vector<BatchSpeed> speedsFor(std::vector<uint32_t> numbers) {
  numbers.push_back(1);
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  std::vector<BatchSpeed> speeds;
  for (uint32_t n : numbers)
    speeds.push_back({n, {}});
  return speeds;
}

Result<std::unique_ptr<Batch>> openBatch(const BenchOptions &o,
                                         uint32_t sequences, bool ledger) {
  RETORT_ASSIGN_OR_RETURN(auto model, openModel(o));
  if (!ledger && !model->artifact().weightsVerified())
    noteUnverifiedWeights(model->artifact().weightBytes(),
                          model->artifact().physicalMemory());
  BatchOptions options;
  options.sequences = sequences;
  options.context = o.prompt + o.gen;
  options.threads = o.threads;
  options.pin = o.pin;
  options.prefillChunk = o.prefillChunk;
  options.ledger = ledger;
  RETORT_ASSIGN_OR_RETURN(auto batch, Batch::create(model, options));
  for (uint32_t s = 0; s < sequences; ++s)
    RETORT_RETURN_IF_ERROR(
        batch->feed(s, promptTokens(o.prompt, model->info().vocab_size(), s)));
  return batch;
}

/// Continues the first `n` sequences, all of which hold the prompt, and takes
/// them back there.
Result<double> decode(Batch &batch, uint32_t n, const BenchOptions &o) {
  Sampler sampler(SamplerOptions{});
  std::vector<BatchToken> next;
  for (uint32_t s = 0; s < n; ++s)
    next.push_back({s, batch.tokens(s).front()});
  Clock::time_point begin = Clock::now();
  for (uint32_t i = 0; i < o.gen; ++i) {
    if (i > 0)
      for (BatchToken &token : next) {
        RETORT_ASSIGN_OR_RETURN(token.id,
                                sampler.sample(batch.logits(token.sequence)));
      }
    RETORT_RETURN_IF_ERROR(batch.step(next));
  }
  double tps = n * o.gen / secondsSince(begin);
  for (uint32_t s = 0; s < n; ++s)
    RETORT_RETURN_IF_ERROR(batch.rewind(s, o.prompt));
  return tps;
}

std::string speedTable(const std::vector<BatchSpeed> &speeds,
                       const BenchOptions &o) {
  char row[160];
  std::snprintf(row, sizeof row, "%-8s %12s %12s %12s   (%u tokens after %u)\n",
                "batch", "t/s", "t/s each", "over 1", o.gen, o.prompt);
  std::string out = row;
  for (const BatchSpeed &speed : speeds) {
    double tps = median(speed.tps);
    std::snprintf(row, sizeof row, "%-8u %12.1f %12.1f %12.2f\n",
                  speed.sequences, tps, tps / speed.sequences, speed.overOne);
    out += row;
  }
  return out;
}

Json speedJson(const std::vector<BatchSpeed> &speeds) {
  Json out = Json::array();
  for (const BatchSpeed &speed : speeds)
    out.push_back({{"sequences", speed.sequences},
                   {"decode_tps", median(speed.tps)},
                   {"over_one", speed.overOne}});
  return out;
}

/// A run of its own, since taking times at each launch costs some.
Result<LedgerPart> takeLedger(const BenchOptions &o, uint32_t sequences) {
  RETORT_ASSIGN_OR_RETURN(auto batch, openBatch(o, sequences, true));
  batch->resetLedger();
  RETORT_ASSIGN_OR_RETURN(double tps, decode(*batch, sequences, o));
  uint32_t tokens = sequences * o.gen;
  return LedgerPart{"decode of " + std::to_string(sequences) + " sequences",
                    tokens, tokens / tps,
                    summarize(batch->ledger(), batch->model().program())};
}

} // namespace

Status benchBatch(const BenchOptions &o) {
  if (o.gen == 0)
    throw UsageError("--batch: expected at least one token to generate, found "
                     "--gen 0");
  std::vector<BatchSpeed> speeds = speedsFor(o.batch);
  uint32_t most = speeds.back().sequences;
  RETORT_ASSIGN_OR_RETURN(auto batch, openBatch(o, most, false));
  // In turn, so that what else the machine does falls on all alike.
  for (uint32_t rep = 0; rep < o.reps; ++rep)
    for (BatchSpeed &speed : speeds) {
      RETORT_ASSIGN_OR_RETURN(double tps, decode(*batch, speed.sequences, o));
      speed.tps.push_back(tps);
    }
  for (BatchSpeed &speed : speeds) {
    std::vector<double> overOne;
    for (size_t rep = 0; rep < o.reps; ++rep)
      overOne.push_back(speed.tps[rep] / speeds.front().tps[rep]);
    speed.overOne = median(std::move(overOne));
  }
  RETORT_ASSIGN_OR_RETURN(
      MemoryUse memory, predictMemory(batch->model().index(), batch->context(),
                                      batch->threads(), batch->sequences()));
  MachinePeaks machine;
  LedgerPart ledger;
  if (o.ledger) {
    RETORT_ASSIGN_OR_RETURN(auto workers, Workers::create(batch->threads()));
    RETORT_ASSIGN_OR_RETURN(machine, measureMachine(*workers));
    batch.reset();
    RETORT_ASSIGN_OR_RETURN(ledger, takeLedger(o, most));
  }
  if (o.json) {
    Json out = {{"batch", speedJson(speeds)},
                {"memory_bytes", memory.total()},
                {"cache_bytes", memory.caches}};
    if (o.ledger) {
      out["ledger"] = ledgerJson(ledger, machine);
      out["ledger_sums"] = {ledgerSumJson(ledger, machine)};
    }
    return writeOut(out.dump(2) + "\n");
  }
  std::string text = speedTable(speeds, o) + "memory   " +
                     formatBytes(memory.total()) + " for " +
                     std::to_string(most) + ", of which caches " +
                     formatBytes(memory.caches) + "\n";
  if (o.ledger)
    text += "\n" + ledgerTable(ledger, machine);
  return writeOut(text);
}

} // namespace retort::tools
