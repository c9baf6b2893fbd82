//===- PackedView.cpp - Packed weights by their source ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/PackedView.h"

#include "compiler/pack/Packer.h"
#include "compiler/pack/Quantizer.h"
#include "runtime/abi/Format.h"

#include <algorithm>
#include <cstring>

namespace retort {

Result<PackedView> PackedView::create(std::span<const WeightSpec> specs,
                                      std::span<const std::byte> section) {
  RETORT_ASSIGN_OR_RETURN(uint64_t expected, weightsSectionBytes(specs));
  if (section.size() != expected)
    return Status::error(Code::InvalidData, "expected a weights section of " +
                                                std::to_string(expected) +
                                                " bytes, found " +
                                                std::to_string(section.size()));
  PackedView view;
  size_t offset = 0;
  for (const WeightSpec &spec : specs) {
    auto size = static_cast<size_t>(spec.bytes());
    std::span<const std::byte> bytes = section.subspan(offset, size);
    for (const RowRun &run : spec.rowRuns) {
      std::vector<Run> &runs = view.byTensor[run.tensor];
      if (!run.transposed)
        runs.push_back({&spec, &run, nullptr, bytes, run.srcRow, run.rows});
      else
        for (const ColRun &cols : spec.colRuns)
          runs.push_back({&spec, &run, &cols, bytes, cols.srcCol + run.colShift,
                          cols.cols});
    }
    offset += roundUp<size_t>(size, abi::kWeightAlignment);
  }
  for (auto &[name, runs] : view.byTensor)
    std::sort(runs.begin(), runs.end(), [](const Run &a, const Run &b) {
      return a.src != b.src ? a.src < b.src : a.spec < b.spec;
    });
  return view;
}

/// Fills what `run` holds of the tensor's row `row`, and leaves the rest. Gives
/// the number of elements filled.
int64_t PackedView::readRow(const Run &run, int64_t row,
                            std::vector<float> &decoded,
                            std::span<float> out) const {
  const WeightSpec &spec = *run.spec;
  auto packedRow = [&](int64_t i) {
    return run.run->dstRow + i / kStripRows * run.run->stripStride +
           i % kStripRows;
  };
  int64_t i = row - run.src;
  if (spec.form == WeightForm::Vector) {
    std::memcpy(out.data(), run.bytes.data() + packedRow(i) * 4, 4);
    return 1;
  }
  if (run.cols) {
    for (int64_t c = 0; c < run.run->rows; ++c)
      out[static_cast<size_t>(run.run->srcRow + c)] =
          decodeElement(spec.encoding, run.bytes, spec.cols, packedRow(c),
                        run.cols->dstCol + i);
    return run.run->rows;
  }
  decoded.resize(static_cast<size_t>(spec.cols));
  decodeRows(spec.encoding, run.bytes, spec.cols, packedRow(i), 1, decoded);
  int64_t filled = 0;
  for (const ColRun &cols : spec.colRuns) {
    std::copy_n(decoded.begin() + cols.dstCol, cols.cols,
                out.begin() + cols.srcCol + run.run->colShift);
    filled += cols.cols;
  }
  return filled;
}

bool PackedView::read(std::string_view tensor, int64_t firstRow,
                      int64_t numRows, int64_t cols, std::span<float> out,
                      bool last) const {
  auto it = byTensor.find(tensor);
  if (it == byTensor.end())
    return false;
  const std::vector<Run> &runs = it->second;
  std::vector<float> decoded;
  auto holds = [](const Run &run, int64_t row) {
    return row >= run.src && row < run.src + run.rows;
  };
  for (int64_t row = firstRow; row < firstRow + numRows; ++row) {
    auto to = out.subspan(static_cast<size_t>((row - firstRow) * cols),
                          static_cast<size_t>(cols));
    std::fill(to.begin(), to.end(), 0.0f);
    // A spec may take the columns of a row in several runs, and several specs
    // may share them.
    const WeightSpec *previous = nullptr;
    for (int64_t covered = 0; covered < cols;) {
      const WeightSpec *found = nullptr;
      for (const Run &run : runs) {
        if (run.src > row)
          break;
        bool isNext =
            !previous || (last ? run.spec < previous : run.spec > previous);
        if (isNext && holds(run, row) &&
            (!found || (last ? run.spec > found : run.spec < found)))
          found = run.spec;
      }
      if (!found && !previous)
        return false;
      if (!found)
        break;
      for (const Run &run : runs)
        if (run.spec == found && holds(run, row))
          covered += readRow(run, row, decoded, to);
      previous = found;
    }
  }
  return true;
}

void PackedView::roundInputs(std::string_view tensor,
                             std::span<float> row) const {
  auto it = byTensor.find(tensor);
  if (it == byTensor.end())
    return;
  // Runs of rows have the same columns, but for those of another spec.
  const WeightSpec *done = nullptr;
  for (const Run &run : it->second) {
    const WeightSpec &spec = *run.spec;
    if (run.cols || !spec.inputs || done == &spec)
      continue;
    done = &spec;
    // Groups are those of the packed columns, which may have gaps.
    std::vector<float> packed(
        static_cast<size_t>(roundUp<int64_t>(spec.cols, kActivationGroup)));
    auto source = [&](const ColRun &cols) {
      return row.subspan(static_cast<size_t>(cols.srcCol + run.run->colShift),
                         static_cast<size_t>(cols.cols));
    };
    for (const ColRun &cols : spec.colRuns)
      std::ranges::copy(source(cols), packed.begin() + cols.dstCol);
    roundActivation(*spec.inputs, packed);
    for (const ColRun &cols : spec.colRuns)
      std::copy_n(packed.begin() + cols.dstCol, cols.cols,
                  source(cols).begin());
  }
}

} // namespace retort
