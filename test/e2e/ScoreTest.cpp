//===- ScoreTest.cpp - retort score ---------------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Loss and divergence against goldens and the reference, teacher files, and
/// the bundled arithmetic pair as a suite.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "compiler/reference/Reference.h"

#include <algorithm>
#include <csignal>

using namespace retort;
using namespace retort::test;
using nlohmann::json;

namespace {

std::string retortScore(const std::vector<std::string> &arguments) {
  std::vector<std::string> command = {"score"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  ProcessOptions options;
  options.timeoutSeconds = 600;
  ProcessResult result = runRetort(command, options);
  EXPECT_TRUE(succeeded(result));
  return result.out;
}

json scored(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  return json::parse(retortScore(arguments));
}

ProcessResult refused(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "score");
  return runRetort(arguments);
}

/// Log-probabilities of a row of logits.
std::vector<double> logProbs(std::span<const float> logits) {
  long double sum = 0;
  for (float logit : logits)
    sum += std::exp(static_cast<long double>(logit));
  std::vector<double> out;
  for (float logit : logits)
    out.push_back(static_cast<double>(logit - std::log(sum)));
  return out;
}

double klOf(std::span<const float> p, std::span<const float> q) {
  std::vector<double> a = logProbs(p), b = logProbs(q);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += std::exp(a[i]) * (a[i] - b[i]);
  return sum;
}

/// Mean loss of the tokens behind the first, from the logits [T, vocab].
double meanLoss(const std::vector<int32_t> &tokens, const Tensor &logits) {
  auto vocab = static_cast<size_t>(logits.shape[1]);
  double sum = 0;
  for (size_t i = 0; i + 1 < tokens.size(); ++i)
    sum -= logProbs(
        std::span(logits.floats)
            .subspan(i * vocab, vocab))[static_cast<size_t>(tokens[i + 1])];
  return sum / static_cast<double>(tokens.size() - 1);
}

class ScoreGolden : public ::testing::TestWithParam<const char *> {};

TEST_P(ScoreGolden, LossIsThatOfTheGoldenLogits) {
  RETORT_REQUIRE_SHARED(golden, std::string("goldens/") + GetParam());
  std::string file = golden + "/golden.safetensors";
  std::vector<int32_t> tokens = readTensor(file, "input_ids").integers;
  double expected = meanLoss(tokens, readTensor(file, "logits"));
  json found = scored({compiledOnce(golden), "--tokens", tokenList(tokens)});
  EXPECT_EQ(found["tokens"], tokens.size() - 1);
  EXPECT_NEAR(found["mean_loss"].get<double>(), expected, 1e-4);
  EXPECT_NEAR(found["perplexity"].get<double>(), std::exp(expected),
              2e-4 * std::exp(expected));
  EXPECT_TRUE(found["kl_mean"].is_null());
  json reference =
      scored({golden, "--tokens", tokenList(tokens), "--reference"});
  EXPECT_NEAR(reference["mean_loss"].get<double>(), expected, 1e-4);
}

TEST_P(ScoreGolden, DivergesFromTheCheckpointByWhatQuantizingCosts) {
  RETORT_REQUIRE_SHARED(golden, std::string("goldens/") + GetParam());
  std::string file = golden + "/golden.safetensors";
  std::vector<int32_t> tokens = readTensor(file, "input_ids").integers;
  Tensor exact = readTensor(file, "logits");
  const std::string &artifact = compiledOnce(golden, {"--weights", "int8"});
  Tensor packed = runLogits(artifact, tokens);
  auto vocab = static_cast<size_t>(exact.shape[1]);
  double sum = 0;
  for (size_t i = 0; i + 1 < tokens.size(); ++i)
    sum += klOf(std::span(exact.floats).subspan(i * vocab, vocab),
                std::span(packed.floats).subspan(i * vocab, vocab));
  double expected = sum / static_cast<double>(tokens.size() - 1);
  // Compiled, and by the reference interpreter.
  for (const char *how : {"--no-verify", "--reference"}) {
    json found = scored(
        {artifact, "--tokens", tokenList(tokens), "--against", golden, how});
    EXPECT_NEAR(found["kl_mean"].get<double>(), expected,
                1e-7 + 0.02 * expected)
        << how;
    EXPECT_GE(found["kl_p99"], found["kl_median"]);
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, ScoreGolden,
                         ::testing::Values("qwen2-tied", "qwen2-untied",
                                           "llama3", "deepseek-v3"),
                         [](const auto &info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(ScoreText, HasTheKeysThatAreDocumented) {
  TempDir dir;
  writeText(dir.path("text"), "12+345=? What is 9 times 31?");
  json found = scored({studentArtifact(), "--text", dir.path("text")});
  std::vector<std::string> keys;
  for (const auto &[key, value] : found.items())
    keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(keys, (std::vector<std::string>{"kl_mean", "kl_median", "kl_p99",
                                            "mean_loss", "perplexity", "tokens",
                                            "top1", "top5"}));
}

TEST(ScoreText, AModelAgreesWithItself) {
  TempDir dir;
  writeText(dir.path("text"), "12+345=? What is 9 times 31?");
  json found = scored({studentArtifact(), "--text", dir.path("text"),
                       "--against", studentArtifact()});
  EXPECT_EQ(found["kl_mean"], 0.0);
  EXPECT_EQ(found["kl_p99"], 0.0);
  EXPECT_EQ(found["top1"], 1.0);
  EXPECT_EQ(found["top5"], 1.0);
}

TEST(ScoreText, IsTheSameForAnyNumberOfThreads) {
  TempDir dir;
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += std::to_string(i * 37) + "+" + std::to_string(i * 91) + "=?\n";
  writeText(dir.path("text"), text);
  auto run = [&](const char *threads) {
    return retortScore({studentArtifact(), "--text", dir.path("text"),
                        "--against", source("examples/arithmetic/teacher"),
                        "--threads", threads, "--json", "--details"});
  };
  std::string one = run("1");
  EXPECT_EQ(one, run("3"));
  json details = json::parse(one);
  uint64_t sum = 0;
  for (const json &row : details["positions"])
    sum += row["tokens"].get<uint64_t>();
  EXPECT_EQ(sum, details["tokens"]);
  ASSERT_EQ(details["worst"].size(), 10u);
  EXPECT_GE(details["worst"][0]["kl"], details["worst"][1]["kl"]);
}

TEST(ScoreText, WindowsScoreEveryTokenOnce) {
  std::vector<int32_t> tokens = randomTokens(200, 48, 3);
  auto run = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {tinyArtifact(), "--tokens", tokenList(tokens)});
    return scored(flags);
  };
  json whole = run({});
  EXPECT_EQ(whole["tokens"], 199);
  EXPECT_EQ(run({"--context", "32"})["tokens"], 199);
  EXPECT_EQ(run({"--context", "32", "--stride", "5"})["tokens"], 199);
  EXPECT_NE(run({"--context", "32"})["mean_loss"], whole["mean_loss"]);
  EXPECT_EQ(run({"--context", "200"})["mean_loss"], whole["mean_loss"]);
  // Two texts together are the mean of both.
  TempDir dir;
  writeText(dir.path("a"), "12+345=?");
  writeText(dir.path("b"), "What is 7 times 31? Compute 3 - 4.");
  json a = scored({studentArtifact(), "--text", dir.path("a")});
  json b = scored({studentArtifact(), "--text", dir.path("b")});
  json both = scored(
      {studentArtifact(), "--text", dir.path("a"), "--text", dir.path("b")});
  double na = a["tokens"], nb = b["tokens"];
  EXPECT_EQ(both["tokens"], na + nb);
  EXPECT_NEAR(
      both["mean_loss"].get<double>(),
      (na * a["mean_loss"].get<double>() + nb * b["mean_loss"].get<double>()) /
          (na + nb),
      1e-7);
}

TEST(ScoreText, VocabulariesThatDifferInPaddingAreMapped) {
  // The student's tokenizer with an embedding that has more rows.
  auto write = [](const TempDir &dir, int64_t vocab, uint64_t seed) {
    TinyModel model;
    model.vocab = vocab;
    model.seed = seed;
    CheckpointBuilder(model).write(dir.path());
    for (const char *name : {"tokenizer.json", "tokenizer_config.json"})
      std::filesystem::copy(
          source(std::string("examples/arithmetic/student/") + name),
          dir.path(name));
  };
  TempDir small, large, text;
  write(small, 384, 1);
  write(large, 448, 2);
  writeText(text.path("t"), "12+345=? What is 9 times 31?");
  json there = scored({compiledOnce(small.path()), "--text", text.path("t"),
                       "--against", compiledOnce(large.path())});
  EXPECT_GT(there["kl_mean"], 0.0);
  json back = scored({compiledOnce(large.path()), "--text", text.path("t"),
                      "--against", compiledOnce(small.path())});
  EXPECT_GT(back["kl_mean"], 0.0);
  // And so with a file of either.
  retortScore({compiledOnce(large.path()), "--text", text.path("t"),
               "--save-teacher", text.path("f"), "--top-k", "400"});
  json file = scored({compiledOnce(small.path()), "--against", text.path("f")});
  EXPECT_LE(file["kl_mean"], there["kl_mean"]);
  EXPECT_GE(file["kl_mean_upper"], there["kl_mean"]);
  EXPECT_NEAR(file["kl_mean"].get<double>(), there["kl_mean"].get<double>(),
              1e-3);
}

TEST(ScoreText, OtherVocabulariesAreRefused) {
  TempDir dir, other;
  TinyModel model;
  model.vocab = 384;
  CheckpointBuilder(model).write(other.path());
  for (const char *name : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy(
        source(std::string("examples/arithmetic/student/") + name),
        other.path(name));
  std::string tokenizer = readFile(other.path("tokenizer.json"));
  json edited = json::parse(tokenizer);
  for (json &token : edited["added_tokens"])
    if (token["content"] == "<think>")
      token["content"] = "<thought>";
  writeText(other.path("tokenizer.json"), edited.dump());
  writeText(dir.path("t"), "12+345=?");
  const std::string &different = compiledOnce(other.path());
  EXPECT_TRUE(isError(refused({studentArtifact(), "--text", dir.path("t"),
                               "--against", different}),
                      1, {"can't be compared", "'<think>'", "'<thought>'"}));
  retortScore(
      {different, "--text", dir.path("t"), "--save-teacher", dir.path("f")});
  EXPECT_TRUE(isError(refused({studentArtifact(), "--against", dir.path("f")}),
                      1, {"can't be compared", "different tokens"}));
  // Without tokenizers sizes are all that there is.
  EXPECT_TRUE(isError(refused({tinyArtifact(), "--tokens", "1,2,3", "--against",
                               studentArtifact()}),
                      1, {"can't be compared", "384"}));
}

class ScoreFile : public ::testing::Test {
protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 150; ++i)
      text += "What is " + std::to_string(i * 37) + " plus " +
              std::to_string(i * 91) + "? ";
    writeText(dir.path("text"), text);
  }
  std::vector<std::string> saving(const std::string &name) const {
    return {studentArtifact(), "--text",  dir.path("text"),
            "--context",       "64",      "--save-teacher",
            dir.path(name),    "--top-k", "32"};
  }
  TempDir dir;
};

TEST_F(ScoreFile, GivesBoundsThatHoldAndTheSameLoss) {
  const std::string &packed = compiledOnce(
      source("examples/arithmetic/student"), {"--weights", "int4"});
  json own = scored(saving("f"));
  json exact = scored({packed, "--text", dir.path("text"), "--context", "64",
                       "--against", studentArtifact()});
  json file = scored({packed, "--against", dir.path("f")});
  EXPECT_EQ(file["tokens"], exact["tokens"]);
  EXPECT_EQ(file["mean_loss"], exact["mean_loss"]);
  EXPECT_EQ(file["top1"], exact["top1"]);
  EXPECT_EQ(file["top5"], exact["top5"]);
  for (std::string key : {"kl_mean", "kl_median", "kl_p99"}) {
    EXPECT_LE(file[key], exact[key]) << key;
    EXPECT_GE(file[key + "_upper"], exact[key]) << key;
  }
  json alone = scored(
      {studentArtifact(), "--text", dir.path("text"), "--context", "64"});
  EXPECT_NEAR(own["mean_loss"].get<double>(), alone["mean_loss"].get<double>(),
              1e-5);
  // The text may be given again, and must then be the same.
  scored({packed, "--teacher", dir.path("f"), "--text", dir.path("text")});
  writeText(dir.path("other"), "12+345");
  EXPECT_TRUE(isError(refused({packed, "--teacher", dir.path("f"), "--text",
                               dir.path("other")}),
                      1, {"other texts"}));
  EXPECT_TRUE(
      isError(refused({packed, "--teacher", dir.path("f"), "--context", "63"}),
              1, {"context", "64", "63"}));
}

TEST_F(ScoreFile, KilledItGoesOnToTheSameBytes) {
  retortScore(saving("whole"));
  std::string expected = readFile(dir.path("whole"));
  // Whenever the signal comes, what is left leads to the same file.
  for (int signal : {SIGKILL, SIGTERM}) {
    std::string name = "f" + std::to_string(signal), path = dir.path(name);
    std::vector<std::string> command = saving(name);
    command.insert(command.begin(), "score");
    ProcessOptions options;
    options.interruptSignal = signal;
    options.interruptWhen = [&] {
      return std::filesystem::exists(path + ".partial");
    };
    ProcessResult killed = runRetort(command, options);
    if (killed.exitCode == 0)
      std::filesystem::rename(path, path + ".partial");
    EXPECT_TRUE(std::filesystem::exists(path + ".partial"))
        << killed.describe();
    retortScore(saving(name));
    EXPECT_TRUE(readFile(path) == expected) << signal;
    EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  }
}

TEST_F(ScoreFile, AnotherTeachersRestIsNotGoneOnWith) {
  retortScore(saving("f"));
  std::filesystem::rename(dir.path("f"), dir.path("f.partial"));
  std::vector<std::string> command = saving("f");
  command[0] = compiledOnce(source("examples/arithmetic/student"),
                            {"--weights", "int4"});
  EXPECT_TRUE(isError(refused(command), 1, {"the teacher", "--no-resume"}));
  command.push_back("--no-resume");
  retortScore(command);
}

TEST_F(ScoreFile, DamageIsFound) {
  retortScore(saving("f"));
  std::string bytes = readFile(dir.path("f"));
  writeText(dir.path("short"), bytes.substr(0, bytes.size() - 1));
  EXPECT_TRUE(
      isError(refused({studentArtifact(), "--against", dir.path("short")}), 1,
              {"bytes of the file"}));
  bytes[bytes.size() / 2] ^= 1;
  writeText(dir.path("bad"), bytes);
  EXPECT_TRUE(isError(
      refused({studentArtifact(), "--against", dir.path("bad")}), 1, {"hash"}));
}

TEST(ScoreErrors, NameWhatIsWrong) {
  TempDir dir;
  writeText(dir.path("empty"), "");
  writeText(dir.path("bytes"), "a\xff");
  const std::string &model = studentArtifact();
  EXPECT_TRUE(
      isError(refused({model, "--text", dir.path("none")}), 1, {"none"}));
  EXPECT_TRUE(isError(refused({model, "--text", dir.path("empty")}), 1,
                      {"at least two tokens"}));
  EXPECT_TRUE(isError(refused({model, "--text", dir.path("bytes")}), 1,
                      {"UTF-8", "offset 1"}));
  EXPECT_TRUE(
      isError(refused({model, "--tokens", "1"}), 1, {"at least two tokens"}));
  EXPECT_TRUE(isError(refused({model, "--tokens", "1,384"}), 1, {"384"}));
  EXPECT_TRUE(
      isError(refused({model, "--tokens", "1,2,3", "--context", "100000"}), 1,
              {"context", "512"}));
  EXPECT_TRUE(isError(
      refused({model, "--tokens", "1,2,3", "--context", "9", "--stride", "9"}),
      1, {"stride", "1 to 8"}));
  EXPECT_TRUE(isError(refused({tinyArtifact(), "--text", dir.path("empty")}), 1,
                      {"tokenizer", "--tokens"}));
  EXPECT_TRUE(
      isError(refused({model, "--against", model}), 1, {"no teacher file"}));
  EXPECT_TRUE(isError(refused({model, "--tokens", "1,2", "--reference"}), 1,
                      {"--reference"}));
}

TEST(ScoreErrors, OfUsageExitWithTwo) {
  const std::string &model = studentArtifact();
  for (const std::vector<std::string> &flags :
       std::vector<std::vector<std::string>>{
           {},
           {model},
           {model, "--text", "a", "--tokens", "1"},
           {model, "--suite", "s", "--text", "t"},
           {model, "--save-teacher", "f"},
           {model, "--text", "t", "--no-resume"},
           {model, "--text", "t", "--details"},
           {model, "--text", "t", "--save-teacher", "f", "--against", "m"},
           {model, "--students", "a", "--teacher", "t", "--suite", "s"},
           {"--students", "a", "--suite", "s"},
           {model, "--suite", "s", "--samples", "0"},
           {model, "--text", "t", "--top-k", "4"}})
    EXPECT_EQ(refused(flags).exitCode, 2);
}

class ScoreSuite : public ::testing::Test {
protected:
  std::string problems = source("examples/arithmetic/problems.jsonl");
  TempDir dir;
};

TEST_F(ScoreSuite, TheBundledStudentSolvesIts) {
  for (const char *weights : {"keep", "int4"}) {
    const std::string &model = compiledOnce(
        source("examples/arithmetic/student"), {"--weights", weights});
    json found = scored({model, "--suite", problems, "--temp", "0", "-n", "200",
                         "--limit", "60", "--threads", "1"});
    EXPECT_EQ(found["problems"], 60);
    EXPECT_EQ(found["samples"], 1);
    EXPECT_GE(found["pass1"], 0.95) << weights;
    EXPECT_LT(found["pass1_low"], found["pass1"]);
    EXPECT_GE(found["pass1_high"], found["pass1"]);
    EXPECT_EQ(found["pass_at"]["1"], found["pass1"]);
  }
}

TEST_F(ScoreSuite, SamplesFollowFromTheSeed) {
  auto run = [&](const char *seed, const char *threads, const char *limit) {
    std::string out = dir.path("answers");
    json found =
        scored({studentArtifact(), "--suite", problems, "--samples", "4",
                "--temp", "1.3", "--seed", seed, "-n", "120", "--limit", limit,
                "--threads", threads, "--answers", out});
    EXPECT_EQ(found["samples"], 4);
    EXPECT_GE(found["pass_at"]["4"], found["pass_at"]["2"]);
    EXPECT_GE(found["pass_at"]["2"], found["pass_at"]["1"]);
    return readFile(out);
  };
  std::string first = run("1", "1", "4");
  EXPECT_EQ(first, run("1", "2", "4"));
  EXPECT_TRUE(first.starts_with(run("1", "2", "2")));
  EXPECT_NE(first, run("2", "1", "4"));
  EXPECT_EQ(std::count(first.begin(), first.end(), '\n'), 16);
}

TEST_F(ScoreSuite, ALadderComparesStudents) {
  const std::string &packed = compiledOnce(
      source("examples/arithmetic/student"), {"--weights", "int4"});
  const std::string &teacher =
      compiledOnce(source("examples/arithmetic/teacher"));
  std::vector<std::string> flags = {
      "--students", studentArtifact() + "," + packed,
      "--teacher",  teacher,
      "--suite",    problems,
      "--limit",    "10",
      "-n",         "120"};
  json ladder = scored(flags)["ladder"];
  ASSERT_EQ(ladder.size(), 3u);
  EXPECT_TRUE(ladder[0]["kl_mean"].is_null());
  for (const json &rung : ladder) {
    EXPECT_GE(rung["pass1"], 0.8);
    EXPECT_GT(rung["decode_tps"], 0.0);
    // On the teacher's own replies, which all of them would give.
    EXPECT_LT(rung["mean_loss"], 0.1);
    EXPECT_GT(rung["bytes"], 100000);
  }
  EXPECT_LT(ladder[2]["bytes"], ladder[1]["bytes"]);
  EXPECT_GT(ladder[1]["kl_mean"], 0.0);
  EXPECT_GT(ladder[2]["kl_mean"], 0.0);
  std::string table = retortScore(flags);
  EXPECT_NE(table.find("KL to the teacher"), std::string::npos);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 5);
}

