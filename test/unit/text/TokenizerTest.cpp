//===- TokenizerTest.cpp - Every part of a tokenizer ----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Detokenizer.h"
#include "test/unit/text/TestTokenizers.h"

#include <chrono>
#include <gmock/gmock.h>

using namespace retort;
using namespace retort::text;
using testing::ElementsAre;

namespace {

Json split(const char *pattern, const char *behavior, bool invert = false) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", behavior},
          {"invert", invert}};
}

/// The pieces that `step` makes of `text`: BPE can't join what was cut.
std::vector<std::string> pieces(Json step, std::string_view text) {
  Json json = {{"type", "Sequence"},
               {"pretokenizers", Json::array({std::move(step),
                                              {{"type", "ByteLevel"},
                                               {"add_prefix_space", false},
                                               {"use_regex", false}}})}};
  auto pre = PreTokenizer::create(json, "pre_tokenizer");
  if (!pre)
    return {"error: " + pre.status().message()};
  PreTokenizer::Pieces out;
  if (Status s = pre->split(text, out); !s)
    return {"error: " + s.message()};
  return {out.views.begin(), out.views.end()};
}

} // namespace

TEST(Tokenizer, MergesInOrderOfRank) {
  EXPECT_THAT(encode(smallTokenizer(), "abcab a"), ElementsAre(257, 256, 258));
  EXPECT_THAT(encode(smallTokenizer(), ""), ElementsAre());
}

TEST(Tokenizer, ReadsMergesAsPairs) {
  Json json = smallTokenizer();
  json["model"]["merges"] =
      Json::array({Json::array({"a", "b"}), Json::array({"ab", "c"})});
  EXPECT_THAT(encode(json, "abc"), ElementsAre(257));
}

TEST(Tokenizer, IgnoresMergesForWholePieces) {
  Json json = smallTokenizer();
  json["model"]["merges"] = Json::array();
  EXPECT_THAT(encode(json, "abc"), ElementsAre('a', 'b', 'c'));
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(encode(json, "abc"), ElementsAre(257));
}

TEST(Tokenizer, FindsAddedTokensFirst) {
  EXPECT_THAT(encode(smallTokenizer(), "ab<s>ab<t>"),
              ElementsAre(256, 260, 256, 261));
  EXPECT_THAT(encode(smallTokenizer(), "<s"), ElementsAre('<', 's'));
}

TEST(Tokenizer, TakesTheLongestAddedToken) {
  Json json = smallTokenizer();
  json["added_tokens"].push_back(json["added_tokens"][0]);
  json["added_tokens"][2]["id"] = 262;
  json["added_tokens"][2]["content"] = "<s><t>";
  EXPECT_THAT(encode(json, "<s><t><s>"), ElementsAre(262, 260));
}

TEST(Tokenizer, StripsAroundAddedTokens) {
  Json json = smallTokenizer();
  json["added_tokens"][0]["lstrip"] = true;
  json["added_tokens"][0]["rstrip"] = true;
  EXPECT_THAT(encode(json, "c \t<s>\u3000\nc"), ElementsAre('c', 260, 'c'));
}

TEST(Tokenizer, MatchesSingleWordsAlone) {
  Json json = smallTokenizer();
  json["added_tokens"][1]["content"] = "cc";
  json["added_tokens"][1]["single_word"] = true;
  EXPECT_THAT(encode(json, "cc-ccc"), ElementsAre(261, '-', 'c', 'c', 'c'));
}

TEST(Tokenizer, MatchesNormalizedTokensAfterNormalization) {
  Json json = smallTokenizer();
  json["normalizer"] = {{"type", "NFC"}};
  json["added_tokens"][1]["content"] = "e\u0301";
  json["added_tokens"][1]["normalized"] = true;
  EXPECT_THAT(encode(json, "\u00e9e\u0301"), ElementsAre(261, 261));
  json["added_tokens"][1]["normalized"] = false;
  EXPECT_THAT(encode(json, "\u00e9e\u0301"), ElementsAre(0xC3, 0xA9, 261));
}

