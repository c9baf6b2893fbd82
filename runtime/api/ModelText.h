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

#include "runtime/engine/Generator.h"
#include "runtime/loader/Artifact.h"
#include "runtime/text/Sampler.h"
#include "runtime/text/TextModel.h"

#include <optional>

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

/// The text part of an artifact; without a tokenizer its functions are errors
/// (NotFound).
class ModelText {
public:
  /// Reads tokenizer and chat template if the artifact has them.
  static Result<ModelText> read(const Artifact &artifact);

  /// Reads the tokenizer's files of a checkpoint directory. NotFound if there
  /// is no tokenizer.json.
  static Result<ModelText> readDirectory(const std::string &path);

  bool hasTokenizer() const { return model.has_value(); }
  bool hasChatTemplate() const { return model && model->hasChatTemplate(); }
  /// Null without one.
  const text::Tokenizer *tokenizer() const {
    return model ? &model->tokenizer() : nullptr;
  }
  /// Tokens that end an answer, as the tokenizer's files say.
  std::vector<int32_t> endTokens() const {
    return model ? model->stopIds() : std::vector<int32_t>();
  }

  Result<std::vector<int32_t>> encode(std::string_view text,
                                      bool addSpecial) const;
  Result<std::string> decode(std::span<const int32_t> ids,
                             bool skipSpecial) const;
  /// Renders `messages`, a JSON array, at the present local time.
  Result<std::string> renderChat(std::string_view messages,
                                 bool addGenerationPrompt) const;
  /// A decoder of one stream of tokens; needs a tokenizer, which must outlive
  /// it.
  TokenDecoder decoder(bool skipSpecial) const;
  /// Answers a line of `retort tokenize --jsonl`.
  Result<std::string> answerLine(std::string_view line) const;

private:
  std::optional<text::TextModel> model;
};

} // namespace retort

#endif // RETORT_RUNTIME_API_MODELTEXT_H
