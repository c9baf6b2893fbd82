//===- CompileTest.cpp - Checkpoints that do not compile ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Bad checkpoints, outputs that cannot be written, and compiles that are
/// interrupted: one error line, exit code 1, and no artifact.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include <csignal>
#include <unistd.h>

using namespace retort;
using namespace retort::test;
using nlohmann::json;

namespace {

class BadCheckpoint : public ::testing::Test {
protected:
  void SetUp() override { std::filesystem::create_directory(checkpoint); }

  /// Compiling fails as it should and leaves nothing.
  void expectError(const std::vector<std::string> &parts,
                   std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"compile", checkpoint, "-o", output});
    EXPECT_TRUE(isError(runRetort(flags), 1, parts));
    size_t files = 0;
    for (const auto &entry : std::filesystem::directory_iterator(dir.path())) {
      ++files;
      EXPECT_EQ(entry.path(), checkpoint);
    }
    EXPECT_EQ(files, 1u);
  }

  std::string file(std::string_view name) const {
    return checkpoint + "/" + std::string(name);
  }

  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  std::string output = dir.path("model.retort");
  CheckpointBuilder builder;
};

TEST_F(BadCheckpoint, MissingDirectory) {
  std::vector<std::string> flags = {"compile", dir.path("none"), "-o", output};
  EXPECT_TRUE(isError(runRetort(flags), 1, {"none"}));
}

TEST_F(BadCheckpoint, EmptyDirectory) { expectError({"config.json"}); }

TEST_F(BadCheckpoint, NoWeights) {
  writeText(file("config.json"), builder.config.dump());
  expectError({"safetensors"});
}

TEST_F(BadCheckpoint, MissingShard) {
  builder.write(checkpoint, 3);
  std::filesystem::remove(file("model-00002-of-00003.safetensors"));
  expectError({"model-00002-of-00003.safetensors"});
}

TEST_F(BadCheckpoint, TruncatedWeights) {
  builder.write(checkpoint);
  std::string path = file("model.safetensors");
  auto size = std::filesystem::file_size(path);
  for (uint64_t keep :
       {uint64_t(0), uint64_t(4), uint64_t(100), size / 2, size - 1}) {
    std::filesystem::resize_file(path, keep);
    expectError({"model.safetensors"});
  }
}

TEST_F(BadCheckpoint, LyingHeader) {
  builder.write(checkpoint);
  std::string bytes = readFile(file("model.safetensors"));
  size_t at = bytes.find("\"data_offsets\":[0,");
  ASSERT_NE(at, std::string::npos);
  bytes[at + 16] = '1'; // [1, instead of [0,
  writeText(file("model.safetensors"), bytes);
  expectError({"model.safetensors"});
}

TEST_F(BadCheckpoint, MissingTensor) {
  builder.remove("model.layers.1.mlp.up_proj.weight");
  builder.write(checkpoint);
  expectError({"model.layers.1.mlp.up_proj.weight"});
}

TEST_F(BadCheckpoint, ExtraTensor) {
  std::mt19937_64 random(1);
  builder.add("model.layers.0.self_attn.q_norm.weight", DType::BF16, {8},
              random);
  builder.write(checkpoint);
  expectError({"model.layers.0.self_attn.q_norm.weight"});
}

TEST_F(BadCheckpoint, MisshapenTensor) {
  std::swap(builder.tensor("model.layers.0.mlp.down_proj.weight").shape[0],
            builder.tensor("model.layers.0.mlp.down_proj.weight").shape[1]);
  builder.write(checkpoint);
  expectError({"model.layers.0.mlp.down_proj.weight", "[32, 40]", "[40, 32]"});
}

/// A change of config.json and what the error must name.
class BadConfig : public BadCheckpoint,
                  public ::testing::WithParamInterface<
                      std::tuple<const char *, const char *, const char *>> {};

TEST_P(BadConfig, IsNamed) {
  auto [name, patch, part] = GetParam();
  builder.config.merge_patch(json::parse(patch));
  builder.write(checkpoint);
  expectError({part});
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadConfig,
    ::testing::Values(
        std::tuple("Missing", R"({"hidden_size": null})", "hidden_size"),
        std::tuple("WrongType", R"({"hidden_size": "32"})", "hidden_size"),
        std::tuple("Negative", R"({"num_hidden_layers": -2})",
                   "num_hidden_layers"),
        std::tuple("Zero", R"({"num_attention_heads": 0})",
                   "num_attention_heads"),
        std::tuple("Huge", R"({"intermediate_size": 4611686018427387904})",
                   "intermediate_size"),
        std::tuple("Fraction", R"({"vocab_size": 48.5})", "vocab_size"),
        std::tuple("HeadsDoNotDivide", R"({"num_key_value_heads": 3})",
                   "num_key_value_heads"),
        std::tuple("OtherFamily", R"({"model_type": "mamba"})", "mamba"),
        std::tuple("OtherActivation", R"({"hidden_act": "gelu"})", "gelu"),
        std::tuple("SlidingWindow",
                   R"({"use_sliding_window": true, "sliding_window": 64,
                       "max_window_layers": 1})",
                   "sliding_window"),
        std::tuple("OtherRope",
                   R"({"rope_scaling": {"rope_type": "longrope"}})",
                   "longrope"),
        std::tuple("Quantized",
                   R"({"quantization_config": {"quant_method": "gptq"}})",
                   "quantization_config")),
    [](const auto &info) { return std::string(std::get<0>(info.param)); });

TEST_F(BadCheckpoint, ConfigIsNoJson) {
  builder.write(checkpoint);
  for (const char *text : {"", "{", "[]", "null", "{\"a\": 1,}", "\xff\xfe"}) {
    writeText(file("config.json"), text);
    expectError({"config.json"});
  }
}

