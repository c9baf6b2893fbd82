//===- KernelBuilder.h - The vocabulary of emitters -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A thin layer over OpBuilder in which an emitter reads like its algorithm:
/// index arithmetic with operators, typed views of memory, loads and stores
/// with alignments, loops whose bodies are lambdas.
///
/// \code
///   auto sums = k.forLoop(k.index(0), cols, 1, {zero}, [&](Index c, ValueRange
///   s) {
///     return k.values({k.fma(k.loadSplat(x, c), k.loadVector(w, c * 32),
///     s[0])});
///   });
/// \endcode
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_LOWER_KERNELBUILDER_H
#define RETORT_COMPILER_LOWER_KERNELBUILDER_H

#include "compiler/targets/Target.h"
#include "dialects/Kernel/Kernel.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

namespace retort {

class KernelBuilder;

/// A non-negative index value with arithmetic. Division is unsigned.
class Index {
public:
  Index(KernelBuilder &k, mlir::Value value) : k(&k), val(value) {}
  mlir::Value value() const { return val; }
  KernelBuilder &builder() const { return *k; }

private:
  KernelBuilder *k;
  mlir::Value val;
};

Index operator+(Index a, Index b);
Index operator-(Index a, Index b);
Index operator*(Index a, Index b);
Index operator/(Index a, Index b);
Index operator%(Index a, Index b);
Index operator+(Index a, int64_t b);
Index operator-(Index a, int64_t b);
Index operator*(Index a, int64_t b);
Index operator/(Index a, int64_t b);
Index operator%(Index a, int64_t b);
Index min(Index a, Index b);
Index max(Index a, Index b);
Index min(Index a, int64_t b);
Index ceilDiv(Index a, int64_t b);
Index roundUp(Index a, int64_t b);
/// Comparisons give an i1.
mlir::Value operator<(Index a, Index b);
mlir::Value operator<(Index a, int64_t b);
mlir::Value operator==(Index a, int64_t b);
mlir::Value operator==(Index a, Index b);

/// Memory as a flat array of elements of one type.
struct Buffer {
  mlir::Value memref;
  mlir::Type element() const {
    return mlir::cast<mlir::MemRefType>(memref.getType()).getElementType();
  }
};

class KernelBuilder {
public:
  using Values = llvm::SmallVector<mlir::Value, 16>;

  /// For the function that `lower-kernels` makes of an entry (Passes.td); the
  /// insertion point is at the start of its body.
  KernelBuilder(mlir::OpBuilder &builder, mlir::func::FuncOp func,
                kernel::TokenClass tokens, const Target &target)
      : b(builder), loc(func.getLoc()), func(func), tokens(tokens),
        tgt(target) {}

  //===-- What the kernel was called with -----------------------------------//

  const Target &target() const { return tgt; }
  kernel::TokenClass tokenClass() const { return tokens; }
  /// f32 elements of a vector register.
  int64_t lanes() const { return tgt.lanes; }
  /// Operands of the launch, then its results that are not caches. Weights with
  /// an encoding and the scratch are bytes.
  Buffer buffer(unsigned i);
  Buffer scratch();
  Index numTokens();
  Index position();
  Index firstRow();
  Index tile();

  //===-- Types and constants -----------------------------------------------//

  mlir::Type f32() { return b.getF32Type(); }
  mlir::Type f64() { return b.getF64Type(); }
  mlir::Type i8() { return b.getI8Type(); }
  mlir::Type i16() { return b.getIntegerType(16); }
  mlir::Type i32() { return b.getI32Type(); }
  mlir::Type i64() { return b.getI64Type(); }
  mlir::VectorType vec(mlir::Type element, int64_t n) {
    return mlir::VectorType::get({n}, element);
  }
  /// A register of f32.
  mlir::VectorType vecF32() { return vec(f32(), lanes()); }
  mlir::VectorType vecI32() { return vec(i32(), lanes()); }
  Index index(int64_t value);
  /// A scalar or splat constant of a float or integer type; integers are taken
  /// modulo their width.
  mlir::Value constant(mlir::Type type, double value);
  mlir::Value constantInt(mlir::Type type, int64_t value);
  /// A vector of f32 constants.
  mlir::Value constantVector(llvm::ArrayRef<float> lanes);
  mlir::Value zero(mlir::Type type);

  //===-- Memory
  //--------------------------------------------------------------//
  // Positions are in elements. Alignments are in bytes; 0 means the element's.

  /// The bytes of `bytes` from `byteOffset` on as elements of another type.
  Buffer view(Buffer bytes, Index byteOffset, mlir::Type element);
  mlir::Value load(Buffer from, Index at);
  mlir::Value loadVector(Buffer from, Index at, int64_t n, int64_t align = 0);
  /// A register's worth.
  mlir::Value loadVector(Buffer from, Index at) {
    return loadVector(from, at, lanes(), 4 * lanes());
  }
  /// One element in every one of `n` lanes (0: a register's).
  mlir::Value loadSplat(Buffer from, Index at, int64_t n = 0);
  void store(mlir::Value value, Buffer to, Index at, int64_t align = 0);
  /// Asks for the cache line of an element, which need not be in the buffer,
  /// to be brought to the first-level cache or to the second-level one.
  void prefetch(Buffer from, Index at, int64_t level = 1);

