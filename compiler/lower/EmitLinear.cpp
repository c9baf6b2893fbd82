//===- EmitLinear.cpp - Linear launches -----------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Emitters.h"
#include "compiler/lower/LinearKernel.h"

using namespace mlir;

namespace retort {

using namespace kernel;

LinearKernel::LinearKernel(KernelBuilder &k, LinearOp op)
    : k(k), swiglu(op.getEpilogue() == Epilogue::Swiglu),
      encoding(*encoding::getPackedEncoding(op.getWeight().getType())),
      cols(cast<RankedTensorType>(op.getWeight().getType()).getDimSize(1)),
      tiling(getLinearTiling(op, k.tokenClass())), xStride(strideOf(op.getX())),
      resultStride(strideOf(op.getResult())) {
  unsigned next = 0;
  x = k.buffer(next++);
  weights = k.buffer(next++);
  if (op.getBias())
    bias = k.buffer(next++);
  if (op.getResidual())
    residual = k.buffer(next++);
  result = k.buffer(next);
}

void LinearKernel::emitEpilogue(Index unit, Index token, Buffer sums, Index at,
                                int64_t stripStride) {
  Index row = unit * (tiling.unitStrips * kStripRows);
  Index out = token * resultStride + unit * kStripRows;
  for (int64_t v = 0; v < vectors(); ++v) {
    int64_t lane = v * k.lanes();
    auto sum = [&](int64_t strip) {
      Value s = k.loadVector(sums, at + (strip * stripStride + lane));
      if (bias)
        s = k.add(s, k.loadVector(*bias, row + (strip * kStripRows + lane)));
      return s;
    };
    Value value = sum(0);
    if (swiglu)
      value = k.mul(emitSilu(k, value), sum(1));
    if (residual)
      value = k.add(value, k.loadVector(*residual, out + lane));
    k.store(value, result, out + lane, 4 * k.lanes());
  }
}

Value emitSilu(KernelBuilder &k, Value x) {
  Type type = x.getType();
  auto c = [&](double value) { return k.constant(type, value); };
  // exp(-x) = 2^n exp(r) with |r| <= ln(2) / 2, exp(r) by its Taylor series of
  // degree 7, whose next term is below 6e-9. Beyond the clamps the result is x
  // or nearly zero anyway.
  Value t = k.max(k.min(k.neg(x), c(88.0)), c(-87.0));
  Value n = k.roundToInt(k.mul(t, c(1.4426950408889634)));
  Value nf = k.intToFloat(n, k.f32());
  // ln(2) in two parts, of which the first has so few bits that the product
  // with n is exact.
  Value r = k.fma(nf, c(-0.693359375), t);
  r = k.fma(nf, c(2.12194440054690583e-4), r);
  Value p = c(1.0 / 5040);
  for (double divisor : {720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0})
    p = k.fma(p, r, c(1.0 / divisor));
  Type ints = isa<VectorType>(type)
                  ? Type(k.vec(k.i32(), cast<VectorType>(type).getDimSize(0)))
                  : k.i32();
  Value e = k.bitcast(k.add(k.bitcast(p, ints), k.shl(n, 23)), type);
  return k.div(x, k.add(c(1.0), e));
}

LogicalResult emitLinear(KernelBuilder &k, Operation *op) {
  LinearKernel linear(k, cast<LinearOp>(op));
  if (k.tokenClass() == TokenClass::One)
    emitLinearOne(linear);
  else
    emitLinearMany(linear);
  return success();
}

} // namespace retort
