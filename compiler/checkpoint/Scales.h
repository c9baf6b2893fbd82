//===- Scales.h - Block scales of fp8 tensors -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Pairs fp8 matrices with the tensors of their scales, and refuses scales that
/// no quantizer writes.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_SCALES_H
#define RETORT_COMPILER_CHECKPOINT_SCALES_H

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/Safetensors.h"

namespace retort::checkpoint {

/// Sets `tensor.scales` from `companion`, the tensor of that name in the
/// checkpoint, or null. Errors name the tensor at fault: no companion of an fp8
/// matrix although `fp8` says that there is one, a companion of something else,
/// or one of the wrong type or shape. Without `fp8`, blocks are 128 by 128.
Status attachScales(TensorView &tensor, const TensorView *companion,
                    const std::optional<Fp8Config> &fp8);

/// Reads all scales of `tensors` and refuses the first (in the order of files)
/// that is not finite and positive, naming its tensor and position. Reads with
/// a few threads and beside the mapping, so that tens of thousands of small
/// tensors take seconds and leave nothing resident.
Status checkScales(const std::vector<TensorView> &tensors);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_SCALES_H
