//===- ModelText.cpp - Tokenizer and templates of an artifact ---*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/api/ModelText.h"

#include "runtime/loader/Container.h"
#include "runtime/text/JsonReader.h"

#include <algorithm>

namespace retort {
namespace {

using text::Json;

constexpr const char *kFile = "text/generation_config.json";

Status expected(std::string_view field, std::string_view what,
                const Json &found) {
  return Status::error(Code::InvalidData, std::string(field) + ": expected " +
                                              std::string(what) + ", found " +
                                              text::describeKind(found));
}

Result<double> number(const Json &config, const char *field, double fallback) {
  auto it = config.find(field);
  if (it == config.end() || it->is_null())
    return fallback;
  if (!it->is_number())
    return expected(field, "a number", *it);
  return it->get<double>();
}

Status addEndToken(const Json &value, uint32_t vocabSize,
                   std::vector<int32_t> &ids) {
  if (!value.is_number_integer())
    return expected("eos_token_id", "an integer", value);
  auto id = value.get<int64_t>();
  if (id < 0 || id >= int64_t(vocabSize))
    return Status::error(Code::InvalidData,
                         "eos_token_id: " + std::to_string(id) +
                             " is not in the vocabulary of " +
                             std::to_string(vocabSize));
  ids.push_back(static_cast<int32_t>(id));
  return Status::ok();
}

Status readEndTokens(const Json &config, uint32_t vocabSize,
                     std::vector<int32_t> &ids) {
  auto it = config.find("eos_token_id");
  if (it == config.end() || it->is_null())
    return Status::ok();
  if (!it->is_array())
    return addEndToken(*it, vocabSize, ids);
  for (const Json &value : *it)
    RETORT_RETURN_IF_ERROR(addEndToken(value, vocabSize, ids));
  return Status::ok();
}

} // namespace

Result<GenerationDefaults> parseGenerationConfig(std::string_view json,
                                                 uint32_t vocabSize) {
  RETORT_ASSIGN_OR_RETURN(Json config, text::parseJson(json));
  if (!config.is_object())
    return expected("generation configuration", "an object", config);
  GenerationDefaults out;
  RETORT_RETURN_IF_ERROR(readEndTokens(config, vocabSize, out.endTokens));
  SamplerOptions &sampling = out.sampling;
  RETORT_ASSIGN_OR_RETURN(sampling.repeatPenalty,
                          number(config, "repetition_penalty", 1));
  bool sample = false;
  if (auto it = config.find("do_sample");
      it != config.end() && !it->is_null()) {
    if (!it->is_boolean())
      return expected("do_sample", "a boolean", *it);
    sample = it->get<bool>();
  }
  if (sample) {
    RETORT_ASSIGN_OR_RETURN(sampling.temperature,
                            number(config, "temperature", 1));
    RETORT_ASSIGN_OR_RETURN(sampling.topP, number(config, "top_p", 1));
    RETORT_ASSIGN_OR_RETURN(sampling.minP, number(config, "min_p", 0));
    RETORT_ASSIGN_OR_RETURN(double topK, number(config, "top_k", 50));
    if (!(topK >= 0 && topK <= 1e9))
      return Status::error(Code::InvalidData,
                           "top_k: expected a number from 0 on, found " +
                               std::to_string(topK));
    sampling.topK = static_cast<int64_t>(topK);
  }
  if (Status good = Sampler::check(sampling); !good.isOk())
    return Status::error(Code::InvalidData, good.message());
  return out;
}

Result<GenerationDefaults> generationDefaults(const Artifact &artifact) {
  const abi::Model &model = *artifact.index().model();
  GenerationDefaults out;
  if (artifact.hasText(kFile)) {
    RETORT_ASSIGN_OR_RETURN(std::string json, artifact.text(kFile));
    auto parsed = parseGenerationConfig(json, model.vocab_size());
    if (!parsed.isOk())
      return parsed.takeStatus().withContext(artifact.path() + ": " + kFile);
    out = std::move(*parsed);
  }
  if (model.eos_ids())
    out.endTokens.insert(out.endTokens.end(), model.eos_ids()->begin(),
                         model.eos_ids()->end());
  std::sort(out.endTokens.begin(), out.endTokens.end());
  out.endTokens.erase(std::unique(out.endTokens.begin(), out.endTokens.end()),
                      out.endTokens.end());
  return out;
}

namespace {

constexpr const char *kTokenizerTables = "data/tokenizer";
constexpr const char *kTokenizerJson = "text/tokenizer.json";

Result<std::string> optionalText(const Artifact &artifact, const char *name) {
  if (!artifact.hasText(name))
    return std::string();
  return artifact.text(name);
}

Status noTokenizer() {
  return Status::error(Code::NotFound,
                       "the model was compiled without a tokenizer");
}

} // namespace

Result<ModelText> ModelText::read(const Artifact &artifact) {
  ModelText out;
  std::optional<std::string> tables;
  std::string json;
  if (artifact.hasText(kTokenizerTables)) {
    RETORT_ASSIGN_OR_RETURN(tables, artifact.text(kTokenizerTables));
  } else if (artifact.hasText(kTokenizerJson)) {
    // Compilers of before there were tables wrote the file itself.
    RETORT_ASSIGN_OR_RETURN(json, artifact.text(kTokenizerJson));
  } else {
    return out;
  }
  RETORT_ASSIGN_OR_RETURN(std::string config,
                          optionalText(artifact, "text/tokenizer_config.json"));
  RETORT_ASSIGN_OR_RETURN(std::string chat,
                          optionalText(artifact, "text/chat_template.jinja"));
  auto model = text::TextModel::create({json, config, chat, {}, tables});
  if (!model.isOk())
    return model.takeStatus().withContext(artifact.path());
  out.model = std::move(*model);
  return out;
}

Result<ModelText> ModelText::readDirectory(const std::string &path) {
  struct {
    const char *name;
    std::string text;
  } files[] = {{"tokenizer.json", {}},
               {"tokenizer_config.json", {}},
               {"chat_template.jinja", {}},
               {"generation_config.json", {}}};
  for (auto &file : files) {
    std::string full = path + "/" + file.name;
    if (!pathExists(full)) {
      if (&file == &files[0])
        return Status::error(Code::NotFound, full + ": does not exist");
      continue;
    }
    RETORT_ASSIGN_OR_RETURN(file.text, readFile(full, kMaxTextBytes));
  }
  auto model = text::TextModel::create(
      {files[0].text, files[1].text, files[2].text, files[3].text});
  if (!model.isOk())
    return model.takeStatus().withContext(path);
  ModelText out;
  out.model = std::move(*model);
  return out;
}

Result<std::vector<int32_t>> ModelText::encode(std::string_view text,
                                               bool addSpecial) const {
  if (!model)
    return noTokenizer();
  return model->tokenizer().encode(text, addSpecial);
}

Result<std::string> ModelText::decode(std::span<const int32_t> ids,
                                      bool skipSpecial) const {
  if (!model)
    return noTokenizer();
  return model->tokenizer().decode(ids, skipSpecial);
}

Result<std::string> ModelText::renderChat(std::string_view messages,
                                          bool addGenerationPrompt) const {
  if (!model)
    return noTokenizer();
  if (!model->hasChatTemplate())
    return Status::error(Code::NotFound, "the model has no chat template");
  text::ChatInputs inputs;
  auto parsed = text::parseJson(messages);
  if (!parsed.isOk())
    return parsed.takeStatus().withContext("messages");
  if (!parsed->is_array())
    return expected("messages", "an array", *parsed);
  inputs.messages = std::move(*parsed);
  inputs.addGenerationPrompt = addGenerationPrompt;
  auto rendered = model->renderChat(inputs, text::localTimeNow());
  if (!rendered.isOk())
    return rendered.takeStatus().withContext("chat template");
  return rendered;
}

TokenDecoder ModelText::decoder(bool skipSpecial) const {
  auto stream =
      std::make_shared<text::Detokenizer>(model->tokenizer(), skipSpecial);
  return {[stream](int32_t id) { return stream->push(id); },
          [stream] { return stream->finish(); }};
}

Result<std::string> ModelText::answerLine(std::string_view line) const {
  if (!model)
    return noTokenizer();
  return model->answerLine(line, text::localTimeNow());
}

} // namespace retort
