//===- TextModel.cpp - All that a model needs for text --------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TextModel.h"

#include "runtime/text/TokenizerTables.h"

#include <algorithm>

namespace retort::text {
namespace {

constexpr std::string_view kRoles[] = {"bos_token", "eos_token", "unk_token",
                                       "sep_token", "pad_token", "cls_token",
                                       "mask_token"};

/// A token that is written as a string or as an object with its content.
Result<std::optional<std::string>> tokenContent(const FieldReader &fields,
                                                std::string_view role) {
  const Json *value = fields.find(role);
  if (!value)
    return std::optional<std::string>();
  if (value->is_string())
    return std::optional(value->get<std::string>());
  if (value->is_object()) {
    auto content = value->find("content");
    if (content != value->end() && content->is_string())
      return std::optional(content->get<std::string>());
  }
  return fields.expected(role, "a string or an object with 'content'");
}

Result<TokenizerDocument> readDocument(const TextFiles &files) {
  if (files.tokenizerTables) {
    auto document = readTokenizerTables(*files.tokenizerTables);
    if (!document)
      return document.takeStatus().withContext("data/tokenizer");
    return document;
  }
  if (files.tokenizerJson.empty())
    return Status::error(Code::NotFound, "tokenizer.json: the file is missing "
                                         "or empty");
  auto document = parseTokenizerJson(files.tokenizerJson);
  if (!document)
    return document.takeStatus().withContext("tokenizer.json");
  return document;
}

} // namespace

std::tm localTimeNow() {
  std::time_t seconds = std::time(nullptr);
  std::tm now{};
  localtime_r(&seconds, &now);
  return now;
}

Result<TextModel> TextModel::create(const TextFiles &files) {
  TextModel model;
  RETORT_ASSIGN_OR_RETURN(TokenizerDocument document, readDocument(files));
  auto tokenizer = Tokenizer::create(std::move(document));
  if (!tokenizer)
    return tokenizer.takeStatus().withContext("tokenizer.json");
  model.tok = std::move(*tokenizer);
  if (Status s = model.readConfig(files.tokenizerConfigJson); !s)
    return std::move(s).withContext("tokenizer_config.json");
  if (!files.chatTemplateJinja.empty()) {
    // The file takes the place of what the configuration says.
    model.templates.clear();
    model.addTemplate("default", files.chatTemplateJinja);
  }
  model.addStop(model.eosId());
  if (Status s = model.readGenerationConfig(files.generationConfigJson); !s)
    return std::move(s).withContext("generation_config.json");
  return model;
}

Status TextModel::readConfig(std::string_view text) {
  if (text.empty())
    return Status::ok();
  RETORT_ASSIGN_OR_RETURN(Json config, parseJson(text));
  RETORT_ASSIGN_OR_RETURN(FieldReader fields, FieldReader::create(config, ""));
  for (std::string_view role : kRoles) {
    RETORT_ASSIGN_OR_RETURN(std::optional<std::string> content,
                            tokenContent(fields, role));
    if (content)
      specials.emplace(role, std::move(*content));
  }
  if (fields.find("add_bos_token")) {
    RETORT_ASSIGN_OR_RETURN(addBos, fields.boolean("add_bos_token", false));
  }
  if (const Json *value = fields.find("chat_template"))
    return readTemplates(*value);
  return Status::ok();
}

Status TextModel::readTemplates(const Json &value) {
  if (value.is_string()) {
    addTemplate("default", value.get_ref<const std::string &>());
    return Status::ok();
  }
  if (!value.is_array())
    return Status::error(Code::InvalidData,
                         std::string("chat_template: expected a string or an "
                                     "array, found ") +
                             describeKind(value));
  for (size_t i = 0; i < value.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(
        FieldReader entry,
        FieldReader::create(value[i],
                            "chat_template[" + std::to_string(i) + ']'));
    RETORT_ASSIGN_OR_RETURN(std::string name, entry.requireString("name"));
    RETORT_ASSIGN_OR_RETURN(std::string source,
                            entry.requireString("template"));
    addTemplate(name, source);
  }
  return Status::ok();
}

void TextModel::addTemplate(const std::string &name, std::string_view source) {
  NamedTemplate entry;
  auto parsed = Template::parse(source);
  if (parsed) {
    entry.parsed = std::move(*parsed);
  } else {
    entry.code = parsed.status().code();
    entry.error = parsed.status().message();
  }
  templates.insert_or_assign(name, std::move(entry));
}

Status TextModel::readGenerationConfig(std::string_view text) {
  if (text.empty())
    return Status::ok();
  RETORT_ASSIGN_OR_RETURN(Json config, parseJson(text));
  RETORT_ASSIGN_OR_RETURN(FieldReader fields, FieldReader::create(config, ""));
  const Json *value = fields.find("eos_token_id");
  if (!value)
    return Status::ok();
  Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json &id : list) {
    if (!id.is_number_integer() || id < 0 || id >= kMaxTokenId)
      return fields.expected("eos_token_id", "token ids");
    addStop(id.get<int32_t>());
  }
  return Status::ok();
}

