//===- Progress.cpp - Progress of long work ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Progress.h"

#include <unistd.h>

namespace retort::tools {

Progress::Progress(std::FILE *stream, Unit unit)
    : stream(stream), unit(unit), terminal(isatty(fileno(stream)) == 1) {}

/// "40% of 200 tokens, 12.0 tokens/s, 10 s left".
std::string Progress::share(uint64_t done, uint64_t total, double rate) const {
  char text[160];
  double percent = 100.0 * static_cast<double>(done) / double(total);
  double left = static_cast<double>(total - done) / rate;
  if (unit == Unit::Bytes) {
    std::snprintf(text, sizeof(text),
                  "%.0f%% of %.1f MB, %.0f MB/s, %.0f s left", percent,
                  double(total) / 1e6, rate / 1e6, left);
  } else {
    const char *name = unit == Unit::Tokens    ? "tokens"
                       : unit == Unit::Replies ? "replies"
                                               : "matrices";
    std::snprintf(text, sizeof(text),
                  "%.0f%% of %llu %s, %.1f %s/s, %.0f s left", percent,
                  static_cast<unsigned long long>(total), name, rate, name,
                  left);
  }
  return text;
}

void Progress::update(const std::string &newStep, uint64_t done,
                      uint64_t total) {
  Clock::time_point now = Clock::now();
  bool isNew = newStep != step;
  if (isNew) {
    step = newStep;
    stepStart = now;
    doneBefore = done;
  }
  // A terminal is redrawn often enough to look alive, a log stays short.
  auto interval =
      terminal ? std::chrono::milliseconds(100) : std::chrono::seconds(5);
  bool last = total > 0 && done == total;
  if (!isNew && !last && now - lastPrint < interval)
    return;
  lastPrint = now;
  std::string text = step;
  double seconds = std::chrono::duration<double>(now - stepStart).count();
  if (total > 0 && seconds > 0 && done > doneBefore)
    text += ": " + share(done, total,
                         static_cast<double>(done - doneBefore) / seconds);
  if (terminal) {
    std::fprintf(stream, "\r\033[K%s", text.c_str());
    std::fflush(stream);
    drawn = true;
  } else {
    std::fprintf(stream, "%s\n", text.c_str());
  }
}

void Progress::line(const std::string &text) {
  if (drawn)
    std::fprintf(stream, "\r\033[K");
  drawn = false;
  std::fprintf(stream, "%s\n", text.c_str());
}

void Progress::finish() {
  if (drawn)
    std::fprintf(stream, "\r\033[K");
  drawn = false;
}

} // namespace retort::tools
