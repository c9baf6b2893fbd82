//===- QuantizeTest.cpp - The quantize command ----------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort quantize`, and what `retort compile` makes of its result.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "compiler/reference/Reference.h"

#include <csignal>

using namespace retort;
using namespace retort::test;
namespace fs = std::filesystem;

namespace {

TinyModel tiny(const char *family = "qwen2") {
  TinyModel model;
  model.modelType = family;
  model.vocab = 301;
  model.hidden = 64;
  model.intermediate = 128;
  if (std::string(family) == "deepseek_v3")
    model.extra = {{"moe_intermediate_size", 64}, {"q_lora_rank", 32},
                   {"kv_lora_rank", 32},          {"qk_nope_head_dim", 16},
                   {"qk_rope_head_dim", 16},      {"v_head_dim", 32},
                   {"n_routed_experts", 8}};
  return model;
}

/// The bundled arithmetic student: it has a tokenizer.
std::string student() { return source("examples/arithmetic/student"); }

ProcessResult quantize(const std::string &from, const std::string &to,
                       std::vector<std::string> flags) {
  std::vector<std::string> arguments = {"quantize", from, "-o", to};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  return runRetort(arguments);
}

std::vector<float> reference(const std::string &path,
                             const std::vector<int32_t> &tokens) {
  auto checkpoint = checkpoint::Checkpoint::open(path);
  if (!checkpoint) {
    ADD_FAILURE() << checkpoint.status().message();
    return {};
  }
  auto output = reference::runReference(*checkpoint, tokens);
  if (!output) {
    ADD_FAILURE() << output.status().message();
    return {};
  }
  return output->logits;
}

/// Every file of a directory by name.
std::map<std::string, std::string> contents(const std::string &dir) {
  std::map<std::string, std::string> out;
  for (const auto &entry : fs::directory_iterator(dir))
    out[entry.path().filename()] = readFile(entry.path());
  return out;
}

class QuantizeFormats : public ::testing::TestWithParam<const char *> {};

TEST_P(QuantizeFormats, CompileTakesTheResultAsItIs) {
  for (const char *family : {"qwen2", "deepseek_v3"}) {
    TempDir dir;
    CheckpointBuilder(tiny(family)).write(dir.path());
    std::string out = dir.path("quantized");
    ASSERT_TRUE(succeeded(quantize(
        dir.path(), out,
        {"--method", "rtn", "--weights", GetParam(), "--group-size", "32"})));
    std::vector<int32_t> tokens = randomTokens(21, 301, 3);
    std::vector<float> expected = reference(out, tokens);
    double bar = std::string(GetParam()) == "int8"  ? 0.03
                 : std::string(GetParam()) == "fp8" ? 0.12
                                                    : 0.5;
    if (std::string(family) == "qwen2") // rounding moves choices of experts
      EXPECT_LE(relativeRms(expected, reference(dir.path(), tokens)), bar);
    std::string artifact = dir.path("model.retort");
    compileCheckpoint(out, artifact, {"--verify"});
    EXPECT_LE(relativeRms(runLogits(artifact, tokens).floats, expected), 1e-4)
        << family;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, QuantizeFormats,
                         ::testing::Values("int4", "int4-zero-points", "int8",
                                           "fp8"),
                         [](const auto &info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(Quantize, GptqIsNearerThanRoundingToNearest) {
  TempDir dir;
  std::vector<int32_t> tokens = randomTokens(60, 12, 3);
  std::vector<float> expected = reference(student(), tokens);
  double errors[2];
  for (int i = 0; i < 2; ++i) {
    std::string out = dir.path(i ? "gptq" : "rtn");
    ASSERT_TRUE(
        succeeded(quantize(student(), out,
                           {"--method", i ? "gptq" : "rtn", "--group-size",
                            "32", "--calibration-tokens", "1024"})));
    errors[i] = relativeRms(reference(out, tokens), expected);
  }
  EXPECT_LT(errors[1], errors[0]);
}

TEST(Quantize, ThreadsDoNotChangeTheBytes) {
  TempDir dir;
  for (const char *threads : {"1", "3"})
    ASSERT_TRUE(succeeded(quantize(student(), dir.path(threads),
                                   {"--threads", threads, "--group-size", "32",
                                    "--calibration-tokens", "256"})));
  EXPECT_EQ(contents(dir.path("1")), contents(dir.path("3")));
}

TEST(Quantize, GoesOnWhereItWasKilled) {
  TempDir dir;
  std::vector<std::string> flags = {"--group-size", "32",
                                    "--calibration-tokens", "256", "--json"};
  ASSERT_TRUE(succeeded(quantize(student(), dir.path("whole"), flags)));
  auto whole = contents(dir.path("whole"));
  // What a kill leaves: the first layers, and what enters the next.
  for (int kept = 1; kept <= 2; ++kept) {
    std::string out = dir.path("killed" + std::to_string(kept));
    std::vector<std::string> arguments = {"quantize", student(), "-o", out};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    ProcessOptions killed;
    killed.interruptSignal = SIGKILL;
    killed.interruptWhen = [&] {
      return fs::exists(out + ".partial/hidden-" + std::to_string(kept) +
                        ".safetensors");
    };
    ASSERT_EQ(runRetort(arguments, killed).signal, SIGKILL);
    ASSERT_FALSE(fs::exists(out));
    ProcessResult again = runRetort(arguments);
    ASSERT_TRUE(succeeded(again));
    EXPECT_EQ(contents(out), whole);
    EXPECT_FALSE(fs::exists(out + ".partial"));
  }
}

TEST(BadQuantize, GroupSizeThatDoesNotDivide) {
  TempDir dir;
  CheckpointBuilder(tiny()).write(dir.path());
  EXPECT_TRUE(isError(quantize(dir.path(), dir.path("out"),
                               {"--method", "rtn", "--group-size", "48"}),
                      1,
                      {"model.safetensors",
                       "expected a group size that divides its 64 columns",
                       "found 48"}));
  EXPECT_FALSE(fs::exists(dir.path("out")));
  EXPECT_FALSE(fs::exists(dir.path("out.partial")));
}

TEST(BadQuantize, NaNAmongTheWeights) {
  TempDir dir;
  CheckpointBuilder builder(tiny());
  uint16_t nan = 0x7fc0;
  std::memcpy(builder.tensor("model.layers.1.mlp.up_proj.weight").bytes.data() +
                  2 * (64 + 5),
              &nan, 2);
  builder.write(dir.path());
  EXPECT_TRUE(isError(quantize(dir.path(), dir.path("out"),
                               {"--method", "rtn", "--group-size", "32"}),
                      1,
                      {"'model.layers.1.mlp.up_proj.weight': row 1, column 5: "
                       "expected a finite value, found nan"}));
  EXPECT_FALSE(fs::exists(dir.path("out")));
}

TEST(BadQuantize, OutputThatIsNotEmpty) {
  TempDir dir;
  CheckpointBuilder(tiny()).write(dir.path());
  EXPECT_TRUE(isError(quantize(dir.path(), dir.path(), {"--method", "rtn"}), 1,
                      {"expected a directory that is empty"}));
}

TEST(BadQuantize, CalibrationText) {
  TempDir dir;
  EXPECT_TRUE(isError(
      quantize(student(), dir.path("out"),
               {"--group-size", "32", "--calibrate", dir.path("absent.txt")}),
      1, {"absent.txt"}));
  writeText(dir.path("bad.jsonl"), "{\"prompt\": \"1+1\"}\n{\"text\": 3}\n");
  EXPECT_TRUE(isError(
      quantize(student(), dir.path("out"),
               {"--group-size", "32", "--calibrate", dir.path("bad.jsonl")}),
      1, {"bad.jsonl: line 2", "'prompt' or 'text'"}));
  writeText(dir.path("empty.txt"), "");
  EXPECT_TRUE(isError(
      quantize(student(), dir.path("out"),
               {"--group-size", "32", "--calibrate", dir.path("empty.txt")}),
      1, {"empty.txt", "expected text to calibrate with"}));
}

TEST(BadQuantize, NoTokenizerToCalibrateWith) {
  TempDir dir;
  CheckpointBuilder(tiny()).write(dir.path());
  EXPECT_TRUE(
      isError(quantize(dir.path(), dir.path("out"), {"--group-size", "32"}), 1,
              {"calibrating needs a tokenizer"}));
}

TEST(BadQuantize, TooLittleMemorySaysHowMuch) {
  TempDir dir;
  EXPECT_TRUE(isError(quantize(student(), dir.path("out"),
                               {"--group-size", "32", "--max-ram", "1MB"}),
                      1, {"needs a memory limit of at least", "found 1 MiB"}));
}

TEST(BadQuantize, Usage) {
  EXPECT_TRUE(isError(quantize(student(), "/tmp/x", {"--weights", "int3"}), 2));
  EXPECT_TRUE(isError(quantize(student(), "/tmp/x", {"--method", "magic"}), 2));
  EXPECT_TRUE(isError(runRetort({"quantize", student()}), 2));
}

} // namespace
