//===- CacheAccess.cpp - Cached elements in registers ---------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/CacheAccess.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace retort {
namespace {

Value compare(KernelBuilder &k, arith::CmpFPredicate predicate, Value a,
              Value b) {
  return arith::CmpFOp::create(k.builder(), k.location(), predicate, a, b);
}

/// The upper halves of f32 rounded to even, in 16-bit lanes: arith.truncf to
/// bf16 would call a library.
Value bf16Bits(KernelBuilder &k, Value v) {
  auto vector = dyn_cast<VectorType>(v.getType());
  Type ints = vector ? Type(k.vec(k.i32(), vector.getDimSize(0))) : k.i32();
  Value bits = k.bitcast(v, ints);
  Value odd = k.bitAnd(k.shrLogical(bits, 16), k.constantInt(ints, 1));
  Value rounded = k.add(bits, k.add(odd, k.constantInt(ints, 0x7fff)));
  // What is no number must not become one by the carry.
  Value quiet = k.bitOr(bits, k.constantInt(ints, 0x400000));
  Value isNaN = compare(k, arith::CmpFPredicate::UNO, v, v);
  return k.narrow(k.shrLogical(k.select(isNaN, quiet, rounded), 16), k.i16());
}

} // namespace

Value CacheAccess::toElement(Value v) const {
  switch (encoding.element) {
  case CacheElement::F32:
    return v;
  case CacheElement::F16: {
    // Comparing, not min and max: what is no number stays none.
    Value most = k->constant(v.getType(), kLargestF16);
    Value least = k->constant(v.getType(), -kLargestF16);
    v = k->select(compare(*k, arith::CmpFPredicate::OGT, v, most), most, v);
    v = k->select(compare(*k, arith::CmpFPredicate::OLT, v, least), least, v);
    return k->truncate(v, k->builder().getF16Type());
  }
  case CacheElement::BF16:
    return k->bitcast(bf16Bits(*k, v),
                      k->vec(k->builder().getBF16Type(), lanes()));
  case CacheElement::Int8:
    break;
  }
  llvm_unreachable("int8 is kept in groups");
}

Value CacheAccess::load(Index at) const {
  Value v =
      k->loadVector(buffer, at, lanes(), encoding.elementBytes() * lanes());
  return encoding.element == CacheElement::F32 ? v : k->extend(v, k->f32());
}

Buffer CacheAccess::scales() const {
  return k->view(buffer, k->index(0), k->builder().getBF16Type());
}

Value CacheAccess::loadWords(Index at) const {
  constexpr int64_t kAlign = 32; // of blocks
  return k->bitcast(
      k->loadVector(buffer, at, 4 * lanes(), std::min(4 * lanes(), kAlign)),
      k->vecI32());
}

Value CacheAccess::loadScales(Index block, Index group, Index position) const {
  Index at = (block + encoding.scalesOffset(size)) / 2 +
             group * kCachePositions + position;
  return k->extend(k->loadVector(scales(), at, lanes(), 2 * lanes()), k->f32());
}

Value CacheAccess::loadScale(Index block, Index group, Index position) const {
  Index at = (block + encoding.scalesOffset(size)) / 2 +
             group * kCachePositions + position;
  return k->extend(k->load(scales(), at), k->f32());
}

std::pair<CacheAccess::Values, Value> CacheAccess::quantize(Buffer source,
                                                            Index from) const {
  Values registers;
  for (int64_t i = 0; i < kCacheGroup; i += lanes())
    registers.push_back(k->loadVector(source, from + i));
  // Magnitudes compare as their bits do, and what isn't finite is the largest.
  Value magnitudes;
  for (Value value : registers) {
    Value bits = k->bitAnd(k->bitcast(value, k->vecI32()),
                           k->constantInt(k->vecI32(), 0x7fffffff));
    magnitudes = magnitudes ? k->maxInt(magnitudes, bits) : bits;
  }
  Value amax = k->bitcast(k->reduceMaxInt(magnitudes), k->f32());
  Value isFinite = compare(*k, arith::CmpFPredicate::OLT, amax,
                           k->constant(k->f32(), HUGE_VAL));
  Value isSmall = compare(*k, arith::CmpFPredicate::OLT, amax,
                          k->constant(k->f32(), kSmallestCached));
  Value zero = k->zero(k->f32());
  Value nan = k->constant(k->f32(), std::numeric_limits<double>::quiet_NaN());
  Value wanted =
      k->select(isFinite, k->div(amax, k->constant(k->f32(), 127)), nan);
  Value scale = k->bitcast(bf16Bits(*k, k->select(isSmall, zero, wanted)),
                           k->builder().getBF16Type());
  Value inverse = k->splat(k->select(
      isSmall, zero,
      k->div(k->constant(k->f32(), 1.0), k->extend(scale, k->f32()))));
  Values quants;
  for (Value value : registers)
    quants.push_back(k->narrow(k->roundToInt(k->mul(value, inverse)), k->i8()));
  return {quants, scale};
}

void CacheAccess::storeKeys(Buffer source, Index from, Index block,
                            Index slot) const {
  k->forLoop(k->index(0), k->index(size), lanes(), [&](Index i) {
    Value v = toElement(k->loadVector(source, from + i));
    Index to = block + i * kCachePositions + slot;
    for (int64_t lane = 0; lane < lanes(); ++lane)
      k->store(k->extract(v, lane), buffer, to + lane * kCachePositions);
  });
}

void CacheAccess::storeValues(Buffer source, Index from, Index block,
                              Index slot) const {
  Index to = block + slot * size;
  k->forLoop(k->index(0), k->index(size), lanes(), [&](Index i) {
    k->store(toElement(k->loadVector(source, from + i)), buffer, to + i,
             encoding.elementBytes() * lanes());
  });
}

