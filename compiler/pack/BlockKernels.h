//===- BlockKernels.h - Encoders of one block -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The inner loops of encodeStrip, compiled for the baseline and for AVX2. All
/// variants give the same bytes.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_BLOCKKERNELS_H
#define RETORT_COMPILER_PACK_BLOCKKERNELS_H

#include "compiler/pack/Quantizer.h"

namespace retort::detail {

/// Encodes one block of 32 rows and `encoding.blockCols()` columns. False if a
/// magnitude's bits reach `limitBits`; `out` is then untouched.
using BlockKernel = bool (*)(const PackedEncoding &encoding, const float *rows,
                             int64_t stride, int32_t limitBits, std::byte *out,
                             SquaredError &error);

/// The fastest variant that this processor runs.
BlockKernel blockKernel();

/// The variant that every processor of the architecture runs, for tests.
BlockKernel baselineBlockKernel();

} // namespace retort::detail

#endif // RETORT_COMPILER_PACK_BLOCKKERNELS_H
