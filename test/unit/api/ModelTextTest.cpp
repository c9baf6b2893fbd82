//===- ModelTextTest.cpp - Generation configurations ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/api/ModelText.h"

#include "runtime/text/TokenizerTables.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using testing::HasSubstr;

namespace {

/// The text part of an artifact that holds a section `data/tokenizer`.
Result<ModelText> readTables(std::string_view tables, bool withFile = false) {
  test::ArtifactBuilder builder;
  if (withFile)
    builder.addText("text/tokenizer.json", "{");
  builder.addText("data/tokenizer", tables, retort::abi::SectionKind::Data);
  test::AlignedBytes bytes(builder.build());
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::openMemory(bytes.span()));
  return ModelText::read(*artifact);
}

TEST(ModelTextTest, TablesStandForTheFile) {
  auto tables = text::compileTokenizer(test::testTokenizerJson());
  ASSERT_TRUE(tables.isOk()) << tables.status().message();
  for (bool withFile : {false, true}) {
    auto found = readTables(*tables, withFile);
    ASSERT_TRUE(found.isOk()) << found.status().message();
    ASSERT_TRUE(found->hasTokenizer());
    auto expected = text::Tokenizer::create(test::testTokenizerJson());
    ASSERT_TRUE(expected.isOk());
    EXPECT_EQ(*found->encode("hello <|end|>", true),
              *expected->encode("hello <|end|>", true));
  }
}

TEST(ModelTextTest, BrokenTablesAreNamed) {
  for (const char *bytes : {"", "not tables, but more than a few bytes"}) {
    auto found = readTables(bytes);
    ASSERT_FALSE(found.isOk());
    EXPECT_EQ(found.status().code(), Code::InvalidData);
    EXPECT_THAT(found.status().message(), HasSubstr("data/tokenizer"));
  }
}

TEST(GenerationConfigTest, ReadsWhatItSays) {
  auto d = parseGenerationConfig(
      R"({"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20,
          "repetition_penalty": 1.1, "eos_token_id": [5, 7], "other": {}})",
      100);
  ASSERT_TRUE(d.isOk()) << d.status().message();
  EXPECT_EQ(d->sampling.temperature, 0.6);
  EXPECT_EQ(d->sampling.topP, 0.95);
  EXPECT_EQ(d->sampling.topK, 20);
  EXPECT_EQ(d->sampling.repeatPenalty, 1.1);
  EXPECT_EQ(d->endTokens, (std::vector<int32_t>{5, 7}));
}

TEST(GenerationConfigTest, IsGreedyUnlessItSamples) {
  for (const char *json :
       {"{}", R"({"temperature": 0.6, "do_sample": false})",
        R"({"temperature": 0.6})", R"({"do_sample": null})"}) {
    auto d = parseGenerationConfig(json, 100);
    ASSERT_TRUE(d.isOk());
    EXPECT_EQ(d->sampling.temperature, 0);
  }
}

TEST(GenerationConfigTest, SamplingHasTheReferencesDefaults) {
  auto d =
      parseGenerationConfig(R"({"do_sample": true, "eos_token_id": 3})", 100);
  ASSERT_TRUE(d.isOk());
  EXPECT_EQ(d->sampling.temperature, 1);
  EXPECT_EQ(d->sampling.topK, 50);
  EXPECT_EQ(d->sampling.topP, 1);
  EXPECT_EQ(d->endTokens, std::vector<int32_t>{3});
}

TEST(GenerationConfigTest, WrongFieldsAreErrorsThatNameThem) {
  const char *cases[][2] = {
      {"", ""},
      {"[]", "an object"},
      {R"({"do_sample": 1})", "do_sample"},
      {R"({"do_sample": true, "temperature": "hot"})", "temperature"},
      {R"({"do_sample": true, "temperature": -1})", "temperature"},
      {R"({"do_sample": true, "top_p": 0})", "top-p"},
      {R"({"do_sample": true, "top_p": []})", "top_p"},
      {R"({"do_sample": true, "top_k": -1})", "top_k"},
      {R"({"do_sample": true, "top_k": 1e300})", "top_k"},
      {R"({"repetition_penalty": 0})", "repeat penalty"},
      {R"({"eos_token_id": 100})", "eos_token_id"},
      {R"({"eos_token_id": [1, -1]})", "eos_token_id"},
      {R"({"eos_token_id": 1.5})", "eos_token_id"},
      {R"({"eos_token_id": "x"})", "eos_token_id"},
  };
  for (auto &c : cases) {
    auto d = parseGenerationConfig(c[0], 100);
    EXPECT_FALSE(d.isOk()) << c[0];
    EXPECT_EQ(d.status().code(), Code::InvalidData);
    EXPECT_THAT(d.status().message(), HasSubstr(c[1]));
  }
}

TEST(ModelTextTest, DirectoryWithoutTokenizerIsNotFound) {
  EXPECT_EQ(ModelText::readDirectory("/tmp").status().code(), Code::NotFound);
}

} // namespace
