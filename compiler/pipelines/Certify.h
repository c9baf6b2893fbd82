//===- Certify.h - What a verified artifact says of itself ------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Makes the parts of a certificate (runtime/abi/certificate.fbs) that come
/// from the checkpoint and the reference interpreter. None depends on the
/// machine or on how many threads there are.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PIPELINES_CERTIFY_H
#define RETORT_COMPILER_PIPELINES_CERTIFY_H

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/pack/WeightSpec.h"
#include "compiler/reference/Reference.h"
#include "runtime/abi/artifact_generated.h"
#include "runtime/abi/certificate_generated.h"

#include <memory>

namespace retort {

/// Likeliest tokens of a test row whose logits are stored.
inline constexpr size_t kTestRowIds = 32;

/// Calls `visit` with each tensor of the checkpoint's files that a tensor of
/// the model consists of: itself, with scales beside it, or integers with
/// theirs.
void forEachStored(
    const checkpoint::TensorView &tensor,
    const std::function<void(const checkpoint::TensorView &)> &visit);

/// Hashes what the tensors consist of, in their order. Errors: Cancelled.
Result<std::vector<std::unique_ptr<abi::SourceTensorT>>>
hashTensors(std::span<const checkpoint::TensorView *const> tensors, int threads,
            const std::atomic<bool> *cancel);
/// The same of all tensors of a checkpoint.
Result<std::vector<std::unique_ptr<abi::SourceTensorT>>>
hashSources(const checkpoint::Checkpoint &source, int threads,
            const std::atomic<bool> *cancel);

/// How each packed matrix was made; `program` has their errors.
std::vector<std::unique_ptr<abi::MatrixPlanT>>
describePlan(std::span<const WeightSpec> specs, const abi::ProgramT &program);

/// Relative RMS of hidden states behind each of the layers, which both kept.
std::vector<double> layerErrors(const reference::ReferenceOutput &found,
                                const reference::ReferenceOutput &expected,
                                int64_t layers);

/// The rows of logits [tokens, vocab] as a test to be repeated.
std::unique_ptr<abi::TestInputT> makeTestInput(std::span<const int32_t> tokens,
                                               std::span<const float> logits,
                                               int64_t vocab);

/// Root of the sum of squared differences over that of squared expectations;
/// over nothing where those are all 0.
double relativeRms(std::span<const float> found,
                   std::span<const float> expected);

} // namespace retort

#endif // RETORT_COMPILER_PIPELINES_CERTIFY_H
