//===- Verify.h - Self-test and verification --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What is done with an artifact before it gets its name: the self-test's
/// logits, and with `--verify` the comparison of compiled code with the
/// reference interpreter.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PIPELINES_VERIFY_H
#define RETORT_COMPILER_PIPELINES_VERIFY_H

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/encoding/CacheEncoding.h"
#include "compiler/pack/WeightSpec.h"
#include "compiler/pipelines/Compile.h"
#include "runtime/abi/artifact_generated.h"
#include "runtime/abi/certificate_generated.h"

#include <span>

namespace retort {

struct ExamineOptions {
  int threads = 0;
  bool verify = false;
  CacheElement cache = CacheElement::F32; ///< what the artifact's caches hold
  const std::atomic<bool> *cancel = nullptr;
};

struct Examination {
  abi::SelfTestT selfTest;
  std::optional<VerifyReport> verify;
  /// With `verify`: all but the plan and the hash of the weights.
  std::unique_ptr<abi::CertificateT> certificate;
};

/// Tokens of the self-test: few, because the reference reads every weight.
inline constexpr int kSelfTestTokens = 4;
/// Tokens of `--verify`.
inline constexpr int kVerifyTokens = 16;
/// Relative RMS beyond which `--verify` and the self test fail: compiled code
/// and the reference use the same weights and differ in rounding alone. Where
/// inputs are quantized to int8, a difference in the last digits may send a
/// quant to its neighbour, which the following layers' quants then amplify.
inline constexpr double kVerifyTolerance = 1e-3;
inline constexpr double kVerifyToleranceInt8 = 3e-2;
/// The same happens, less often, to elements of bf16 and int8 caches.
inline constexpr double kVerifyToleranceCache = 1e-2;
/// With multi-head latent attention of int4, the kernels round what they
/// multiply the absorbed matrices with; the reference, which expands keys and
/// values instead, has no such numbers and rounds nothing there.
inline constexpr double kVerifyToleranceAbsorbed = 8e-2;

/// Ids spread over the vocabulary, so that rows of the whole embedding are met:
/// what self-test and `--verify` compute.
std::vector<int32_t> testTokens(int64_t vocab, int count);

/// Runs the reference interpreter with the artifact's own packed weights, and
/// with `verify` the artifact's code. Errors: Internal if the two disagree,
/// naming the first layer; Incompatible if this machine can't run the code.
Result<Examination> examineArtifact(const std::string &path,
                                    const checkpoint::Checkpoint &source,
                                    std::span<const WeightSpec> specs,
                                    const ExamineOptions &options);

} // namespace retort

#endif // RETORT_COMPILER_PIPELINES_VERIFY_H
