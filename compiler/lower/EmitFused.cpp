//===- EmitFused.cpp - Norm, matrix and rotary embedding in one launch ----===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A norm is what tile -1 does: every worker normalizes the row for itself, and
/// keeps it in scratch for its tiles. With a rope_cache a unit of the matrix is
/// a head, so that whoever has its sums has both halves to rotate and all that
/// shares a scale in the cache.
///
//===----------------------------------------------------------------------===//

#include "compiler/lower/Emitters.h"
#include "compiler/lower/LinearKernel.h"
#include "compiler/lower/NormKernel.h"
#include "compiler/lower/RopeKernel.h"

using namespace mlir;

namespace retort {

using namespace kernel;

namespace {

class Fused {
public:
  Fused(KernelBuilder &k, FusedOp op)
      : k(k), op(op), norm(op.getNorm()), launch(op.getLinear()),
        rope(op.getRope()), tiling(op, k.tokenClass()) {}

  void emit();

private:
  /// The buffer of a part's operand.
  Buffer buffer(Value operand) { return k.buffer(FusedOp::inputOf(operand)); }
  std::optional<Buffer> optionalBuffer(Value operand) {
    return operand ? std::optional(buffer(operand)) : std::nullopt;
  }
  Buffer result() { return k.buffer(op.getNumOperands()); }
  Buffer scratch(int64_t byte, Type element) {
    return k.view(k.scratch(), k.index(byte), element);
  }
  /// The linear's input: the normalized row in scratch, if that is fused.
  Buffer input();
  void prepare();
  void emitTile();
  LinearEpilogue epilogue();
  /// Takes a head's sums.
  void finishHead(RopeCacheKernel &kernel, Index head, Index row, Buffer sums,
                  Index at, int64_t stripStride);

  KernelBuilder &k;
  FusedOp op;
  RmsNormOp norm;
  LinearOp launch;
  RopeCacheOp rope;
  FusedTiling tiling;
};

Buffer Fused::input() {
  if (!norm)
    return buffer(launch.getX());
  return isPlainActivation(launch.getX().getType())
             ? scratch(tiling.row, k.f32())
             : scratch(tiling.input, k.i8());
}

void Fused::prepare() {
  int64_t stride = strideOf(launch.getX());
  NormKernel kernel{
      .k = k,
      .x = buffer(norm.getX()),
      .weight = buffer(norm.getWeight()),
      .result = scratch(tiling.row, k.f32()),
      .width = cast<RankedTensorType>(norm.getWeight().getType()).getDimSize(0),
      .stride = stride,
      .eps = norm.getEps().convertToDouble()};
  Index row = norm.getFromFirstRow() ? k.firstRow() : k.index(0);
  kernel.normalize(row * strideOf(norm.getX()) +
                       static_cast<int64_t>(norm.getOffset()),
                   k.index(0));
  RowSink sink(k, launch.getX(), input());
  if (!sink.isPlain())
    sink.copy(kernel.result, k.index(0), stride, k.index(0),
              [](Value v) { return v; });
}

LinearEpilogue Fused::epilogue() {
  return {.swiglu = launch.getEpilogue() == Epilogue::Swiglu,
          .result = RowSink(k, launch.getResult(), result()),
          .bias = optionalBuffer(launch.getBias()),
          .residual = optionalBuffer(launch.getResidual())};
}

void Fused::finishHead(RopeCacheKernel &kernel, Index head, Index row,
                       Buffer sums, Index at, int64_t stripStride) {
  std::optional<Buffer> bias = optionalBuffer(launch.getBias());
  Buffer elements = scratch(tiling.head, k.f32());
  for (int64_t i = 0; i < kernel.size; i += k.lanes()) {
    Value sum = k.loadVector(
        sums, at + (i / kStripRows * stripStride + i % kStripRows));
    if (bias)
      sum = k.add(sum, k.loadVector(*bias, head * kernel.size + i));
    k.store(sum, elements, k.index(i), 4 * k.lanes());
  }
  Index from = k.index(0);
  int64_t keys = kernel.numHeads, values = keys + kernel.kvHeads;
  k.ifElse(
      head < keys, [&] { kernel.query(row, head, elements, from); },
      [&] {
        k.ifElse(
            head < values,
            [&] { kernel.key(row, head - k.index(keys), elements, from); },
            [&] { kernel.value(row, head - k.index(values), elements, from); });
      });
  if (kernel.qStride > kernel.numHeads * kernel.size)
    k.ifThen(head == 0, [&] { kernel.clearPadding(row); });
}

void Fused::emitTile() {
  LinearKernel linear(k, launch.getWeight(), input(), strideOf(launch.getX()),
                      buffer(launch.getWeight()), tiling.linear);
  LinearJob job{.weightBase = k.index(0),
                .tile = k.tile(),
                .xBase = k.index(0),
                .rows = k.numTokens(),
                .xRow = nullptr,
                .finish = nullptr};
  if (rope) {
    RopeCacheKernel kernel(k, rope, buffer(rope.getTable()),
                           buffer(rope.getKeys()), buffer(rope.getValues()),
                           result(), scratch(tiling.rotated, k.f32()));
    job.finish = [&](Index unit, Index row, Buffer sums, Index at,
                     int64_t stripStride) {
      finishHead(kernel, unit, row, sums, at, stripStride);
    };
    return emitLinearJob(linear, job);
  }
  LinearEpilogue to = epilogue();
  job.finish = [&](Index unit, Index row, Buffer sums, Index at,
                   int64_t stripStride) {
    to.emit(k, linear.tiling, unit, row * to.result.stride(), sums, at,
            stripStride);
  };
  emitLinearJob(linear, job);
}

void Fused::emit() {
  if (!norm)
    return emitTile();
  k.ifElse(k.tile() == -1, [&] { prepare(); }, [&] { emitTile(); });
}

} // namespace

LogicalResult emitFused(KernelBuilder &k, Operation *op) {
  auto fused = cast<FusedOp>(op);
  RmsNormOp norm = fused.getNorm();
  if (norm && k.tokenClass() != TokenClass::One)
    return op->emitOpError("expected a norm in launches of one token alone");
  Fused(k, fused).emit();
  return success();
}

} // namespace retort
