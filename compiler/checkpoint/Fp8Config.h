//===- Fp8Config.h - The quantization_config field --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What config.json says of fp8 weights with one scale per block.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_FP8CONFIG_H
#define RETORT_COMPILER_CHECKPOINT_FP8CONFIG_H

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/ConfigFields.h"

namespace retort::checkpoint {

/// Reads `quantization_config` into config.fp8. Absent and empty mean none; any
/// method but fp8 e4m3 in blocks with dynamic activation scales is an error.
Status readFp8(ConfigFields &root, ModelConfig &config);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_FP8CONFIG_H
