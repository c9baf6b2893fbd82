//===- SpecReader.cpp - Reading the rows of a weight spec -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/SpecReader.h"

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/QuantizedMatrix.h"
#include "compiler/pack/KeptEncoding.h"
#include "compiler/pack/Quantizer.h"

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
  int64_t numRows = tensor.shape[0], numCols = isMatrix ? tensor.shape[1] : 1;
  if (run.transposed)
    std::swap(numRows, numCols);
  const char *rowWord = run.transposed ? "columns" : "rows";
  const char *colWord = run.transposed ? "rows" : "columns";
  if (!liesIn(run.srcRow, run.rows, numRows))
    return invalid(where + "expected " + rowWord + " in [0, " +
                   std::to_string(numRows) + "), found " +
                   formatRange(run.srcRow, run.rows));
  if (!isMatrix)
    return Status::ok();
  for (const ColRun &cols : spec.colRuns) {
    auto first = checkedAdd(cols.srcCol, run.colShift);
    if (!first || !liesIn(*first, cols.cols, numCols))
      return invalid(where + "expected " + colWord + " in [0, " +
                     std::to_string(numCols) + "), found " +
                     (first ? formatRange(*first, cols.cols) : "2^63 or more"));
  }
  return Status::ok();
}

/// Where a run ends in the packed matrix of `packedRows` rows.
Result<int64_t> checkDestination(const RowRun &run, int64_t packedRows) {
  if (run.stripStride < kStripRows || run.stripStride % kStripRows)
    return invalid("expected a strip stride that is a positive multiple of 32, "
                   "found " +
                   std::to_string(run.stripStride));
  auto out = [&](int64_t rows) {
    return invalid("expected packed rows in [0, " + std::to_string(packedRows) +
                   "), found " + formatRange(run.dstRow, rows));
  };
  if (run.rows < 1)
    return liesIn(run.dstRow, run.rows, packedRows)
               ? Result<int64_t>(run.dstRow)
               : out(run.rows);
  if (!checkedMul((run.rows - 1) / kStripRows, run.stripStride))
    return out(run.rows);
  int64_t span = (run.rows - 1) / kStripRows * run.stripStride;
  std::optional<int64_t> size =
      checkedAdd(span, (run.rows - 1) % kStripRows + 1);
  if (!size || !liesIn(run.dstRow, *size, packedRows))
    return out(size.value_or(run.rows));
  return run.dstRow + *size;
}

} // namespace

Result<SpecReader::Run>
SpecReader::makeRun(const WeightSpec &spec, const RowRun &run,
                    const checkpoint::Checkpoint &checkpoint) {
  const TensorView *tensor = checkpoint.find(run.tensor);
  if (!tensor)
    return Status::error(Code::NotFound,
                         "expected tensor '" + run.tensor + "', found none");
  bool isMatrix = spec.form == WeightForm::Matrix;
  if (!isMatrix && (run.transposed || run.colShift))
    return invalid("tensor '" + run.tensor +
                   "': expected a vector's run to have no column shift and not "
                   "to be transposed");
  RETORT_RETURN_IF_ERROR(checkSource(spec, run, *tensor));
  RETORT_ASSIGN_OR_RETURN(
      int64_t end, checkDestination(run, isMatrix ? spec.rows : spec.cols));
  int64_t rowBytes = static_cast<int64_t>(dtypeBytes(tensor->dtype)) *
                     (isMatrix ? tensor->shape[1] : 1);
  // Integers may lie in any order: a share of them each.
  if (tensor->quantized)
    rowBytes =
        ceilDiv(static_cast<int64_t>(tensor->bytes.size()), tensor->shape[0]);
  return Run{.tensor = tensor,
             .src = run.srcRow,
             .rows = run.rows,
             .dst = run.dstRow,
             .stripStride = run.stripStride,
             .colShift = run.colShift,
             .rowBytes = rowBytes,
             .end = end,
             .maxEnd = end,
             .transposed = run.transposed};
}

Result<SpecReader>
SpecReader::create(const WeightSpec &spec,
                   const checkpoint::Checkpoint &checkpoint) {
  auto inSpec = [&](Status status) {
    return std::move(status).withContext("weight '" + spec.name + "'");
  };
  SpecReader reader;
  reader.weightSpec = &spec;
  reader.source = &checkpoint;
  if (spec.form == WeightForm::Matrix)
    if (Status status = checkColRuns(spec); !status.isOk())
      return inSpec(std::move(status));
  for (const ColRun &run : spec.colRuns)
    reader.runCols += run.cols;
  for (const RowRun &rowRun : spec.rowRuns) {
    Result<Run> run = makeRun(spec, rowRun, checkpoint);
    if (!run)
      return inSpec(run.takeStatus());
    if (run->rows > 0)
      reader.runs.push_back(*run);
  }
  std::sort(reader.runs.begin(), reader.runs.end(),
            [](const Run &a, const Run &b) { return a.dst < b.dst; });
  if (Status status = reader.checkOverlaps(); !status.isOk())
    return inSpec(std::move(status));
  reader.indexRuns(0, reader.runs.size());
  reader.copies = reader.canCopy();
  return reader;
}

