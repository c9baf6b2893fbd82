//===- SelfTest.h - Proof of the code on this machine -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Compares this machine's logits with those that the compiler's reference
/// interpreter stored in the artifact: in its self test, and in its
/// certificate.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_SELFTEST_H
#define RETORT_RUNTIME_ENGINE_SELFTEST_H

#include "runtime/engine/Session.h"
#include "runtime/loader/Certificate.h"

namespace retort {

struct SelfTestResult {
  int32_t greedy = 0;
  int32_t expectedGreedy = 0;
  double relativeError = 0; ///< RMS of the difference over RMS of the stored
  double tolerance = 0;     ///< of relativeError, as the artifact says
  /// By how much the stored logits of the two tokens differ, over the RMS of
  /// all: where they are as close as the tolerance, either may win.
  double greedyMargin = 0;
  bool passed() const {
    return relativeError <= tolerance && greedyMargin <= 2 * tolerance;
  }
};

/// Runs the stored prompt in a session of its own. NotFound if the artifact
/// holds none.
Result<SelfTestResult> runSelfTest(std::shared_ptr<const Model> model,
                                   unsigned threads);

/// An error (Internal) that says what differs, or success.
Status selfTestStatus(const SelfTestResult &result);

/// How this machine's logits compare with a certificate's, over the ids that
/// its test inputs name.
struct ProofResult {
  size_t inputs = 0, rows = 0;
  /// RMS of all differences over the RMS of all stored rows.
  double relativeError = 0;
  double worstRow = 0;   ///< of one row, over that row's RMS
  size_t sameGreedy = 0; ///< rows with the same likeliest token
  double tolerance = 0;  ///< of relativeError
  bool agrees() const { return relativeError <= tolerance; }
};

/// Runs the test inputs one after the other, each from an empty context.
Result<ProofResult> proveTestInputs(std::shared_ptr<const Model> model,
                                    const abi::CertificateT &certificate,
                                    unsigned threads);

/// An error (Internal) that says what differs, or success.
Status proofStatus(const ProofResult &result);

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_SELFTEST_H
