//===- RunTest.cpp - The command line of the run tools --------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Prompts, flags and outputs of `retort run`, good and bad, and exit codes: 1
/// for bad input, 2 for wrong usage.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

using namespace retort;
using namespace retort::test;
using nlohmann::json;

namespace {

ProcessResult runStudent(std::vector<std::string> flags,
                         const ProcessOptions &options = {}) {
  flags.insert(flags.begin(), {"run", studentArtifact()});
  return runRetort(flags, options);
}

ProcessResult runTiny(std::vector<std::string> flags,
                      const ProcessOptions &options = {}) {
  flags.insert(flags.begin(), {"run", tinyArtifact()});
  return runRetort(flags, options);
}

std::string repeatedTokens(size_t count) {
  return tokenList(std::vector<int32_t>(count, 5));
}

TEST(Run, AnswersAPrompt) {
  ProcessResult result = runStudent({"-p", "12+345=?", "--temp", "0"});
  ASSERT_TRUE(succeeded(result));
  EXPECT_NE(result.out.find("<think>"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("\\boxed{357}"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("<|im_end|>"), std::string::npos) << result.out;
}

TEST(Run, ReadsThePromptFromAFileOrStandardInput) {
  std::string expected = runStudent({"-p", "12+345=?", "--temp", "0"}).out;
  TempDir dir;
  writeText(dir.path("prompt"), "12+345=?");
  EXPECT_EQ(runStudent({"-f", dir.path("prompt"), "--temp", "0"}).out,
            expected);
  ProcessOptions options;
  options.input = "12+345=?";
  EXPECT_EQ(runStudent({"-f", "-", "--temp", "0"}, options).out, expected);
}

TEST(Run, KeepsToTheLength) {
  ProcessResult result =
      runStudent({"-p", "12+345=?", "--temp", "0", "-n", "4", "--json"});
  ASSERT_TRUE(succeeded(result));
  json answer = json::parse(result.out);
  EXPECT_EQ(answer["ids"].size(), 4u);
  EXPECT_EQ(answer["stop"], "length");
}

TEST(Run, StopsAtAText) {
  ProcessResult result =
      runStudent({"-p", "12+345=?", "--temp", "0", "--stop", "</think>"});
  ASSERT_TRUE(succeeded(result));
  EXPECT_NE(result.out.find("<think>"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("</think>"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("boxed"), std::string::npos) << result.out;
}

TEST(Run, TheSeedDecides) {
  auto sample = [](const char *seed) {
    return runTiny({"--tokens", "3,4,5", "-n", "40", "--temp", "1.5", "--seed",
                    seed})
        .out;
  };
  EXPECT_EQ(sample("1"), sample("1"));
  EXPECT_NE(sample("1"), sample("2"));
}

TEST(Run, PrintsStatisticsBesideTheText) {
  ProcessResult plain = runStudent({"-p", "3*21", "--temp", "0"});
  ProcessResult stats = runStudent({"-p", "3*21", "--temp", "0", "--stats"});
  ASSERT_TRUE(succeeded(stats));
  EXPECT_EQ(stats.out, plain.out);
  EXPECT_NE(stats.err.find("t/s"), std::string::npos) << stats.err;
}

TEST(Run, ChatAnswersEveryLine) {
  ProcessOptions options;
  options.input = "12+345=?\n";
  ProcessResult result = runStudent({"--chat", "--temp", "0"}, options);
  ASSERT_TRUE(succeeded(result));
  EXPECT_NE(result.out.find("357"), std::string::npos) << result.describe();
}

TEST(CExample, GeneratesTheSameBothWays) {
  ProcessResult result = runProcess(
      {tool("retort-example-generate"), studentArtifact(), "12+345=?", "20"});
  ASSERT_TRUE(succeeded(result));
  EXPECT_FALSE(result.out.empty());
}

TEST(CExample, ReportsWhatItCannotOpen) {
  ProcessResult result =
      runProcess({tool("retort-example-generate"), "/nonexistent.retort", "x"});
  EXPECT_EQ(result.exitCode, 1) << result.describe();
  EXPECT_NE(result.err.find("/nonexistent.retort"), std::string::npos)
      << result.describe();
}

TEST(Run, SelfTestPasses) {
  EXPECT_TRUE(succeeded(runStudent({"--selftest"})));
}

TEST(Run, WithoutTokenizerTakesAndPrintsIds) {
  ProcessResult result =
      runTiny({"--tokens", "3,4,5", "-n", "5", "--temp", "0", "--ignore-eos"});
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), ','), 4)
      << result.out;
  EXPECT_TRUE(isError(runTiny({"-p", "hello"}), 1, {"tokenizer"}));
}

TEST(Run, TokensFillTheContextToTheLast) {
  EXPECT_TRUE(succeeded(
      runTiny({"--tokens", repeatedTokens(512), "-n", "1", "--temp", "0"})));
  EXPECT_TRUE(
      isError(runTiny({"--tokens", repeatedTokens(513)}), 1, {"513", "512"}));
}

TEST(BadPrompt, Empty) {
  EXPECT_TRUE(isError(runStudent({"-p", ""}), 1, {"prompt"}));
  EXPECT_TRUE(isError(runTiny({"--tokens", ""}), 1, {"tokens"}));
  TempDir dir;
  writeText(dir.path("empty"), "");
  EXPECT_TRUE(isError(runStudent({"-f", dir.path("empty")}), 1, {"empty"}));
}

TEST(BadPrompt, InvalidUtf8) {
  for (const char *bad : {"\xff", "12\xc3", "\xed\xa0\x80", "\xc0\xaf",
                          "\xf4\x90\x80\x80", "12+3\x80?"})
    EXPECT_TRUE(isError(runStudent({"-p", bad}), 1, {"UTF-8"}))
        << ::testing::PrintToString(bad);
}

TEST(BadPrompt, LongerThanTheContext) {
  std::string prompt;
  for (int i = 0; i < 600; ++i)
    prompt += "12+34=? ";
  EXPECT_TRUE(isError(runStudent({"-p", prompt}), 1, {"context", "512"}));
}

TEST(BadPrompt, MissingFile) {
  EXPECT_TRUE(isError(runStudent({"-f", "/nonexistent/prompt"}), 1,
                      {"/nonexistent/prompt"}));
}

TEST(BadTokens, OutsideTheVocabulary) {
  EXPECT_TRUE(isError(runTiny({"--tokens", "3,48"}), 1, {"48"}));
  EXPECT_TRUE(isError(runTiny({"--tokens", "3,-1"}), 1, {"-1"}));
}

TEST(BadTokens, NotNumbers) {
  for (const char *bad :
       {"3,x", "3;4", "3,4.5", "99999999999", "@/nonexistent"})
    EXPECT_TRUE(isError(runTiny({"--tokens", bad}), 1)) << bad;
}

TEST(BadModel, MissingOrADirectory) {
  EXPECT_TRUE(isError(runRetort({"run", "/nonexistent.retort", "-p", "x"}), 1,
                      {"/nonexistent.retort"}));
  TempDir dir;
  EXPECT_TRUE(isError(runRetort({"run", dir.path(), "-p", "x"}), 1));
}

TEST(BadOutput, LogitsCannotBeWritten) {
  EXPECT_TRUE(isError(runTiny({"--tokens", "3,4", "--logits",
                               "/nonexistent/logits.safetensors"}),
                      1, {"/nonexistent"}));
}

TEST(BadOutput, FullDisk) {
  TempDir dir;
  ProcessOptions options;
  options.fileSizeLimit = 4096;
  std::string out = dir.path("logits.safetensors");
  EXPECT_TRUE(isError(
      runTiny({"--tokens", repeatedTokens(500), "--logits", out}, options), 1));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));

