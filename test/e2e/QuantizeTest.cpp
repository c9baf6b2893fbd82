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
#include "test/e2e/ReferenceLogits.h"

#include <csignal>
#include <gmock/gmock.h>

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

/// Every file of a directory by name.
std::map<std::string, std::string> contents(const std::string &dir) {
  std::map<std::string, std::string> out;
  for (const auto &entry : fs::directory_iterator(dir))
    out[entry.path().filename()] = readFile(entry.path());
  return out;
}

/// Gives a model the student's tokenizer.
void addTokenizer(CheckpointBuilder &builder) {
  for (const char *name : {"tokenizer.json", "tokenizer_config.json"})
    builder.files[name] = readFile(student() + "/" + name);
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
    std::vector<float> expected = referenceLogits(out, tokens);
    double bar = std::string(GetParam()) == "int8"  ? 0.03
                 : std::string(GetParam()) == "fp8" ? 0.12
                                                    : 0.5;
    if (std::string(family) == "qwen2") // rounding moves choices of experts
      EXPECT_LE(relativeRms(expected, referenceLogits(dir.path(), tokens)),
                bar);
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
  std::vector<float> expected = referenceLogits(student(), tokens);
  double errors[2];
  for (int i = 0; i < 2; ++i) {
    std::string out = dir.path(i ? "gptq" : "rtn");
    ASSERT_TRUE(
        succeeded(quantize(student(), out,
                           {"--method", i ? "gptq" : "rtn", "--group-size",
                            "32", "--calibration-tokens", "1024"})));
    errors[i] = relativeRms(referenceLogits(out, tokens), expected);
  }
  EXPECT_LT(errors[1], errors[0]);
}

/// Every 16th column becomes 6 times as large.
void enlargeColumns(CheckpointBuilder::Tensor &tensor) {
  auto cols = static_cast<size_t>(tensor.shape[1]);
  std::vector<float> values(static_cast<size_t>(tensor.shape[0]) * cols);
  ASSERT_TRUE(
      checkpoint::convertToF32(tensor.dtype, tensor.bytes, values).isOk());
  for (size_t i = 0; i < values.size(); ++i)
    if (i % cols % 16 == 3)
      values[i] *= 6;
  tensor.bytes = encodeFloats(tensor.dtype, values);
}

/// Scales that go into norms, biases and rows leave the model what it was: only
/// the rounding shows.
TEST(Quantize, ScalesDoNotChangeTheModel) {
  std::vector<TinyModel> models;
  TinyModel model = tiny();
  model.vocab = 384;
  models.push_back(model); // biases of queries, keys and values
  model = tiny("llama");
  model.vocab = 384;
  model.dtype = DType::F16;
  model.extra = {{"attention_bias", true}, {"mlp_bias", true}};
  models.push_back(model);
  model = tiny("deepseek_v3");
  model.vocab = 384;
  models.push_back(model);
  model.extra["q_lora_rank"] = nullptr;
  models.push_back(model);
  for (size_t i = 0; i < models.size(); ++i) {
    TempDir dir;
    CheckpointBuilder builder(models[i]);
    for (CheckpointBuilder::Tensor &tensor : builder.tensors)
      if (tensor.name.ends_with("_proj.weight"))
        enlargeColumns(tensor);
    addTokenizer(builder);
    builder.write(dir.path());
    std::vector<int32_t> tokens = randomTokens(21, 300, 3);
    std::vector<float> expected = referenceLogits(dir.path(), tokens);
    std::map<std::string, double> errors;
    for (std::string method : {"rtn", "gptq", "awq", "awq+gptq"}) {
      std::string out = dir.path("by-" + method);
      ProcessResult result =
          quantize(dir.path(), out,
                   {"--method", method, "--weights", "int8",
                    "--calibration-tokens", "200", "--json"});
      ASSERT_TRUE(succeeded(result));
      nlohmann::json report = nlohmann::json::parse(result.out);
      if (method != "rtn")
        EXPECT_GT(report["scaled"], 0) << i;
      errors[method] = relativeRms(referenceLogits(out, tokens), expected);
    }
    EXPECT_LT(errors["gptq"], 1.5 * errors["rtn"]) << i;
    EXPECT_LT(errors["awq"], 1.5 * errors["rtn"]) << i;
    EXPECT_LT(errors["awq+gptq"], 1.5 * errors["rtn"]) << i;
  }
}

