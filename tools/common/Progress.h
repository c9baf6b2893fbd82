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

#ifndef RETORT_TOOLS_COMMON_PROGRESS_H
#define RETORT_TOOLS_COMMON_PROGRESS_H

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace retort::tools {

class Progress {
public:
  /// What is counted.
  enum class Unit { Bytes, Tokens, Replies, Matrices };
  explicit Progress(std::FILE *stream, Unit unit = Unit::Bytes);
  /// `step` is under way; with `total` > 0, `done` of `total` units are. Rate
  /// and time left follow from what was done since the step's first call.
  void update(const std::string &step, uint64_t done, uint64_t total);
  /// Prints a line of its own.
  void line(const std::string &text);
  /// Ends the line that is being redrawn.
  void finish();

private:
  using Clock = std::chrono::steady_clock;
  std::string share(uint64_t done, uint64_t total, double rate) const;
  std::FILE *stream;
  Unit unit;
  bool terminal;
  bool drawn = false;
  std::string step;
  Clock::time_point stepStart{}, lastPrint{};
  uint64_t doneBefore = 0; ///< when the step began, by an earlier process
};

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_PROGRESS_H
