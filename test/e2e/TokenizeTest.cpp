//===- TokenizeTest.cpp - Text through the command line -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort tokenize` against the goldens of three tokenizers: ids, decoded text
/// and rendered chats, row by row.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include <sstream>

using namespace retort;
using namespace retort::test;
using json = nlohmann::ordered_json; // templates see the order of keys

namespace {

std::string gunzip(const std::string &path) {
  ProcessResult result = runProcess({"/bin/gzip", "-dc", path});
  EXPECT_TRUE(succeeded(result)) << path;
  return result.out;
}

std::vector<json> jsonLines(const std::string &text) {
  std::vector<json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    rows.push_back(json::parse(line));
  return rows;
}

class Tokenize : public ::testing::TestWithParam<const char *> {
protected:
  void SetUp() override {
    RETORT_REQUIRE_SHARED(tokenizer, std::string("tokenizers/") + GetParam());
    for (const auto &entry : std::filesystem::directory_iterator(tokenizer)) {
      std::string name = entry.path().filename();
      bool isPacked = name.ends_with(".gz");
      writeText(dir.path(isPacked ? name.substr(0, name.size() - 3) : name),
                isPacked ? gunzip(entry.path()) : readFile(entry.path()));
    }
  }

  /// One answer per request.
  std::vector<json> ask(const std::vector<json> &requests) {
    ProcessOptions options;
    for (const json &request : requests)
      options.input += request.dump() + "\n";
    ProcessResult result =
        runRetort({"tokenize", dir.path(), "--jsonl", "-"}, options);
    EXPECT_TRUE(succeeded(result));
    std::vector<json> answers = jsonLines(result.out);
    EXPECT_EQ(answers.size(), requests.size());
    answers.resize(requests.size());
    return answers;
  }

  TempDir dir;
};

TEST_P(Tokenize, EveryGoldenRow) {
  std::vector<json> rows = jsonLines(gunzip(
      shared(std::string("goldens/tokenizer/") + GetParam() + ".jsonl.gz")));
  ASSERT_FALSE(rows.empty());
  std::vector<json> requests;
  for (const json &row : rows)
    requests.push_back({{"text", row["text"]}});
  std::vector<json> answers = ask(requests);
  for (size_t i = 0; i < rows.size(); ++i)
    for (const char *field : {"ids", "ids_with_special", "decoded"})
      EXPECT_EQ(answers[i][field], rows[i][field])
          << field << " of " << rows[i]["text"];
}

TEST_P(Tokenize, EveryGoldenChat) {
  std::vector<json> requests, expected;
  for (json row : jsonLines(readFile(shared("goldens/tokenizer/chat.jsonl")))) {
    if (row["tokenizer"] != GetParam())
      continue;
    expected.push_back(row["rendered"]);
    row.erase("tokenizer");
    row.erase("rendered");
    requests.push_back(row);
  }
  ASSERT_FALSE(requests.empty());
  std::vector<json> answers = ask(requests);
  for (size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(answers[i].value("rendered", json()), expected[i]) << answers[i];
}

TEST_P(Tokenize, TextToIdsAndBack) {
  std::string text = "Grüße, 世界! 12+34";
  ProcessResult ids = runRetort({"tokenize", dir.path(), text});
  ASSERT_TRUE(succeeded(ids));
  ids.out.pop_back();
  ProcessResult back = runRetort({"tokenize", dir.path(), ids.out, "--decode"});
  ASSERT_TRUE(succeeded(back));
  EXPECT_EQ(back.out, text + "\n");
}

INSTANTIATE_TEST_SUITE_P(Families, Tokenize,
                         ::testing::Values("qwen2_5", "llama3", "deepseek_v3"),
                         [](const auto &info) {
                           return std::string(info.param);
                         });

TEST(TokenizeArtifact, AnswersAsTheCheckpointDoes) {
  std::string checkpoint = source("examples/arithmetic/student");
  for (const char *text : {"What is 12 plus 345?", "<think>\n70-12"}) {
    ProcessResult expected = runRetort({"tokenize", checkpoint, text});
    ASSERT_TRUE(succeeded(expected));
    EXPECT_EQ(runRetort({"tokenize", studentArtifact(), text}).out,
              expected.out);
  }
}

TEST(TokenizeBad, PathsWithoutTokenizer) {
  TempDir dir;
  EXPECT_TRUE(
      isError(runRetort({"tokenize", dir.path(), "x"}), 1, {"tokenizer.json"}));
  EXPECT_TRUE(
      isError(runRetort({"tokenize", tinyArtifact(), "x"}), 1, {"tokenizer"}));
  EXPECT_TRUE(isError(runRetort({"tokenize", "/nonexistent", "x"}), 1));
}

TEST(TokenizeBad, LinesThatAreNoRequests) {
  for (const char *line : {"{", "[]", "{\"text\": 1}", "{\"other\": \"x\"}"}) {
    ProcessOptions options;
    options.input = std::string(line) + "\n";
    ProcessResult result = runRetort(
        {"tokenize", source("examples/arithmetic/student"), "--jsonl", "-"},
        options);
    // Either the line is answered with an error or the program ends with one.
    if (result.exitCode == 0)
      EXPECT_TRUE(json::parse(result.out, nullptr, false).contains("error"))
          << result.describe();
    else
      EXPECT_TRUE(isError(result, 1)) << line;
  }
}

TEST(TokenizeBad, TemplateErrorsAreAnswers) {
  TempDir dir;
  std::filesystem::copy(source("examples/arithmetic/student"), dir.path());
  json config = json::parse(readFile(dir.path("tokenizer_config.json")));
  config["chat_template"] = "{{ raise_exception('no such role') }}";
  writeText(dir.path("tokenizer_config.json"), config.dump());
  ProcessOptions options;
  options.input = R"({"messages": [{"role": "user", "content": "x"}]})"
                  "\n";
  ProcessResult result =
      runRetort({"tokenize", dir.path(), "--jsonl", "-"}, options);
  ASSERT_TRUE(succeeded(result));
  EXPECT_NE(json::parse(result.out).value("error", "").find("no such role"),
            std::string::npos)
      << result.out;
}

TEST(TokenizeBad, TemplatesWithoutEndAreStopped) {
  TempDir dir;
  std::filesystem::copy(source("examples/arithmetic/student"), dir.path());
  json config = json::parse(readFile(dir.path("tokenizer_config.json")));
  config["chat_template"] =
      "{% for a in range(1000000) %}{% for b in range(1000000) %}x"
      "{% endfor %}{% endfor %}";
  writeText(dir.path("tokenizer_config.json"), config.dump());
  ProcessOptions options;
  options.input = R"({"messages": [{"role": "user", "content": "x"}]})"
                  "\n";
  ProcessResult result =
      runRetort({"tokenize", dir.path(), "--jsonl", "-"}, options);
  EXPECT_LT(result.seconds, 20);
  EXPECT_TRUE(json::parse(result.out, nullptr, false).contains("error") ||
              isError(result, 1))
      << result.describe();
}

} // namespace
