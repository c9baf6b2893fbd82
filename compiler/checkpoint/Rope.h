//===- Rope.h - Rotary frequencies of a configuration -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The angle of dimension pair i at position p is p * invFreq[i]; cos and sin
/// are then multiplied by attentionFactor. Pairs are (i, i + headDim / 2), the
/// "rotate half" layout of Hugging Face checkpoints.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_ROPE_H
#define RETORT_COMPILER_CHECKPOINT_ROPE_H

#include "compiler/checkpoint/Config.h"

namespace retort::checkpoint {

/// Radians per position for each of the headDim / 2 dimension pairs, in double
/// precision, so that the caller rounds once. Formulas: RoPE (arXiv
/// 2104.09864) theta^(-2i / headDim); `linear` divides it by the factor;
/// `llama3` as in Meta's llama-models `apply_scaling`; `yarn` as in section 3.2
/// of arXiv 2309.00071. The corner cases follow `modeling_rope_utils.py` of
/// transformers 5.24, which computes the same in single precision.
std::vector<double> ropeInvFreq(const ModelConfig &config);

/// What cos and sin are multiplied by: 1 except for YaRN, where it is
/// `attention_factor` if given, else (with m(x) = 0.1 x ln(factor) + 1, and 1
/// for factors up to 1) m(mscale) / m(mscale_all_dim) if both are given and not
/// zero, else m(1).
double ropeAttentionFactor(const ModelConfig &config);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_ROPE_H