TEST(Quantize, ExpertsThatNothingReachesAreReported) {
  TempDir dir;
  TinyModel model = tiny("deepseek_v3");
  model.vocab = 384;
  model.extra["n_routed_experts"] = 64;
  CheckpointBuilder builder(model);
  addTokenizer(builder);
  builder.write(dir.path());
  std::string out = dir.path("quantized");
  ProcessResult result =
      quantize(dir.path(), out,
               {"--group-size", "32", "--calibration-tokens", "6", "--json"});
  ASSERT_TRUE(succeeded(result));
  nlohmann::json report = nlohmann::json::parse(result.out);
  // Of one layer's 64 experts 6 tokens reach 12 at most, with 3 matrices each.
  size_t unreached = report["unreached"].size();
  EXPECT_GE(unreached, 3u * 52);
  EXPECT_LE(unreached, 3u * 63);
  EXPECT_EQ(report["calibrated"].get<size_t>() + unreached,
            report["matrices"].get<size_t>());
  EXPECT_THAT(report["unreached"][0].get<std::string>(),
              ::testing::StartsWith("model.layers.1.mlp.experts."));
  std::vector<int32_t> tokens = randomTokens(21, 300, 3);
  std::string artifact = dir.path("model.retort");
  compileCheckpoint(out, artifact);
  EXPECT_LE(relativeRms(runLogits(artifact, tokens).floats,
                        referenceLogits(out, tokens)),
            1e-4);
}

/// Fp8 blocks are read as what they mean.
TEST(Quantize, TakesFp8Checkpoints) {
  TempDir dir;
  TinyModel model = tiny("deepseek_v3");
  model.vocab = 384;
  model.extra["quantization_config"] = {{"quant_method", "fp8"},
                                        {"fmt", "e4m3"},
                                        {"activation_scheme", "dynamic"},
                                        {"weight_block_size", {32, 32}}};
  CheckpointBuilder builder(model);
  addTokenizer(builder);
  builder.write(dir.path());
  std::string out = dir.path("quantized");
  ASSERT_TRUE(succeeded(quantize(
      dir.path(), out, {"--weights", "int8", "--calibration-tokens", "64"})));
  std::vector<int32_t> tokens = randomTokens(21, 300, 3);
  EXPECT_LE(relativeRms(referenceLogits(out, tokens),
                        referenceLogits(dir.path(), tokens)),
            0.1);
}

/// What one tool has quantized another may quantize on.
TEST(Quantize, TakesItsOwnResult) {
  TempDir dir;
  ASSERT_TRUE(succeeded(quantize(student(), dir.path("eight"),
                                 {"--weights", "int8", "--method", "rtn"})));
  ASSERT_TRUE(succeeded(
      quantize(dir.path("eight"), dir.path("four"),
               {"--group-size", "32", "--calibration-tokens", "256"})));
  std::vector<int32_t> tokens = randomTokens(60, 12, 3);
  EXPECT_LE(relativeRms(referenceLogits(dir.path("four"), tokens),
                        referenceLogits(student(), tokens)),
            0.5);
}

TEST(Quantize, ThreadsDoNotChangeTheBytes) {
  TempDir dir;
  for (const char *threads : {"1", "3"})
    ASSERT_TRUE(succeeded(
        quantize(student(), dir.path(threads),
                 {"--method", "awq+gptq", "--threads", threads, "--group-size",
                  "32", "--calibration-tokens", "256"})));
  EXPECT_EQ(contents(dir.path("1")), contents(dir.path("3")));
}

TEST(Quantize, CalibratesWithLinesOfPrompts) {
  TempDir dir;
  writeText(dir.path("texts.jsonl"),
            "{\"prompt\": \"Compute 12 + 30.\"}\n\"7 * 8 = 56\"\n"
            "{\"text\": \"3 - 1 = 2\"}\n");
  std::string same = "Compute 12 + 30.\n7 * 8 = 56\n3 - 1 = 2\n";
  writeText(dir.path("texts.txt"), same);
  for (const char *file : {"texts.jsonl", "texts.txt"})
    ASSERT_TRUE(succeeded(
        quantize(student(), dir.path(std::string("by-") + file),
                 {"--group-size", "32", "--calibrate", dir.path(file)})));
  EXPECT_EQ(contents(dir.path("by-texts.jsonl")),
            contents(dir.path("by-texts.txt")));
}

