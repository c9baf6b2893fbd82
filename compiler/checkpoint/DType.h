//===- DType.h - Exact conversions to f32 -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Conversion of stored elements to f32. Every value of f32, bf16, f16 and
/// fp8 e4m3 is a value of f32, so all of these are exact.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_DTYPE_H
#define RETORT_COMPILER_CHECKPOINT_DTYPE_H

#include "runtime/support/DType.h"
#include "runtime/support/Status.h"

#include <span>

namespace retort::checkpoint {

/// True for the types that convertToF32 takes: F32, BF16, F16, F8E4M3.
bool isFloatWeight(DType dtype);

/// Converts `dst.size()` elements that lie, possibly unaligned, in `src`.
/// NaNs stay NaNs, signed zeros and subnormals are kept, whatever the
/// processor's denormal mode is. Errors: Unsupported for other types,
/// InvalidArgument if `src` is not `dst.size()` elements long.
Status convertToF32(DType dtype, std::span<const std::byte> src,
                    std::span<float> dst);

/// IEEE binary16 to f32.
float f16ToF32(uint16_t bits);
/// bfloat16 to f32.
float bf16ToF32(uint16_t bits);
/// OCP FP8 E4M3 (bias 7, no infinities, S.1111.111 is NaN) to f32.
float f8e4m3ToF32(uint8_t bits);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_DTYPE_H
