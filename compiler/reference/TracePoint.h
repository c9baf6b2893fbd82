//===- TracePoint.h - Named values of a forward pass ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The values of a model at which two ways to compute it can be compared: what
/// they are does not depend on how launches are fused or weights encoded.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_REFERENCE_TRACEPOINT_H
#define RETORT_COMPILER_REFERENCE_TRACEPOINT_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <tuple>

namespace retort::reference {

/// In the order in which a layer computes them.
enum class TraceOp : uint8_t {
  Embedding, ///< [hidden]
  Query,     ///< [heads * headDim] with bias, before rotation; no latent
             ///< attention for this and the next three
  Key,       ///< [kvHeads * headDim], the same
  Value,     ///< [kvHeads * headDim]
  Rope,      ///< the rotated queries
  Attention, ///< what heads have read, [heads * value size]
  Output,    ///< [hidden]: the residual with o_proj's result added
  Router,    ///< [experts]: scores before the sigmoid
  GateUp,    ///< [intermediate]: silu(gate) * up; of layers without experts
  Down,      ///< [hidden]: the residual with down_proj's result added
  Experts,   ///< the same of layers with experts
  Logits     ///< [vocab]: final norm and output matrix
};

/// As the checkpoint calls it: "o_proj".
constexpr std::string_view traceOpName(TraceOp op) {
  constexpr std::string_view kNames[] = {
      "embed_tokens", "q_proj", "k_proj",  "v_proj",    "rope",    "attention",
      "o_proj",       "router", "gate_up", "down_proj", "experts", "lm_head"};
  return kNames[static_cast<size_t>(op)];
}

/// Whether the value is the residual stream, to which an op has added.
constexpr bool isResidual(TraceOp op) {
  return op == TraceOp::Embedding || op == TraceOp::Output ||
         op == TraceOp::Down || op == TraceOp::Experts;
}

/// Ordered as they are computed.
struct TracePoint {
  int64_t layer = -1; ///< -1 outside of the layers
  TraceOp op = TraceOp::Embedding;

  bool operator==(const TracePoint &) const = default;
  friend bool operator<(const TracePoint &a, const TracePoint &b) {
    auto key = [](const TracePoint &p) {
      return std::tuple(p.op == TraceOp::Logits, p.layer, p.op);
    };
    return key(a) < key(b);
  }
};

/// Sees the rows [rows.size() / cols, cols] of tokens from `firstToken` on at a
/// point. May change them: what follows is computed from what it leaves.
using TraceObserver = std::function<Status(
    TracePoint point, int64_t firstToken, int64_t cols, std::span<float> rows)>;

} // namespace retort::reference

#endif // RETORT_COMPILER_REFERENCE_TRACEPOINT_H
