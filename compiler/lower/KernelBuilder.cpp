//===- KernelBuilder.cpp - The vocabulary of emitters ---------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/KernelBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

namespace retort {

//===-- Index
//---------------------------------------------------------------===//

template <typename Op> static Index binary(Index a, Index b) {
  KernelBuilder &k = a.builder();
  return Index(
      k, k.builder().createOrFold<Op>(k.location(), a.value(), b.value()));
}

Index operator+(Index a, Index b) { return binary<arith::AddIOp>(a, b); }
Index operator-(Index a, Index b) { return binary<arith::SubIOp>(a, b); }
Index operator*(Index a, Index b) { return binary<arith::MulIOp>(a, b); }
Index operator/(Index a, Index b) { return binary<arith::DivUIOp>(a, b); }
Index operator%(Index a, Index b) { return binary<arith::RemUIOp>(a, b); }
Index operator+(Index a, int64_t b) { return a + a.builder().index(b); }
Index operator-(Index a, int64_t b) { return a - a.builder().index(b); }
Index operator*(Index a, int64_t b) { return a * a.builder().index(b); }
Index operator/(Index a, int64_t b) { return a / a.builder().index(b); }
Index operator%(Index a, int64_t b) { return a % a.builder().index(b); }
Index min(Index a, Index b) { return binary<arith::MinUIOp>(a, b); }
Index max(Index a, Index b) { return binary<arith::MaxUIOp>(a, b); }
Index min(Index a, int64_t b) { return min(a, a.builder().index(b)); }
Index ceilDiv(Index a, int64_t b) { return (a + (b - 1)) / b; }
Index roundUp(Index a, int64_t b) { return ceilDiv(a, b) * b; }

static Value compare(arith::CmpIPredicate predicate, Index a, Index b) {
  KernelBuilder &k = a.builder();
  return arith::CmpIOp::create(k.builder(), k.location(), predicate, a.value(),
                               b.value());
}
Value operator<(Index a, Index b) {
  return compare(arith::CmpIPredicate::ult, a, b);
}
Value operator<(Index a, int64_t b) { return a < a.builder().index(b); }
Value operator==(Index a, int64_t b) { return a == a.builder().index(b); }
Value operator==(Index a, Index b) {
  return compare(arith::CmpIPredicate::eq, a, b);
}

//===-- What the kernel was called with
//---------------------------------------//

Value KernelBuilder::argument(unsigned fromEnd) {
  return func.getArgument(func.getNumArguments() - fromEnd);
}
Buffer KernelBuilder::buffer(unsigned i) { return {func.getArgument(i)}; }
Buffer KernelBuilder::scratch() { return {argument(5)}; }
Index KernelBuilder::numTokens() { return Index(*this, argument(4)); }
Index KernelBuilder::position() { return Index(*this, argument(3)); }
Index KernelBuilder::firstRow() { return Index(*this, argument(2)); }
Index KernelBuilder::tile() { return Index(*this, argument(1)); }

//===-- Types and constants
//---------------------------------------------------//

Type KernelBuilder::withElement(Type like, Type element) {
  if (auto vector = dyn_cast<VectorType>(like))
    return VectorType::get(vector.getShape(), element);
  return element;
}

Index KernelBuilder::index(int64_t value) {
  return Index(*this, arith::ConstantIndexOp::create(b, loc, value));
}

static Value constantOf(OpBuilder &b, Location loc, Type type,
                        TypedAttr scalar) {
  TypedAttr attr = scalar;
  if (auto vector = dyn_cast<VectorType>(type))
    attr = SplatElementsAttr::get(vector, ArrayRef<Attribute>(scalar));
  return arith::ConstantOp::create(b, loc, attr);
}
Value KernelBuilder::constant(Type type, double value) {
  return constantOf(b, loc, type,
                    b.getFloatAttr(getElementTypeOrSelf(type), value));
}
Value KernelBuilder::constantInt(Type type, int64_t value) {
  Type element = getElementTypeOrSelf(type);
  APInt bits(64, value, /*isSigned=*/true);
  return constantOf(
      b, loc, type,
      b.getIntegerAttr(element, bits.trunc(element.getIntOrFloatBitWidth())));
}
Value KernelBuilder::constantVector(ArrayRef<float> lanes) {
  auto type = vec(f32(), static_cast<int64_t>(lanes.size()));
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(type, lanes));
}
Value KernelBuilder::zero(Type type) {
  return arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
}

