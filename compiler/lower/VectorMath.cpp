//===- VectorMath.cpp - Elementary functions of vectors -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/VectorMath.h"

using namespace mlir;

namespace retort {
namespace {

/// Adding 1.5 * 2^23 to an f32 rounds it to an integer, which is then in the
/// sum's low bits; likewise 1.5 * 2^52 for f64.
constexpr double kRoundF32 = 12582912.0;
constexpr double kRoundF64 = 6755399441055744.0;

/// The range in which 2^n, n the rounded argument, is made by writing n + 127
/// into the exponent: n = -127 gives 0, n = 127 the largest power.
constexpr double kMinExponent = -127.0;
constexpr double kMaxExponent = 127.49;

/// Minimax polynomials (Remez). (2^r - 1) / r on [-1/2, 1/2], such that the
/// relative error of 2^r is below 2e-9:
constexpr double kExp2[] = {0.693147202855,   0.240226479136,
                            0.0555033247126,  0.00961843735844,
                            0.00133988743782, 0.000153533617866};
/// sin(2 pi f) / f and cos(2 pi f) in f^2 for |f| <= 1/2, absolute errors below
/// 2e-15 and 7e-15:
constexpr double kSin[] = {6.2831853071795846294,  -41.341702240398279302,
                           81.605249275879173047,  -76.705859743009954846,
                           42.05869368288588596,   -15.094638651644600091,
                           3.819916750851524992,   -0.71791945926219598963,
                           0.10353268152924203227, -0.010695066030284196163};
constexpr double kCos[] = {0.9999999999999938885,  -19.7392088021738174,
                           64.939394022020067368,  -85.456817173423605717,
                           60.244640504403010337,  -26.42624378378954371,
                           7.9034176459554287496,  -1.7137182548222234422,
                           0.27969480877602828102, -0.031939528052993584334};

Value polynomial(KernelBuilder &k, Value x, ArrayRef<double> coefficients) {
  Type type = x.getType();
  Value sum = k.constant(type, coefficients.back());
  for (double c : llvm::reverse(coefficients.drop_back()))
    sum = k.fma(sum, x, k.constant(type, c));
  return sum;
}

/// 2^r * 2^n for |r| <= 1/2 and n the low bits of `rounded`.
Value scaledExp2(KernelBuilder &k, Value r, Value rounded) {
  Type type = r.getType();
  Type ints = k.i32();
  if (auto vector = dyn_cast<VectorType>(type))
    ints = k.vec(k.i32(), vector.getNumElements());
  Value power = k.fma(polynomial(k, r, kExp2), r, k.constant(type, 1.0));
  Value exponent = k.add(k.shl(k.bitcast(rounded, ints), 23),
                         k.constantInt(ints, int64_t(127) << 23));
  return k.mul(power, k.bitcast(exponent, type));
}

} // namespace

Value emitExp2(KernelBuilder &k, Value x) {
  Type type = x.getType();
  x = k.max(x, k.constant(type, kMinExponent));
  x = k.min(x, k.constant(type, kMaxExponent));
  Value magic = k.constant(type, kRoundF32);
  Value rounded = k.add(x, magic);
  Value r = k.sub(x, k.sub(rounded, magic));
  return scaledExp2(k, r, rounded);
}

Value emitExp(KernelBuilder &k, Value x) {
  // log2(e) in two parts: x * log2(e) alone would lose the digits of r that the
  // integer part takes up.
  constexpr double kLog2E = 1.44269502162933349609375;
  constexpr double kLog2ERest = 1.92596299113e-8;
  Type type = x.getType();
  x = k.max(x, k.constant(type, kMinExponent / kLog2E));
  x = k.min(x, k.constant(type, kMaxExponent / kLog2E));
  Value magic = k.constant(type, kRoundF32);
  Value log2e = k.constant(type, kLog2E);
  Value rounded = k.fma(x, log2e, magic);
  Value r = k.fma(x, log2e, k.neg(k.sub(rounded, magic)));
  r = k.fma(x, k.constant(type, kLog2ERest), r);
  return scaledExp2(k, r, rounded);
}

SinCos emitSinCosOfTurns(KernelBuilder &k, Value turns) {
  Value magic = k.constant(turns.getType(), kRoundF64);
  Value f = k.sub(turns, k.sub(k.add(turns, magic), magic));
  Value square = k.mul(f, f);
  return {k.mul(polynomial(k, square, kSin), f), polynomial(k, square, kCos)};
}

} // namespace retort
