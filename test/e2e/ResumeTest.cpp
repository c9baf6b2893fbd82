//===- ResumeTest.cpp - Compiles that are killed, and parts -----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort compile` is killed or interrupted and called again: the artifact is
/// the one of a compile that nothing stopped. And the same in parts.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include <csignal>

using namespace retort;
using namespace retort::test;
namespace fs = std::filesystem;

namespace {

constexpr const char *kSplit = "16MB";

/// A checkpoint that takes a second or two to pack.
class ResumeE2e : public ::testing::Test {
protected:
  static void SetUpTestSuite() {
    shared = new TempDir;
    std::string config = shared->path("config");
    fs::create_directory(config);
    writeText(config + "/config.json", R"({
      "model_type": "qwen2", "hidden_size": 1024, "intermediate_size": 4096,
      "num_hidden_layers": 8, "num_attention_heads": 8,
      "num_key_value_heads": 4, "vocab_size": 8000, "rms_norm_eps": 1e-6,
      "rope_theta": 10000.0, "max_position_embeddings": 256,
      "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2})");
    ASSERT_TRUE(succeeded(runRetort(
        {"synth", config, "-o", shared->path("checkpoint"), "--seed", "3"})));
    std::filesystem::create_directory(shared->path("whole"));
    std::filesystem::create_directory(shared->path("split"));
    ProcessResult whole = runRetort(command(shared->path("whole"), {}));
    ASSERT_TRUE(succeeded(whole));
    seconds = whole.seconds;
    ASSERT_TRUE(succeeded(
        runRetort(command(shared->path("split"), {"--split", kSplit}))));
  }
  static void TearDownTestSuite() { delete std::exchange(shared, nullptr); }

  static std::vector<std::string> command(const std::string &folder,
                                          std::vector<std::string> flags) {
    std::vector<std::string> all = {"compile",   shared->path("checkpoint"),
                                    "-o",        folder + "/model.retort",
                                    "--weights", "int4"};
    all.insert(all.end(), flags.begin(), flags.end());
    return all;
  }

  /// Whether a folder holds the files of another, and nothing else.
  static void expectSame(const std::string &folder, const char *expected) {
    std::map<std::string, bool> names;
    for (const auto &entry : fs::directory_iterator(shared->path(expected)))
      names[entry.path().filename()] = true;
    for (const auto &entry : fs::directory_iterator(folder)) {
      std::string name = entry.path().filename();
      EXPECT_EQ(names.erase(name), 1u) << name;
      EXPECT_TRUE(readFile(entry.path()) ==
                  readFile(shared->path(expected) + "/" + name))
          << name;
    }
    EXPECT_TRUE(names.empty());
  }