//===-- Memory
//----------------------------------------------------------------//

static llvm::MaybeAlign maybeAlign(int64_t align) {
  return align ? llvm::MaybeAlign(align) : llvm::MaybeAlign();
}
/// Vector loads assume no more than their elements' alignment by default.
static int64_t alignOf(Buffer buffer, int64_t align) {
  return align ? align
               : std::max(1u, buffer.element().getIntOrFloatBitWidth() / 8);
}

Buffer KernelBuilder::view(Buffer bytes, Index byteOffset, Type element) {
  int64_t size = cast<MemRefType>(bytes.memref.getType()).getDimSize(0);
  int64_t width = element.getIntOrFloatBitWidth() / 8;
  return {memref::ViewOp::create(b, loc,
                                 MemRefType::get({size / width}, element),
                                 bytes.memref, byteOffset.value(), {})};
}
Value KernelBuilder::load(Buffer from, Index at) {
  return memref::LoadOp::create(b, loc, from.memref, ValueRange{at.value()});
}
Value KernelBuilder::loadVector(Buffer from, Index at, int64_t n,
                                int64_t align) {
  return vector::LoadOp::create(b, loc, vec(from.element(), n), from.memref,
                                ValueRange{at.value()}, false,
                                maybeAlign(alignOf(from, align)));
}
Value KernelBuilder::loadSplat(Buffer from, Index at, int64_t n) {
  return splat(load(from, at), n);
}
void KernelBuilder::prefetch(Buffer from, Index at, int64_t level) {
  memref::PrefetchOp::create(b, loc, from.memref, ValueRange{at.value()},
                             /*isWrite=*/false,
                             /*localityHint=*/level == 1 ? 3 : 2,
                             /*isDataCache=*/true);
}
void KernelBuilder::store(Value value, Buffer to, Index at, int64_t align) {
  if (isa<VectorType>(value.getType()))
    vector::StoreOp::create(b, loc, value, to.memref, ValueRange{at.value()},
                            false, maybeAlign(alignOf(to, align)));
  else
    memref::StoreOp::create(b, loc, value, to.memref, ValueRange{at.value()});
}

//===-- Arithmetic
//------------------------------------------------------------//

static bool isFloat(Value v) {
  return isa<FloatType>(getElementTypeOrSelf(v.getType()));
}
template <typename FloatOp, typename IntOp>
static Value byType(OpBuilder &b, Location loc, Value x, Value y) {
  return isFloat(x) ? FloatOp::create(b, loc, x, y).getResult()
                    : IntOp::create(b, loc, x, y).getResult();
}

Value KernelBuilder::add(Value x, Value y) {
  return byType<arith::AddFOp, arith::AddIOp>(b, loc, x, y);
}
Value KernelBuilder::sub(Value x, Value y) {
  return byType<arith::SubFOp, arith::SubIOp>(b, loc, x, y);
}
Value KernelBuilder::mul(Value x, Value y) {
  return byType<arith::MulFOp, arith::MulIOp>(b, loc, x, y);
}
Value KernelBuilder::div(Value x, Value y) {
  return arith::DivFOp::create(b, loc, x, y);
}
Value KernelBuilder::neg(Value x) { return arith::NegFOp::create(b, loc, x); }
Value KernelBuilder::fma(Value x, Value y, Value z) {
  return math::FmaOp::create(b, loc, x, y, z);
}
Value KernelBuilder::sqrt(Value x) { return math::SqrtOp::create(b, loc, x); }