void CacheAccess::storeInt8(Buffer source, Index from, Index block,
                            Index slot) const {
  bool isKeys = type.getKind() == kernel::CacheKind::Keys;
  Buffer words = k->view(buffer, k->index(0), k->i32());
  k->forLoop(k->index(0), k->index(size / kCacheGroup), 1, [&](Index g) {
    auto [quants, scale] = quantize(source, from + g * kCacheGroup);
    k->store(scale, scales(),
             (block + encoding.scalesOffset(size)) / 2 + g * kCachePositions +
                 slot);
    Index group = block + g * (kCacheGroup * kCachePositions);
    for (auto [r, bytes] : llvm::enumerate(quants)) {
      auto first = static_cast<int64_t>(r) * lanes();
      if (isKeys) {
        Value four = k->bitcast(bytes, k->vec(k->i32(), lanes() / 4));
        for (int64_t w = 0; w < lanes() / 4; ++w)
          k->store(k->extract(four, w), words,
                   (group + (first / 4 + w) * 64) / 4 + slot);
        continue;
      }
      Index to = group + slot / 4 * 128 + slot % 4 + first * 4;
      for (int64_t lane = 0; lane < lanes(); ++lane)
        k->store(k->extract(bytes, lane), buffer, to + lane * 4);
    }
  });
}

void CacheAccess::storeHead(Buffer source, Index from, Index block,
                            Index slot) const {
  if (isInt8())
    storeInt8(source, from, block, slot);
  else if (type.getKind() == kernel::CacheKind::Keys)
    storeKeys(source, from, block, slot);
  else
    storeValues(source, from, block, slot);
}

void CacheAccess::decodeBlock(Index block, Buffer to, Index at) const {
  int64_t bytes = 4 * lanes();
  if (!isInt8()) {
    k->forLoop(k->index(0), k->index(size * kCachePositions), lanes(),
               [&](Index i) { k->store(load(block + i), to, at + i, bytes); });
    return;
  }
  // Byte `b` of words that four elements share.
  auto quant = [&](Value words, int64_t b) {
    Value top = b == 3 ? words : k->shl(words, 24 - 8 * b);
    return k->intToFloat(k->shrArithmetic(top, 24), k->f32());
  };
  bool isKeys = type.getKind() == kernel::CacheKind::Keys;
  k->forLoop(k->index(0), k->index(size / kCacheGroup), 1, [&](Index g) {
    Index group = block + g * (kCacheGroup * kCachePositions);
    if (isKeys) {
      for (int64_t p = 0; p < kCachePositions; p += lanes()) {
        Value scale = loadScales(block, g, k->index(p));
        k->forLoop(k->index(0), k->index(kCacheGroup), 4, [&](Index i) {
          Value words = loadWords(group + i * kCachePositions + p * 4);
          Index row = at + (g * kCacheGroup + i) * kCachePositions + p;
          for (int64_t b = 0; b < 4; ++b)
            k->store(k->mul(quant(words, b), scale), to,
                     row + b * kCachePositions, bytes);
        });
      }
      return;
    }
    k->forLoop(k->index(0), k->index(kCachePositions), 4, [&](Index p) {
      Values scale;
      for (int64_t b = 0; b < 4; ++b)
        scale.push_back(k->splat(loadScale(block, g, p + b)));
      for (int64_t i = 0; i < kCacheGroup; i += lanes()) {
        Value words = loadWords(group + p * kCacheGroup + i * 4);
        Index row = at + p * size + g * kCacheGroup + i;
        for (int64_t b = 0; b < 4; ++b)
          k->store(k->mul(quant(words, b), scale[b]), to, row + b * size,
                   bytes);
      }
    });
  });
}

void CacheAccess::storeRow(Buffer source, Index from, Index position) const {
  Index row =
      position * (encoding.latentRowBytes(size) / encoding.elementBytes());
  if (!isInt8()) {
    k->forLoop(k->index(0), k->index(size), lanes(), [&](Index i) {
      k->store(toElement(k->loadVector(source, from + i)), buffer, row + i,
               encoding.elementBytes() * lanes());
    });
    return;
  }
  k->forLoop(k->index(0), k->index(size / kCacheGroup), 1, [&](Index g) {
    auto [quants, scale] = quantize(source, from + g * kCacheGroup);
    for (auto [r, bytes] : llvm::enumerate(quants))
      k->store(bytes, buffer,
               row + g * kCacheGroup + static_cast<int64_t>(r) * lanes(),
               lanes());
    k->store(scale, scales(), (row + size) / 2 + g);
  });
}

void CacheAccess::decodeRow(Index position, Buffer to, Index at) const {
  Index row =
      position * (encoding.latentRowBytes(size) / encoding.elementBytes());
  int64_t bytes = 4 * lanes();
  if (!isInt8()) {
    k->forLoop(k->index(0), k->index(size), lanes(),
               [&](Index i) { k->store(load(row + i), to, at + i, bytes); });
    return;
  }
  k->forLoop(k->index(0), k->index(size / kCacheGroup), 1, [&](Index g) {
    Value scale =
        k->splat(k->extend(k->load(scales(), (row + size) / 2 + g), k->f32()));
    for (int64_t i = 0; i < kCacheGroup; i += lanes()) {
      Value quants =
          k->loadVector(buffer, row + g * kCacheGroup + i, lanes(), lanes());
      Value v = k->intToFloat(k->signExtend(quants, k->i32()), k->f32());
      k->store(k->mul(v, scale), to, at + g * kCacheGroup + i, bytes);
    }
  });
}

} // namespace retort
