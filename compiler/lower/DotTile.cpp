//===- DotTile.cpp - Integer products of many rows and tokens -------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/DotTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;

namespace retort {
namespace {

/// Words of a group's weights in a row of the panel, and of its bytes of one
/// significance in a token's quants.
constexpr int64_t kWords = kActivationGroup / 4;

/// What the emitters of tiles need to know of AMX: instructions that take
/// shapes, whose tile registers LLVM allocates and configures.
class AmxBuilder {
public:
  AmxBuilder(KernelBuilder &k, Buffer words)
      : k(k), b(k.builder()), loc(k.location()), words(words) {}

  static constexpr int64_t kRows = 16;     ///< of a tile, at most
  static constexpr int64_t kRowBytes = 64; ///< likewise

  Value zero() {
    return call("llvm.x86.tilezero.internal", type(),
                {half(kRows), half(kRowBytes)});
  }
  /// `rows` rows of `bytes` bytes, `stride` words from one to the next.
  Value load(Index at, int64_t rows, int64_t bytes, int64_t stride) {
    return call("llvm.x86.tileloadd64.internal", type(),
                {half(rows), half(bytes), pointer(at), wide(4 * stride)});
  }
  void store(Value tile, Index at, int64_t stride) {
    LLVM::CallIntrinsicOp::create(
        b, loc, b.getStringAttr("llvm.x86.tilestored64.internal"),
        ValueRange{half(kRows), half(kRowBytes), pointer(at), wide(4 * stride),
                   tile});
  }
  /// `acc` plus the products of tokens, rows of `a`, with weights, words of
  /// `b`'s rows, over `cols` columns.
  Value multiply(StringRef intrinsic, Value acc, Value a, Value b,
                 int64_t cols) {
    return call(intrinsic, type(),
                {half(kRows), half(kRowBytes), half(cols), acc, a, b});
  }

private:
  Type type() { return LLVM::LLVMX86AMXType::get(b.getContext()); }
  Value half(int64_t value) { return k.constantInt(k.i16(), value); }
  Value wide(int64_t value) { return k.constantInt(k.i64(), value); }
  Value call(StringRef intrinsic, Type type, ValueRange args) {
    return LLVM::CallIntrinsicOp::create(b, loc, type,
                                         b.getStringAttr(intrinsic), args)
        .getResult(0);
  }
  Value pointer(Index at) {
    Index base(k, memref::ExtractAlignedPointerAsIndexOp::create(b, loc,
                                                                 words.memref));
    return LLVM::IntToPtrOp::create(b, loc,
                                    LLVM::LLVMPointerType::get(b.getContext()),
                                    k.toI64(base + at * 4));
  }

