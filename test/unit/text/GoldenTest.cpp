//===- GoldenTest.cpp - Real tokenizers against goldens -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/File.h"
#include "runtime/text/TextModel.h"
#include "runtime/text/TokenizerTables.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <sstream>
#include <zlib.h>

using namespace retort;
using namespace retort::text;

namespace {

std::string sharedFolder() {
  if (const char *path = std::getenv("RETORT_SHARED"))
    return path;
  return std::string(RETORT_SOURCE_DIR) + "/../shared";
}

/// The content of a file, unpacked if its name ends in .gz.
std::string readText(const std::string &path) {
  gzFile file = gzopen(path.c_str(), "rb");
  std::string out;
  if (!file)
    return out;
  char buffer[1 << 16];
  for (int n; (n = gzread(file, buffer, sizeof(buffer))) > 0;)
    out.append(buffer, static_cast<size_t>(n));
  gzclose(file);
  return out;
}

/// A family of tokenizers, and whether its file goes through the tables that
/// artifacts hold.
class Golden : public testing::TestWithParam<std::tuple<const char *, bool>> {
protected:
  void SetUp() override {
    family = std::get<0>(GetParam());
    std::string folder = sharedFolder() + "/tokenizers/" + family;
    if (!pathExists(folder))
      GTEST_SKIP() << "no test data at " << folder << " (set RETORT_SHARED)";
    std::string json = readText(folder + "/tokenizer.json.gz");
    std::string config = readText(folder + "/tokenizer_config.json");
    TextFiles files;
    std::string tables;
    if (std::get<1>(GetParam())) {
      auto compiled = compileTokenizer(json);
      ASSERT_TRUE(compiled) << compiled.status().message();
      tables = std::move(*compiled);
      files.tokenizerTables = tables;
    } else {
      files.tokenizerJson = json;
    }
    files.tokenizerConfigJson = config;
    auto made = TextModel::create(files);
    ASSERT_TRUE(made) << made.status().message();
    model = std::move(*made);
  }
  std::string family;
  std::optional<TextModel> model;
};

} // namespace

TEST_P(Golden, TextRowsAreIdentical) {
  std::istringstream rows(
      readText(sharedFolder() + "/goldens/tokenizer/" + family + ".jsonl.gz"));
  int count = 0;
  for (std::string line; std::getline(rows, line); ++count) {
    Json row = Json::parse(line);
    Json got = Json::parse(model->answerLine(line, std::tm{}));
    for (const char *field : {"ids", "ids_with_special", "decoded"})
      EXPECT_EQ(got[field], row[field]) << field << " of row " << count;
    Detokenizer stream(model->tokenizer(), false);
    std::string text;
    for (int32_t id : row["ids"].get<std::vector<int32_t>>())
      text += stream.push(id);
    text += stream.finish();
    EXPECT_EQ(text, row["decoded"].get<std::string>()) << "row " << count;
  }
  EXPECT_GT(count, 100);
}

TEST_P(Golden, ChatRowsAreIdentical) {
  std::istringstream rows(
      readText(sharedFolder() + "/goldens/tokenizer/chat.jsonl"));
  int count = 0;
  for (std::string line; std::getline(rows, line);) {
    Json row = Json::parse(line);
    if (row["tokenizer"] != family)
      continue;
    ++count;
    Json got = Json::parse(model->answerLine(line, std::tm{}));
    EXPECT_EQ(got["rendered"], row["rendered"]) << line;
  }
  EXPECT_GT(count, 3);
}

TEST_P(Golden, HugeTextsAreEncoded) {
  const Tokenizer &t = model->tokenizer();
  for (const char *unit : {" ", "a", "\n", "1", "\u4e2d", "e\u0301", "!"}) {
    std::string text;
    while (text.size() < 100'000)
      text += unit;
    auto ids = t.encode(text, true);
    ASSERT_TRUE(ids) << ids.status().message();
    EXPECT_FALSE(t.decode(*ids, true).empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Golden,
                         testing::Combine(testing::Values("qwen2_5", "llama3",
                                                          "deepseek_v3"),
                                          testing::Bool()),
                         [](const auto &info) {
                           return std::string(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) ? "_tables"
                                                           : "_json");
                         });