TEST(Quantize, ProgressIsPlainLinesElsewhereThanOnATerminal) {
  TempDir dir;
  ProcessResult result =
      quantize(student(), dir.path("out"), {"--group-size", "32"});
  ASSERT_TRUE(succeeded(result));
  EXPECT_THAT(result.err, ::testing::HasSubstr("100% of 21 matrices"));
  EXPECT_THAT(result.err, ::testing::HasSubstr(" s left"));
  EXPECT_EQ(result.err.find('\r'), std::string::npos);
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

TEST(Quantize, StudentSolvesNearlyAsMuch) {
  TempDir dir;
  auto passRate = [&](const std::string &model) {
    ProcessResult result =
        runRetort({"score", model, "--suite",
                   source("examples/arithmetic/problems.jsonl"), "--temp", "0",
                   "--json"});
    EXPECT_TRUE(succeeded(result));
    return nlohmann::json::parse(result.out)["pass1"].get<double>();
  };
  double before = passRate(student());
  for (std::string method : {"gptq", "awq+gptq"}) {
    std::string out = dir.path("by-" + method);
    ASSERT_TRUE(succeeded(quantize(student(), out, {"--method", method})));
    EXPECT_GE(passRate(out), before - 0.02) << method;
  }
}

/// Ten minutes and more; skipped without RETORT_MODELS, the folder of real
/// models.
TEST(RealQuantize, GptqLosesFarLessThanRoundingToNearest) {
  const char *models = std::getenv("RETORT_MODELS");
  std::string model = std::string(models ? models : "") + "/qwen05-dithered";
  if (!models || !fs::exists(model))
    GTEST_SKIP() << "no model 'qwen05-dithered': set RETORT_MODELS to the "
                    "folder that holds it";
  RETORT_REQUIRE_SHARED(corpora, "corpora");
  TempDir dir;
  ProcessOptions slow;
  slow.timeoutSeconds = 3000;
  std::map<std::string, double> kl;
  for (std::string method : {"rtn", "gptq"}) {
    std::string out = dir.path("by-" + method);
    ASSERT_TRUE(succeeded(
        runRetort({"quantize", model, "-o", out, "--method", method}, slow)));
    ProcessResult result = runRetort({"score", out, "--against", model,
                                      "--text", corpora + "/gpl3.txt", "--text",
                                      corpora + "/heapq.txt", "--json"},
                                     slow);
    ASSERT_TRUE(succeeded(result));
    kl[method] = nlohmann::json::parse(result.out)["kl_mean"].get<double>();
  }
  EXPECT_LE(kl["gptq"], 0.7 * kl["rtn"]); // 0.66 was measured
}

/// A slash at the end names the same directory.
TEST(Quantize, OutputMayEndInASlash) {
  TempDir dir;
  CheckpointBuilder(tiny()).write(dir.path());
  fs::create_directory(dir.path("out")); // empty: taken
  ASSERT_TRUE(succeeded(quantize(dir.path(), dir.path("out/"),
                                 {"--method", "rtn", "--group-size", "32"})));
  EXPECT_TRUE(fs::exists(dir.path("out/config.json")));
  EXPECT_FALSE(fs::exists(dir.path("out.partial")));
}

/// Killed after the checkpoint got its name, a run only tidies up.
TEST(Quantize, GoesOnFromTheLastMoment) {
  TempDir dir;
  std::string out = dir.path("out"), folder = dir.path("out.partial");
  std::vector<std::string> arguments = {"quantize", student(),      "-o",
                                        out,        "--group-size", "32"};
  ProcessOptions killed;
  killed.interruptSignal = SIGKILL;
  killed.interruptWhen = [&] {
    return fs::exists(folder + "/hidden-1.safetensors");
  };
  ASSERT_EQ(runRetort(arguments, killed).signal, SIGKILL);
  fs::copy_file(folder + "/inputs.json", dir.path("inputs.json"));
  ASSERT_TRUE(succeeded(runRetort(arguments)));
  auto whole = contents(out);
  fs::create_directory(folder);
  fs::copy_file(dir.path("inputs.json"), folder + "/inputs.json");
  ASSERT_TRUE(succeeded(runRetort(arguments)));
  EXPECT_EQ(contents(out), whole);
  EXPECT_FALSE(fs::exists(folder));
  // A finished checkpoint of other inputs is not touched.
  fs::create_directory(folder);
  fs::copy_file(dir.path("inputs.json"), folder + "/inputs.json");
  arguments.back() = "64";
  EXPECT_TRUE(
      isError(runRetort(arguments), 1, {"expected a directory that is empty"}));
  EXPECT_EQ(contents(out), whole);
}

/// A Ctrl-C leaves what is finished; other flags begin anew and say so.
TEST(Quantize, OtherInputsBeginAnew) {
  TempDir dir;
  std::vector<std::string> arguments = {"quantize",      student(),      "-o",
                                        dir.path("out"), "--group-size", "32"};
  ProcessOptions interrupted;
  interrupted.interruptSignal = SIGINT;
  interrupted.interruptWhen = [&] {
    return fs::exists(dir.path("out.partial/hidden-1.safetensors"));
  };
  ProcessResult first = runRetort(arguments, interrupted);
  EXPECT_EQ(first.exitCode, 130);
  ASSERT_TRUE(fs::exists(dir.path("out.partial")));
  ProcessResult other = quantize(student(), dir.path("out"),
                                 {"--weights", "int8", "--method", "rtn"});
  ASSERT_TRUE(succeeded(other));
  EXPECT_THAT(other.err, ::testing::HasSubstr("came from other inputs"));
  ASSERT_TRUE(succeeded(quantize(student(), dir.path("whole"),
                                 {"--weights", "int8", "--method", "rtn"})));
  EXPECT_EQ(contents(dir.path("out")), contents(dir.path("whole")));
}

TEST(BadQuantize, FolderThatHoldsSomethingElse) {
  TempDir dir;
  CheckpointBuilder(tiny()).write(dir.path());
  fs::create_directory(dir.path("out.partial"));
  writeText(dir.path("out.partial/notes.txt"), "mine");
  EXPECT_TRUE(isError(quantize(dir.path(), dir.path("out"),
                               {"--method", "rtn", "--group-size", "32"}),
                      1, {"out.partial", "found other files"}));
  EXPECT_EQ(readFile(dir.path("out.partial/notes.txt")), "mine");
}

/// A checkpoint with that value in a norm's weight.
void writeWithNorm(const std::string &dir, uint16_t value) {
  TinyModel model = tiny();
  model.vocab = 384;
  CheckpointBuilder builder(model);
  addTokenizer(builder);
  std::memcpy(builder.tensor("model.layers.1.post_attention_layernorm.weight")
                  .bytes.data(),
              &value, 2);
  builder.write(dir);
}

TEST(BadQuantize, InfinityInANorm) {
  TempDir dir;
  writeWithNorm(dir.path(), 0x7f80);
  EXPECT_TRUE(
      isError(quantize(dir.path(), dir.path("out"),
                       {"--group-size", "32", "--calibration-tokens", "64"}),
              1,
              {dir.path("model.safetensors"),
               "'model.layers.1.post_attention_layernorm.weight': "
               "element 0: expected a finite value, found inf"}));
  EXPECT_FALSE(fs::exists(dir.path("out")));
  EXPECT_FALSE(fs::exists(dir.path("out.partial")));
}

TEST(BadQuantize, ActivationsThatOverflow) {
  TempDir dir;
  writeWithNorm(dir.path(), 0x7f7f);
  EXPECT_TRUE(
      isError(quantize(dir.path(), dir.path("out"),
                       {"--group-size", "32", "--calibration-tokens", "64"}),
              1, {"layer 1: expected finite inputs"}));
  EXPECT_FALSE(fs::exists(dir.path("out.partial")));
}

TEST(BadQuantize, TruncatedCheckpoint) {
  TempDir dir;
  CheckpointBuilder(tiny()).write(dir.path());
  fs::resize_file(dir.path("model.safetensors"),
                  fs::file_size(dir.path("model.safetensors")) / 2);
  EXPECT_TRUE(
      isError(quantize(dir.path(), dir.path("out"), {"--method", "rtn"}), 1,
              {"model.safetensors"}));
  EXPECT_FALSE(fs::exists(dir.path("out.partial")));
}

TEST(BadQuantize, CheckpointThatIsNotThere) {
  TempDir dir;
  EXPECT_TRUE(
      isError(quantize(dir.path("none"), dir.path("out"), {}), 1, {"none"}));
  EXPECT_FALSE(fs::exists(dir.path("out.partial")));
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
  EXPECT_FALSE(fs::exists(dir.path("out.partial")));
}

TEST(BadQuantize, OutputThatIsNotEmpty) {
  TempDir dir;
  CheckpointBuilder(tiny()).write(dir.path());
  EXPECT_TRUE(isError(quantize(dir.path(), dir.path(),
                               {"--method", "rtn", "--group-size", "32"}),
                      1, {"expected a directory that is empty"}));
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
  for (std::vector<std::string> flags :
       {std::vector<std::string>{"--weights", "int3"},
        {"--method", "magic"},
        {"--group-size", "0"},
        {"--calibration-tokens", "-1"},
        {"--max-ram", "much"}}) {
    ProcessResult result = quantize(student(), "/tmp/x", flags);
    EXPECT_EQ(result.exitCode, 2) << result.describe();
    EXPECT_THAT(result.err, ::testing::HasSubstr(flags[0]));
  }
  EXPECT_EQ(runRetort({"quantize", student()}).exitCode, 2);
}

} // namespace
