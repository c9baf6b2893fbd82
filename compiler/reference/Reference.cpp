//===- Reference.cpp - The numeric oracle -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/reference/Reference.h"

#include "compiler/reference/Model.h"

namespace retort::reference {
namespace {

using checkpoint::Checkpoint;
using checkpoint::ModelConfig;

Status checkInput(const ModelConfig &config, std::span<const int32_t> tokens) {
  if (tokens.empty())
    return Status::error(Code::InvalidArgument,
                         "expected at least one token, found none");
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= config.vocabSize)
      return Status::error(Code::InvalidArgument,
                           "token " + std::to_string(i) +
                               ": expected an id in [0, " +
                               std::to_string(config.vocabSize) + "), found " +
                               std::to_string(tokens[i]));
  return Status::ok();
}

Status outOfMemory() {
  return Status::error(Code::OutOfMemory, "no memory to compute the reference");
}

Matrix lastRow(const Matrix &x) {
  Matrix out(1, x.cols);
  std::copy_n(x.row(x.rows - 1), x.cols, out.row(0));
  return out;
}

/// Of all positions but the last, whose next token is not known.
Result<std::vector<float>> draftLogits(const Checkpoint &checkpoint,
                                       std::span<const int32_t> tokens,
                                       const Matrix &hidden,
                                       const ReferenceOptions &options) {
  Matrix known(hidden.rows - 1, hidden.cols);
  std::copy_n(hidden.values.begin(), known.values.size(), known.values.begin());
  Model drafter(checkpoint, options);
  RETORT_ASSIGN_OR_RETURN(Matrix drafted,
                          drafter.feedMtp(tokens.subspan(1), known));
  if (options.lastLogitsOnly)
    drafted = lastRow(drafted);
  RETORT_ASSIGN_OR_RETURN(Matrix logits, drafter.logits(drafted));
  return std::move(logits.values);
}

} // namespace

Result<ReferenceOutput> runReference(const Checkpoint &checkpoint,
                                     std::span<const int32_t> tokens,
                                     const ReferenceOptions &options) {
  RETORT_RETURN_IF_ERROR(checkInput(checkpoint.config(), tokens));
  if (options.mtp && checkpoint.config().numMtpLayers == 0)
    return Status::error(Code::InvalidArgument,
                         checkpoint.directory() +
                             ": expected a multi-token-prediction layer, "
                             "found none that is complete");
  try {
    ReferenceOutput out;
    Model model(checkpoint, options);
    RETORT_ASSIGN_OR_RETURN(Matrix hidden, model.feed(tokens, &out));
    if (options.mtp && tokens.size() > 1) {
      RETORT_ASSIGN_OR_RETURN(out.mtpLogits,
                              draftLogits(checkpoint, tokens, hidden, options));
    }
    if (options.lastLogitsOnly)
      hidden = lastRow(hidden);
    RETORT_ASSIGN_OR_RETURN(Matrix logits, model.logits(hidden));
    out.logits = std::move(logits.values);
    return out;
  } catch (const std::bad_alloc &) {
    return outOfMemory();
  }
}

Result<std::vector<int32_t>> generateGreedy(const Checkpoint &checkpoint,
                                            std::span<const int32_t> prompt,
                                            int count,
                                            const ReferenceOptions &options) {
  RETORT_RETURN_IF_ERROR(checkInput(checkpoint.config(), prompt));
  try {
    Model model(checkpoint, options);
    std::vector<int32_t> generated;
    std::vector<int32_t> next(prompt.begin(), prompt.end());
    for (int i = 0; i < count; ++i) {
      RETORT_ASSIGN_OR_RETURN(Matrix hidden, model.feed(next, nullptr));
      RETORT_ASSIGN_OR_RETURN(Matrix logits, model.logits(lastRow(hidden)));
      auto best = std::max_element(logits.values.begin(), logits.values.end());
      generated.push_back(static_cast<int32_t>(best - logits.values.begin()));
      next = {generated.back()};
    }
    return generated;
  } catch (const std::bad_alloc &) {
    return outOfMemory();
  }
}

} // namespace retort::reference