Status SpecReader::checkOverlaps() const {
  auto overlap = [](int64_t row) {
    return invalid("two row runs cover packed row " + std::to_string(row));
  };
  bool apart = true;
  for (size_t i = 1; i < runs.size() && apart; ++i)
    apart = runs[i - 1].end <= runs[i].dst;
  if (apart)
    return Status::ok();
  // Runs that alternate: compare what each covers, strip by strip.
  std::vector<std::pair<int64_t, int64_t>> pieces; // first row, end
  for (const Run &run : runs) {
    if (run.stripStride == kStripRows) {
      pieces.emplace_back(run.dst, run.end);
      continue;
    }
    for (int64_t i = 0; i < run.rows; i += kStripRows) {
      int64_t dst = run.dst + i / kStripRows * run.stripStride;
      pieces.emplace_back(dst, dst + std::min(kStripRows, run.rows - i));
    }
  }
  std::sort(pieces.begin(), pieces.end());
  for (size_t i = 1; i < pieces.size(); ++i)
    if (pieces[i].first < pieces[i - 1].second)
      return overlap(pieces[i].first);
  return Status::ok();
}

/// Sets maxEnd in a range of runs and returns the largest.
int64_t SpecReader::indexRuns(size_t lo, size_t hi) {
  if (lo == hi)
    return 0;
  size_t mid = lo + (hi - lo) / 2;
  int64_t below = indexRuns(lo, mid), above = indexRuns(mid + 1, hi);
  return runs[mid].maxEnd = std::max({runs[mid].end, below, above});
}

template <typename Visit>
void SpecReader::forRuns(size_t lo, size_t hi, int64_t first, int64_t end,
                         Visit &visit) const {
  if (lo == hi)
    return;
  size_t mid = lo + (hi - lo) / 2;
  const Run &run = runs[mid];
  if (run.maxEnd <= first)
    return;
  forRuns(lo, mid, first, end, visit);
  if (run.dst >= end)
    return;
  if (run.end > first)
    visit(run);
  forRuns(mid + 1, hi, first, end, visit);
}

template <typename Visit>
void SpecReader::forRange(int64_t first, int64_t count, Visit visit) const {
  int64_t end = first + count;
  // A part [dst, dst + rows) of the packed matrix, cut to the range.
  auto part = [&](const Run &run, int64_t src, int64_t dst, int64_t rows) {
    int64_t from = std::max(first, dst), to = std::min(end, dst + rows);
    if (from < to)
      visit(run, src + from - dst, from, to - from);
  };
  auto strips = [&](const Run &run) {
    if (run.stripStride == kStripRows)
      return part(run, run.src, run.dst, run.rows);
    int64_t strip = std::max<int64_t>(0, first - run.dst) / run.stripStride;
    for (; strip * kStripRows < run.rows; ++strip) {
      int64_t dst = run.dst + strip * run.stripStride;
      if (dst >= end)
        return;
      part(run, run.src + strip * kStripRows, dst,
           std::min(kStripRows, run.rows - strip * kStripRows));
    }
  };
  forRuns(0, runs.size(), first, end, strips);
}

/// `src` and `rows` as forRange gives them; `out` is at their first packed row.
Status SpecReader::readRun(const Run &run, int64_t src, int64_t rows,
                           float *out, int64_t stride) const {
  for (const ColRun &cols : weightSpec->colRuns)
    RETORT_RETURN_IF_ERROR(checkpoint::readBlock(
        *run.tensor, {src, rows, cols.srcCol + run.colShift, cols.cols},
        out + cols.dstCol, stride));
  return Status::ok();
}

Status SpecReader::readTransposed(const Run &run, int64_t src, int64_t rows,
                                  float *out, int64_t stride) const {
  std::vector<float> column(static_cast<size_t>(rows));
  for (const ColRun &cols : weightSpec->colRuns)
    for (int64_t j = 0; j < cols.cols; ++j) {
      RETORT_RETURN_IF_ERROR(checkpoint::readBlock(
          *run.tensor, {cols.srcCol + run.colShift + j, 1, src, rows},
          column.data(), rows));
      for (int64_t i = 0; i < rows; ++i)
        out[i * stride + cols.dstCol + j] = column[static_cast<size_t>(i)];
    }
  return Status::ok();
}

