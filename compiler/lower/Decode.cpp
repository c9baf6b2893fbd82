//===- Decode.cpp - Decode packed weights in registers --------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Decode.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;

namespace retort {

int64_t columnStep(const PackedEncoding &encoding) {
  switch (encoding.kind) {
  case EncodingKind::Int4:
    return 8;
  case EncodingKind::Int8:
    return 4;
  default:
    return encoding.isInteger() ? kActivationGroup : 1;
  }
}

/// bf16 bits in 16-bit lanes, or f16 and f32 elements, to f32.
static Value widen(KernelBuilder &k, Value bits, EncodingKind kind) {
  auto n = cast<VectorType>(bits.getType()).getDimSize(0);
  if (kind == EncodingKind::BF16)
    return k.bitcast(k.shl(k.zeroExtend(bits, k.i32()), 16), k.vec(k.f32(), n));
  return kind == EncodingKind::F16 ? k.extend(bits, k.f32()) : bits;
}

/// Scales that make up for loadFloats: e4m3 bits as f16 are 2^-8 of the value.
static constexpr double kFp8Factor = 256.0;

/// e4m3 has f16's layout but for one exponent bit less, also for subnormals, so
/// that shifted to f16 (sign to bit 15, the rest from bit 7 on) the bits mean
/// value * 2^-8 exactly.
static Value widenFp8(KernelBuilder &k, Value bytes) {
  auto n = cast<VectorType>(bytes.getType()).getDimSize(0);
  // The sign extends over bits 15 and 14, of which 14 must go.
  Value bits = k.shl(k.signExtend(bytes, k.i16()), 7);
  bits = k.bitAnd(bits, k.constantInt(k.vec(k.i16(), n), ~0x4000));
  return k.extend(k.bitcast(bits, k.vec(k.builder().getF16Type(), n)), k.f32());
}

Value Decoder::loadFloats(Index block, Index col, int64_t v) {
  if (encoding.kind == EncodingKind::Fp8)
    return widenFp8(k, k.loadVector(weights,
                                    block + (col * kStripRows + v * k.lanes()),
                                    k.lanes(), k.lanes()));
  Type element = encoding.kind == EncodingKind::F32   ? k.f32()
                 : encoding.kind == EncodingKind::F16 ? k.builder().getF16Type()
                                                      : k.i16();
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  Index at = block + (col * kStripRows + v * k.lanes()) * bytes;
  int64_t n = k.lanes();
  Value raw = k.loadVector(weights, at, n * bytes, n * bytes);
  return widen(k, k.bitcast(raw, k.vec(element, n)), encoding.kind);
}

/// Word `word` of each row of a block.
Value Decoder::wordsAt(Index block, Index word, int64_t v) {
  int64_t n = k.lanes();
  Index at = block + word * (kStripRows * 4) + v * n * 4;
  return k.bitcast(
      k.loadVector(weights, at, n * 4, std::min<int64_t>(n * 4, 32)),
      k.vecI32());
}

Value Decoder::loadQuants(Index block, Index col, int64_t word, int64_t v) {
  const IntegerFormat &format = *encoding.integers();
  // A run of planes holds 32 columns; the words of a single plane are as one
  // run of any length.
  Index first = format.numPlanes() == 1 ? col / (32 / format.bits)
                                        : col / kActivationGroup * format.bits;
  Type bytes = k.vec(k.i8(), 4 * k.lanes());
  Value quants;
  int64_t before = 0; // words of planes
  for (int plane = 0; plane < format.numPlanes(); ++plane) {
    int64_t bits = format.planeBits(plane), perByte = 8 / bits;
    int64_t shift = word % perByte * bits, to = format.planeShift(plane);
    Value part =
        k.bitcast(wordsAt(block, first + (before + word / perByte), v), bytes);
    if (shift)
      part = k.shrLogical(part, shift);
    if (shift + bits < 8)
      part = k.bitAnd(part, k.constantInt(bytes, (1 << bits) - 1));
    if (to)
      part = k.shl(part, to);
    quants = quants ? k.bitOr(quants, part) : part;
    before += bits;
  }
  return k.bitcast(quants, k.vecI32());
}

Value Decoder::lookUp(Value indices) {
  int64_t n = 4 * k.lanes();
  Type bytes = k.vec(k.i8(), n);
  SmallVector<int8_t> table;
  for (int64_t i = 0; i < n; ++i)
    table.push_back(encoding.integers()->codebook[i % 16]);
  OpBuilder &b = k.builder();
  Value values = arith::ConstantOp::create(
      b, k.location(),
      DenseElementsAttr::get(cast<ShapedType>(bytes), ArrayRef(table)));
  // Both take each 16 bytes by themselves.
  StringRef intrinsic = n == 64   ? "llvm.x86.avx512.pshuf.b.512"
                        : n == 32 ? "llvm.x86.avx2.pshuf.b"
                                  : "llvm.aarch64.neon.tbl1.v16i8";
  Value looked = LLVM::CallIntrinsicOp::create(
                     b, k.location(), bytes, b.getStringAttr(intrinsic),
                     ValueRange{values, k.bitcast(indices, bytes)})
                     .getResult(0);
  return k.bitcast(looked, k.vecI32());
}

Value Decoder::loadSigned(Index block, Index col, int64_t word, int64_t v) {
  Value quants = loadQuants(block, col, word, v);
  const IntegerFormat &format = *encoding.integers();
  if (format.codebook)
    return lookUp(quants);
  if (!format.hasZeroPoint)
    return quants;
  Type bytes = k.vec(k.i8(), 4 * k.lanes());
  // A row's zero point in each byte of its word.
  Value zeros = encoding.zeroPoints
                    ? k.bitcast(k.mul(loadZeroPointInts(block, v),
                                      k.constantInt(k.vecI32(), 0x01010101)),
                                bytes)
                    : k.constantInt(bytes, encoding.middle());
  return k.bitcast(k.sub(k.bitcast(quants, bytes), zeros), k.vecI32());
}

Value Decoder::toFloat(Value words, int64_t i) {
  Value q = i == 3 ? words : k.shl(words, 24 - 8 * i);
  return k.intToFloat(k.shrArithmetic(q, 24), k.f32());
}

Value Decoder::loadWords(Index block, Index col, int64_t v) {
  return wordsAt(block, col / 8, v);
}

Value Decoder::quant(Value words, int64_t i) {
  // Column i < 4 is the low nibble of byte i, column 4 + i the high one.
  int64_t shift = 8 * (i % 4) + 4 * (i / 4);
  Value q = shift ? k.shrLogical(words, shift) : words;
  if (shift != 28)
    q = k.bitAnd(q, k.constantInt(k.vecI32(), 15));
  return k.intToFloat(q, k.f32());
}

Value Decoder::upperHalf(Value words) { return k.shrLogical(words, 16); }

/// The lowest bit of quant `i` in its half of the word.
static int64_t bitInHalf(int64_t i) { return 8 * (i % 2) + 4 * (i / 4); }

double Decoder::inPlaceScale(int64_t i) {
  return static_cast<double>(1 << bitInHalf(i));
}

Value Decoder::quantInPlace(Value half, int64_t i) {
  Value mask = k.constantInt(k.vecI32(), int64_t(15) << bitInHalf(i));
  return k.intToFloat(k.bitAnd(half, mask), k.f32());
}

Value Decoder::loadScales(Index block, int64_t v) {
  int64_t n = k.lanes();
  if (encoding.kind == EncodingKind::Fp8) {
    Value raw =
        k.loadVector(weights, block + (encoding.scaleOffset() + v * n * 4),
                     n * 4, std::min<int64_t>(n * 4, 32));
    return k.mul(k.bitcast(raw, k.vecF32()),
                 k.constant(k.vecF32(), kFp8Factor));
  }
  int64_t bytes = n * encoding.scaleBytes();
  Value raw =
      k.loadVector(weights, block + (encoding.scaleOffset() + v * bytes), bytes,
                   std::min<int64_t>(bytes, 32));
  switch (encoding.scales) {
  case ScaleKind::BF16:
    return widen(k, k.bitcast(raw, k.vec(k.i16(), n)), EncodingKind::BF16);
  case ScaleKind::F16:
    return widen(k, k.bitcast(raw, k.vec(k.builder().getF16Type(), n)),
                 EncodingKind::F16);
  case ScaleKind::F32:
    break;
  }
  return k.bitcast(raw, k.vecF32());
}

Value Decoder::loadZeroPoints(Index block, int64_t v) {
  return k.intToFloat(loadZeroPointInts(block, v), k.f32());
}

Value Decoder::loadZeroPointInts(Index block, int64_t v) {
  int64_t n = k.lanes();
  Value raw =
      k.loadVector(weights, block + (encoding.zeroPointOffset() + v * n), n,
                   std::min<int64_t>(n, 16));
  return k.zeroExtend(raw, k.i32());
}

} // namespace retort
