//===- ZeroPoints.h - Where zero points pay ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_ZEROPOINTS_H
#define RETORT_COMPILER_PACK_ZEROPOINTS_H

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/pack/WeightSpec.h"

#include <span>

namespace retort {

/// Zero points cost bytes and time in every kernel, so they must lower the RMS
/// error by more than this share.
inline constexpr double kZeroPointGain = 0.08;

/// Sets `encoding.zeroPoints` of each int4 matrix to whether zero points lower
/// the RMS error of a sample of its groups by more than kZeroPointGain. The
/// sample depends on the spec alone. Weights that can't be encoded are skipped
/// here; the packer reports them. `threads` as in PackOptions.
Status chooseZeroPoints(std::span<WeightSpec> specs,
                        const checkpoint::Checkpoint &checkpoint,
                        int threads = 0);

} // namespace retort

#endif // RETORT_COMPILER_PACK_ZEROPOINTS_H
