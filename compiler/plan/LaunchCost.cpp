//===- LaunchCost.cpp - Bytes and flops of a launch -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/plan/LaunchCost.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace retort {

LaunchCost launchCost(Operation *launch, int64_t tokensPerTile) {
  LaunchCost cost;
  for (Value v : launch->getOperands())
    if (kernel::isActivation(v.getType()))
      cost.bytesPerToken += kernel::strideOf(v) * 4;
  for (Value v : launch->getResults())
    if (kernel::isActivation(v.getType()))
      cost.bytesPerToken += kernel::strideOf(v) * 4;

  auto shape = [](Value w) {
    return cast<RankedTensorType>(w.getType()).getShape();
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
      .Case([&](kernel::LinearOp op) {
        auto s = shape(op.getWeight());
        auto encoding = *encoding::getPackedEncoding(op.getWeight().getType());
        cost.weightBytes = encoding.matrixBytes(s[0], s[1]);
        cost.flopsPerToken = 2 * s[0] * s[1];
      })
      .Case([&](kernel::RopeCacheOp op) {
        int64_t kv = op.getKeys().getType().getNumHeads() *
                     op.getKeys().getType().getHeadSize();
        cost.bytesPerToken += 2 * kv * 4;
        cost.flopsPerToken =
            3 * (op.getNumHeads() * op.getKeys().getType().getHeadSize() + kv);
      })
      .Case([&](kernel::AttentionOp op) {
        auto keys = op.getKeys().getType();
        cost.bytesPerPair = 2 * keys.getNumHeads() * keys.getHeadSize() * 4 /
                            std::max<int64_t>(1, tokensPerTile);
        cost.flopsPerPair = 4 * op.getNumHeads() * keys.getHeadSize();
      });
  return cost;
}

} // namespace retort