Status SpecReader::readRows(int64_t first, int64_t count, float *out,
                            int64_t stride) const {
  std::memset(out, 0, static_cast<size_t>(count * stride) * sizeof(float));
  Status status;
  forRange(first, count,
           [&](const Run &run, int64_t src, int64_t dst, int64_t rows) {
             if (!status.isOk())
               return;
             float *to = out + (dst - first) * stride;
             status = run.transposed
                          ? readTransposed(run, src, rows, to, stride)
                          : readRun(run, src, rows, to, stride);
           });
  return status;
}

Status SpecReader::readElements(int64_t first, int64_t count,
                                float *out) const {
  std::fill_n(out, count, 0.0f);
  Status status;
  forRange(first, count,
           [&](const Run &run, int64_t src, int64_t dst, int64_t elements) {
             if (status.isOk())
               status = checkpoint::readBlock(
                   *run.tensor, {src, elements, 0, 1}, out + (dst - first), 1);
           });
  return status;
}

/// One packed row, or a part of it, that comes from consecutive elements of one
/// tensor row (column, if transposed).
Status SpecReader::readF8Row(const Run &run, int64_t src, const ColRun &cols,
                             int64_t packedRow, uint8_t *bits,
                             float *scales) const {
  const TensorView &tensor = *run.tensor;
  auto *bytes = reinterpret_cast<const uint8_t *>(tensor.bytes.data());
  int64_t from = cols.srcCol + run.colShift;
  for (int64_t j = 0; j < cols.cols;) {
    int64_t dst = cols.dstCol + j, block = dst / kFp8BlockCols;
    int64_t end =
        std::min(cols.cols, (block + 1) * kFp8BlockCols - cols.dstCol);
    float scale = 1.0f;
    if (tensor.scales) {
      const auto &s = *tensor.scales;
      int64_t step = run.transposed ? s.blockRows : s.blockCols;
      int64_t at = (from + j) / step;
      end = std::min(end, (at + 1) * step - from);
      scale = run.transposed ? s.at(at, src / s.blockCols)
                             : s.at(src / s.blockRows, at);
    }
    if (scales[block] != 0 && scales[block] != scale)
      return Status::error(
          Code::InvalidArgument,
          describe(packedRow, dst) +
              ": expected one scale in a packed block of fp8, found " +
              std::to_string(scales[block]) + " and " + std::to_string(scale));
    scales[block] = scale;
    for (; j < end; ++j) {
      int64_t r = src, c = from + j;
      if (run.transposed)
        std::swap(r, c);
      uint8_t b = bytes[r * run.rowBytes + c];
      if ((b & 0x7f) == 0x7f)
        return Status::error(Code::InvalidData,
                             describe(packedRow, cols.dstCol + j) +
                                 ": expected a number, found NaN");
      bits[cols.dstCol + j] = b;
    }
  }
  return Status::ok();
}

Status SpecReader::readF8Strip(int64_t first, uint8_t *bits, int64_t stride,
                               float *scales) const {
  int64_t blocks = ceilDiv(weightSpec->cols, kFp8BlockCols);
  std::memset(bits, 0, static_cast<size_t>(kStripRows * stride));
  std::fill_n(scales, kStripRows * blocks, 0.0f);
  Status status;
  forRange(first, kStripRows,
           [&](const Run &run, int64_t src, int64_t dst, int64_t rows) {
             if (status.isOk() && run.tensor->dtype != DType::F8E4M3)
               status = invalid("weight '" + weightSpec->name + "': tensor '" +
                                run.tensor->name +
                                "': expected elements of F8_E4M3 to keep as "
                                "fp8, found " +
                                std::string(dtypeName(run.tensor->dtype)));
             for (int64_t i = 0; i < rows && status.isOk(); ++i)
               for (const ColRun &cols : weightSpec->colRuns) {
                 int64_t r = dst - first + i;
                 status = readF8Row(run, src + i, cols, dst + i,
                                    bits + r * stride, scales + r * blocks);
                 if (!status.isOk())
                   return;
               }
           });
  return status;
}

bool SpecReader::canCopy() const {
  const PackedEncoding &encoding = weightSpec->encoding;
  if (weightSpec->form != WeightForm::Matrix || !encoding.isInteger() ||
      runs.empty())
    return false;
  return std::ranges::all_of(runs, [&](const Run &run) {
    const auto &matrix = run.tensor->quantized;
    return matrix && !run.transposed && holdsExactly(encoding, *matrix) &&
           !mixesScales(weightSpec->colRuns, run.colShift, matrix->groupSize,
                        encoding.blockCols());
  });
}

