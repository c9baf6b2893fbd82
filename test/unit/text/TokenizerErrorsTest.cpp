//===- TokenizerErrorsTest.cpp - Broken tokenizers ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/text/TestTokenizers.h"

#include <gmock/gmock.h>

using namespace retort;
using namespace retort::text;
using testing::AllOf;
using testing::HasSubstr;

namespace {

std::string loadError(std::string_view text) {
  auto tokenizer = Tokenizer::create(text);
  return tokenizer ? "no error" : tokenizer.status().message();
}
std::string loadJson(const Json &json) { return loadError(json.dump()); }

/// The error after setting the value at a JSON pointer.
std::string errorWith(const char *pointer, Json value) {
  Json json = smallTokenizer();
  json[Json::json_pointer(pointer)] = std::move(value);
  return loadJson(json);
}

} // namespace

TEST(TokenizerErrors, NotJson) {
  EXPECT_THAT(loadError(""), HasSubstr("malformed JSON"));
  EXPECT_THAT(loadError("{\"a\": }"), HasSubstr("byte offset"));
  EXPECT_THAT(loadError("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(loadError("{\"a\": \"\xff\"}"), HasSubstr("malformed JSON"));
}

TEST(TokenizerErrors, TruncatedAnywhere) {
  std::string text = smallTokenizer().dump();
  for (size_t n = 0; n < text.size(); n += 7)
    EXPECT_NE(loadError(text.substr(0, n)), "no error") << n;
}

TEST(TokenizerErrors, DeepJson) {
  std::string deep(1'000'000, '[');
  EXPECT_THAT(loadError(deep), HasSubstr("levels of nesting"));
  EXPECT_THAT(loadError("{\"model\": {\"vocab\": " + deep),
              HasSubstr("levels of nesting"));
}

TEST(TokenizerErrors, Model) {
  Json json = smallTokenizer();
  json.erase("model");
  EXPECT_THAT(loadJson(json), HasSubstr("model: expected an object"));
  EXPECT_THAT(errorWith("/model", 3), HasSubstr("model: expected an object"));
  EXPECT_THAT(errorWith("/model/type", "Unigram"),
              HasSubstr("unsupported model 'Unigram'"));
  EXPECT_THAT(errorWith("/model/type", 4), HasSubstr("model.type"));
  EXPECT_THAT(errorWith("/model/dropout", 0.1), HasSubstr("'dropout'"));
  EXPECT_THAT(errorWith("/model/end_of_word_suffix", "</w>"),
              HasSubstr("end_of_word_suffix '</w>'"));
  EXPECT_THAT(errorWith("/model/continuing_subword_prefix", "##"),
              HasSubstr("continuing_subword_prefix '##'"));
  EXPECT_THAT(errorWith("/model/unk_token", "<none>"), HasSubstr("'<none>'"));
  EXPECT_THAT(errorWith("/model/ignore_merges", "yes"),
              HasSubstr("model.ignore_merges: expected a boolean"));
}

TEST(TokenizerErrors, Vocabulary) {
  EXPECT_THAT(errorWith("/model/vocab", Json::array()),
              HasSubstr("model.vocab: expected an object"));
  EXPECT_THAT(errorWith("/model/vocab/ab", -1),
              AllOf(HasSubstr("'ab'"), HasSubstr("-1")));
  EXPECT_THAT(errorWith("/model/vocab/ab", 1e18), HasSubstr("'ab'"));
  EXPECT_THAT(errorWith("/model/vocab/ab", UINT64_MAX), HasSubstr("'ab'"));
  EXPECT_THAT(errorWith("/model/vocab/ab", 257),
              HasSubstr("belongs to token 'ab' already"));
  EXPECT_THAT(errorWith("/model/vocab/ab", "256"), HasSubstr("found a string"));
  EXPECT_THAT(errorWith("/model/vocab/ab", Json::object()),
              HasSubstr("found an object"));
  EXPECT_THAT(errorWith("/model/vocab/ab", nullptr), HasSubstr("found null"));
}

TEST(TokenizerErrors, DuplicateTokens) {
  std::string text = smallTokenizer().dump();
  size_t at = text.find("\"ab\":256");
  text.insert(at, "\"ab\":300,");
  EXPECT_THAT(loadError(text), HasSubstr("found 256 and 300"));
}

TEST(TokenizerErrors, Merges) {
  Json json = smallTokenizer();
  json["model"].erase("merges");
  EXPECT_THAT(loadJson(json), HasSubstr("model.merges: expected an array"));
  EXPECT_THAT(errorWith("/model/merges/1", "ab zz"),
              AllOf(HasSubstr("merges[1]"), HasSubstr("'zz'")));
  EXPECT_THAT(errorWith("/model/merges/1", "b c"),
              AllOf(HasSubstr("merges[1]"), HasSubstr("'bc'")));
  EXPECT_THAT(errorWith("/model/merges/1", "abc"),
              HasSubstr("model.merges[1]: expected two tokens"));
  EXPECT_THAT(errorWith("/model/merges/1", "a b c"),
              HasSubstr("model.merges[1]: expected two tokens"));
  EXPECT_THAT(errorWith("/model/merges/1", 7),
              HasSubstr("model.merges[1]: expected a string or an array"));
  EXPECT_THAT(errorWith("/model/merges/1", Json::array({"a"})),
              HasSubstr("model.merges[1]: expected two tokens, found 1"));
  EXPECT_THAT(errorWith("/model/merges/1", Json::array({"a", 1})),
              HasSubstr("model.merges[1]: expected strings"));
}

TEST(TokenizerErrors, AddedTokens) {
  EXPECT_THAT(errorWith("/added_tokens", 1),
              HasSubstr("added_tokens: expected an array"));
  EXPECT_THAT(errorWith("/added_tokens/0", 1), HasSubstr("added_tokens[0]"));
  EXPECT_THAT(errorWith("/added_tokens/0/id", -5), HasSubstr("-5"));
  EXPECT_THAT(errorWith("/added_tokens/0/id", "x"),
              HasSubstr("added_tokens[0].id: expected an integer"));
  EXPECT_THAT(errorWith("/added_tokens/0/id", 1ull << 40),
              HasSubstr("expected an id from 0"));
  EXPECT_THAT(errorWith("/added_tokens/0/id", 257),
              HasSubstr("belongs to token 'abc'"));
  EXPECT_THAT(errorWith("/added_tokens/0/content", "abc"),
              HasSubstr("found 257 and 260"));
  EXPECT_THAT(errorWith("/added_tokens/1/id", 260),
              HasSubstr("belongs to token '<s>'"));
  EXPECT_THAT(errorWith("/added_tokens/0/content", 1), HasSubstr("content"));
  EXPECT_THAT(errorWith("/added_tokens/0/lstrip", 1),
              HasSubstr("added_tokens[0].lstrip: expected a boolean"));
}

TEST(TokenizerErrors, UnsupportedComponentsAreNamed) {
  EXPECT_THAT(errorWith("/normalizer", {{"type", "BertNormalizer"}}),
              HasSubstr("normalizer: unsupported normalizer 'BertNormalizer'"));
  EXPECT_THAT(errorWith("/pre_tokenizer", {{"type", "Metaspace"}}),
              HasSubstr("unsupported pre-tokenizer 'Metaspace'"));
  EXPECT_THAT(errorWith("/post_processor", {{"type", "BertProcessing"}}),
              HasSubstr("unsupported post-processor 'BertProcessing'"));
  EXPECT_THAT(errorWith("/decoder", {{"type", "WordPiece"}}),
              HasSubstr("unsupported decoder 'WordPiece'"));
  EXPECT_THAT(
      errorWith("/normalizer",
                Json{{"type", "Sequence"},
                     {"normalizers", Json::array({{{"type", "Odd"}}})}}),
      HasSubstr("normalizer.normalizers[0]: unsupported normalizer 'Odd'"));
}

TEST(TokenizerErrors, PreTokenizer) {
  EXPECT_THAT(errorWith("/pre_tokenizer", nullptr), HasSubstr("ByteLevel"));
  EXPECT_THAT(errorWith("/pre_tokenizer", "x"),
              HasSubstr("pre_tokenizer: expected an object"));
  Json step = {{"type", "Split"},
               {"pattern", {{"Regex", "(a"}}},
               {"behavior", "Isolated"}};
  EXPECT_THAT(errorWith("/pre_tokenizer", step), HasSubstr("not closed"));
  step["pattern"] = {{"Glob", "a"}};
  EXPECT_THAT(errorWith("/pre_tokenizer", step), HasSubstr("'Glob'"));
  step["pattern"] = {{"Regex", "a"}};
  EXPECT_THAT(errorWith("/pre_tokenizer", step),
              HasSubstr("expected ByteLevel as the last step"));
  step["behavior"] = "Odd";
  EXPECT_THAT(errorWith("/pre_tokenizer", step),
              HasSubstr("unsupported behavior 'Odd'"));
}

TEST(TokenizerErrors, PostProcessor) {
  Json json = Json::parse(R"({"type":"TemplateProcessing",
    "single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],
    "special_tokens":{"<s>":{"ids":[260]}}})");
  Json bad = json;
  bad["special_tokens"] = Json::object();
  EXPECT_THAT(errorWith("/post_processor", bad), HasSubstr("'<s>' is missing"));
  bad = json;
  bad["special_tokens"]["<s>"]["ids"][0] = 5000;
  EXPECT_THAT(errorWith("/post_processor", bad), HasSubstr("5000"));
  bad = json;
  bad["single"].erase(1);
  EXPECT_THAT(errorWith("/post_processor", bad), HasSubstr("0 times"));
  bad = json;
  bad["single"][1]["Sequence"]["id"] = "B";
  EXPECT_THAT(errorWith("/post_processor", bad), HasSubstr("found 'B'"));
}

TEST(TokenizerErrors, Decoder) {
  EXPECT_THAT(errorWith("/decoder", nullptr),
              HasSubstr("decoder: expected one ByteLevel, found 0"));
}
