//===- SpecReader.h - Reading the rows of a weight spec ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Resolves a WeightSpec against a checkpoint and gathers packed rows from it.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_SPECREADER_H
#define RETORT_COMPILER_PACK_SPECREADER_H

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/pack/WeightSpec.h"

namespace retort {

/// A checked matrix or vector spec with its tensors. The spec and the
/// checkpoint must outlive it. Thread-safe: reads change nothing.
class SpecReader {
public:
  /// Checks that tensors exist and have the right rank, that runs lie inside
  /// their tensors and inside the packed shape, and that no two overlap. A
  /// matrix with row runs needs column runs.
  static Result<SpecReader> create(const WeightSpec &spec,
                                   const checkpoint::Checkpoint &checkpoint);

  const WeightSpec &spec() const { return *weightSpec; }

  /// Matrices: rows [first, first + count) of the packed matrix, f32, to
  /// `out[i * stride + dstCol]`. Rows and columns without a source become 0, up
  /// to `stride`. The scales of fp8 blocks are applied. Errors: an fp8 NaN.
  Status readRows(int64_t first, int64_t count, float *out,
                  int64_t stride) const;
  /// Matrices of fp8 tensors: the strip of packed rows from `first` on as it is
  /// stored. Element (r, k) goes to `bits[r * stride + k]`, and the scale of
  /// row r in block b (kFp8BlockCols columns) to `scales[r * blocks + b]`; both
  /// are 0 where nothing has a source. Errors: a NaN, or two scales in a block.
  Status readF8Strip(int64_t first, uint8_t *bits, int64_t stride,
                     float *scales) const;
  /// Whether every run comes from integers that the spec's encoding holds
  /// exactly, so that they are copied.
  bool copiesIntegers() const { return copies; }
  /// If copiesIntegers(): the strip of packed rows from `first` on as it is
  /// stored, as encodeIntegerStrip() takes it.
  void readIntegerStrip(int64_t first, int16_t *quants, int64_t stride,
                        float *scales, int8_t *zeros) const;
  /// Vectors: elements [first, first + count).
  Status readElements(int64_t first, int64_t count, float *out) const;

  /// Tells the system that the sources of packed rows (elements of a vector)
  /// [first, first + count) won't be needed soon.
  void dropResident(int64_t first, int64_t count) const;

  /// Bytes of checkpoint that the packed rows (elements) are made from.
  int64_t sourceBytes(int64_t first, int64_t count) const;

  /// The most bytes of source tensors that reading `count` consecutive packed
  /// rows (elements) makes resident.
  int64_t maxSourceBytes(int64_t count) const;

  /// "tensor 'x': row 3, column 5" of the source of a packed element, for
  /// messages; the spec's name and packed position for padding.
  std::string describe(int64_t row, int64_t col) const;

private:
  struct Run {
    const checkpoint::TensorView *tensor;
    int64_t src, rows, dst; ///< elements for a vector
    int64_t stripStride, colShift;
    int64_t rowBytes; ///< of the tensor, of an element for a vector
    int64_t end;      ///< behind the last packed row
    int64_t maxEnd;   ///< the largest end in the subtree, see forRange
    bool transposed;
  };
  static Result<Run> makeRun(const WeightSpec &spec, const RowRun &run,
                             const checkpoint::Checkpoint &checkpoint);
  Status checkOverlaps() const;
  /// Bytes of the tensor that make one packed row.
  int64_t packedRowBytes(const Run &run) const;
  int64_t indexRuns(size_t lo, size_t hi);
  /// Calls `visit(run, first row of the tensor, first packed row, rows)` for
  /// the parts of runs in a range of packed rows, each part contiguous. The
  /// first row of a transposed run counts columns of the tensor.
  template <typename Visit>
  void forRange(int64_t first, int64_t count, Visit visit) const;
  template <typename Visit>
  void forRuns(size_t lo, size_t hi, int64_t first, int64_t end,
               Visit &visit) const;
  Status readF8Row(const Run &run, int64_t src, const ColRun &cols,
                   int64_t packedRow, uint8_t *bits, float *scales) const;
  Status readRun(const Run &run, int64_t src, int64_t rows, float *out,
                 int64_t stride) const;
  Status readTransposed(const Run &run, int64_t src, int64_t rows, float *out,
                        int64_t stride) const;

  const WeightSpec *weightSpec = nullptr;
  const checkpoint::Checkpoint *source = nullptr;
  bool canCopy() const;
  void readIntegers(const Run &run, int64_t src, int64_t rows,
                    const ColRun &cols, int16_t *quants, int64_t stride,
                    float *scales, int8_t *zeros) const;

  bool copies = false;
  /// By dst; also a balanced tree, with the middle of a range as its root.
  std::vector<Run> runs;
  int64_t runCols = 0; ///< of all column runs
};

} // namespace retort

#endif // RETORT_COMPILER_PACK_SPECREADER_H