TEST_F(ScoreSuite, ErrorsNameWhatIsWrong) {
  writeText(dir.path("bad"), "{\"problem\": \"1+1\", \"answer\": 2}\n{}\n");
  EXPECT_TRUE(isError(refused({studentArtifact(), "--suite", dir.path("bad")}),
                      1, {"line 2", "'problem'"}));
  EXPECT_TRUE(isError(refused({studentArtifact(), "--suite", problems,
                               "--samples", "2", "--temp", "0"}),
                      1, {"--temp"}));
  EXPECT_TRUE(isError(refused({tinyArtifact(), "--suite", problems}), 1,
                      {"tokenizer"}));
  EXPECT_TRUE(isError(
      refused({studentArtifact(), "--suite", problems, "--context", "5"}), 1,
      {"problem 1", "context of 5"}));
}

TEST(ScoreRuntime, TheSmallToolScoresToo) {
  TempDir dir;
  writeText(dir.path("t"), "12+345=? What is 9 times 31?");
  ProcessResult result =
      runProcess({tool("retort-run"), "score", studentArtifact(), "--text",
                  dir.path("t"), "--json"});
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(json::parse(result.out),
            scored({studentArtifact(), "--text", dir.path("t")}));
  EXPECT_TRUE(isError(runProcess({tool("retort-run"), "score",
                                  source("examples/arithmetic/student"),
                                  "--text", dir.path("t")}),
                      1, {"directory", "artifact"}));
}