  static TempDir *shared;
  static double seconds; ///< of a whole compile
};
TempDir *ResumeE2e::shared = nullptr;
double ResumeE2e::seconds = 0;

/// Stops at several points of the time a compile takes, and goes on until one
/// comes to its end.
void stopAndGoOn(const std::vector<std::string> &command,
                 const std::string &folder, int signal, double seconds,
                 int &stopped, bool &resumed) {
  for (double share : {0.35, 0.5, 0.65, 0.8, 0.95, 1.2}) {
    ProcessOptions options;
    options.interruptSignal = signal;
    options.interruptSeconds = seconds * share;
    ProcessResult result = runRetort(command, options);
    resumed |= result.err.find("note: going on: ") != std::string::npos;
    if (result.exitCode == 0)
      return;
    ++stopped;
    EXPECT_FALSE(fs::exists(folder + "/model.retort"));
    if (signal == SIGKILL) {
      EXPECT_EQ(result.signal, SIGKILL) << result.describe();
      continue;
    }
    EXPECT_EQ(result.exitCode, 128 + signal) << result.describe();
    EXPECT_EQ(result.err.find("error"), std::string::npos) << result.describe();
    EXPECT_EQ(fs::exists(folder + "/model.retort.partial"),
              result.err.find("the same command goes on from there") !=
                  std::string::npos)
        << result.describe();
  }
  ProcessResult last = runRetort(command);
  resumed |= last.err.find("note: going on: ") != std::string::npos;
  EXPECT_TRUE(succeeded(last));
}

TEST_F(ResumeE2e, KilledOrInterruptedGivesTheSameBytes) {
  int stopped = 0;
  bool resumed = false;
  for (int signal : {SIGKILL, SIGINT, SIGTERM}) {
    TempDir dir;
    stopAndGoOn(command(dir.path(), {}), dir.path(), signal, seconds, stopped,
                resumed);
    expectSame(dir.path(), "whole");
  }
  EXPECT_GT(stopped, 0);
  EXPECT_TRUE(resumed);
}

TEST_F(ResumeE2e, KilledInPartsGivesTheSameBytes) {
  int stopped = 0;
  bool resumed = false;
  TempDir dir;
  stopAndGoOn(command(dir.path(), {"--split", kSplit}), dir.path(), SIGKILL,
              seconds, stopped, resumed);
  expectSame(dir.path(), "split");
  EXPECT_GT(stopped, 0);
}

TEST_F(ResumeE2e, PartsGiveTheSameOutputs) {
  std::string split = shared->path("split/model.retort");
  std::string whole = shared->path("whole/model.retort");
  uint64_t bytes = 0;
  size_t files = 0;
  for (const auto &entry : fs::directory_iterator(shared->path("split"))) {
    EXPECT_LE(entry.file_size(), uint64_t(16) << 20);
    bytes += entry.file_size();
    ++files;
  }
  EXPECT_GE(files, 4u);
  std::vector<int32_t> tokens = randomTokens(20, 8000, 1);
  EXPECT_EQ(runLogits(split, tokens).floats, runLogits(whole, tokens).floats);
  EXPECT_TRUE(succeeded(runRetort({"check", split})));
  ProcessResult inspect = runRetort({"inspect", split, "--json"});
  ASSERT_TRUE(succeeded(inspect));
  auto json = nlohmann::json::parse(inspect.out);
  EXPECT_EQ(json["bytes"], bytes);
  EXPECT_EQ(json["parts"].size(), files - 1);
  EXPECT_EQ(json["parts"][0]["name"],
            "model-00001-of-0000" + std::to_string(files - 1) +
                ".retort-part");
}

TEST_F(ResumeE2e, PartsAreVerified) {
  TempDir dir;
  EXPECT_TRUE(succeeded(runRetort(
      command(dir.path(), {"--split", "32MB", "--verify", "--json"}))));
}

TEST_F(ResumeE2e, MissingAndForeignPartsAreNamed) {
  TempDir dir;
  fs::copy(shared->path("split"), dir.path());
  std::string part = dir.path("model-00002-of-0000");
  for (const auto &entry : fs::directory_iterator(dir.path()))
    if (entry.path().string().starts_with(part))
      part = entry.path();
  std::string model = dir.path("model.retort");
  std::string bytes = readFile(part);
  fs::resize_file(part, bytes.size() - 1);
  std::vector<std::vector<std::string>> commands = {
      {"inspect", model}, {"check", model}, {"run", model, "--tokens", "5"}};
  for (const auto &c : commands)
    EXPECT_TRUE(isError(runRetort(c), 1, {part, "truncated"}));
  bytes[20] = static_cast<char>(bytes[20] ^ 1);
  writeText(part, bytes);
  EXPECT_TRUE(isError(runRetort({"inspect", model}), 1, {part, "hash"}));
  fs::remove(part);
  for (const auto &c : commands)
    EXPECT_TRUE(isError(runRetort(c), 1, {part, "expected part 2 of"}));
}

TEST_F(ResumeE2e, ReplacedArtifactIsNeverAMix) {
  // The old file with the new parts, as if stopped between two renames.
  TempDir dir;
  fs::copy(shared->path("split"), dir.path());
  std::string old = readFile(dir.path("model.retort"));
  auto other = command(dir.path(), {"--split", kSplit});
  other[5] = "int8,embedding=int4";
  ASSERT_TRUE(succeeded(runRetort(other)));
  other[5] = "int4,attention=int8";
  ASSERT_TRUE(succeeded(runRetort(other)));
  writeText(dir.path("model.retort"), old);
  EXPECT_TRUE(isError(runRetort({"inspect", dir.path("model.retort")}), 1,
                      {"retort-part"}));
}

TEST_F(ResumeE2e, OtherOptionsStartAnew) {
  TempDir dir;
  ProcessOptions options;
  options.interruptSignal = SIGKILL;
  for (double share : {0.9, 0.7, 0.5}) {
    options.interruptSeconds = seconds * share;
    runRetort(command(dir.path(), {"--group-size", "64"}), options);
    fs::remove(dir.path("model.retort"));
    if (fs::exists(dir.path("model.retort.partial")))
      break;
  }
  if (!fs::exists(dir.path("model.retort.partial")))
    GTEST_SKIP() << "no compile could be stopped while it was packing";
  ProcessResult result = runRetort(command(dir.path(), {}));
  ASSERT_TRUE(succeeded(result));
  EXPECT_NE(result.err.find("--group-size"), std::string::npos)
      << result.describe();
  expectSame(dir.path(), "whole");
}

TEST_F(ResumeE2e, WrongUsage) {
  TempDir dir;
  struct {
    std::vector<std::string> flags;
    const char *part;
  } rows[] = {{{"--split", "100KB"}, "--split"},
              {{"--split", "0"}, "--split"},
              {{"--split", "some"}, "--split"},
              {{"--split", kSplit, "--standalone"}, "--standalone"},
              {{"--split", kSplit, "--no-weights"}, "--no-weights"}};
  for (const auto &row : rows) {
    ProcessResult result = runRetort(command(dir.path(), row.flags));
    EXPECT_EQ(result.exitCode, 2) << result.describe();
    EXPECT_NE(result.err.find(row.part), std::string::npos)
        << result.describe();
  }
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

} // namespace
