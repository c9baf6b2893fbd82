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

/// What a quantized matrix [rows, cols] of the module
/// ("model.layers.0.mlp.up_proj") is stored as: packed integers, scales, shape
/// and zero points, or fp8 elements and scales.
std::vector<SafetensorsWriter::Tensor> storedTensors(const std::string &module,
                                                     const GridForm &form,
                                                     int64_t rows,
                                                     int64_t cols);

/// The bytes of each of them.
std::vector<std::vector<std::byte>> storedParts(const GridForm &form,
                                                const QuantizedResult &matrix);

/// The original config.json with a quantization_config instead of its own.
/// `ignored` are modules, or "re:" patterns, that stay as they are.
Result<std::string> quantizedConfig(std::string_view original,
                                    const GridForm &form,
                                    const std::vector<std::string> &ignored);

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_COMPRESSEDTENSORS_H
