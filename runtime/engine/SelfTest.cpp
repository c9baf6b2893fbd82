//===- SelfTest.cpp - Proof of the code on this machine ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/SelfTest.h"

#include "runtime/text/Sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace retort {

Result<SelfTestResult> runSelfTest(std::shared_ptr<const Model> model,
                                   unsigned threads) {
  const abi::SelfTest *stored = model->index().self_test();
  if (!stored)
    return Status::error(Code::NotFound,
                         model->artifact().path() + ": holds no self test");
  SessionOptions options;
  options.threads = threads;
  options.context = stored->tokens()->size();
  RETORT_ASSIGN_OR_RETURN(auto session, Session::create(model, options));
  RETORT_RETURN_IF_ERROR(session->feed(
      {stored->tokens()->data(), size_t(stored->tokens()->size())}));
  std::span<const float> expected(stored->last_logits()->data(),
                                  stored->last_logits()->size());
  std::span<const float> found = session->logits();
  SelfTestResult result;
  RETORT_ASSIGN_OR_RETURN(result.greedy, greedyToken(found));
  RETORT_ASSIGN_OR_RETURN(result.expectedGreedy, greedyToken(expected));
  double difference = 0, total = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    double d = double(found[i]) - expected[i];
    difference += d * d;
    total += double(expected[i]) * expected[i];
  }
  result.relativeError =
      total > 0 ? std::sqrt(difference / total) : std::sqrt(difference);
  result.tolerance = stored->tolerance();
  double margin =
      double(expected[result.expectedGreedy]) - expected[result.greedy];
  if (margin > 0)
    result.greedyMargin =
        margin / std::sqrt(total / static_cast<double>(expected.size()));
  return result;
}

Status selfTestStatus(const SelfTestResult &result) {
  if (result.passed())
    return Status::ok();
  char error[32], tolerance[32];
  std::snprintf(error, sizeof error, "%.2e", result.relativeError);
  std::snprintf(tolerance, sizeof tolerance, "%.0e", result.tolerance);
  return Status::error(
      Code::Internal,
      "self test: expected token " + std::to_string(result.expectedGreedy) +
          " and a relative error of at most " + tolerance + ", found token " +
          std::to_string(result.greedy) + " and " + error);
}

Result<ProofResult> proveTestInputs(std::shared_ptr<const Model> model,
                                    const abi::CertificateT &certificate,
                                    unsigned threads) {
  ProofResult result;
  result.tolerance = certificate.tolerance;
  double difference = 0, total = 0;
  uint32_t vocab = model->info().vocab_size();
  for (const auto &test : certificate.tests) {
    SessionOptions options;
    options.threads = threads;
    options.context = static_cast<uint32_t>(test->tokens.size());
    RETORT_ASSIGN_OR_RETURN(auto session, Session::create(model, options));
    auto compare = [&](const abi::TestRowT &stored,
                       std::span<const float> found) -> Status {
      RETORT_ASSIGN_OR_RETURN(int32_t greedy, greedyToken(found));
      result.sameGreedy += greedy == stored.ids[0];
      double squares = 0, count = static_cast<double>(stored.ids.size());
      for (size_t i = 0; i < stored.ids.size(); ++i) {
        double d = double(found[static_cast<size_t>(stored.ids[i])]) -
                   stored.logits[i];
        squares += d * d;
      }
      difference += squares;
      total += stored.rms * stored.rms * count;
      double error = std::sqrt(squares / count);
      result.worstRow = std::max(result.worstRow,
                                 stored.rms > 0 ? error / stored.rms : error);
      ++result.rows;
      return Status::ok();
    };
    RETORT_RETURN_IF_ERROR(session->feed(
        test->tokens,
        [&](uint64_t first, uint64_t count, const float *rows,
            uint64_t stride) -> Status {
          for (uint64_t r = 0; r < count; ++r)
            RETORT_RETURN_IF_ERROR(
                compare(*test->rows[first + r], {rows + r * stride, vocab}));
          return Status::ok();
        }));
    ++result.inputs;
  }
  result.relativeError =
      total > 0 ? std::sqrt(difference / total) : std::sqrt(difference);
  return result;
}

Status proofStatus(const ProofResult &result) {
  if (result.agrees())
    return Status::ok();
  char text[200];
  std::snprintf(text, sizeof text,
                "certificate: expected logits within a relative error of %.0e, "
                "found %.2e over %zu rows, %zu of which have the same "
                "likeliest token",
                result.tolerance, result.relativeError, result.rows,
                result.sameGreedy);
  return Status::error(Code::Internal, text);
}

} // namespace retort
