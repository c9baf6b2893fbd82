//===- EmitEmbed.cpp - Rows of the embedding matrix -----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Decode.h"
#include "compiler/lower/Emitters.h"

using namespace mlir;

namespace retort {

// Row r of a strip is one lane of its columns: a walk with the stride of a
// column, one element at a time. A token takes a few thousand of them.
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
        Value zeroPoint = k.constantInt(k.i32(), 8);
        if (encoding.zeroPoints)
          zeroPoint = k.zeroExtend(
              at(block + encoding.zeroPointOffset() + row, k.i8()), k.i32());
        bool int4 = encoding.kind == EncodingKind::Int4;
        k.forLoop(k.index(0), count, 1, [&](Index c) {
          Index word = int4 ? c / 8 : c / 4;
          Value byte =
              at(block + (word * kStripRows + row) * 4 + c % 4, k.i8());
          Value q;
          if (int4) {
            Value both = k.zeroExtend(byte, k.i32());
            Value high = k.shrLogical(both, 4);
            Value low = k.bitAnd(both, k.constantInt(k.i32(), 15));
            q = k.sub(k.select(c % 8 < 4, low, high), zeroPoint);
          } else {
            q = k.signExtend(byte, k.i32());
          }
          k.store(k.mul(k.intToFloat(q, k.f32()), scale), result, first + c);
        });
      });
  Index end = out + stride;
  k.forLoop(out + cols, end, 1,
            [&](Index c) { k.store(k.zero(k.f32()), result, c); });
  return success();
}

} // namespace retort
