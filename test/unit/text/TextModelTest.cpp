//===- TextModelTest.cpp - Files, templates and lines ---------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TextModel.h"
#include "test/unit/text/TestTokenizers.h"

#include <gmock/gmock.h>

using namespace retort;
using namespace retort::text;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

Result<TextModel> make(const std::string &config, const std::string &jinja = "",
                       const std::string &generation = "") {
  std::string tokenizer = smallTokenizer().dump();
  TextFiles files;
  files.tokenizerJson = tokenizer;
  files.tokenizerConfigJson = config;
  files.chatTemplateJinja = jinja;
  files.generationConfigJson = generation;
  return TextModel::create(files);
}

std::string answer(const std::string &config, std::string_view line) {
  auto model = make(config);
  return model ? model->answerLine(line, std::tm{}) : model.status().message();
}

} // namespace

TEST(TextModel, ReadsSpecialTokens) {
  auto model = make(R"({"bos_token": {"content": "<s>"}, "eos_token": "<t>",
                        "pad_token": null, "add_bos_token": true})",
                    "", R"({"eos_token_id": [261, 7]})");
  ASSERT_TRUE(model) << model.status().message();
  EXPECT_EQ(model->bosId(), 260);
  EXPECT_EQ(model->eosId(), 261);
  EXPECT_EQ(model->padId(), -1);
  EXPECT_EQ(model->addBosToken(), true);
  EXPECT_THAT(model->stopIds(), ElementsAre(261, 7));
}

TEST(TextModel, AnswersText) {
  EXPECT_EQ(
      answer("{}", R"({"text": "abc<s>"})"),
      R"({"decoded":"abc<s>","ids":[257,260],"ids_with_special":[257,260]})");
}

TEST(TextModel, AnswersMessages) {
  EXPECT_EQ(
      answer(
          R"j({"chat_template": "{{ bos_token }}{{ messages[0].content }}{{ tools is none }}{{ add_generation_prompt }}", "bos_token": "<s>"})j",
          R"({"messages": [{"role": "user", "content": "hi"}]})"),
      R"({"rendered":"<s>hiTrueFalse"})");
}

TEST(TextModel, PicksNamedTemplates) {
  const char *config = R"({"chat_template": [
      {"name": "default", "template": "plain"},
      {"name": "tool_use", "template": "tools"}]})";
  EXPECT_EQ(answer(config, R"({"messages": []})"), R"({"rendered":"plain"})");
  EXPECT_EQ(answer(config, R"({"messages": [], "tools": [{}]})"),
            R"({"rendered":"tools"})");
}

TEST(TextModel, TheTemplateFileComesFirst) {
  auto model = make(R"({"chat_template": "config"})", "file");
  ASSERT_TRUE(model);
  EXPECT_EQ(*model->renderChat(ChatInputs(), std::tm{}), "file");
}

TEST(TextModel, AnswersBadLinesWithErrors) {
  for (const char *line :
       {"", "{", "[]", "{}", R"({"text": 1})", R"({"messages": 1})",
        "{\"text\": \"\xff\"}", R"({"text": "\ud800"})",
        R"({"messages": [], "add_generation_prompt": 1})"})
    EXPECT_THAT(answer(R"({"chat_template": "x"})", line),
                testing::StartsWith("{\"error\":"))
        << line;
  EXPECT_THAT(answer("{}", R"({"messages": []})"),
              HasSubstr("no chat template"));
  EXPECT_THAT(answer(R"j({"chat_template": "{{ raise_exception('no') }}"})j",
                     R"({"messages": []})"),
              HasSubstr("line 1: no"));
  EXPECT_THAT(answer(R"({"chat_template": "{{"})", R"({"messages": []})"),
              HasSubstr("chat template: line 1"));
}

TEST(TextModel, NamesTheBrokenFile) {
  EXPECT_THAT(make("{").status().message(),
              HasSubstr("tokenizer_config.json: byte offset"));
  EXPECT_THAT(make(R"({"bos_token": 1})").status().message(),
              HasSubstr("tokenizer_config.json: bos_token"));
  EXPECT_THAT(make(R"({"chat_template": 1})").status().message(),
              HasSubstr("chat_template: expected a string"));
  EXPECT_THAT(make(R"({"chat_template": [{"name": "x"}]})").status().message(),
              HasSubstr("chat_template[0].template"));
  EXPECT_THAT(make("{}", "", R"({"eos_token_id": -2})").status().message(),
              HasSubstr("generation_config.json: eos_token_id"));
  EXPECT_THAT(TextModel::create(TextFiles()).status().message(),
              HasSubstr("tokenizer.json"));
}
