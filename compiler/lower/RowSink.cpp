//===- RowSink.cpp - Store rows as their type asks ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/RowSink.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;

namespace retort {

RowSink::RowSink(KernelBuilder &k, Type rows, Buffer to)
    : k(&k), to(to), encoding(encoding::getActivationEncoding(rows)),
      rowStride(cast<RankedTensorType>(rows).getDimSize(1)) {}

/// The quants of a register as bytes.
static Value toBytes(KernelBuilder &k, ActivationEncoding encoding,
                     Value quants) {
  if (encoding.kind == ActivationKind::Int8)
    return k.narrow(quants, k.i8());
  int64_t n = k.lanes();
  SmallVector<int64_t> order;
  for (int64_t i = 0; i < n; i += 4)
    order.append({i, i + 2, i + 1, i + 3});
  Value halves = k.shuffle(k.narrow(quants, k.i16()), order);
  return k.bitcast(halves, k.vec(k.i8(), 2 * n));
}

/// From the sums of the lanes: those of the first two columns of every four,
/// and of the others.
static Value negateSums(KernelBuilder &k, Value sums) {
  SmallVector<int64_t> first, second;
  for (int64_t i = 0; i < k.lanes(); i += 4) {
    first.append({i, i + 1});
    second.append({i + 2, i + 3});
  }
  Value zero = k.zero(k.i32());
  auto half = [&](ArrayRef<int64_t> lanes) {
    return k.sub(zero, k.reduceAdd(k.shuffle(sums, lanes)));
  };
  return k.bitOr(k.bitAnd(half(first), k.constantInt(k.i32(), 0xffff)),
                 k.shl(half(second), 16));
}

QuantizedGroup::QuantizedGroup(KernelBuilder &k, ActivationEncoding encoding,
                               ArrayRef<Value> registers) {
  // Magnitudes compare as their bits do, and what is no number is the largest:
  // it becomes the scale, so that it isn't lost.
  Value magnitudes;
  for (Value value : registers) {
    Value bits = k.bitAnd(k.bitcast(value, k.vecI32()),
                          k.constantInt(k.vecI32(), 0x7fffffff));
    magnitudes = magnitudes ? k.maxInt(magnitudes, bits) : bits;
  }
  Value amax = k.bitcast(k.reduceMaxInt(magnitudes), k.f32());
  Value limit = k.constant(k.f32(), static_cast<double>(encoding.limit()));
  Value isSmall = arith::CmpFOp::create(
      k.builder(), k.location(), arith::CmpFPredicate::OLT, amax,
      k.constant(k.f32(), kSmallestActivation));
  Value zero = k.zero(k.f32());
  scale = k.select(isSmall, zero, k.div(amax, limit));
  Value inverse = k.splat(k.select(isSmall, zero, k.div(limit, amax)));
  Value sums;
  for (Value value : registers) {
    Value rounded = k.roundToInt(k.mul(value, inverse));
    quants.push_back(toBytes(k, encoding, rounded));
    sums = sums ? k.add(sums, rounded) : rounded;
  }
  if (encoding.kind == ActivationKind::Int8)
    negatedSums = negateSums(k, sums);
}

void QuantizedGroup::store(KernelBuilder &k, Buffer bytes, Index quantsAt,
                           Index scaleAt, Index sumsAt) const {
  Index byte = quantsAt * 4;
  for (Value part : quants) {
    auto n = cast<VectorType>(part.getType()).getDimSize(0);
    k.store(part, bytes, byte, n);
    byte = byte + n;
  }
  k.store(scale, k.view(bytes, k.index(0), k.f32()), scaleAt);
  if (negatedSums)
    k.store(negatedSums, k.view(bytes, k.index(0), k.i32()), sumsAt);
}

void RowSink::store(ArrayRef<Value> registers, Index at) const {
  if (!encoding) {
    k->store(registers.front(), to, at, 4 * k->lanes());
    return;
  }
  Index base = at / rowStride * (encoding->rowBytes(rowStride) / 4);
  Index col = at % rowStride;
  Index group = base + col / kActivationGroup;
  QuantizedGroup(*k, *encoding, registers)
      .store(*k, to, base + col / (4 / encoding->quantBytes()),
             group + encoding->scalesOffset(rowStride) / 4,
             group + encoding->sumsOffset(rowStride) / 4);
}

void RowSink::copy(Buffer source, Index from, int64_t count, Index at,
                   function_ref<Value(Value)> map) const {
  k->forLoop(k->index(0), k->index(count), step(), [&](Index i) {
    KernelBuilder::Values registers;
    for (int64_t lane = 0; lane < step(); lane += k->lanes())
      registers.push_back(map(k->loadVector(source, from + i + lane)));
    store(registers, at + i);
  });
}

void RowSink::clear(Index at, int64_t count) const {
  KernelBuilder::Values zeros(step() / k->lanes(), k->zero(k->vecF32()));
  k->forLoop(k->index(0), k->index(count), step(),
             [&](Index i) { store(zeros, at + i); });
}

} // namespace retort
