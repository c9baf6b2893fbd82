//===- WeightBuilder.h - Packed weights from checkpoint tensors -*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Builds `kernel.weight` symbols from `model.weight` symbols: which rows and
/// columns of which checkpoint tensors a packed weight consists of.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_FUSE_WEIGHTBUILDER_H
#define RETORT_COMPILER_FUSE_WEIGHTBUILDER_H

#include "compiler/pack/WeightSpec.h"
#include "dialects/Kernel/Kernel.h"
#include "dialects/Model/Model.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace retort {

/// How a row of attention heads is padded: see the kernel dialect. Heads that
/// are never rotated are padded as a whole, to a multiple of 32.
struct HeadLayout {
  int64_t heads = 0;
  int64_t headDim = 0;
  bool halves = true;
  int64_t paddedHead() const {
    return halves ? kernel::paddedHeadSize(headDim)
                  : roundUp<int64_t>(headDim, 32);
  }
  int64_t paddedWidth() const { return heads * paddedHead(); }
  /// Calls `run(first source element, count, first padded element)` for every
  /// stretch that stays together.
  void
  forEachRun(llvm::function_ref<void(int64_t, int64_t, int64_t)> run) const;
};

class WeightBuilder {
public:
  /// One of the tensors stacked into a weight; `heads` if its rows are heads.
  struct Part {
    llvm::StringRef tensor;          ///< empty: an absent bias, zeros
    std::optional<HeadLayout> heads; ///< needed if `tensor` is empty
  };

  /// `count` rows of a tensor from `src` on become the rows from `dst` on; the
  /// rest as in the kernel dialect's row runs.
  struct Run {
    llvm::StringRef tensor;
    int64_t src = 0, count = 0, dst = 0;
    int64_t stripStride = kStripRows, colShift = 0;
    bool transposed = false;
  };

  WeightBuilder(mlir::ModuleOp module, mlir::OpBuilder &builder)
      : module(module), b(builder), symbols(module) {}

  /// A matrix with the tensor's own rows; its columns follow `columns`.
  mlir::FailureOr<mlir::Value> matrix(mlir::Operation *user,
                                      llvm::StringRef name,
                                      llvm::StringRef tensor,
                                      std::optional<HeadLayout> columns);
  /// Several matrices of the same inputs, one below the other.
  mlir::FailureOr<mlir::Value> stacked(mlir::Operation *user,
                                       llvm::StringRef name,
                                       llvm::ArrayRef<Part> parts);
  /// Two matrices of one shape whose rows alternate in strips of 32.
  mlir::FailureOr<mlir::Value> interleaved(mlir::Operation *user,
                                           llvm::StringRef name,
                                           llvm::StringRef first,
                                           llvm::StringRef second);
  mlir::FailureOr<mlir::Value>
  interleavedBias(mlir::Operation *user, llvm::StringRef name, int64_t size,
                  llvm::StringRef first, llvm::StringRef second);
  /// Runs of matrices that have the same inputs, or of which each contributes
  /// `cols` columns. With `roundsInputs`, the launch rounds what it multiplies
  /// integers with: integers of the checkpoint then become f32, which are not
  /// rounded.
  mlir::FailureOr<mlir::Value> assembled(mlir::Operation *user,
                                         llvm::StringRef name,
                                         llvm::ArrayRef<Run> runs, int64_t rows,
                                         int64_t cols,
                                         bool roundsInputs = false);
  /// A vector of runs of vectors.
  mlir::FailureOr<mlir::Value> assembledVector(mlir::Operation *user,
                                               llvm::StringRef name,
                                               llvm::ArrayRef<Run> runs,
                                               int64_t size);
  /// An f32 vector as it is.
  mlir::FailureOr<mlir::Value> vector(mlir::Operation *user,
                                      llvm::StringRef tensor);
  /// Biases one behind the other, padded as `stacked` pads the rows.
  mlir::FailureOr<mlir::Value> bias(mlir::Operation *user, llvm::StringRef name,
                                    llvm::ArrayRef<Part> parts);
  /// A constant f64 vector.
  mlir::Value literal(llvm::StringRef name, llvm::ArrayRef<double> values);

  /// Loads made so far belong to another function.
  void startFunction() { loads.clear(); }

private:
  mlir::FailureOr<model::WeightOp> find(mlir::Operation *user,
                                        llvm::StringRef tensor);
  /// The encoding of a weight made of `tensors`: theirs if they agree.
  mlir::FailureOr<PackedEncoding>
  jointEncoding(mlir::Operation *user, llvm::ArrayRef<llvm::StringRef> tensors);
  mlir::Attribute rowRun(llvm::StringRef tensor, int64_t src, int64_t count,
                         int64_t dst);
  /// All rows of a tensor in every second strip, from strip `strip` on.
  mlir::Attribute alternatingRun(llvm::StringRef tensor, int64_t count,
                                 int64_t strip);
  mlir::Attribute rowRun(const Run &run);
  mlir::Attribute colRun(int64_t src, int64_t count, int64_t dst);
  /// Defines the symbol unless it exists, and loads it.
  mlir::Value define(llvm::StringRef name, mlir::RankedTensorType type,
                     llvm::ArrayRef<mlir::Attribute> rows,
                     llvm::ArrayRef<mlir::Attribute> cols,
                     mlir::DenseF64ArrayAttr literal = {});
  /// `type`, or an f32 matrix if fp8 blocks would mix the scales of a source.
  mlir::RankedTensorType
  withoutMixedScales(llvm::StringRef symbol, mlir::RankedTensorType type,
                     llvm::ArrayRef<mlir::Attribute> rows,
                     llvm::ArrayRef<mlir::Attribute> cols);
  mlir::RankedTensorType matrixType(int64_t rows, int64_t cols,
                                    PackedEncoding encoding);

  mlir::ModuleOp module;
  mlir::OpBuilder &b;
  mlir::SymbolTable symbols;
  llvm::StringMap<mlir::Value> loads;
};

} // namespace retort

#endif // RETORT_COMPILER_FUSE_WEIGHTBUILDER_H