/// Rows of one run in one column run; the pointers are at their first packed
/// row.
void SpecReader::readIntegers(const Run &run, int64_t src, int64_t rows,
                              const ColRun &cols, int16_t *quants,
                              int64_t stride, float *scales,
                              int8_t *zeros) const {
  const checkpoint::QuantizedMatrix &matrix = *run.tensor->quantized;
  int64_t size = weightSpec->encoding.blockCols();
  int64_t blocks = ceilDiv(weightSpec->cols, size);
  int64_t from = cols.srcCol + run.colShift;
  matrix.readQuants({src, rows, from, cols.cols}, quants + cols.dstCol, stride);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols.cols;) {
      int64_t block = (cols.dstCol + j) / size;
      int64_t group = matrix.groupOf(from + j);
      scales[i * blocks + block] = matrix.scale(src + i, group);
      zeros[i * blocks + block] =
          static_cast<int8_t>(matrix.zero(src + i, group));
      j = (block + 1) * size - cols.dstCol;
    }
}

void SpecReader::readIntegerStrip(int64_t first, int16_t *quants,
                                  int64_t stride, float *scales,
                                  int8_t *zeros) const {
  int64_t blocks = weightSpec->encoding.blocksPerStrip(weightSpec->cols);
  std::fill_n(quants, kStripRows * stride, kNoQuant);
  std::fill_n(scales, kStripRows * blocks, 0.0f);
  std::fill_n(zeros, kStripRows * blocks, int8_t(0));
  forRange(first, kStripRows,
           [&](const Run &run, int64_t src, int64_t dst, int64_t rows) {
             int64_t r = dst - first;
             for (const ColRun &cols : weightSpec->colRuns)
               readIntegers(run, src, rows, cols, quants + r * stride, stride,
                            scales + r * blocks, zeros + r * blocks);
           });
}

void SpecReader::dropResident(int64_t first, int64_t count) const {
  // Parts of one run follow each other in the tensor, whatever the stride.
  struct Piece {
    const Run *run;
    uint64_t begin, end;
  };
  std::vector<Piece> pieces;
  forRange(
      first, count, [&](const Run &run, int64_t src, int64_t, int64_t rows) {
        if (run.tensor->quantized) {
          // Words hold inputs of many rows: all goes when the last rows do.
          if (src + rows == run.src + run.rows)
            pieces.push_back({&run, 0, run.tensor->bytes.size()});
          return;
        }
        if (run.transposed) {
          if (pieces.empty() || pieces.back().run != &run)
            for (const ColRun &cols : weightSpec->colRuns) {
              int64_t row = cols.srcCol + run.colShift;
              pieces.push_back(
                  {&run, static_cast<uint64_t>(row * run.rowBytes),
                   static_cast<uint64_t>((row + cols.cols) * run.rowBytes)});
            }
          return;
        }
        auto begin = static_cast<uint64_t>(src * run.rowBytes);
        auto end = static_cast<uint64_t>((src + rows) * run.rowBytes);
        if (!pieces.empty() && pieces.back().run == &run &&
            pieces.back().end == begin)
          pieces.back().end = end;
        else
          pieces.push_back({&run, begin, end});
      });
  for (const Piece &piece : pieces) {
    uint64_t begin = piece.begin - std::min(piece.begin, kDropMargin);
    source->dropResident(*piece.run->tensor, begin,
                         piece.end + kDropMargin - begin);
  }
}

int64_t SpecReader::sourceBytes(int64_t first, int64_t count) const {
  int64_t bytes = 0;
  forRange(first, count, [&](const Run &run, int64_t, int64_t, int64_t rows) {
    bytes += rows * packedRowBytes(run);
  });
  return bytes;
}

int64_t SpecReader::packedRowBytes(const Run &run) const {
  return run.transposed
             ? run.tensor->quantized
                   ? ceilDiv(static_cast<int64_t>(run.tensor->bytes.size()),
                             run.tensor->shape[1])
                   : runCols *
                         static_cast<int64_t>(dtypeBytes(run.tensor->dtype))
             : run.rowBytes;
}

int64_t SpecReader::maxSourceBytes(int64_t count) const {
  int64_t bytes = 0;
  for (const Run &run : runs) {
    // Columns that no run takes are read all the same, as parts of pages, and
    // of integers whole tensors.
    if (run.tensor->quantized)
      bytes = std::max(
          bytes, static_cast<int64_t>(run.tensor->quantized->storedBytes()));
    else
      bytes =
          std::max(bytes, (run.transposed ? runCols : count) * run.rowBytes);
  }
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
             int64_t r = src, c = srcCol + run.colShift;
             if (run.transposed)
               std::swap(r, c);
             text += isMatrix ? "row " + std::to_string(r) + ", column " +
                                    std::to_string(c)
                              : "element " + std::to_string(r);
           });
  return text;
}

} // namespace retort