// maxnumf and minnumf without NaNs are single instructions.
Value KernelBuilder::max(Value x, Value y) {
  auto op = arith::MaxNumFOp::create(b, loc, x, y);
  op.setFastmath(arith::FastMathFlags::nnan);
  return op;
}
Value KernelBuilder::min(Value x, Value y) {
  auto op = arith::MinNumFOp::create(b, loc, x, y);
  op.setFastmath(arith::FastMathFlags::nnan);
  return op;
}
Value KernelBuilder::select(Value cond, Value x, Value y) {
  return arith::SelectOp::create(b, loc, cond, x, y);
}
Value KernelBuilder::bitAnd(Value x, Value y) {
  return arith::AndIOp::create(b, loc, x, y);
}
Value KernelBuilder::bitOr(Value x, Value y) {
  return arith::OrIOp::create(b, loc, x, y);
}
Value KernelBuilder::bitXor(Value x, Value y) {
  return arith::XOrIOp::create(b, loc, x, y);
}
Value KernelBuilder::shl(Value x, int64_t bits) {
  return arith::ShLIOp::create(b, loc, x, constantInt(x.getType(), bits));
}
Value KernelBuilder::shrLogical(Value x, int64_t bits) {
  return arith::ShRUIOp::create(b, loc, x, constantInt(x.getType(), bits));
}
Value KernelBuilder::shrArithmetic(Value x, int64_t bits) {
  return arith::ShRSIOp::create(b, loc, x, constantInt(x.getType(), bits));
}
Value KernelBuilder::roundToInt(Value x) {
  // Adding 1.5 * 2^23 leaves the rounded integer in the low mantissa bits:
  // exact for |x| < 2^22 and the same on every target.
  Type ints = withElement(x.getType(), i32());
  Value magic = constant(x.getType(), 12582912.0);
  Value shifted = bitcast(add(x, magic), ints);
  return sub(shifted, constantInt(ints, 0x4b400000));
}
Value KernelBuilder::intToFloat(Value x, Type element) {
  return arith::SIToFPOp::create(b, loc, withElement(x.getType(), element), x);
}
Value KernelBuilder::extend(Value x, Type element) {
  return arith::ExtFOp::create(b, loc, withElement(x.getType(), element), x);
}
Value KernelBuilder::truncate(Value x, Type element) {
  return arith::TruncFOp::create(b, loc, withElement(x.getType(), element), x);
}
Value KernelBuilder::zeroExtend(Value x, Type element) {
  return arith::ExtUIOp::create(b, loc, withElement(x.getType(), element), x);
}
Value KernelBuilder::signExtend(Value x, Type element) {
  return arith::ExtSIOp::create(b, loc, withElement(x.getType(), element), x);
}
Value KernelBuilder::narrow(Value x, Type element) {
  return arith::TruncIOp::create(b, loc, withElement(x.getType(), element), x);
}
Value KernelBuilder::maxInt(Value x, Value y) {
  return arith::MaxSIOp::create(b, loc, x, y);
}
Value KernelBuilder::bitcast(Value x, Type type) {
  if (isa<VectorType>(type))
    return vector::BitCastOp::create(b, loc, type, x);
  return arith::BitcastOp::create(b, loc, type, x);
}
Value KernelBuilder::splat(Value scalar, int64_t n) {
  return vector::BroadcastOp::create(
      b, loc, vec(scalar.getType(), n ? n : lanes()), scalar);
}
Value KernelBuilder::extract(Value vector, int64_t lane) {
  return vector::ExtractOp::create(b, loc, vector, lane);
}
Value KernelBuilder::slice(Value vector, int64_t first, int64_t n) {
  return vector::ExtractStridedSliceOp::create(
      b, loc, vector, ArrayRef<int64_t>{first}, ArrayRef<int64_t>{n},
      ArrayRef<int64_t>{1});
}
Value KernelBuilder::shuffle(Value vector, ArrayRef<int64_t> lanes) {
  return shuffle(vector, vector, lanes);
}
Value KernelBuilder::shuffle(Value a, Value b, ArrayRef<int64_t> lanes) {
  return vector::ShuffleOp::create(this->b, loc, a, b, lanes);
}
void KernelBuilder::transpose(MutableArrayRef<Value> rows) {
  // Of every square of 2d rows and columns on the diagonal the two off-diagonal
  // quarters change places.
  auto n = static_cast<int64_t>(rows.size());
  assert(llvm::isPowerOf2_64(n) && "squares are halved");
  for (int64_t d = n / 2; d >= 1; d /= 2) {
    SmallVector<int64_t> upper, lower;
    for (int64_t lane = 0; lane < n; ++lane) {
      upper.push_back(lane & d ? n + lane - d : lane);
      lower.push_back(lane & d ? n + lane : lane + d);
    }
    for (int64_t i = 0; i < n; ++i) {
      if (i & d)
        continue;
      Value a = rows[i], b = rows[i + d];
      rows[i] = shuffle(a, b, upper);
      rows[i + d] = shuffle(a, b, lower);
    }
  }
}
template <typename Combine>
static Value halve(KernelBuilder &k, Value v, Combine combine) {
  for (int64_t n = cast<VectorType>(v.getType()).getDimSize(0) / 2; n >= 1;
       n /= 2)
    v = combine(k.slice(v, 0, n), k.slice(v, n, n));
  return k.extract(v, 0);
}
Value KernelBuilder::reduceAdd(Value vector) {
  return halve(*this, vector, [&](Value x, Value y) { return add(x, y); });
}
Value KernelBuilder::reduceMax(Value vector) {
  return halve(*this, vector, [&](Value x, Value y) { return max(x, y); });
}
Value KernelBuilder::reduceMaxInt(Value vector) {
  return halve(*this, vector, [&](Value x, Value y) { return maxInt(x, y); });
}
Value KernelBuilder::toI64(Index x) {
  return arith::IndexCastOp::create(b, loc, i64(), x.value());
}
Index KernelBuilder::toIndex(Value integer) {
  return Index(*this,
               arith::IndexCastOp::create(b, loc, b.getIndexType(), integer));
}