  KernelBuilder &k;
  OpBuilder &b;
  Location loc;
  Buffer words;
};

} // namespace

bool DotTile::isUsed() const {
  return step() != MatrixStep::None &&
         (step() != MatrixStep::AArch64Bytes || !isNarrow);
}

int64_t DotTile::tokens() const {
  switch (step()) {
  case MatrixStep::None:
  case MatrixStep::AArch64Bytes:
    return k.target().dotTokens;
  case MatrixStep::AArch64Smmla:
    return 4;
  case MatrixStep::X86Amx:
    // Four tiles of sums, half of which are of low bytes for int8 weights.
    return isNarrow ? 2 * AmxBuilder::kRows : AmxBuilder::kRows;
  }
  llvm_unreachable("all steps are handled");
}

Value DotTile::call(StringRef intrinsic, ValueRange args) {
  OpBuilder &b = k.builder();
  return LLVM::CallIntrinsicOp::create(b, k.location(), k.vecI32(),
                                       b.getStringAttr(intrinsic), args)
      .getResult(0);
}

Value DotTile::loadWeights(int64_t word, int64_t v) {
  return k.loadVector(words,
                      k.index(panel + word * kStripRows + v * k.lanes()));
}

void DotTile::storeWeights(SmallVector<Value> rows, int64_t v) {
  int64_t lanes = k.lanes();
  if (step() == MatrixStep::AArch64Smmla)
    for (int64_t i = 0; i < kWords; i += 2) {
      Value a = rows[i], b = rows[i + 1];
      rows[i] = k.shuffle(a, b, {0, 4, 1, 5});
      rows[i + 1] = k.shuffle(a, b, {2, 6, 3, 7});
    }
  auto store = [&](Value value, int64_t word) {
    k.store(value, words, k.index(panel + word * kStripRows + v * lanes),
            4 * lanes);
  };
  for (int64_t i = 0; i < kWords; ++i)
    store(rows[i], i);
  if (step() != MatrixStep::AArch64Bytes)
    return;
  // Sums of weights: what 128 less in each low byte leaves out.
  Value ones = k.constantInt(k.vec(k.i8(), 4 * lanes), 1);
  Value sum = k.zero(k.vecI32());
  for (Value word : rows)
    sum = call("llvm.aarch64.neon.sdot.v4i32.v16i8", {sum, bytes(word), ones});
  store(sum, kWords);
}

void DotTile::arrangeQuants(Index at) {
  if (isNarrow)
    return;
  // Four columns are bytes 0 1, 4 5, 2 3, 6 7 of two words: low, high.
  SmallVector<int64_t> low, high;
  for (int64_t word = 0; word < kWords; ++word)
    for (int64_t column : {0, 4, 2, 6}) {
      low.push_back(8 * word + column);
      high.push_back(8 * word + column + 1);
    }
  Value quants = k.bitcast(k.loadVector(words, at, 2 * kWords, 32),
                           k.vec(k.i8(), 8 * kWords));
  Value lows = k.shuffle(quants, low), highs = k.shuffle(quants, high);
  if (step() == MatrixStep::AArch64Bytes)
    lows = k.bitXor(lows, k.constantInt(lows.getType(), 128));
  VectorType type = k.vec(k.i32(), kWords);
  k.store(k.bitcast(highs, type), words, at, 4 * kWords);
  k.store(k.bitcast(lows, type), words, at + kWords, 4 * kWords);
}

DotTile::Values DotTile::products(Index at) {
  switch (step()) {
  case MatrixStep::AArch64Bytes:
    return byDots(at);
  case MatrixStep::AArch64Smmla:
    return bySmmla(at);
  case MatrixStep::X86Amx:
    return byTiles(at);
  case MatrixStep::None:
    break;
  }
  llvm_unreachable("expected a target with products of tiles");
}

/// int8 weights by sdot: ((2 * high + weights) << 7) + (low - 128).
DotTile::Values DotTile::byDots(Index at) {
  Values acc(tokens() * vectors(), k.zero(k.vecI32()));
  auto addBytes = [&](int64_t first) {
    for (int64_t i = 0; i < kWords; ++i) {
      Values x;
      for (int64_t t = 0; t < tokens(); ++t)
        x.push_back(
            bytes(k.loadSplat(words, at + (t * dot.steps() + first + i))));
      for (int64_t v = 0; v < vectors(); ++v) {
        Value w = bytes(loadWeights(i, v));
        for (int64_t t = 0; t < tokens(); ++t) {
          Value &a = acc[t * vectors() + v];
          a = call("llvm.aarch64.neon.sdot.v4i32.v16i8", {a, w, x[t]});
        }
      }
    }
  };
  addBytes(0);
  for (auto [i, a] : llvm::enumerate(acc)) {
    Value sums = loadWeights(kWords, static_cast<int64_t>(i) % vectors());
    a = k.shl(k.add(k.shl(a, 1), sums), 7);
  }
  addBytes(kWords);
  return acc;
}

/// Two tokens by two rows in a register, half of the strip's rows at a time:
/// a load of weights then serves two pairs of tokens.
DotTile::Values DotTile::bySmmla(Index at) {
  int64_t pairs = tokens() / 2, half = vectors() / 2;
  Values all(tokens() * vectors());
  for (int64_t first = 0; first < vectors(); first += half) {
    Values acc(pairs * half * 2, k.zero(k.vecI32()));
    auto addBytes = [&](StringRef intrinsic, int64_t firstWord) {
      for (int64_t i = 0; i < kWords; i += 4) {
        // 8 columns of two tokens, and the 8 that follow.
        SmallVector<std::pair<Value, Value>> x;
        for (int64_t pair = 0; pair < pairs; ++pair) {
          Index from = at + (2 * pair * dot.steps() + firstWord + i);
          Value a = k.loadVector(words, from),
                b = k.loadVector(words, from + dot.steps());
          x.emplace_back(bytes(k.shuffle(a, b, {0, 1, 4, 5})),
                         bytes(k.shuffle(a, b, {2, 3, 6, 7})));
        }
        for (int64_t word = 0; word < 4; ++word)
          for (int64_t v = 0; v < half; ++v) {
            Value w = bytes(loadWeights(i + word, first + v));
            for (int64_t pair = 0; pair < pairs; ++pair) {
              Value &a = acc[(pair * half + v) * 2 + word % 2];
              a = call(intrinsic,
                       {a, word < 2 ? x[pair].first : x[pair].second, w});
            }
          }
      }
    };
    addBytes("llvm.aarch64.neon.smmla.v4i32.v16i8", 0);
    if (!isNarrow) {
      for (Value &a : acc)
        a = k.shl(a, 8);
      addBytes("llvm.aarch64.neon.usmmla.v4i32.v16i8", kWords);
    }
    for (int64_t pair = 0; pair < pairs; ++pair)
      for (int64_t v = 0; v < half; ++v) {
        Value a = acc[(pair * half + v) * 2],
              b = acc[(pair * half + v) * 2 + 1];
        int64_t to = 2 * pair * vectors() + first + v;
        all[to] = k.shuffle(a, b, {0, 1, 4, 5});
        all[to + vectors()] = k.shuffle(a, b, {2, 3, 6, 7});
      }
  }
  return all;
}

DotTile::Values DotTile::byTiles(Index at) {
  AmxBuilder amx(k, words);
  int64_t rows = AmxBuilder::kRows, perTile = rows * kStripRows;
  auto roomFor = [&](int64_t block, int64_t v) {
    return k.index(room + block * perTile + v * rows);
  };
  Values weights;
  for (int64_t v = 0; v < vectors(); ++v)
    weights.push_back(amx.load(k.index(panel + v * rows), kWords,
                               AmxBuilder::kRowBytes, kStripRows));
  // Blocks of tokens, or high and low bytes of one.
  for (int64_t block = 0; block < 2; ++block) {
    Index from =
        isNarrow ? at + block * rows * dot.steps() : at + block * kWords;
    Value x = amx.load(from, rows, kActivationGroup, dot.steps());
    bool isLow = !isNarrow && block == 1;
    for (int64_t v = 0; v < vectors(); ++v)
      amx.store(amx.multiply(isLow ? "llvm.x86.tdpbusd.internal"
                                   : "llvm.x86.tdpbssd.internal",
                             amx.zero(), x, weights[v], kActivationGroup),
                roomFor(block, v), kStripRows);
  }
  Values all;
  for (int64_t t = 0; t < tokens(); ++t)
    for (int64_t v = 0; v < vectors(); ++v) {
      auto load = [&](int64_t block, int64_t token) {
        return k.loadVector(words, roomFor(block, v) + token * kStripRows);
      };
      all.push_back(isNarrow ? load(t / rows, t % rows)
                             : k.add(k.shl(load(0, t), 8), load(1, t)));
    }
  return all;
}

} // namespace retort
