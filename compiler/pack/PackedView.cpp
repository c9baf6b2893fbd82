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
    for (const RowRun &run : spec.rowRuns)
      view.byTensor[run.tensor].push_back({&spec, section.subspan(offset, size),
                                           run.srcRow, run.rows, run.dstRow});
    offset += roundUp<size_t>(size, abi::kWeightAlignment);
  }
  for (auto &[name, runs] : view.byTensor)
    std::sort(runs.begin(), runs.end(), [](const Run &a, const Run &b) {
      return a.src != b.src ? a.src < b.src : a.spec < b.spec;
    });
  return view;
}

bool PackedView::read(std::string_view tensor, int64_t firstRow,
                      int64_t numRows, int64_t cols, std::span<float> out,
                      bool last) const {
  auto it = byTensor.find(tensor);
  if (it == byTensor.end())
    return false;
  const std::vector<Run> &runs = it->second;
  std::vector<float> decoded;
  for (int64_t row = firstRow; row < firstRow + numRows; ++row) {
    const Run *found = nullptr;
    for (const Run &run : runs) {
      if (run.src > row)
        break;
      if (row < run.src + run.rows &&
          (!found || (last ? run.spec > found->spec : run.spec < found->spec)))
        found = &run;
    }
    if (!found)
      return false;
    const WeightSpec &spec = *found->spec;
    int64_t packedRow = found->dst + row - found->src;
    float *to = out.data() + (row - firstRow) * cols;
    if (spec.form == WeightForm::Vector) {
      std::memcpy(to, found->bytes.data() + packedRow * 4, 4);
      continue;
    }
    decoded.resize(static_cast<size_t>(spec.cols));
    decodeRows(spec.encoding, found->bytes, spec.cols, packedRow, 1, decoded);
    std::fill_n(to, cols, 0.0f);
    for (const ColRun &run : spec.colRuns)
      std::copy_n(decoded.begin() + run.dstCol, run.cols, to + run.srcCol);
  }
  return true;
}

} // namespace retort