  ProcessOptions full;
  full.outputPath = "/dev/full";
  EXPECT_TRUE(isError(runStudent({"-p", "1+1", "--temp", "0"}, full), 1,
                      {"standard output"}));
  EXPECT_TRUE(isError(runRetort({"inspect", tinyArtifact()}, full), 1,
                      {"standard output"}));
}

TEST(BadMemory, ContextThatDoesNotFit) {
  TempDir dir;
  TinyModel model;
  model.heads = model.kvHeads = 8;
  model.extra = {{"head_dim", 64}, {"max_position_embeddings", 262144}};
  CheckpointBuilder(model).write(dir.path());
  const std::string artifact =
      compileCheckpoint(dir.path(), dir.path("m.retort"));
  ProcessOptions options;
  options.memoryLimit = uint64_t(400) << 20;
  EXPECT_TRUE(isError(runRetort({"run", artifact, "--tokens", "3,4",
                                 "--context", "262144", "--threads", "1"},
                                options),
                      1, {"memory"}));
}

TEST(Usage, MistakesExitWithTwo) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"brew"},
      {"run"},
      {"run", tinyArtifact()},
      {"run", tinyArtifact(), "--no-such-flag", "-p", "x"},
      {"run", tinyArtifact(), "-p", "x", "--tokens", "3"},
      {"run", tinyArtifact(), "--tokens", "3", "--threads", "0"},
      {"run", tinyArtifact(), "--tokens", "3", "--threads", "many"},
      {"run", tinyArtifact(), "--tokens", "3", "-n", "-1"},
      {"run", tinyArtifact(), "-p", "x", "--logits", "out"},
      {"compile"},
      {"compile", source("examples/arithmetic/student")},
      {"compile", source("examples/arithmetic/student"), "-o", "x", "--weights",
       "int7"},
      {"compile", source("examples/arithmetic/student"), "-o", "x",
       "--group-size", "48"},
      {"inspect"},
      {"check"},
      {"bench", tinyArtifact(), "--reps", "0"},
      {"bench", tinyArtifact(), "--batch", "1,0"},
      {"bench", tinyArtifact(), "--batch", "1025"},
      {"bench", tinyArtifact(), "--batch", "2,x"},
      {"inspect", tinyArtifact(), "--sequences", "0"},
      {"tokenize"},
      {"tokenize", tinyArtifact(), "x", "--jsonl", "-"},
  };
  for (const auto &arguments : wrong) {
    ProcessResult result = runRetort(arguments);
    EXPECT_EQ(result.exitCode, 2) << ::testing::PrintToString(arguments) << "\n"
                                  << result.describe();
    EXPECT_FALSE(result.err.empty()) << ::testing::PrintToString(arguments);
    EXPECT_TRUE(result.out.empty()) << ::testing::PrintToString(arguments);
  }
}

TEST(Usage, HelpIsNoMistake) {
  for (const char *command :
       {"compile", "run", "inspect", "tokenize", "bench", "check"}) {
    ProcessResult result = runRetort({command, "--help"});
    EXPECT_TRUE(succeeded(result)) << command;
    EXPECT_FALSE(result.out.empty()) << command;
  }
}

} // namespace
