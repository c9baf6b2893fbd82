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

nlohmann::ordered_json ledgerJson(const std::vector<LedgerLine> &lines,
                                  const MachinePeaks &machine);

/// Sums of each phase are of one kind of work, so shares are within a phase.
std::string ledgerTable(const std::vector<LedgerLine> &lines,
                        const MachinePeaks &machine);

/// `bench --batch`.
Status benchBatch(const BenchOptions &o);

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_BENCH_H
