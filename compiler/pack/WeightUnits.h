//===- WeightUnits.h - Matrices of one encoding -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Which of a checkpoint's matrices must be stored in one encoding, because a
/// launch reads them together: queries, keys and values; gate and up; all
/// experts of a layer.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_WEIGHTUNITS_H
#define RETORT_COMPILER_PACK_WEIGHTUNITS_H

#include "compiler/pack/WeightSpec.h"

namespace retort {

struct WeightUnit {
  std::vector<std::string> tensors; ///< in the order of their first use
  std::vector<size_t> specs;        ///< indices of the specs made from them
};

/// The units of the specs that are matrices, in the order of their first use.
/// Tensors of one spec are of one unit, and specs that share a tensor too.
std::vector<WeightUnit> weightUnits(std::span<const WeightSpec> specs);

/// Bytes of a unit in the weights section, padding included, if its matrices
/// had this encoding.
uint64_t unitBytes(const WeightUnit &unit, std::span<const WeightSpec> specs,
                   const PackedEncoding &encoding);

} // namespace retort

#endif // RETORT_COMPILER_PACK_WEIGHTUNITS_H
