//===- EmitLinear.cpp - Linear launches -----------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Emitters.h"
#include "compiler/lower/LinearKernel.h"
#include "compiler/lower/VectorMath.h"

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
  Value one = k.constant(x.getType(), 1.0);
  return k.div(x, k.add(one, emitExp(k, k.neg(x))));
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
