//===- Reference.h - The numeric oracle -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Executes the forward pass of a checkpoint as its definition reads, with f32
/// activations and f64 sums, streaming one layer at a time from the checkpoint.
/// It shares no code with the compiler's kernels and is what they are compared
/// with.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_REFERENCE_REFERENCE_H
#define RETORT_COMPILER_REFERENCE_REFERENCE_H

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/reference/TracePoint.h"

#include <atomic>
#include <functional>
#include <span>
#include <vector>

namespace retort::reference {

/// What a weight is about to be used for.
enum class WeightUse {
  Embedding,  ///< rows are looked up
  Projection, ///< a linear layer or the output projection
  Vector,     ///< a norm or a bias
  Router      ///< the matrix whose products choose experts
};

/// Supplies the f32 values of rows [firstRow, firstRow + numRows) of a tensor,
/// row-major (elements of a vector, as rows of one column). Called from several
/// threads at once.
using WeightSource = std::function<Status(
    const checkpoint::TensorView &tensor, WeightUse use, int64_t firstRow,
    int64_t numRows, std::span<float> out)>;

/// Rounds a row of inputs of the linear layer whose weight that is.
using InputRounding = std::function<void(const checkpoint::TensorView &weight,
                                         std::span<float> row)>;

/// What a part of a cache is.
enum class CachePart {
  Head,             ///< a head's key, rotated, or its value
  Latent,           ///< multi-head latent attention's, normalized
  Rotary,           ///< its rotary key, a head's first and second half
  InterleavedRotary ///< the same with rotated pairs beside each other
};

/// Rounds what is kept of a position.
using CacheRounding =
    std::function<void(CachePart part, std::span<float> elements)>;

struct ReferenceOptions {
  int threads = 0; ///< 0 means as many as the machine has
  /// Instead of the checkpoint's own values, e.g. packed ones decoded.
  WeightSource weights;
  /// Linear layers but the router's get their inputs rounded so, as compiled
  /// kernels quantize them; not rounded if empty.
  InputRounding inputs;
  /// Caches keep what this leaves; not rounded if empty.
  CacheRounding cache;
  /// Sees the values of the layers as they come, but for those of the
  /// multi-token-prediction layer and the logits. May be empty.
  TraceObserver trace;
  /// Keep the hidden states of every layer.
  bool keepHiddenStates = false;
  /// Keep which experts each token was given.
  bool keepExperts = false;
  /// Compute what the multi-token-prediction layer drafts.
  bool mtp = false;
  /// Compute logits of the last token alone.
  bool lastLogitsOnly = false;
  /// The pass ends with Code::Cancelled soon after this becomes true.
  const std::atomic<bool> *cancel = nullptr;
};

struct ReferenceOutput {
  /// [layers + 1, T, hidden] if kept: the embedding, the output of each layer
  /// but the last, and the final norm's output, as transformers lists them.
  std::vector<float> hiddenStates;
  /// [T, hidden] if hidden states are kept: what the last layer gives, before
  /// the final norm.
  std::vector<float> lastLayer;
  std::vector<float> logits; ///< [T, vocab], or [1, vocab] for the last alone
  /// [MoE layers, T, expertsPerToken] if kept, without the
  /// multi-token-prediction layer: indices, ascending within a token.
  std::vector<int32_t> experts;
  /// [T - 1, vocab] with `mtp`, or [1, vocab] for the last alone: row i
  /// predicts token i + 2 from the tokens up to i + 1. Empty for a single
  /// token.
  std::vector<float> mtpLogits;
};

/// Runs `tokens` at positions 0, 1, ... Errors: an empty sequence, a token
/// outside the vocabulary, `mtp` without a complete layer for it, no memory.
Result<ReferenceOutput> runReference(const checkpoint::Checkpoint &checkpoint,
                                     std::span<const int32_t> tokens,
                                     const ReferenceOptions &options = {});

/// Extends `prompt` by up to `count` greedy tokens (the least id among equal
/// logits), with a KV cache, past end tokens. Returns the new tokens.
Result<std::vector<int32_t>>
generateGreedy(const checkpoint::Checkpoint &checkpoint,
               std::span<const int32_t> prompt, int count,
               const ReferenceOptions &options = {});

} // namespace retort::reference

#endif // RETORT_COMPILER_REFERENCE_REFERENCE_H
