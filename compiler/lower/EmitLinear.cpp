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

LinearKernel::LinearKernel(KernelBuilder &k, Value weightOperand, Buffer x,
                           int64_t xStride, Buffer weights,
                           const LinearTiling &tiling)
    : k(k), encoding(*encoding::getPackedEncoding(weightOperand.getType())),
      cols(cast<RankedTensorType>(weightOperand.getType()).getDimSize(1)),
      tiling(tiling), xStride(xStride), x(x), weights(weights) {
  // Plain rows are a buffer of f32, quantized ones of bytes.
  if (x.element().isInteger(8))
    inputs = ActivationEncoding::forWeights(encoding);
}

LinearKernel::QuantizedRow LinearKernel::quantizedRow(Index element) const {
  Index base = element / xStride * (inputs->rowBytes(xStride) / 4);
  Index col = element % xStride;
  Index group = base + col / kActivationGroup;
  return {base + col / (4 / inputs->quantBytes()),
          group + inputs->scalesOffset(xStride) / 4,
          group + inputs->sumsOffset(xStride) / 4};
}

void LinearKernel::quantizeInputs() {
  if (inputs)
    return;
  inputs = ActivationEncoding::forWeights(encoding);
  quantizes = inputs.has_value();
}

QuantizedGroup LinearKernel::quantizeGroup(Index from) const {
  KernelBuilder::Values registers;
  for (int64_t lane = 0; lane < kActivationGroup; lane += k.lanes())
    registers.push_back(k.loadVector(x, from + lane));
  return QuantizedGroup(k, *inputs, registers);
}

void LinearEpilogue::emit(KernelBuilder &k, const LinearTiling &tiling,
                          Index unit, Index resultRow, Buffer sums, Index at,
                          int64_t stripStride) const {
  Index row = unit * (tiling.unitStrips * kStripRows);
  Index out = resultRow + unit * kStripRows;
  KernelBuilder::Values group;
  for (int64_t lane = 0; lane < kStripRows; lane += k.lanes()) {
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
    if (result.isPlain())
      result.store(value, out + lane);
    else
      group.push_back(value);
  }
  if (!result.isPlain())
    result.store(group, out);
}

void emitLinearJob(LinearKernel &linear, const LinearJob &job) {
  if (linear.k.tokenClass() == TokenClass::Many)
    emitLinearMany(linear, job);
  else
    emitLinearOne(linear, job);
}

Value emitSilu(KernelBuilder &k, Value x) {
  Value one = k.constant(x.getType(), 1.0);
  return k.div(x, k.add(one, emitExp(k, k.neg(x))));
}

LogicalResult emitLinear(KernelBuilder &k, Operation *op) {
  auto launch = cast<LinearOp>(op);
  unsigned next = 0;
  Buffer x = k.buffer(next++);
  Buffer weights = k.buffer(next++);
  std::optional<Buffer> bias, residual;
  if (launch.getBias())
    bias = k.buffer(next++);
  if (launch.getResidual())
    residual = k.buffer(next++);
  LinearEpilogue epilogue{.swiglu = launch.getEpilogue() == Epilogue::Swiglu,
                          .result =
                              RowSink(k, launch.getResult(), k.buffer(next)),
                          .bias = bias,
                          .residual = residual};

  LinearKernel linear(k, launch.getWeight(), x, strideOf(launch.getX()),
                      weights, getLinearTiling(launch, k.tokenClass()));
  LinearJob job{.weightBase = k.index(0),
                .tile = k.tile(),
                .xBase = k.index(0),
                .rows = k.numTokens(),
                .xRow = nullptr,
                .finish = [&](Index unit, Index row, Buffer sums, Index at,
                              int64_t stripStride) {
                  epilogue.emit(k, linear.tiling, unit,
                                row * epilogue.result.stride(), sums, at,
                                stripStride);
                }};
  emitLinearJob(linear, job);
  return success();
}

} // namespace retort