TEST_F(BadCheckpoint, DeepJson) {
  builder.write(checkpoint);
  writeText(file("config.json"), std::string(1000000, '['));
  expectError({"config.json"});
}

TEST_F(BadCheckpoint, BrokenTokenizer) {
  std::string student = source("examples/arithmetic/student");
  for (const char *text : {"", "{}", R"({"model": {"type": "Unigram"}})"}) {
    std::filesystem::copy(
        student, checkpoint,
        std::filesystem::copy_options::recursive |
            std::filesystem::copy_options::overwrite_existing);
    writeText(file("tokenizer.json"), text);
    expectError({"tokenizer.json"});
  }
}

TEST_F(BadCheckpoint, BrokenChatTemplateMattersWhereItIsUsed) {
  std::filesystem::copy(source("examples/arithmetic/student"), checkpoint);
  json config = json::parse(readFile(file("tokenizer_config.json")));
  config["chat_template"] = "{% for m in messages %}{{ m.content }}";
  writeText(file("tokenizer_config.json"), config.dump());
  compileCheckpoint(checkpoint, output);
  EXPECT_TRUE(isError(runRetort({"run", output, "-p", "1+1", "--temp", "0"}), 1,
                      {"chat template"}));
  EXPECT_TRUE(succeeded(runRetort(
      {"run", output, "-p", "1+1", "--raw", "--temp", "0", "-n", "2"})));
}

TEST_F(BadCheckpoint, BrokenGenerationConfig) {
  std::filesystem::copy(source("examples/arithmetic/student"), checkpoint);
  writeText(file("generation_config.json"),
            R"({"do_sample": true, "temperature": "warm"})");
  expectError({"generation_config.json", "temperature"});
}

TEST_F(BadCheckpoint, ContextPastTheModel) {
  builder.write(checkpoint);
  expectError({"512"}, {"--max-context", "100000"});
}

TEST_F(BadCheckpoint, UnknownTarget) {
  builder.write(checkpoint);
  ProcessResult result =
      runRetort({"compile", checkpoint, "-o", output, "--target", "z80"});
  EXPECT_TRUE(result.exitCode == 1 || result.exitCode == 2)
      << result.describe();
  EXPECT_NE(result.err.find("z80"), std::string::npos) << result.describe();
  EXPECT_FALSE(std::filesystem::exists(output));
}

TEST_F(BadCheckpoint, WithoutTokenizerSaysSo) {
  builder.write(checkpoint);
  ProcessResult result = runRetort({"compile", checkpoint, "-o", output});
  ASSERT_TRUE(succeeded(result));
  EXPECT_NE(result.err.find("tokenizer"), std::string::npos)
      << result.describe();
}

class BadOutput : public BadCheckpoint {
protected:
  void SetUp() override {
    BadCheckpoint::SetUp();
    builder.write(checkpoint);
  }
};

TEST_F(BadOutput, MissingDirectory) {
  output = dir.path("none/model.retort");
  expectError({"none"});
}

TEST_F(BadOutput, IsADirectory) {
  output = checkpoint;
  expectError({checkpoint});
}

TEST_F(BadOutput, ReadOnlyDirectory) {
  // Nobody may create files there, root included.
  if (::geteuid() == 0) {
    output = "/proc/model.retort";
    expectError({"/proc/model.retort"});
    return;
  }
  std::filesystem::permissions(dir.path(),
                               std::filesystem::perms::owner_read |
                                   std::filesystem::perms::owner_exec);
  expectError({"model.retort"});
  std::filesystem::permissions(dir.path(), std::filesystem::perms::owner_all);
}

TEST_F(BadOutput, FullDiskKeepsTheOldFile) {
  writeText(output, "old");
  ProcessOptions options;
  options.fileSizeLimit = 16384;
  EXPECT_TRUE(
      isError(runRetort({"compile", checkpoint, "-o", output}, options), 1));
  EXPECT_EQ(readFile(output), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}),
            2);
}

TEST(Interrupted, LeavesNoHalfArtifact) {
  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  std::filesystem::create_directory(checkpoint);
  TinyModel model;
  model.vocab = 4096;
  model.hidden = 512;
  model.intermediate = 1024;
  model.heads = 8;
  CheckpointBuilder(model).write(checkpoint);
  std::vector<std::string> command = {"compile",   checkpoint,
                                      "-o",        dir.path("model.retort"),
                                      "--weights", "int4"};
  double whole = runRetort(command).seconds;
  std::filesystem::remove(dir.path("model.retort"));
  int interrupted = 0;
  for (double share : {0.05, 0.3, 0.6, 0.9})
    for (int signal : {SIGINT, SIGTERM}) {
      ProcessOptions options;
      options.interruptSignal = signal;
      options.interruptSeconds = whole * share;
      ProcessResult result = runRetort(command, options);
      if (result.exitCode == 0) { // it was faster this time
        std::filesystem::remove(dir.path("model.retort"));
        continue;
      }
      ++interrupted;
      EXPECT_TRUE(result.exitCode == 1 || result.exitCode == 128 + signal ||
                  result.signal == signal)
          << result.describe();
      // A signal may come when all is written and renamed.
      if (std::filesystem::exists(dir.path("model.retort"))) {
        EXPECT_TRUE(succeeded(runRetort({"check", dir.path("model.retort")})));
        std::filesystem::remove(dir.path("model.retort"));
      }
      // What is finished may stay; ResumeTest goes on with it.
      std::filesystem::remove_all(dir.path("model.retort.partial"));
      EXPECT_EQ(
          std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1)
          << "after " << options.interruptSeconds << " s";
    }
  EXPECT_GT(interrupted, 0);
}

} // namespace
