//===- CompressedTensors.h - The format written -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The tensors and the configuration of a checkpoint in the compressed-tensors
/// format.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_COMPRESSEDTENSORS_H
#define RETORT_COMPILER_PTQ_COMPRESSEDTENSORS_H

#include "compiler/ptq/Grid.h"
#include "runtime/support/SafetensorsWriter.h"

namespace retort::ptq {

/// A tensor with its bytes.
struct OutputTensor {
  SafetensorsWriter::Tensor tensor;
  std::vector<std::byte> bytes;
};

/// What a quantized matrix of the module ("model.layers.0.mlp.up_proj") is
/// stored as: packed integers, scales, zero points and shape, or bytes and
/// scales.
std::vector<OutputTensor> storedParts(const std::string &module,
                                      const GridForm &form,
                                      const QuantizedResult &matrix);

/// The original config.json with a quantization_config instead of its own.
/// `ignored` are modules, or "re:" patterns, that stay as they are.
Result<std::string> quantizedConfig(std::string_view original,
                                    const GridForm &form,
                                    const std::vector<std::string> &ignored);

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_COMPRESSEDTENSORS_H
