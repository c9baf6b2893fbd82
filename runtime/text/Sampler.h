//===- Sampler.h - Choosing the next token ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Turns the logits of one position into a token id. The steps run in the order
/// that transformers uses, so that a generation_config.json means what it means
/// there: repetition penalty, temperature, top-k, top-p, min-p, draw.
///
/// The same options, seed and logits give the same tokens on every machine: the
/// generator is PCG32 (O'Neill 2014, XSH-RR 64/32), and the exponential is
/// computed here with basic arithmetic rather than by the C library.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_SAMPLER_H
#define RETORT_RUNTIME_TEXT_SAMPLER_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <span>
#include <vector>

namespace retort {

struct SamplerOptions {
  double temperature = 0;   ///< 0: greedy, the largest logit, lowest id in ties
  int64_t topK = 0;         ///< keep the k largest; 0 keeps all
  double topP = 1;          ///< keep the fewest whose probabilities reach this
  double minP = 0;          ///< drop those below this times the largest one
  double repeatPenalty = 1; ///< divides positive and multiplies negative logits
                            ///< of tokens seen (Keskar et al. 2019); 1: off
  uint64_t seed = 0;
};

/// PCG32: a 64-bit linear congruential state, output by xor-shift and rotation.
class Pcg32 {
public:
  explicit Pcg32(uint64_t seed);
  uint32_t next();
  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform();

private:
  uint64_t state = 0;
};

/// Draws tokens. Holds the random state; not thread-safe.
class Sampler {
public:
  /// Rejects options out of range: temperature < 0, top-p outside (0, 1],
  /// min-p outside [0, 1], repeat penalty <= 0, top-k < 0, anything not finite.
  static Status check(const SamplerOptions &options);

  explicit Sampler(const SamplerOptions &options)
      : opts(options), random(options.seed) {}

  /// The next token after logits [vocab]. `seen` are the ids that the
  /// repetition penalty counts (ids outside of the vocabulary are skipped). NaN
  /// logits, or none that is finite, are an error (InvalidData).
  Result<int32_t> sample(std::span<const float> logits,
                         std::span<const int32_t> seen = {});

  const SamplerOptions &options() const { return opts; }

private:
  struct Candidate {
    double logit;
    int32_t id;
  };

  SamplerOptions opts;
  Pcg32 random;
  std::vector<float> penalised; ///< kept to avoid an allocation per token
  std::vector<Candidate> candidates;
};

/// The index of the largest logit, the lowest of equal ones. NaN is an error.
Result<int32_t> greedyToken(std::span<const float> logits);

} // namespace retort

#endif // RETORT_RUNTIME_TEXT_SAMPLER_H
