//===- TextModel.h - All that a model needs for text ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The tokenizer, special tokens and chat template of one checkpoint, made
/// from the texts of its files, and the line protocol of `retort tokenize`.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TEXTMODEL_H
#define RETORT_RUNTIME_TEXT_TEXTMODEL_H

#include "runtime/text/Detokenizer.h"
#include "runtime/text/Template.h"

#include <map>

namespace retort::text {

/// The contents of a checkpoint's files; an empty text is a missing file.
struct TextFiles {
  std::string_view tokenizerJson;        ///< `tokenizer.json`
  std::string_view tokenizerConfigJson;  ///< `tokenizer_config.json`
  std::string_view chatTemplateJinja;    ///< `chat_template.jinja`
  std::string_view generationConfigJson; ///< `generation_config.json`
  /// What the compiler made of tokenizer.json (TokenizerTables.h), in its
  /// place.
  std::optional<std::string_view> tokenizerTables;
};

/// What a chat template is given.
struct ChatInputs {
  Json messages = Json::array(); ///< objects with `role`, `content`, ...
  Json tools;                    ///< null, or a list of function schemas
  bool addGenerationPrompt = false;
  Json extra = Json::object(); ///< further variables, by name
};

/// The current local time, for templates that print the date.
std::tm localTimeNow();

/// Immutable once built, so that any number of threads can use it.
class TextModel {
public:
  /// `tokenizerJson` or `tokenizerTables` must be there. Errors name the file.
  /// A chat template that does not parse is no error until it is used.
  static Result<TextModel> create(const TextFiles &files);

  const Tokenizer &tokenizer() const { return *tok; }

  /// The ids of `bos_token`, `eos_token` and `pad_token`, or -1.
  int32_t bosId() const { return specialId("bos_token"); }
  int32_t eosId() const { return specialId("eos_token"); }
  int32_t padId() const { return specialId("pad_token"); }
  /// The id of the token that the configuration names `role`, or -1.
  int32_t specialId(std::string_view role) const;
  /// Generation ends at any of these: `eos_token`, and the `eos_token_id` of
  /// the generation configuration. Without duplicates.
  const std::vector<int32_t> &stopIds() const { return stops; }
  /// `add_bos_token` of the configuration, if it is there. encode() follows
  /// the post-processor alone, as the reference library does.
  std::optional<bool> addBosToken() const { return addBos; }

  bool hasChatTemplate() const { return !templates.empty(); }
  /// Renders the chat template: the one named `tool_use` if there is one and
  /// tools are given, else `default`. Errors are those of the template.
  Result<std::string> renderChat(const ChatInputs &inputs, const std::tm &now,
                                 const TemplateLimits &limits = {}) const;

  /// Answers one line of the JSONL mode with one line, without line ends:
  /// `{"text"}` gives `{"ids", "ids_with_special", "decoded"}`, where
  /// `decoded` is the text of `ids` with special tokens in it;
  /// `{"messages", "tools"?, "add_generation_prompt"?}` gives `{"rendered"}`;
  /// further template variables may stand in `chat_template_kwargs`. Whatever
  /// can't be answered gives `{"error"}`.
  std::string answerLine(std::string_view line, const std::tm &now) const;

private:
  struct NamedTemplate {
    std::optional<Template> parsed;
    Code code = Code::Ok; ///< of the error that kept it from being parsed
    std::string error;
  };

  TextModel() = default;
  Status readConfig(std::string_view text);
  Status readGenerationConfig(std::string_view text);
  Status readTemplates(const Json &value);
  void addTemplate(const std::string &name, std::string_view source);
  void addStop(int32_t id);
  Result<Json> answer(std::string_view line, const std::tm &now) const;

  std::optional<Tokenizer> tok;
  std::map<std::string, std::string, std::less<>> specials; ///< role to token
  std::optional<bool> addBos;
  std::vector<int32_t> stops;
  std::map<std::string, NamedTemplate> templates;
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_TEXTMODEL_H
