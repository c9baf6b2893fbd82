//===- Process.h - Programs as tests run them -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Runs a program to its end and keeps what it wrote.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_E2E_PROCESS_H
#define RETORT_TEST_E2E_PROCESS_H

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace retort::test {

struct ProcessOptions {
  std::string input;          ///< for standard input
  double timeoutSeconds = 60; ///< then it is killed, and `timedOut` set
  /// Signal to send after `interruptSeconds`, if it still runs.
  std::optional<int> interruptSignal;
  double interruptSeconds = 0;
  /// If set, the signal is sent when this is true instead; asked every few
  /// milliseconds.
  std::function<bool()> interruptWhen;
  /// Limits of the system: bytes of a file, bytes of address space.
  std::optional<uint64_t> fileSizeLimit, memoryLimit;
  /// Standard output goes to this file instead of `out`.
  std::string outputPath;
};

struct ProcessResult {
  int exitCode = -1; ///< or -1 if a signal ended it
  int signal = 0;    ///< that ended it, or 0
  bool timedOut = false;
  double seconds = 0;
  uint64_t peakBytes = 0; ///< of resident memory
  std::string out, err;

  /// All of it, for the message of a failed assertion.
  std::string describe() const;
};

/// Runs `command[0]` with the arguments that follow.
ProcessResult runProcess(const std::vector<std::string> &command,
                         const ProcessOptions &options = {});

} // namespace retort::test

#endif // RETORT_TEST_E2E_PROCESS_H
