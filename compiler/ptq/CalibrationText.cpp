//===- CalibrationText.cpp - The text that ships --------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/Calibration.h"

// The assembler copies the file: no generated source of a hundred kilobytes.
asm(".section .rodata\n"
    ".global retortCalibrationBegin\n"
    ".hidden retortCalibrationBegin\n"
    "retortCalibrationBegin:\n"
    ".incbin \"" RETORT_CALIBRATION_TEXT "\"\n"
    ".global retortCalibrationEnd\n"
    ".hidden retortCalibrationEnd\n"
    "retortCalibrationEnd:\n"
    ".byte 0\n"
    ".previous\n");

extern "C" {
[[gnu::visibility("hidden")]] extern const char retortCalibrationBegin[];
[[gnu::visibility("hidden")]] extern const char retortCalibrationEnd[];
}

namespace retort::ptq {

std::string_view defaultCalibrationText() {
  return {retortCalibrationBegin,
          static_cast<size_t>(retortCalibrationEnd - retortCalibrationBegin)};
}

} // namespace retort::ptq
