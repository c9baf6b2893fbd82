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

constexpr const char *kSplit = "32MB";

/// A checkpoint that takes two seconds or more to pack: one thread makes sure.
class ResumeE2e : public ::testing::Test {
protected:
  static void SetUpTestSuite() {
    shared = new TempDir;
    std::string config = shared->path("config");
    fs::create_directory(config);
    writeText(config + "/config.json", R"({
      "model_type": "qwen2", "hidden_size": 1024, "intermediate_size": 4096,
      "num_hidden_layers": 16, "num_attention_heads": 8,
      "num_key_value_heads": 4, "vocab_size": 8000, "rms_norm_eps": 1e-6,
      "rope_theta": 10000.0, "max_position_embeddings": 256,
      "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2})");
    ASSERT_TRUE(succeeded(runRetort(
        {"synth", config, "-o", shared->path("checkpoint"), "--seed", "3"})));
    std::filesystem::create_directory(shared->path("whole"));
    std::filesystem::create_directory(shared->path("split"));
    ASSERT_TRUE(succeeded(runRetort(command(shared->path("whole"), {}))));
    ASSERT_TRUE(succeeded(
        runRetort(command(shared->path("split"), {"--split", kSplit}))));
  }
  static void TearDownTestSuite() { delete std::exchange(shared, nullptr); }

  static std::vector<std::string> command(const std::string &folder,
                                          std::vector<std::string> flags) {
    std::vector<std::string> all = {"compile",   shared->path("checkpoint"),
                                    "-o",        folder + "/model.retort",
                                    "--threads", "1",
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
};
TempDir *ResumeE2e::shared = nullptr;

/// The size of a file; 0 if it isn't there.
uint64_t sizeOf(const std::string &path) {
  std::error_code error;
  uint64_t size = fs::file_size(path, error);
  return error ? 0 : size;
}

/// Runs a compile and sends it a signal once its journal has grown so often.
ProcessResult stopAfter(const std::vector<std::string> &command,
                        const std::string &folder, int signal, int growths) {
  ProcessOptions options;
  options.interruptSignal = signal;
  std::string journal = folder + "/model.retort.partial/model.retort.journal";
  uint64_t size = 0;
  int grown = -2; // a journal is made, and gets its header
  options.interruptWhen = [=]() mutable {
    if (uint64_t now = sizeOf(journal); now > size) {
      size = now;
      ++grown;
    }
    return grown >= growths;
  };
  return runRetort(command, options);
}

/// Stops compiles that go on one where the other has ended, until one succeeds.
void stopAndGoOn(const std::vector<std::string> &command,
                 const std::string &folder, int signal) {
  std::string partial = folder + "/model.retort.partial";
  int stopped = 0;
  for (ProcessResult result; stopped < 10; ++stopped) {
    result = stopAfter(command, folder, signal, 0);
    bool resumed =
        result.err.find("note: going on: " + partial) != std::string::npos;
    EXPECT_EQ(resumed, stopped > 0) << result.describe();
    if (result.exitCode == 0)
      break;
    EXPECT_FALSE(fs::exists(folder + "/model.retort"));
    ASSERT_TRUE(fs::exists(partial));
    if (signal == SIGKILL) {
      ASSERT_EQ(result.signal, SIGKILL) << result.describe();
      continue;
    }
    ASSERT_EQ(result.exitCode, 128 + signal) << result.describe();
    EXPECT_EQ(result.err.find("error"), std::string::npos) << result.describe();
    EXPECT_NE(result.err.find(": the same command goes on from there"),
              std::string::npos)
        << result.describe();
  }
  EXPECT_GT(stopped, 0);
  EXPECT_LT(stopped, 10);
}

TEST_F(ResumeE2e, StoppedAndCalledAgainGivesTheSameBytes) {
  for (int signal : {SIGKILL, SIGINT}) {
    TempDir dir;
    stopAndGoOn(command(dir.path(), {}), dir.path(), signal);
    expectSame(dir.path(), "whole");
  }
}

TEST_F(ResumeE2e, KilledInPartsGivesTheSameBytes) {
  TempDir dir;
  stopAndGoOn(command(dir.path(), {"--split", kSplit}), dir.path(), SIGKILL);
  expectSame(dir.path(), "split");
}

TEST_F(ResumeE2e, StaysBelowTheMemoryWhenItGoesOn) {
  TempDir dir;
  auto limited = command(dir.path(), {"--max-ram", "400MB"});
  ASSERT_EQ(stopAfter(limited, dir.path(), SIGKILL, 1).signal, SIGKILL);
  ProcessResult result = runRetort(limited);
  ASSERT_TRUE(succeeded(result));
  EXPECT_LE(result.peakBytes, uint64_t(400) << 20);
  expectSame(dir.path(), "whole");
}

TEST_F(ResumeE2e, SecondCompileIsRefused) {
  TempDir dir;
  ProcessOptions options;
  options.interruptSignal = SIGINT;
  std::optional<ProcessResult> second;
  options.interruptWhen = [&] {
    if (!second && fs::exists(dir.path("model.retort.partial")))
      second = runRetort(command(dir.path(), {}));
    return false;
  };
  ASSERT_TRUE(succeeded(runRetort(command(dir.path(), {}), options)));
  ASSERT_TRUE(second);
  // On a slow machine the first may have come to its end before.
  if (second->exitCode != 0)
    EXPECT_TRUE(isError(*second, 1, {"another compile is writing it"}));
  else
    return;
  expectSame(dir.path(), "whole");
}

TEST_F(ResumeE2e, PartsGiveTheSameOutputs) {
  std::string split = shared->path("split/model.retort");
  std::string whole = shared->path("whole/model.retort");
  uint64_t bytes = 0;
  size_t files = 0;
  for (const auto &entry : fs::directory_iterator(shared->path("split"))) {
    EXPECT_LE(entry.file_size(), uint64_t(32) << 20);
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
            "model-00001-of-0000" + std::to_string(files - 1) + ".retort-part");
}

TEST_F(ResumeE2e, PartsAreVerified) {
  TempDir dir;
  EXPECT_TRUE(succeeded(runRetort(
      command(dir.path(), {"--split", kSplit, "--verify", "--json"}))));
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
  ASSERT_TRUE(succeeded(runRetort(
      command(dir.path(), {"--split", kSplit, "--group-size", "64"}))));
  ASSERT_TRUE(succeeded(runRetort({"check", dir.path("model.retort")})));
  writeText(dir.path("model.retort"), old);
  EXPECT_TRUE(isError(runRetort({"inspect", dir.path("model.retort")}), 1,
                      {"retort-part", "of another artifact"}));
}

TEST_F(ResumeE2e, OtherOptionsStartAnew) {
  TempDir dir;
  auto before = command(dir.path(), {"--group-size", "64"});
  ASSERT_EQ(stopAfter(before, dir.path(), SIGKILL, 1).signal, SIGKILL);
  ProcessResult result = runRetort(command(dir.path(), {}));
  ASSERT_TRUE(succeeded(result));
  EXPECT_NE(result.err.find("--group-size"), std::string::npos)
      << result.describe();
  EXPECT_NE(result.err.find("starting anew"), std::string::npos);
  expectSame(dir.path(), "whole");
}

TEST_F(ResumeE2e, NoResumeStartsAnew) {
  TempDir dir;
  ASSERT_EQ(stopAfter(command(dir.path(), {}), dir.path(), SIGKILL, 1).signal,
            SIGKILL);
  ProcessResult result = runRetort(command(dir.path(), {"--no-resume"}));
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(result.err.find("going on"), std::string::npos);
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
