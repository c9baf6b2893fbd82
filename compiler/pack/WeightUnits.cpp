//===- WeightUnits.cpp - Matrices of one encoding ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/WeightUnits.h"

#include "runtime/abi/Format.h"

#include <unordered_map>
#include <utility>

namespace retort {

std::vector<WeightUnit> weightUnits(std::span<const WeightSpec> specs) {
  std::vector<WeightUnit> units;
  std::unordered_map<std::string, size_t> unitOf;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].form != WeightForm::Matrix)
      continue;
    size_t unit = units.size();
    for (const RowRun &run : specs[i].rowRuns)
      if (auto it = unitOf.find(run.tensor); it != unitOf.end())
        unit = std::min(unit, it->second);
    if (unit == units.size())
      units.emplace_back();
    units[unit].specs.push_back(i);
    for (const RowRun &run : specs[i].rowRuns) {
      auto [it, isNew] = unitOf.try_emplace(run.tensor, unit);
      if (isNew) {
        units[unit].tensors.push_back(run.tensor);
      } else if (it->second != unit) {
        // Two units that this spec joins.
        WeightUnit other = std::exchange(units[it->second], {});
        for (const std::string &tensor : other.tensors) {
          unitOf[tensor] = unit;
          units[unit].tensors.push_back(tensor);
        }
        units[unit].specs.insert(units[unit].specs.end(), other.specs.begin(),
                                 other.specs.end());
      }
    }
  }
  std::erase_if(units, [](const WeightUnit &u) { return u.specs.empty(); });
  return units;
}

uint64_t unitBytes(const WeightUnit &unit, std::span<const WeightSpec> specs,
                   const PackedEncoding &encoding) {
  uint64_t bytes = 0;
  for (size_t i : unit.specs)
    bytes += roundUp(static_cast<uint64_t>(
                         encoding.matrixBytes(specs[i].rows, specs[i].cols)),
                     abi::kWeightAlignment);
  return bytes;
}

} // namespace retort