TEST(ScoreReal, LossAndDivergenceAreTheGoldenOnes) {
  const char *models = std::getenv("RETORT_MODELS");
  if (!models)
    GTEST_SKIP() << "no real models: set RETORT_MODELS";
  RETORT_REQUIRE_SHARED(goldens, "goldens/real");
  RETORT_REQUIRE_SHARED(corpora, "corpora");
  json summary = json::parse(readFile(goldens + "/summary.json"));
  std::string student = std::string(models) + "/qwen05",
              teacher = std::string(models) + "/qwen15";
  if (!std::filesystem::exists(student) || !std::filesystem::exists(teacher))
    GTEST_SKIP() << "no qwen05 and qwen15 in RETORT_MODELS";
  for (std::string text : {"gpl3", "heapq"}) {
    std::vector<int32_t> tokens =
        readTensor(goldens + "/qwen05-" + text + ".safetensors", "input_ids")
            .integers;
    TempDir dir;
    writeText(dir.path("tokens"), tokenList(tokens));
    json found = scored({compiledOnce(student, {"--weights", "bf16"}),
                         "--tokens", "@" + dir.path("tokens"), "--against",
                         compiledOnce(teacher, {"--weights", "bf16"})});
    EXPECT_NEAR(found["mean_loss"].get<double>(),
                summary["qwen05/" + text]["mean_nll"].get<double>(), 0.001);
    const json &kl = summary["kl/" + text];
    EXPECT_NEAR(found["kl_mean"].get<double>(),
                kl["mean_kl_teacher_student"].get<double>(), 0.002);
    EXPECT_NEAR(found["kl_median"].get<double>(), kl["median"].get<double>(),
                0.01);
    EXPECT_NEAR(found["kl_p99"].get<double>(), kl["p99"].get<double>(), 0.1);
    EXPECT_NEAR(found["top1"].get<double>(), kl["top1_agreement"].get<double>(),
                0.005);
  }
}

} // namespace