  //===-- Arithmetic on scalars and vectors
  //-----------------------------------//
  // By element type on floats or integers.

  mlir::Value add(mlir::Value a, mlir::Value b);
  mlir::Value sub(mlir::Value a, mlir::Value b);
  mlir::Value mul(mlir::Value a, mlir::Value b);
  mlir::Value div(mlir::Value a, mlir::Value b);                ///< floats
  mlir::Value neg(mlir::Value a);                               ///< floats
  mlir::Value fma(mlir::Value a, mlir::Value b, mlir::Value c); ///< a * b + c
  mlir::Value sqrt(mlir::Value a);
  /// Of floats that are no NaN.
  mlir::Value max(mlir::Value a, mlir::Value b);
  mlir::Value min(mlir::Value a, mlir::Value b);
  mlir::Value select(mlir::Value cond, mlir::Value a, mlir::Value b);
  mlir::Value bitAnd(mlir::Value a, mlir::Value b);
  mlir::Value bitOr(mlir::Value a, mlir::Value b);
  mlir::Value bitXor(mlir::Value a, mlir::Value b);
  mlir::Value shl(mlir::Value a, int64_t bits);
  mlir::Value shrLogical(mlir::Value a, int64_t bits);
  mlir::Value shrArithmetic(mlir::Value a, int64_t bits);
  /// Rounds to the nearest integer and converts to i32 (or lanes of it).
  mlir::Value roundToInt(mlir::Value a);
  mlir::Value intToFloat(mlir::Value a, mlir::Type element); ///< signed
  mlir::Value extend(mlir::Value a, mlir::Type element);     ///< float widening
  mlir::Value truncate(mlir::Value a, mlir::Type element); ///< float narrowing
  mlir::Value zeroExtend(mlir::Value a, mlir::Type element);
  mlir::Value signExtend(mlir::Value a, mlir::Type element);
  mlir::Value narrow(mlir::Value a, mlir::Type element); ///< low bits
  mlir::Value maxInt(mlir::Value a, mlir::Value b);      ///< signed
  mlir::Value bitcast(mlir::Value a, mlir::Type type);
  mlir::Value splat(mlir::Value scalar, int64_t n = 0);
  /// Lane 0, 1, ...: a static position.
  mlir::Value extract(mlir::Value vector, int64_t lane);
  /// `n` lanes from `first` on.
  mlir::Value slice(mlir::Value vector, int64_t first, int64_t n);
  /// The lanes of those numbers.
  mlir::Value shuffle(mlir::Value vector, llvm::ArrayRef<int64_t> lanes);
  /// The same from two vectors, of which the second's lanes are numbered on.
  mlir::Value shuffle(mlir::Value a, mlir::Value b,
                      llvm::ArrayRef<int64_t> lanes);
  /// Rows of a square, as many registers as these have lanes, to columns.
  void transpose(llvm::MutableArrayRef<mlir::Value> rows);
  /// Sum, or maximum, of a vector's lanes by halving, in a fixed order.
  mlir::Value reduceAdd(mlir::Value vector);
  mlir::Value reduceMax(mlir::Value vector);
  mlir::Value reduceMaxInt(mlir::Value vector); ///< signed
  mlir::Value toI64(Index a);
  Index toIndex(mlir::Value integer); ///< sign-extends

  //===-- Control flow
  //----------------------------------------------------------//

  static Values values(llvm::ArrayRef<mlir::Value> list) {
    return Values(list.begin(), list.end());
  }
  void forLoop(Index from, Index to, int64_t step,
               llvm::function_ref<void(Index)> body);
  /// The body takes and returns the loop-carried values.
  Values forLoop(Index from, Index to, int64_t step, mlir::ValueRange init,
                 llvm::function_ref<Values(Index, mlir::ValueRange)> body);
  void ifThen(mlir::Value cond, llvm::function_ref<void()> body);
  void ifElse(mlir::Value cond, llvm::function_ref<void()> then,
              llvm::function_ref<void()> otherwise);
  Values ifElse(mlir::Value cond, llvm::function_ref<Values()> then,
                llvm::function_ref<Values()> otherwise);

  mlir::OpBuilder &builder() { return b; }
  mlir::Location location() const { return loc; }

private:
  /// A scalar type, or the vector type of `like`'s shape.
  static mlir::Type withElement(mlir::Type like, mlir::Type element);
  mlir::Value argument(unsigned fromEnd);

  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::func::FuncOp func;
  kernel::TokenClass tokens;
  const Target &tgt;
};

} // namespace retort

#endif // RETORT_COMPILER_LOWER_KERNELBUILDER_H
