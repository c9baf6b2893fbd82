//===- DeepseekConfig.h - Fields of deepseek_v3 -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What config.json of a deepseek_v3 checkpoint says beyond a dense model:
/// latent attention, experts, and the multi-token-prediction layer. Absent
/// fields have the defaults of transformers.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_DEEPSEEKCONFIG_H
#define RETORT_COMPILER_CHECKPOINT_DEEPSEEKCONFIG_H

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/ConfigFields.h"

namespace retort::checkpoint {

/// Reads the fields of `mla`, `moe` and the multi-token-prediction layers into
/// `config`, whose vocabulary, widths, layers and heads must be set. Errors
/// name the field that is out of bounds or has a value that is not supported.
Status readDeepseek(ConfigFields &fields, ModelConfig &config);

/// Sets mla->softmaxScale, if there is latent attention, from the rotary
/// scaling of `config`.
void setSoftmaxScale(ModelConfig &config);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_DEEPSEEKCONFIG_H
