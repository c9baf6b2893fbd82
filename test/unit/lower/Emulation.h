//===- Emulation.h - Kernels of other CPUs on this one ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A kernel for any target, run here: its LLVM IR after optimisation, in which
/// calls of the target's instructions for integer products are replaced by
/// calls of functions that do what the vendors' manuals say. All else in it is
/// IR that every machine executes.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_LOWER_EMULATION_H
#define RETORT_TEST_UNIT_LOWER_EMULATION_H

#include "runtime/support/Status.h"

#include <string>
#include <vector>

namespace retort::test {

/// The shared object of such IR for `hostTarget()`. An error (Unsupported)
/// names an instruction that is not emulated.
Result<std::vector<char>> emulateCode(std::string ir);

} // namespace retort::test

#endif // RETORT_TEST_UNIT_LOWER_EMULATION_H