TEST(Tokenizer, RunsSequencesOfNormalizers) {
  Json json = smallTokenizer();
  json["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers", Json::array({{{"type", "NFKD"}}, {{"type", "NFC"}}})}};
  EXPECT_THAT(encode(json, "\ufb01\u00e9"), ElementsAre('f', 'i', 0xC3, 0xA9));
}

TEST(Tokenizer, SplitsByEveryBehavior) {
  EXPECT_THAT(pieces(split("-", "Removed"), "a--b-"), ElementsAre("a", "b"));
  EXPECT_THAT(pieces(split("-", "Isolated"), "a--b"),
              ElementsAre("a", "-", "-", "b"));
  EXPECT_THAT(pieces(split("-", "Contiguous"), "a--b"),
              ElementsAre("a", "--", "b"));
  EXPECT_THAT(pieces(split("-", "MergedWithPrevious"), "-a--b"),
              ElementsAre("-", "a-", "-", "b"));
  EXPECT_THAT(pieces(split("-", "MergedWithNext"), "a--b-"),
              ElementsAre("a", "-", "-b", "-"));
  EXPECT_THAT(pieces(split("[a-z]+", "Removed", true), "ab1cd"),
              ElementsAre("ab", "cd"));
}

TEST(Tokenizer, SplitsByStrings) {
  Json step = split("", "Isolated");
  step["pattern"] = {{"String", "a.b"}};
  EXPECT_THAT(pieces(step, "axba.b"), ElementsAre("axb", "a.b"));
}

TEST(Tokenizer, SplitsDigits) {
  EXPECT_THAT(pieces({{"type", "Digits"}, {"individual_digits", true}}, "a12"),
              ElementsAre("a", "1", "2"));
  EXPECT_THAT(
      pieces({{"type", "Digits"}, {"individual_digits", false}}, "a12\u00bdb"),
      ElementsAre("a", "12\u00bd", "b"));
}

TEST(Tokenizer, ByteLevelHasAPatternAndAPrefixSpace) {
  Json json = smallTokenizer();
  json["pre_tokenizer"]["use_regex"] = true;
  EXPECT_THAT(encode(json, "ab abc"), ElementsAre(256, ' ', 257));
  EXPECT_THAT(encode(json, "ab's"), ElementsAre(256, '\'', 's'));
  json["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_THAT(encode(json, "a"), ElementsAre(258));
  EXPECT_THAT(encode(json, " a"), ElementsAre(258));
}

TEST(Tokenizer, AppliesTemplates) {
  Json json = smallTokenizer();
  json["post_processor"] = Json::parse(R"({"type":"Sequence","processors":[
    {"type":"ByteLevel"},
    {"type":"TemplateProcessing",
     "single":[{"SpecialToken":{"id":"<s>","type_id":0}},
               {"Sequence":{"id":"A","type_id":0}}],
     "pair":[],
     "special_tokens":{"<s>":{"id":"<s>","ids":[260],"tokens":["<s>"]}}}]})");
  EXPECT_THAT(encode(json, "ab", true), ElementsAre(260, 256));
  EXPECT_THAT(encode(json, "ab", false), ElementsAre(256));
}

TEST(Tokenizer, FallsBackForUnknownBytes) {
  Json json = smallTokenizer();
  json["model"]["vocab"].erase("x");
  EXPECT_THAT(encode(json, "cxxc"), ElementsAre('c', 'c'));
  json["model"]["unk_token"] = "?";
  EXPECT_THAT(encode(json, "cxxc"), ElementsAre('c', '?', '?', 'c'));
  json["model"]["fuse_unk"] = true;
  EXPECT_THAT(encode(json, "cxxc"), ElementsAre('c', '?', 'c'));
  json["model"]["byte_fallback"] = true;
  json["model"]["vocab"]["<0x78>"] = 'x';
  EXPECT_THAT(encode(json, "cxxc"), ElementsAre('c', 'x', 'x', 'c'));
}

