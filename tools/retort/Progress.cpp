//===- Progress.cpp - Progress of long work ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/retort/Progress.h"

#include <unistd.h>

namespace retort::tools {

Progress::Progress(std::FILE *stream)
    : stream(stream), terminal(isatty(fileno(stream)) == 1) {}

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
  char text[256];
  double seconds = std::chrono::duration<double>(now - stepStart).count();
  if (total > 0 && seconds > 0 && done > doneBefore) {
    double rate = static_cast<double>(done - doneBefore) / seconds;
    std::snprintf(text, sizeof(text),
                  "%s: %.0f%% of %.1f MB, %.0f MB/s, %.0f s left", step.c_str(),
                  100.0 * static_cast<double>(done) /
                      static_cast<double>(total),
                  static_cast<double>(total) / 1e6, rate / 1e6,
                  static_cast<double>(total - done) / rate);
  } else {
    std::snprintf(text, sizeof(text), "%s", step.c_str());
  }
  if (terminal) {
    std::fprintf(stream, "\r\033[K%s", text);
    std::fflush(stream);
    drawn = true;
  } else {
    std::fprintf(stream, "%s\n", text);
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
