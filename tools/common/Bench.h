//===- Bench.h - What measurements of speed share ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_COMMON_BENCH_H
#define RETORT_TOOLS_COMMON_BENCH_H

#include "runtime/engine/Ledger.h"
#include "runtime/engine/Machine.h"
#include "runtime/engine/Model.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace retort::tools {

struct BenchOptions {
  std::string model, target;
  uint32_t prompt = 512, context = 0, gen = 64, reps = 5, threads = 0,
           prefillChunk = 0;
  std::vector<uint32_t> batch; ///< numbers of sequences; empty: no batches
  bool json = false, ledger = false;
  Placement pin = Placement::Auto, interleave = Placement::Auto;

  /// Positions before the first generated token.
  uint32_t before() const { return std::max(prompt, context); }
};

double secondsSince(std::chrono::steady_clock::time_point begin);

/// 0 of none.
double median(std::vector<double> values);

/// Opens the model as `run` does before the first token. InvalidArgument if its
/// context doesn't hold prompt and generated tokens.
Result<std::shared_ptr<const Model>> openModel(const BenchOptions &o);

/// Ids spread over the vocabulary; timing does not depend on which.
std::vector<int32_t> promptTokens(uint32_t count, uint32_t vocab,
                                  uint32_t sequence);

/// The launches of some tokens, and how long these took by the clock.
struct LedgerPart {
  std::string name; ///< "prefill", "decode"
  uint32_t tokens;
  double seconds; ///< of all of them
  std::vector<LedgerLine> lines;
};

/// A launch's roof is what it would take if it read at the bandwidth or
/// computed at the peak (of int8 for integers, else of f32 FMAs), whichever is
/// longer.
nlohmann::ordered_json ledgerJson(const LedgerPart &part,
                                  const MachinePeaks &machine);
/// What a part's launches sum to, and those furthest from their roof.
nlohmann::ordered_json ledgerSumJson(const LedgerPart &part,
                                     const MachinePeaks &machine);
/// Both as text.
std::string ledgerTable(const LedgerPart &part, const MachinePeaks &machine);

/// `bench --batch`.
Status benchBatch(const BenchOptions &o);

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_BENCH_H