void TextModel::addStop(int32_t id) {
  if (id >= 0 && std::find(stops.begin(), stops.end(), id) == stops.end())
    stops.push_back(id);
}

int32_t TextModel::specialId(std::string_view role) const {
  auto it = specials.find(role);
  return it == specials.end() ? -1 : tok->tokenToId(it->second);
}

Result<std::string> TextModel::renderChat(const ChatInputs &inputs,
                                          const std::tm &now,
                                          const TemplateLimits &limits) const {
  auto it = templates.end();
  if (!inputs.tools.is_null())
    it = templates.find("tool_use");
  if (it == templates.end())
    it = templates.find("default");
  if (it == templates.end())
    return Status::error(Code::NotFound, "the model has no chat template");
  if (!it->second.parsed)
    return Status::error(it->second.code, "chat template: " + it->second.error);
  if (!inputs.messages.is_array())
    return Status::error(Code::InvalidArgument,
                         std::string("messages: expected an array, found ") +
                             describeKind(inputs.messages));
  Json variables = Json::object();
  variables["messages"] = inputs.messages;
  variables["tools"] = inputs.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = inputs.addGenerationPrompt;
  for (const auto &[role, content] : specials)
    variables[role] = content;
  if (inputs.extra.is_object())
    for (const auto &[name, value] : inputs.extra.items())
      variables[name] = value;
  auto rendered = it->second.parsed->render(variables, now, limits);
  if (!rendered)
    return rendered.takeStatus().withContext("chat template");
  return rendered;
}

Result<Json> TextModel::answer(std::string_view line,
                               const std::tm &now) const {
  RETORT_ASSIGN_OR_RETURN(Json request, parseJson(line));
  RETORT_ASSIGN_OR_RETURN(FieldReader fields,
                          FieldReader::create(request, "line"));
  Json out = Json::object();
  if (request.contains("messages")) {
    ChatInputs inputs;
    inputs.messages = request["messages"];
    if (const Json *tools = fields.find("tools"))
      inputs.tools = *tools;
    RETORT_ASSIGN_OR_RETURN(inputs.addGenerationPrompt,
                            fields.boolean("add_generation_prompt", false));
    if (const Json *extra = fields.find("chat_template_kwargs")) {
      if (!extra->is_object())
        return fields.expected("chat_template_kwargs", "an object");
      inputs.extra = *extra;
    }
    RETORT_ASSIGN_OR_RETURN(std::string rendered, renderChat(inputs, now));
    out["rendered"] = std::move(rendered);
    return out;
  }
  const Json *text = fields.find("text");
  if (!text || !text->is_string())
    return fields.expected("text", "a string, or a field 'messages'");
  const std::string &source = text->get_ref<const std::string &>();
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tok->encode(source, false));
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> all, tok->encode(source, true));
  out["decoded"] = tok->decode(ids, false);
  out["ids"] = std::move(ids);
  out["ids_with_special"] = std::move(all);
  return out;
}

std::string TextModel::answerLine(std::string_view line,
                                  const std::tm &now) const {
  auto result = answer(line, now);
  Json out = Json::object();
  if (result)
    out = std::move(*result);
  else
    out["error"] = result.status().message();
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace retort::text
