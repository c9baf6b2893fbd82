//===- RopeConfig.h - Rotary fields of config.json --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Both styles of rotary configuration: `rope_theta` beside `rope_scaling`, and
/// the newer `rope_parameters` that holds theta as well.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_ROPECONFIG_H
#define RETORT_COMPILER_CHECKPOINT_ROPECONFIG_H

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/ConfigFields.h"

namespace retort::checkpoint {

/// Reads `rope_theta` and `rope_scaling`, or `rope_parameters`, into `config`,
/// whose maxPositionEmbeddings must be set. If both styles are present they
/// must agree.
Status readRope(ConfigFields &root, ModelConfig &config);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_ROPECONFIG_H
