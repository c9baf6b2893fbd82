//===- EmitEmbed.cpp - Rows of the embedding matrix -----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Decode.h"
#include "compiler/lower/Emitters.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;

namespace retort {

// Row r of a strip is one lane of its columns: a walk with the stride of a
// column, one element at a time. A token takes a few thousand of them.
/// A value of a codebook of sixteen bytes, which are two words.
static Value lookUp(KernelBuilder &k, const int8_t *codebook, Value index) {
  auto half = [&](int first) {
    uint64_t word = 0;
    for (int i = 7; i >= 0; --i)
      word = word << 8 | static_cast<uint8_t>(codebook[first + i]);
    return k.constantInt(k.i64(), static_cast<int64_t>(word));
  };
  OpBuilder &b = k.builder();
  Value inHalf = k.bitAnd(index, k.constantInt(k.i32(), 7));
  Value isHigh =
      arith::CmpIOp::create(b, k.location(), arith::CmpIPredicate::uge, index,
                            k.constantInt(k.i32(), 8));
  Value bytes = k.select(isHigh, half(8), half(0));
  Value shift = k.zeroExtend(k.shl(inHalf, 3), k.i64());
  Value byte =
      k.narrow(arith::ShRUIOp::create(b, k.location(), bytes, shift), k.i8());
  return k.signExtend(byte, k.i32());
}

LogicalResult emitEmbed(KernelBuilder &k, Operation *op) {
  auto embed = cast<kernel::EmbedOp>(op);
  auto type = cast<RankedTensorType>(embed.getWeight().getType());
  PackedEncoding encoding = *encoding::getPackedEncoding(type);
  int64_t cols = type.getDimSize(1);
  int64_t stride = kernel::strideOf(embed.getResult());
  Buffer tokens = k.buffer(0), weights = k.buffer(1), result = k.buffer(2);

  Index token = k.tile();
  Index id = k.toIndex(k.load(tokens, token));
  Index strip = (id / kStripRows) * encoding.stripBytes(cols);
  Index row = id % kStripRows;
  Index out = token * stride;

  auto at = [&](Index byte, Type element) {
    return k.load(k.view(weights, byte, element), k.index(0));
  };
  auto bf16At = [&](Index byte) {
    Value bits = k.shl(k.zeroExtend(at(byte, k.i16()), k.i32()), 16);
    return k.bitcast(bits, k.f32());
  };

  k.forLoop(
      k.index(0), k.index(encoding.blocksPerStrip(cols)), 1, [&](Index b) {
        Index block = strip + b * encoding.blockBytes();
        // The last block may reach past the columns, and past the result's row.
        Index count =
            min(k.index(cols) - b * encoding.blockCols(), encoding.blockCols());
        Index first = out + b * encoding.blockCols();
        if (encoding.kind == EncodingKind::Fp8) {
          Value scale =
              k.mul(at(block + encoding.scaleOffset() + row * 4, k.f32()),
                    k.constant(k.f32(), 256.0));
          k.forLoop(k.index(0), count, 1, [&](Index c) {
            // See Decoder: the bits as f16 are 2^-8 of the value.
            Value bits = k.shl(
                k.signExtend(at(block + c * kStripRows + row, k.i8()), k.i16()),
                7);
            bits = k.bitAnd(bits, k.constantInt(k.i16(), ~0x4000));
            Value value =
                k.extend(k.bitcast(bits, k.builder().getF16Type()), k.f32());
            k.store(k.mul(value, scale), result, first + c);
          });
          return;
        }
        if (!encoding.isInteger()) {
          k.forLoop(k.index(0), count, 1, [&](Index c) {
            Index element = c * kStripRows + row;
            Value value;
            if (encoding.kind == EncodingKind::F32)
              value = at(block + element * 4, k.f32());
            else if (encoding.kind == EncodingKind::F16)
              value = k.extend(
                  at(block + element * 2, k.builder().getF16Type()), k.f32());
            else
              value = bf16At(block + element * 2);
            k.store(value, result, first + c);
          });
          return;
        }
        Index scaleAt =
            block + encoding.scaleOffset() + row * encoding.scaleBytes();
        Value scale;
        if (encoding.scales == ScaleKind::F32)
          scale = at(scaleAt, k.f32());
        else if (encoding.scales == ScaleKind::F16)
          scale = k.extend(at(scaleAt, k.builder().getF16Type()), k.f32());
        else
          scale = bf16At(scaleAt);
        const IntegerFormat &format = *encoding.integers();
        Value zeroPoint = k.constantInt(k.i32(), encoding.middle());
        if (encoding.zeroPoints)
          zeroPoint = k.zeroExtend(
              at(block + encoding.zeroPointOffset() + row, k.i8()), k.i32());
        // The bits of a plane of column `c`.
        auto planeBits = [&](Index c, int plane, int64_t wordsBefore) {
          int64_t bits = format.planeBits(plane), perByte = 8 / bits;
          Index j = c % kActivationGroup / 4;
          Index word =
              c / kActivationGroup * format.bits + (j / perByte + wordsBefore);
          Value byte = k.zeroExtend(
              at(block + (word * kStripRows + row) * 4 + c % 4, k.i8()),
              k.i32());
          Value shift = arith::IndexCastOp::create(
              k.builder(), k.location(), k.i32(), (j % perByte * bits).value());
          Value part =
              arith::ShRUIOp::create(k.builder(), k.location(), byte, shift);
          return k.bitAnd(part, k.constantInt(k.i32(), (1 << bits) - 1));
        };
        k.forLoop(k.index(0), count, 1, [&](Index c) {
          Value q = planeBits(c, 0, 0);
          if (format.numPlanes() == 2)
            q = k.bitOr(q, k.shl(planeBits(c, 1, format.lowBits),
                                 format.planeShift(1)));
          if (format.codebook)
            q = lookUp(k, format.codebook, q);
          else if (format.hasZeroPoint)
            q = k.sub(q, zeroPoint);
          else
            q = k.shrArithmetic(k.shl(q, 24), 24);
          k.store(k.mul(k.intToFloat(q, k.f32()), scale), result, first + c);
        });
      });
  Index end = out + stride;
  k.forLoop(out + cols, end, 1,
            [&](Index c) { k.store(k.zero(k.f32()), result, c); });
  return success();
}

} // namespace retort
