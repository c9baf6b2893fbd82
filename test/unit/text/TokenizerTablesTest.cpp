//===- TokenizerTablesTest.cpp - Tokenizers as artifacts hold them --------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TokenizerTables.h"

#include "runtime/abi/tokenizer_generated.h"
#include "runtime/text/TextModel.h"
#include "test/unit/text/TestTokenizers.h"

#include <gmock/gmock.h>

using namespace retort;
using namespace retort::text;
using testing::HasSubstr;

namespace {

std::string tablesOf(const Json &json) {
  auto tables = compileTokenizer(json.dump());
  if (!tables)
    throw std::runtime_error(tables.status().message());
  return std::move(*tables);
}

Result<Tokenizer> openTables(const std::string &tables) {
  RETORT_ASSIGN_OR_RETURN(TokenizerDocument document,
                          readTokenizerTables(tables));
  return Tokenizer::create(std::move(document));
}

/// The tables of the small tokenizer, changed.
template <typename Change> std::string changed(const Change &change) {
  std::string tables = tablesOf(smallTokenizer());
  retort::abi::TokenizerTablesT content;
  retort::abi::GetTokenizerTables(tables.data())->UnPackTo(&content);
  change(content);
  flatbuffers::FlatBufferBuilder builder;
  retort::abi::FinishTokenizerTablesBuffer(
      builder, retort::abi::CreateTokenizerTables(builder, &content));
  return {reinterpret_cast<const char *>(builder.GetBufferPointer()),
          builder.GetSize()};
}

template <typename Change>
void expectError(const Change &change, const char *message) {
  auto document = readTokenizerTables(changed(change));
  ASSERT_FALSE(document);
  EXPECT_EQ(document.status().code(), Code::InvalidData);
  EXPECT_THAT(document.status().message(), HasSubstr(message));
}

} // namespace

TEST(TokenizerTables, EncodeAsTheFileDoes) {
  Json json = smallTokenizer();
  json["normalizer"] = {{"type", "NFC"}};
  json["model"]["merges"].push_back({"abc", "ab"});
  json["model"]["vocab"]["abcab"] = 300; // ids between have no token
  Tokenizer expected = load(json);
  auto found = openTables(tablesOf(json));
  ASSERT_TRUE(found) << found.status().message();
  EXPECT_EQ(found->vocabSize(), expected.vocabSize());
  for (int32_t id = -1; id < 302; ++id) {
    EXPECT_EQ(found->idToToken(id), expected.idToToken(id)) << id;
    EXPECT_EQ(found->isSpecial(id), expected.isSpecial(id)) << id;
  }
  for (const char *text :
       {"", "abcabcab a", "<s>abc<t>\u4e2d e\u0301", "abababab"}) {
    auto a = found->encode(text, true), b = expected.encode(text, true);
    ASSERT_TRUE(a && b);
    EXPECT_EQ(*a, *b) << text;
    EXPECT_EQ(found->decode(*a, false), expected.decode(*b, false));
  }
}

TEST(TokenizerTables, TheLastOfEqualMergesCounts) {
  Json json = smallTokenizer();
  json["model"]["merges"] = Json::array({"a b", "b c", "a b"});
  json["model"]["vocab"]["bc"] = 259;
  auto found = openTables(tablesOf(json));
  ASSERT_TRUE(found) << found.status().message();
  auto ids = found->encode("abc", false);
  ASSERT_TRUE(ids);
  EXPECT_EQ(*ids, (std::vector<int32_t>{'a', 259}));
}

TEST(TokenizerTables, WhatIsNotUnderstoodIsNamedAsInTheFile) {
  Json json = smallTokenizer();
  json["pre_tokenizer"] = {{"type", "Metaspace"}};
  std::string tables = tablesOf(json);
  TextFiles files;
  files.tokenizerTables = tables;
  auto model = TextModel::create(files);
  ASSERT_FALSE(model);
  EXPECT_THAT(model.status().message(),
              HasSubstr("tokenizer.json: pre_tokenizer: unsupported "
                        "pre-tokenizer 'Metaspace'"));
}

