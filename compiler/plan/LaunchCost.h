//===- LaunchCost.h - Bytes and flops of a launch ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What a launch reads, writes and computes, for the roofline ledger.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PLAN_LAUNCHCOST_H
#define RETORT_COMPILER_PLAN_LAUNCHCOST_H

#include "dialects/Kernel/Kernel.h"

namespace retort {

/// Bytes and flops of a launch over n tokens that see `pairs` (query, key)
/// pairs: weightBytes + bytesPerToken n + bytesPerPair pairs, and likewise
/// flops. Weights count once whatever n is; an embedding reads one row a token.
struct LaunchCost {
  int64_t weightBytes = 0;
  int64_t bytesPerToken = 0;
  int64_t bytesPerPair = 0;
  int64_t flopsPerToken = 0;
  int64_t flopsPerPair = 0;
};

/// `tokensPerTile` tells how many queries share a read of the cache. One token
/// reads the experts that fire, many are taken to read all of them.
LaunchCost launchCost(mlir::Operation *launch, kernel::TokenClass tokens,
                      int64_t tokensPerTile);

} // namespace retort

#endif // RETORT_COMPILER_PLAN_LAUNCHCOST_H
