//===- LaunchCost.cpp - Bytes and flops of a launch -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/plan/LaunchCost.h"

#include "compiler/lower/Tiling.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace retort {

/// Of an activation; 0 for anything else.
static int64_t rowBytes(Value v) {
  if (auto encoding = encoding::getActivationEncoding(v.getType()))
    return encoding->rowBytes(kernel::strideOf(v));
  return kernel::isActivation(v.getType()) ? kernel::strideOf(v) * 4 : 0;
}

/// The sum of the parts but for the rows that they hand on.
static LaunchCost fusedCost(kernel::FusedOp fused, kernel::TokenClass tokens) {
  LaunchCost cost;
  for (Operation &part : fused.getBody().front().without_terminator()) {
    LaunchCost own = launchCost(&part, tokens, 0);
    cost.weightBytes += own.weightBytes;
    cost.bytesPerToken += own.bytesPerToken;
    cost.flopsPerToken += own.flopsPerToken;
    for (Value v : part.getOperands())
      if (!isa<BlockArgument>(v))
        cost.bytesPerToken -= 2 * rowBytes(v);
  }
  return cost;
}

LaunchCost launchCost(Operation *launch, kernel::TokenClass tokens,
                      int64_t tokensPerTile) {
  if (auto fused = dyn_cast<kernel::FusedOp>(launch))
    return fusedCost(fused, tokens);
  LaunchCost cost;
  auto activation = [&](Value v) { cost.bytesPerToken += rowBytes(v); };
  llvm::for_each(launch->getOperands(), activation);
  llvm::for_each(launch->getResults(), activation);

  auto shape = [](Value w) {
    return cast<RankedTensorType>(w.getType()).getShape();
  };
  auto matrix = [&](Value w) {
    auto s = shape(w);
    auto encoding = *encoding::getPackedEncoding(w.getType());
    cost.weightBytes = encoding.matrixBytes(s[0], s[1]);
    cost.flopsPerToken = 2 * s[0] * s[1];
  };
  auto experts = [&](Value w, kernel::ExpertListsType lists) {
    matrix(w);
    int64_t bytes = cost.weightBytes / lists.getNumExperts();
    int64_t slots = lists.getSlots(), experts = lists.getNumExperts();
    if (tokens == kernel::TokenClass::One) {
      cost.weightBytes = bytes * slots;
    } else if (tokens == kernel::TokenClass::Few &&
               slots * kFewTokens <= experts) {
      // Hardly two tokens share an expert.
      cost.weightBytes = 0;
      cost.bytesPerToken += bytes * slots;
    } else {
      cost.weightBytes = bytes * experts;
    }
    cost.flopsPerToken =
        cost.flopsPerToken / lists.getNumExperts() * lists.getSlots();
  };
  llvm::TypeSwitch<Operation *>(launch)
      .Case([&](kernel::EmbedOp op) {
        auto encoding = *encoding::getPackedEncoding(op.getWeight().getType());
        cost.bytesPerToken +=
            encoding.stripBytes(shape(op.getWeight())[1]) / kStripRows;
      })
      .Case([&](kernel::RmsNormOp op) {
        cost.flopsPerToken = 4 * shape(op.getWeight())[0];
      })
      .Case([&](kernel::LinearOp op) { matrix(op.getWeight()); })
      .Case([&](kernel::HeadLinearOp op) { matrix(op.getWeight()); })
      .Case([&](kernel::MoeUpOp op) {
        experts(op.getWeight(), op.getLists().getType());
      })
      .Case([&](kernel::MoeDownOp op) {
        experts(op.getWeight(), op.getLists().getType());
      })
      .Case([&](kernel::LatentCacheOp op) {
        int64_t size = op.getCache().getType().getHeadSize();
        cost.bytesPerToken += op.getCache().getType().getPositionBytes();
        cost.flopsPerToken = 4 * size;
      })
      .Case([&](kernel::LatentAttentionOp op) {
        int64_t size = op.getCache().getType().getHeadSize();
        int64_t rank = op.getRank();
        cost.bytesPerPair = op.getCache().getType().getPositionBytes();
        cost.flopsPerPair =
            2 * static_cast<int64_t>(op.getNumHeads()) * (size + rank);
      })
      .Case([&](kernel::RopeCacheOp op) {
        int64_t kv = op.getKeys().getType().getNumHeads() *
                     op.getKeys().getType().getHeadSize();
        cost.bytesPerToken += 2 * op.getKeys().getType().getPositionBytes();
        cost.flopsPerToken =
            3 * (op.getNumHeads() * op.getKeys().getType().getHeadSize() + kv);
      })
      .Case([&](kernel::AttentionOp op) {
        auto keys = op.getKeys().getType();
        cost.bytesPerPair =
            2 * keys.getPositionBytes() / std::max<int64_t>(1, tokensPerTile);
        cost.flopsPerPair = 4 * op.getNumHeads() * keys.getHeadSize();
      });
  return cost;
}

} // namespace retort
