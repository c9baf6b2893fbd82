//===- Progress.h - Progress of long work -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Progress of long work: one line that is redrawn on a terminal, plain lines
/// now and then elsewhere.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_RETORT_PROGRESS_H
#define RETORT_TOOLS_RETORT_PROGRESS_H

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace retort::tools {

class Progress {
public:
  explicit Progress(std::FILE *stream);
  /// `step` is under way; with `total` > 0, `done` of `total` bytes are. Rate
  /// and time left follow from what was done since the step's first call.
  void update(const std::string &step, uint64_t done, uint64_t total);
  /// Prints a line of its own.
  void line(const std::string &text);
  /// Ends the line that is being redrawn.
  void finish();

private:
  using Clock = std::chrono::steady_clock;
  std::FILE *stream;
  bool terminal;
  bool drawn = false;
  std::string step;
  Clock::time_point stepStart{}, lastPrint{};
  uint64_t doneBefore = 0; ///< when the step began, by an earlier process
};

} // namespace retort::tools

#endif // RETORT_TOOLS_RETORT_PROGRESS_H
