//===- DraftTest.cpp - Guessing ahead with the draft layer ----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort run --mtp`: what it generates is what it generates without, and the
/// draft layer is the reference's.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

using namespace retort;
using namespace retort::test;
using nlohmann::json;

namespace {

/// So few tokens that a random draft layer is right now and then.
TinyModel draftModel(uint64_t seed) {
  TinyModel model;
  model.modelType = "deepseek_v3";
  model.vocab = 9;
  model.hidden = 48;
  model.layers = 3;
  model.seed = seed;
  model.extra = {{"num_nextn_predict_layers", 1}};
  return model;
}

json quantizationConfig() {
  return {{"quant_method", "fp8"},
          {"fmt", "e4m3"},
          {"activation_scheme", "dynamic"},
          {"weight_block_size", {16, 16}}};
}

json generate(const std::string &artifact, std::vector<std::string> flags) {
  flags.insert(flags.begin(), {"run", artifact, "--tokens", "3,4,5,8,7,6,5,3",
                               "-n", "60", "--ignore-eos", "--json"});
  ProcessResult result = runRetort(flags);
  EXPECT_TRUE(succeeded(result));
  return result.exitCode == 0 ? json::parse(result.out) : json();
}

/// --weights and whether the checkpoint is fp8.
class Draft : public ::testing::TestWithParam<std::tuple<const char *, bool>> {
protected:
  /// Writes a checkpoint into `dir` and compiles it there.
  ProcessResult compile(const TempDir &dir, uint64_t seed) {
    auto [weights, fp8] = GetParam();
    TinyModel model = draftModel(seed);
    if (fp8)
      model.extra["quantization_config"] = quantizationConfig();
    CheckpointBuilder(model).write(dir.path());
    return runRetort({"compile", dir.path(), "-o", dir.path("m.retort"),
                      "--weights", weights, "--verify", "--json"});
  }
};

TEST_P(Draft, ChangesNothingButTheSpeed) {
  uint64_t drafted = 0, accepted = 0;
  for (uint64_t seed : {1, 2, 3}) {
    TempDir dir;
    ASSERT_TRUE(succeeded(compile(dir, seed)));
    std::string artifact = dir.path("m.retort");
    for (const char *temperature : {"0", "1"}) {
      std::vector<std::string> flags = {"--temp", temperature, "--seed", "4"};
      json plain = generate(artifact, flags);
      EXPECT_EQ(plain["drafted"], 0);
      json last;
      for (const char *more :
           {"--threads=1", "--threads=3", "--prefill-chunk=3"}) {
        flags = {"--temp", temperature, "--seed", "4", "--mtp", more};
        json found = generate(artifact, flags);
        EXPECT_EQ(found["ids"], plain["ids"]) << more;
        EXPECT_EQ(found["stop"], plain["stop"]) << more;
        if (!last.is_null())
          EXPECT_EQ(found["accepted"], last["accepted"]) << more;
        last = found;
      }
      drafted += last["drafted"].get<uint64_t>();
      accepted += last["accepted"].get<uint64_t>();
    }
  }
  EXPECT_GT(accepted, 0u);
  EXPECT_GT(drafted, accepted);
}

TEST_P(Draft, LayerIsTheReferences) {
  for (uint64_t seed : {1, 2}) {
    TempDir dir;
    ProcessResult result = compile(dir, seed);
    ASSERT_TRUE(succeeded(result));
    json verify = json::parse(result.out)["verify"];
    ASSERT_TRUE(verify.contains("draft"));
    std::string weights = std::get<0>(GetParam());
    // Rounding may tip choices of experts, after which nothing is comparable.
    if (weights == "int4" && !verify["same_experts"].get<bool>())
      continue;
    EXPECT_LE(verify["draft"].get<double>(), weights == "int4"   ? 8e-2
                                             : weights == "int8" ? 1e-3
                                                                 : 1e-4);
    EXPECT_GT(verify["draft"].get<double>(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Weights, Draft,
                         ::testing::Values(std::tuple("keep", false),
                                           std::tuple("keep", true),
                                           std::tuple("int8", false),
                                           std::tuple("int4", true)),
                         [](const auto &info) {
                           return std::string(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) ? "_fp8" : "_bf16");
                         });

TEST(DraftFlag, NeedsALayer) {
  EXPECT_TRUE(isError(
      runRetort({"run", tinyArtifact(), "--tokens", "3,4", "-n", "2", "--mtp"}),
      1, {"no multi-token-prediction layer"}));
}

TEST(DraftFlag, DoesNotGoWithLogits) {
  TempDir dir;
  ProcessResult result = runRetort({"run", tinyArtifact(), "--tokens", "3,4",
                                    "--logits", dir.path("l"), "--mtp"});
  EXPECT_EQ(result.exitCode, 2) << result.describe();
  EXPECT_NE(result.err.find("--mtp goes with"), std::string::npos)
      << result.describe();
}

/// A checkpoint that announces the layer but lacks it runs without it.
TEST(DraftFlag, IsRefusedIfTheCheckpointLacksTheLayer) {
  TempDir dir;
  TinyModel model = draftModel(1);
  CheckpointBuilder builder(model);
  std::erase_if(builder.tensors, [](const CheckpointBuilder::Tensor &t) {
    return t.name.starts_with("model.layers.3.");
  });
  builder.write(dir.path());
  std::string artifact = compileCheckpoint(dir.path(), dir.path("m.retort"));
  EXPECT_TRUE(
      succeeded(runRetort({"run", artifact, "--tokens", "3,4", "-n", "2"})));
  EXPECT_TRUE(isError(
      runRetort({"run", artifact, "--tokens", "3,4", "-n", "2", "--mtp"}), 1,
      {"no multi-token-prediction layer"}));
}

} // namespace
