//===- SpecReader.cpp - Reading the rows of a weight spec -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/SpecReader.h"

#include "compiler/checkpoint/DType.h"

#include <algorithm>
#include <cstring>

namespace retort {
namespace {

using checkpoint::TensorView;

/// The system maps pages around the one that was touched; they go as well.
constexpr uint64_t kDropMargin = 64 << 10;

Status invalid(const std::string &message) {
  return Status::error(Code::InvalidArgument, message);
}

/// "[first, first + count)", for untrusted numbers.
std::string formatRange(int64_t first, int64_t count) {
  std::optional<int64_t> end = checkedAdd(first, count);
  return "[" + std::to_string(first) + ", " +
         (end ? std::to_string(*end) : "2^63 or more") + ")";
}

/// Whether [first, first + count) lies in [0, size), for untrusted numbers.
bool liesIn(int64_t first, int64_t count, int64_t size) {
  return first >= 0 && count >= 0 && first <= size && count <= size - first;
}

Status checkColRuns(const WeightSpec &spec) {
  if (spec.colRuns.empty() && !spec.rowRuns.empty())
    return invalid("expected column runs, found none");
  std::vector<ColRun> runs = spec.colRuns;
  std::sort(runs.begin(), runs.end(), [](const ColRun &a, const ColRun &b) {
    return a.dstCol < b.dstCol;
  });
  int64_t end = 0;
  for (const ColRun &run : runs) {
    if (!liesIn(run.dstCol, run.cols, spec.cols))
      return invalid("expected packed columns in [0, " +
                     std::to_string(spec.cols) + "), found " +
                     formatRange(run.dstCol, run.cols));
    if (run.dstCol < end)
      return invalid("two column runs cover packed column " +
                     std::to_string(run.dstCol));
    end = run.dstCol + run.cols;
  }
  return Status::ok();
}

/// Checks a run's source against the tensor's shape.
Status checkSource(const WeightSpec &spec, const RowRun &run,
                   const TensorView &tensor) {
  bool isMatrix = spec.form == WeightForm::Matrix;
  std::string where = "tensor '" + run.tensor + "': ";
  if (tensor.shape.size() != (isMatrix ? 2 : 1))
    return invalid(where + "expected " + (isMatrix ? "2 dimensions" : "1") +
                   ", found shape " + checkpoint::formatShape(tensor.shape));
  if (!checkpoint::isFloatWeight(tensor.dtype))
    return Status::error(Code::Unsupported,
                         where + "expected floating-point elements, found " +
                             std::string(dtypeName(tensor.dtype)));
  if (!liesIn(run.srcRow, run.rows, tensor.shape[0]))
    return invalid(where + "expected rows in [0, " +
                   std::to_string(tensor.shape[0]) + "), found " +
                   formatRange(run.srcRow, run.rows));
  if (!isMatrix)
    return Status::ok();
  for (const ColRun &cols : spec.colRuns)
    if (!liesIn(cols.srcCol, cols.cols, tensor.shape[1]))
      return invalid(where + "expected columns in [0, " +
                     std::to_string(tensor.shape[1]) + "), found " +
                     formatRange(cols.srcCol, cols.cols));
  return Status::ok();
}

} // namespace

Result<SpecReader>
SpecReader::create(const WeightSpec &spec,
                   const checkpoint::Checkpoint &checkpoint) {
  auto inSpec = [&](Status status) {
    return std::move(status).withContext("weight '" + spec.name + "'");
  };
  SpecReader reader;
  reader.weightSpec = &spec;
  reader.source = &checkpoint;
  bool isMatrix = spec.form == WeightForm::Matrix;
  if (isMatrix)
    if (Status status = checkColRuns(spec); !status.isOk())
      return inSpec(std::move(status));
  for (const RowRun &run : spec.rowRuns) {
    const TensorView *tensor = checkpoint.find(run.tensor);
    if (!tensor)
      return inSpec(Status::error(
          Code::NotFound, "expected tensor '" + run.tensor + "', found none"));
    if (Status status = checkSource(spec, run, *tensor); !status.isOk())
      return inSpec(std::move(status));
    int64_t packed = isMatrix ? spec.rows : spec.cols;
    if (!liesIn(run.dstRow, run.rows, packed))
      return inSpec(invalid("expected packed rows in [0, " +
                            std::to_string(packed) + "), found " +
                            formatRange(run.dstRow, run.rows)));
    int64_t rowElements = isMatrix ? tensor->shape[1] : 1;
    reader.runs.push_back(
        {tensor, run.srcRow, run.rows, run.dstRow,
         rowElements * static_cast<int64_t>(dtypeBytes(tensor->dtype))});
  }
  std::sort(reader.runs.begin(), reader.runs.end(),
            [](const Run &a, const Run &b) { return a.dst < b.dst; });
  int64_t end = 0;
  for (const Run &run : reader.runs) {
    if (run.dst < end)
      return inSpec(
          invalid("two row runs cover packed row " + std::to_string(run.dst)));
    end = run.dst + run.rows;
  }
  return reader;
}

template <typename Visit>
void SpecReader::forRange(int64_t first, int64_t count, Visit visit) const {
  auto it = std::partition_point(runs.begin(), runs.end(), [&](const Run &r) {
    return r.dst + r.rows <= first;
  });
  for (; it != runs.end() && it->dst < first + count; ++it) {
    int64_t begin = std::max(first, it->dst);
    int64_t end = std::min(first + count, it->dst + it->rows);
    if (begin < end)
      visit(*it, it->src + begin - it->dst, begin, end - begin);
  }
}

Status SpecReader::readRows(int64_t first, int64_t count, float *out,
                            int64_t stride) const {
  std::memset(out, 0, static_cast<size_t>(count * stride) * sizeof(float));
  Status status;
  forRange(first, count,
           [&](const Run &run, int64_t src, int64_t dst, int64_t rows) {
             auto elementBytes =
                 static_cast<int64_t>(dtypeBytes(run.tensor->dtype));
             for (int64_t i = 0; i < rows; ++i)
               for (const ColRun &cols : weightSpec->colRuns) {
                 if (!status.isOk())
                   return;
                 int64_t at =
                     (src + i) * run.rowBytes + cols.srcCol * elementBytes;
                 status = checkpoint::convertToF32(
                     run.tensor->dtype,
                     run.tensor->bytes.subspan(
                         static_cast<size_t>(at),
                         static_cast<size_t>(cols.cols * elementBytes)),
                     {out + (dst - first + i) * stride + cols.dstCol,
                      static_cast<size_t>(cols.cols)});
               }
           });
  return status;
}

Status SpecReader::readElements(int64_t first, int64_t count,
                                float *out) const {
  std::fill_n(out, count, 0.0f);
  Status status;
  forRange(first, count,
           [&](const Run &run, int64_t src, int64_t dst, int64_t elements) {
             if (!status.isOk())
               return;
             status = checkpoint::convertToF32(
                 run.tensor->dtype,
                 run.tensor->bytes.subspan(
                     static_cast<size_t>(src * run.rowBytes),
                     static_cast<size_t>(elements * run.rowBytes)),
                 {out + (dst - first), static_cast<size_t>(elements)});
           });
  return status;
}

void SpecReader::dropResident(int64_t first, int64_t count) const {
  // Runs of one tensor are dropped together: gate and up alternate every 32
  // rows, and each of the two lies in one piece.
  struct Piece {
    const TensorView *tensor;
    uint64_t begin, end;
  };
  std::vector<Piece> pieces;
  forRange(first, count,
           [&](const Run &run, int64_t src, int64_t, int64_t rows) {
             auto begin = static_cast<uint64_t>(src * run.rowBytes);
             auto end = static_cast<uint64_t>((src + rows) * run.rowBytes);
             for (size_t back = 1; back <= 3 && back <= pieces.size(); ++back) {
               Piece &piece = pieces[pieces.size() - back];
               if (piece.tensor == run.tensor && piece.end == begin) {
                 piece.end = end;
                 return;
               }
             }
             pieces.push_back({run.tensor, begin, end});
           });
  for (const Piece &piece : pieces) {
    uint64_t begin = piece.begin - std::min(piece.begin, kDropMargin);
    source->dropResident(*piece.tensor, begin, piece.end + kDropMargin - begin);
  }
}

int64_t SpecReader::sourceBytes(int64_t first, int64_t count) const {
  int64_t bytes = 0;
  forRange(first, count, [&](const Run &run, int64_t, int64_t, int64_t rows) {
    bytes += rows * run.rowBytes;
  });
  return bytes;
}

int64_t SpecReader::maxRowBytes() const {
  int64_t bytes = 0;
  for (const Run &run : runs)
    bytes = std::max(bytes, run.rowBytes);
  return bytes;
}

std::string SpecReader::describe(int64_t row, int64_t col) const {
  bool isMatrix = weightSpec->form == WeightForm::Matrix;
  int64_t srcCol = isMatrix ? -1 : 0;
  for (const ColRun &run : weightSpec->colRuns)
    if (col >= run.dstCol && col < run.dstCol + run.cols)
      srcCol = run.srcCol + col - run.dstCol;
  std::string text = "weight '" + weightSpec->name + "': packed row " +
                     std::to_string(row) + ", column " + std::to_string(col);
  if (srcCol < 0)
    return text;
  forRange(isMatrix ? row : col, 1,
           [&](const Run &run, int64_t src, int64_t, int64_t) {
             text = std::string(run.tensor->file) + ": tensor '" +
                    run.tensor->name + "': ";
             text += isMatrix ? "row " + std::to_string(src) + ", column " +
                                    std::to_string(srcCol)
                              : "element " + std::to_string(src);
           });
  return text;
}

} // namespace retort