TEST(TokenizerTables, RefusesOtherBytes) {
  std::string tables = tablesOf(smallTokenizer());
  for (const std::string &bytes :
       {std::string(), std::string("{}"), std::string(64, '\0'),
        std::string(64, '\xff'), "RTRT" + tables}) {
    auto document = readTokenizerTables(bytes);
    ASSERT_FALSE(document);
    EXPECT_THAT(document.status().message(), HasSubstr("flatbuffer"));
  }
}

TEST(TokenizerTables, RefusesLengthsThatDoNotFit) {
  using T = retort::abi::TokenizerTablesT;
  expectError([](T &t) { t.token_lengths[3] += 1; }, "token_lengths: token ");
  expectError([](T &t) { t.token_lengths[3] = 0xfffffffe; },
              "token_lengths: token 3 of 4294967294 bytes at byte offset");
  expectError([](T &t) { t.token_lengths.back() = UINT32_MAX; },
              "token_bytes: expected ");
  expectError([](T &t) { t.token_lengths.resize((1 << 24) + 1, UINT32_MAX); },
              "token_lengths: expected at most 16777216 ids");
  expectError([](T &t) { t.token_bytes += '\x80'; }, "expected valid UTF-8");
}

TEST(TokenizerTables, RefusesTokensThatCutCharacters) {
  // Byte 0's token is U+0100, two bytes.
  expectError(
      [](retort::abi::TokenizerTablesT &t) {
        t.token_lengths[0] -= 1;
        t.token_lengths[1] += 1;
      },
      "token_lengths: token 1 at byte offset 1: expected valid UTF-8");
}

TEST(TokenizerTables, RefusesOneTokenWithTwoIds) {
  expectError(
      [](retort::abi::TokenizerTablesT &t) {
        t.token_lengths.push_back(2);
        t.token_bytes += "ab";
      },
      "token 'ab': expected one id, found 256 and 259");
}

TEST(TokenizerTables, RefusesMergesOfOtherTokens) {
  using T = retort::abi::TokenizerTablesT;
  for (uint32_t id : {259u, 260u, 0x7fffffffu, 0xffffffffu}) {
    std::string message =
        "merges[1]: id " + std::to_string(id) + " is not in the vocabulary";
    using retort::abi::TokenMerge;
    for (TokenMerge merge :
         {TokenMerge(id, 0, 0), TokenMerge(0, id, 0), TokenMerge(0, 0, id)})
      expectError([&](T &t) { t.merges[1] = merge; }, message.c_str());
  }
  expectError(
      [](T &t) {
        t.merges.resize((1 << 24) + 1, retort::abi::TokenMerge(0, 0, 0));
      },
      "merges: expected at most 16777216");
}

TEST(TokenizerTables, RefusesADocumentThatIsNoJson) {
  expectError([](retort::abi::TokenizerTablesT &t) { t.document.pop_back(); },
              "document: ");
  expectError(
      [](retort::abi::TokenizerTablesT &t) {
        t.document = std::string(1000, '[') + std::string(1000, ']');
      },
      "document: ");
}

// Damage is refused or makes another tokenizer, never one that reads outside.
TEST(TokenizerTables, SurvivesDamage) {
  const std::string whole = tablesOf(smallTokenizer());
  for (size_t size = 0; size < whole.size(); size += 3)
    (void)openTables(whole.substr(0, size));
  size_t opened = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ "\x01\x80\xff"[at % 3]);
    auto tokenizer = openTables(bytes);
    if (!tokenizer)
      continue;
    ++opened;
    if (auto ids = tokenizer->encode("abc abc<s> \u4e2d", true))
      (void)tokenizer->decode(*ids, false);
  }
  EXPECT_GT(opened, 0u);
}
