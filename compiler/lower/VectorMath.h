//===- VectorMath.h - Elementary functions of vectors -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// exp, exp2, sine and cosine as polynomials in the vector dialect: compiled
/// kernels call no library.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_VECTORMATH_H
#define RETORT_COMPILER_LOWER_VECTORMATH_H

#include "compiler/lower/KernelBuilder.h"

namespace retort {

/// 2^x of an f32 or of f32 lanes, within 1 ulp on [-126, 127]. Below -126.5 the
/// result is 0 (so is 2^-inf); above 127.49 it stays at 2^127.49.
mlir::Value emitExp2(KernelBuilder &k, mlir::Value x);

/// e^x of an f32 or of f32 lanes, within 2 ulp on [-87, 88]. Below -87.68 the
/// result is 0 (so is e^-inf); above 88.37 it stays at e^88.37.
mlir::Value emitExp(KernelBuilder &k, mlir::Value x);

struct SinCos {
  mlir::Value sin, cos;
};
/// Sine and cosine of f64 angles given in turns (1 is a full circle), of any
/// sign and of a magnitude below 2^51. The absolute error is below 1e-14 beside
/// that of the argument.
SinCos emitSinCosOfTurns(KernelBuilder &k, mlir::Value turns);

} // namespace retort

#endif // RETORT_COMPILER_LOWER_VECTORMATH_H