TEST(Tokenizer, DecodesAndSkipsSpecialTokens) {
  Tokenizer t = load(smallTokenizer());
  std::vector<int32_t> ids = {260, 257, 261, 0xE4, 0xB8, 0xAD, 9999, -1};
  EXPECT_EQ(t.decode(ids, false), "<s>abc<t>\u4e2d");
  EXPECT_EQ(t.decode(ids, true), "abc<t>\u4e2d");
}

TEST(Tokenizer, LooksTokensUp) {
  Tokenizer t = load(smallTokenizer());
  EXPECT_EQ(t.tokenToId("<s>"), 260);
  EXPECT_EQ(t.tokenToId("abc"), 257);
  EXPECT_EQ(t.tokenToId("nothing"), -1);
  EXPECT_EQ(t.idToToken(258), "\u0120a");
  EXPECT_EQ(t.idToToken(259), std::nullopt);
  EXPECT_EQ(t.vocabSize(), 262u);
  EXPECT_TRUE(t.isSpecial(260));
  EXPECT_FALSE(t.isSpecial(261));
}

TEST(Tokenizer, RefusesInvalidUtf8NamingTheByte) {
  auto ids = load(smallTokenizer()).encode("ab\xc3", false);
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.status().code(), Code::InvalidArgument);
  EXPECT_THAT(ids.status().message(), testing::HasSubstr("byte offset 2"));
}

TEST(Tokenizer, EncodesHugePiecesInNearlyLinearTime) {
  Tokenizer t = load(smallTokenizer());
  std::string text;
  for (int i = 0; i < 400'000; ++i)
    text += "abc";
  auto begin = std::chrono::steady_clock::now();
  auto ids = t.encode(text, false);
  ASSERT_TRUE(ids);
  EXPECT_EQ(ids->size(), 400'000u);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(Tokenizer, LongAndShortPiecesMergeAlike) {
  Tokenizer t = load(smallTokenizer());
  std::string unit = "aabcbab acab", text;
  for (int i = 0; i < 40; ++i) {
    text += unit;
    auto ids = t.encode(text, false);
    ASSERT_TRUE(ids);
    EXPECT_EQ(t.decode(*ids, false), text);
    EXPECT_EQ(ids->size(), 7u * (static_cast<size_t>(i) + 1)) << i;
  }
}

TEST(Detokenizer, HoldsBackIncompleteCharacters) {
  Tokenizer t = load(smallTokenizer());
  Detokenizer d(t, false);
  EXPECT_EQ(d.push(0xF0), "");
  EXPECT_EQ(d.push(0x9F), "");
  EXPECT_EQ(d.push(0x98), "");
  EXPECT_EQ(d.push(0x80), "\U0001F600");
  EXPECT_EQ(d.push(0xE4), "");
  EXPECT_EQ(d.push('a'), "\uFFFDa");
  EXPECT_EQ(d.push(0xE4), "");
  EXPECT_EQ(d.finish(), "\uFFFD");
  EXPECT_EQ(d.finish(), "");
}

TEST(Detokenizer, AgreesWithDecodeOnAllBytes) {
  Tokenizer t = load(smallTokenizer());
  std::vector<int32_t> ids;
  uint32_t state = 1;
  for (int i = 0; i < 5000; ++i) {
    state = state * 1664525 + 1013904223;
    ids.push_back(static_cast<int32_t>(state >> 24 | 0x80));
  }
  Detokenizer d(t, false);
  std::string streamed;
  for (int32_t id : ids) {
    std::string part = d.push(id);
    EXPECT_EQ(findInvalidUtf8(part), std::string::npos);
    streamed += part;
  }
  EXPECT_EQ(streamed + d.finish(), t.decode(ids, false));
}
