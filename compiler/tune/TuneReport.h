//===- TuneReport.h - What tuning did ---------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_TUNE_TUNEREPORT_H
#define RETORT_COMPILER_TUNE_TUNEREPORT_H

#include <cstddef>

namespace retort {

struct TuneReport {
  size_t kernels = 0; ///< distinct ones
  size_t timed = 0;   ///< that the cache didn't know
  size_t changed = 0; ///< whose tiles aren't the table's
  double seconds = 0;
};

} // namespace retort

#endif // RETORT_COMPILER_TUNE_TUNEREPORT_H