//===-- Control flow
//----------------------------------------------------------//

void KernelBuilder::forLoop(Index from, Index to, int64_t step,
                            function_ref<void(Index)> body) {
  forLoop(from, to, step, ValueRange{}, [&](Index i, ValueRange) {
    body(i);
    return Values{};
  });
}
KernelBuilder::Values
KernelBuilder::forLoop(Index from, Index to, int64_t step, ValueRange init,
                       function_ref<Values(Index, ValueRange)> body) {
  auto loop = scf::ForOp::create(b, loc, from.value(), to.value(),
                                 index(step).value(), init);
  OpBuilder::InsertionGuard guard(b);
  // Without carried values the builder has already added the terminator.
  if (!init.empty())
    b.setInsertionPointToEnd(loop.getBody());
  else
    b.setInsertionPoint(loop.getBody()->getTerminator());
  Values results =
      body(Index(*this, loop.getInductionVar()), loop.getRegionIterArgs());
  if (!init.empty())
    scf::YieldOp::create(b, loc, results);
  return Values(loop.getResults().begin(), loop.getResults().end());
}
void KernelBuilder::ifThen(Value cond, function_ref<void()> body) {
  auto op = scf::IfOp::create(b, loc, cond, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(op.thenYield());
  body();
}
void KernelBuilder::ifElse(Value cond, function_ref<void()> then,
                           function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(b, loc, cond, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(op.thenYield());
  then();
  b.setInsertionPoint(op.elseYield());
  otherwise();
}
KernelBuilder::Values KernelBuilder::ifElse(Value cond,
                                            function_ref<Values()> then,
                                            function_ref<Values()> otherwise) {
  auto op = scf::IfOp::create(
      b, loc, cond,
      [&](OpBuilder &, Location) { scf::YieldOp::create(b, loc, then()); },
      [&](OpBuilder &, Location) {
        scf::YieldOp::create(b, loc, otherwise());
      });
  return Values(op.getResults().begin(), op.getResults().end());
}

} // namespace retort
