//===- Emitters.cpp - Emitters of launches --------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Emitters.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace retort {

using namespace kernel;

Emitter lookupEmitter(Operation *launch) {
  return TypeSwitch<Operation *, Emitter>(launch)
      .Case([](EmbedOp) { return emitEmbed; })
      .Case([](RmsNormOp) { return emitRmsNorm; })
      .Case([](RopeTableOp) { return emitRopeTable; })
      .Case([](RopeCacheOp) { return emitRopeCache; })
      .Case([](AttentionOp) { return emitAttention; })
      .Case([](LinearOp) { return emitLinear; })
      .Case([](FusedOp) { return emitFused; })
      .Case([](HeadLinearOp) { return emitHeadLinear; })
      .Case([](LatentCacheOp) { return emitLatentCache; })
      .Case([](LatentAttentionOp) { return emitLatentAttention; })
      .Case([](MoeRouteOp) { return emitMoeRoute; })
      .Case([](MoeGroupOp) { return emitMoeGroup; })
      .Case([](MoeUpOp) { return emitMoeUp; })
      .Case([](MoeDownOp) { return emitMoeDown; })
      .Default([](Operation *) { return nullptr; });
}

} // namespace retort
