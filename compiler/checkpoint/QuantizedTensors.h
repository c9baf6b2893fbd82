//===- QuantizedTensors.h - Parts of quantized matrices ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Puts together the tensors that a quantized matrix is stored as, and refuses
/// what does not fit together or with the configuration.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_QUANTIZEDTENSORS_H
#define RETORT_COMPILER_CHECKPOINT_QUANTIZEDTENSORS_H

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/QuantizedMatrix.h"

#include <map>

namespace retort::checkpoint {

/// Tensors of a checkpoint that are not yet accounted for, by name.
using StoredTensors = std::map<std::string, const TensorView *>;

/// Whether the tensors that `quant` calls for in place of the matrix `name`
/// ("....weight") are stored, as far as the one with its integers says.
bool isStoredQuantized(const QuantConfig &quant, const std::string &name,
                       const StoredTensors &stored);

/// The matrix of that name and shape, if it is quantized: with `quantized` set
/// if it is integers, with `scales` if it is fp8. The tensors it takes, and
/// those that go with it and change nothing, are removed from `stored`. Nothing
/// if the matrix is not quantized. Scales and indices are not read yet. Errors
/// name file and tensor: a part that lacks, has another type or shape, or
/// contradicts the configuration.
Result<std::optional<TensorView>> takeQuantized(const QuantConfig &quant,
                                                const ExpectedTensor &tensor,
                                                StoredTensors &stored);

/// What takeQuantized() would make of a matrix that is not there; none if it
/// would not be quantized.
Result<std::optional<TensorView>>
imagineQuantized(const QuantConfig &quant, const ExpectedTensor &tensor);

/// Reads scales, zero points and group indices of the integer matrices, and
/// sets what follows from them (hasZeros, actOrder). Errors name file, tensor
/// and position: a scale that is not finite, a group that does not exist, an
/// order that the configuration denies.
Status checkQuantized(std::vector<TensorView> &tensors,
                      const QuantConfig &quant);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_QUANTIZEDTENSORS_H
