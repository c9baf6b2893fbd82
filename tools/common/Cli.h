//===- Cli.h - What the command line tools share ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Parsing, exit codes, output and signals. Text and results go to standard
/// output, everything else to standard error. Exit codes: 0 success, 1 an error
/// (one line on standard error), 2 wrong usage, 3 what a command that compares
/// calls a difference, 128 + signal if interrupted.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_COMMON_CLI_H
#define RETORT_TOOLS_COMMON_CLI_H

#include "runtime/support/Status.h"
#include "runtime/support/Topology.h"

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort::tools {

/// What a command does once its options are parsed.
using Action = std::function<Status()>;

/// A mistake in the combination of flags: exit code 2.
class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Thrown by a command that compares, once it has said what differs: exit code
/// 3, which is neither success nor an error.
struct DifferenceFound {};

/// Parses and runs: `action` is called if parsing succeeded. Returns the exit
/// code; all errors have been reported.
int runTool(CLI::App &app, int argc, char **argv, const Action &action);

/// Writes to standard output and flushes; an error if that fails, as when the
/// reader of a pipe has gone.
Status writeOut(std::string_view text);

/// Ids separated by commas or blanks; `@path` reads them from a file.
Result<std::vector<int32_t>> parseIds(const std::string &text);

/// "1,2,3".
std::string formatIds(std::span<const int32_t> ids);

/// The whole of a file, or of standard input if `path` is "-".
Result<std::string> readInput(const std::string &path);

/// InvalidArgument naming the byte offset if `text` is not UTF-8.
Status checkUtf8(std::string_view what, std::string_view text);

/// "12.34", with `digits` after the point.
std::string fixed(double value, int digits);

/// Says on standard error that weights are not verified because they are too
/// large for the memory, both in bytes.
void noteUnverifiedWeights(uint64_t weights, uint64_t memory);

/// While it lives, the first SIGINT or SIGTERM calls `cancel(argument)`, which
/// must be safe in a signal handler; the next one ends the process. Without a
/// scope signals end the process at once, after removing unfinished outputs.
class CancelScope {
public:
  CancelScope(void (*cancel)(void *), void *argument);
  ~CancelScope();
  /// The signal that has cancelled something, or 0.
  static int pendingSignal();
  /// Forgets it: it won't show in the exit code.
  static void takeSignal();
};

/// A flag that such a signal sets while it lives.
class CancelFlag {
public:
  CancelFlag()
      : scope([](void *to) { *static_cast<std::atomic<bool> *>(to) = true; },
              &flag) {}
  const std::atomic<bool> *get() const { return &flag; }

private:
  std::atomic<bool> flag{false};
  CancelScope scope;
};

/// Installs the handlers that CancelScope relies on, and ignores SIGPIPE, so
/// that writing to a closed pipe is an error with a message.
void installSignalHandlers();

inline constexpr const char *kPinHelp = "Bind threads to processors";
inline constexpr const char *kInterleaveHelp =
    "Spread the weights over memory nodes";

/// Declares an option that takes auto, on or off.
void addPlacement(CLI::App &command, const std::string &name,
                  Placement &placement, const std::string &help);

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_CLI_H
