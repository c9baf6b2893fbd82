//===- ModelText.h - Tokenizer and templates of an artifact -----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What an artifact says about text: the files of its checkpoint that it
/// carries, read into a tokenizer, a chat template and sampling defaults.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_API_MODELTEXT_H
#define RETORT_RUNTIME_API_MODELTEXT_H

#include "runtime/loader/Artifact.h"
#include "runtime/text/Sampler.h"

#include <vector>

namespace retort {

/// What generation_config.json recommends.
struct GenerationDefaults {
  SamplerOptions sampling; ///< greedy unless the file says do_sample
  std::vector<int32_t> endTokens;
};

/// Reads `json`, a generation_config.json, in which every field is optional;
/// ids outside of the vocabulary and values out of range are errors. With
/// do_sample, what the file leaves out is as in transformers: temperature 1,
/// top-k 50, top-p 1.
Result<GenerationDefaults> parseGenerationConfig(std::string_view json,
                                                 uint32_t vocabSize);

/// The defaults of an artifact, whose end tokens are those of its model and of
/// its generation_config.json together.
Result<GenerationDefaults> generationDefaults(const Artifact &artifact);

} // namespace retort

#endif // RETORT_RUNTIME_API_MODELTEXT_H
