//===- Dot.cpp - Integer dot products of a group --------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/Dot.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

#include "llvm/Support/MathExtras.h"

#include <numeric>

using namespace mlir;

namespace retort {

Value GroupDot::bytes(Value words) {
  return k.bitcast(words, k.vec(k.i8(), 4 * k.lanes()));
}

Value GroupDot::halves(Value words) {
  return k.bitcast(words, k.vec(k.i16(), 2 * k.lanes()));
}

Value GroupDot::call(StringRef intrinsic, Type type, ValueRange args) {
  OpBuilder &b = k.builder();
  return LLVM::CallIntrinsicOp::create(b, k.location(), type,
                                       b.getStringAttr(intrinsic), args)
      .getResult(0);
}

/// Where word `word` of a group's columns is, as Decoder takes it: a column to
/// begin at, and the number of the word from there.
static std::pair<Index, int64_t> wordAt(const Decoder &decode, Index first,
                                        int64_t word) {
  int64_t perStep = decode.columnStep() / 4;
  return {first + word / perStep * perStep * 4, word % perStep};
}

GroupDot::Values GroupDot::signedWords(Decoder &decode, Index block,
                                       Index first, int64_t v) {
  Values words;
  for (int64_t i = 0; i < kActivationGroup / 4; ++i) {
    auto [col, word] = wordAt(decode, first, i);
    words.push_back(decode.loadSigned(block, col, word, v));
  }
  return words;
}

std::pair<Value, Value> GroupDot::load(Decoder &decode, Index block,
                                       Index first, int64_t pair, int64_t v) {
  if (isNarrow) {
    auto [col, word] = wordAt(decode, first, 2 * pair);
    return {decode.loadQuants(block, col, word, v),
            decode.loadQuants(block, col, word + 1, v)};
  }
  auto [col, word] = wordAt(decode, first, pair);
  Value words = decode.loadSigned(block, col, word, v);
  if (splitsQuants())
    return {words, words};
  // Columns 0 and 2 are the low bytes of the halves, 1 and 3 the high ones.
  Value packed = halves(words);
  return {k.bitcast(k.shrArithmetic(k.shl(packed, 8), 8), k.vecI32()),
          k.bitcast(k.shrArithmetic(packed, 8), k.vecI32())};
}

Value GroupDot::zeroPointWords(Value zeroPoints) {
  return sumsPairs() ? k.bitOr(zeroPoints, k.shl(zeroPoints, 16)) : zeroPoints;
}

Value GroupDot::start(Value negatedSums, Value zeroPoints) {
  if (!isNarrow)
    return {};
  Value sums = sumsPairs() ? halves(negatedSums)
                           : k.add(k.shrArithmetic(negatedSums, 16),
                                   k.shrArithmetic(k.shl(negatedSums, 16), 16));
  if (!zeroPoints)
    return k.shl(sums, llvm::Log2_64(middle));
  return k.mul(sums, sumsPairs() ? halves(zeroPoints) : zeroPoints);
}

Value GroupDot::genericProduct(Value w, Value x) {
  int64_t bits = isNarrow ? 8 : 16;
  Value sum;
  for (int64_t shift = 32 - bits; shift >= 0; shift -= bits) {
    auto part = [&](Value v) {
      return k.shrArithmetic(shift ? k.shl(v, shift) : v, 32 - bits);
    };
    Value product = k.mul(part(w), part(x));
    sum = sum ? k.add(sum, product) : product;
  }
  return sum;
}

/// One step: lanes of i16 with vpmaddubsw, else of i32.
Value GroupDot::product(Value w, Value x) {
  bool is512 = k.lanes() == 16;
  if (step() == DotStep::X86Pairs && isNarrow)
    return call(is512 ? "llvm.x86.avx512.pmaddubs.w.512"
                      : "llvm.x86.avx2.pmadd.ub.sw",
                k.vec(k.i16(), 2 * k.lanes()), {bytes(w), bytes(x)});
  if (step() == DotStep::X86Pairs)
    return call(is512 ? "llvm.x86.avx512.pmaddw.d.512"
                      : "llvm.x86.avx2.pmadd.wd",
                k.vecI32(), {halves(w), halves(x)});
  return genericProduct(w, x);
}

Value GroupDot::accumulate(Value acc, Value w, Value x) {
  if (!acc)
    acc = k.zero(k.vecI32());
  if (step() == DotStep::AArch64Sdot || step() == DotStep::AArch64Usdot)
    return call("llvm.aarch64.neon.sdot.v4i32.v16i8", k.vecI32(),
                {acc, bytes(w), bytes(x)});
  if (isNarrow)
    return call("llvm.x86.avx512.vpdpbusd.512", k.vecI32(),
                {acc, bytes(w), bytes(x)});
  return call("llvm.x86.avx512.vpdpwssd.512", k.vecI32(),
              {acc, halves(w), halves(x)});
}

Value GroupDot::add(Value acc, Value w, Value x) {
  assert(!splitsQuants() && "takes pairs alone");
  if (accumulates())
    return accumulate(acc, w, x);
  Value p = product(w, x);
  return acc ? k.add(acc, p) : p;
}

std::pair<Value, Value> GroupDot::prepare(Value x0, Value x1) {
  if (!splitsQuants())
    return {x0, x1};
  // Columns 0 and 2 are in x0, 1 and 3 in x1: trn1 and trn2.
  SmallVector<int64_t> low, high;
  int64_t n = 4 * k.lanes();
  for (int64_t i = 0; i < n; i += 2) {
    low.append({i, n + i});
    high.append({i + 1, n + i + 1});
  }
  Value a = bytes(x0), b = bytes(x1), highs = k.shuffle(a, b, high),
        lows = k.shuffle(a, b, low);
  // sdot takes bytes with a sign: low - 128.
  if (step() == DotStep::AArch64Sdot)
    lows = k.bitXor(lows, k.constantInt(lows.getType(), 128));
  return {k.bitcast(highs, k.vecI32()), k.bitcast(lows, k.vecI32())};
}

/// The sums with high bytes, with low bytes and, where 128 is missing in
/// these, of the weights lie side by side in one value.
Value GroupDot::addSplit(Value acc, Value w, Value high, Value low) {
  int64_t lanes = k.lanes();
  bool needsSum = step() == DotStep::AArch64Sdot;
  auto part = [&](int64_t i) {
    return acc ? k.slice(acc, i * lanes, lanes) : k.zero(k.vecI32());
  };
  auto sdot = [&](Value sum, Value x) {
    return call("llvm.aarch64.neon.sdot.v4i32.v16i8", k.vecI32(),
                {sum, bytes(w), x});
  };
  Value highSum = sdot(part(0), bytes(high));
  Value lowSum = needsSum ? sdot(part(1), bytes(low))
                          : call("llvm.aarch64.neon.usdot.v4i32.v16i8",
                                 k.vecI32(), {part(1), bytes(low), bytes(w)});
  SmallVector<int64_t> all(2 * lanes);
  std::iota(all.begin(), all.end(), 0);
  Value both = k.shuffle(highSum, lowSum, all);
  if (!needsSum)
    return both;
  Value ones = k.constantInt(k.vec(k.i8(), 4 * lanes), 1);
  // Shuffles take vectors of one length.
  Value weightSum = sdot(part(2), ones);
  Value twice = k.shuffle(weightSum, weightSum, all);
  all.resize(3 * lanes);
  std::iota(all.begin(), all.end(), 0);
  return k.shuffle(both, twice, all);
}

Value GroupDot::finishSplit(Value acc) {
  int64_t lanes = k.lanes();
  Value high = k.slice(acc, 0, lanes), low = k.slice(acc, lanes, lanes);
  if (step() == DotStep::AArch64Usdot)
    return k.add(k.shl(high, 8), low);
  Value weights = k.slice(acc, 2 * lanes, lanes);
  return k.add(k.shl(k.add(k.shl(high, 1), weights), 7), low);
}

Value GroupDot::addPair(Value acc, Value w0, Value x0, Value w1, Value x1) {
  if (splitsQuants())
    return addSplit(acc, w0, x0, x1);
  if (accumulates())
    return accumulate(accumulate(acc, w0, x0), w1, x1);
  Value pair = k.add(product(w0, x0), product(w1, x1));
  return acc ? k.add(acc, pair) : pair;
}

Value GroupDot::finish(Value acc) {
  if (splitsQuants())
    return finishSplit(acc);
  if (!sumsPairs())
    return acc;
  Value ones = k.constantInt(acc.getType(), 1);
  return call(k.lanes() == 16 ? "llvm.x86.avx512.pmaddw.d.512"
                              : "llvm.x86.avx2.pmadd.wd",
              k.vecI32(), {acc, ones});
}

} // namespace retort
