//===- WeightPlanTest.cpp - An encoding for each matrix ----------*- C++
//-*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include <filesystem>

using namespace retort::test;
using nlohmann::json;

namespace {

/// The matrices of a model of grouped-query attention.
std::vector<std::string> matrices(int64_t layers, bool tied) {
  std::vector<std::string> names = {"model.embed_tokens.weight"};
  for (int64_t i = 0; i < layers; ++i)
    for (const char *module :
         {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
          "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      names.push_back("model.layers." + std::to_string(i) + "." + module +
                      ".weight");
  if (!tied)
    names.push_back("lm_head.weight");
  return names;
}

class WeightPlanFile : public ::testing::Test {
protected:
  void SetUp() override {
    std::filesystem::create_directory(checkpoint);
    CheckpointBuilder().write(checkpoint);
    plan = {{"format", "retort-weight-plan"},
            {"version", 1},
            {"weights", json::array()}};
    for (const std::string &name : matrices(2, false))
      plan["weights"].push_back({{"tensor", name}, {"encoding", "keep"}});
  }

  json &entry(const std::string &tensor) {
    for (json &entry : plan["weights"])
      if (entry["tensor"] == tensor)
        return entry;
    throw std::out_of_range(tensor);
  }
  void set(const std::string &module, const char *encoding) {
    entry(module + ".weight")["encoding"] = encoding;
  }

  ProcessResult compile() {
    writeText(file, plan.dump());
    return runRetort({"compile", checkpoint, "-o", output, "--plan", file});
  }
  void expectError(const std::vector<std::string> &parts) {
    EXPECT_TRUE(isError(compile(), 1, parts));
    EXPECT_FALSE(std::filesystem::exists(output));
  }

  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  std::string file = dir.path("plan.json");
  std::string output = dir.path("model.retort");
  json plan;
};

TEST_F(WeightPlanFile, EveryMatrixGetsItsEncoding) {
  for (const char *module : {"q", "k", "v"})
    set("model.layers.0.self_attn." + std::string(module) + "_proj",
        "int4<32, zero_points>");
  set("model.layers.1.mlp.down_proj", "int8<64>");
  set("lm_head", "f16");
  ASSERT_TRUE(succeeded(compile()));
  ProcessResult inspect = runRetort({"inspect", output, "--weights", "--json"});
  ASSERT_TRUE(succeeded(inspect));
  std::map<std::string, std::string> found;
  json description = json::parse(inspect.out);
  for (const json &weight : description["weights"])
    if (weight.contains("encoding"))
      found[weight["name"]] = weight["encoding"];
  EXPECT_EQ(found["packed.layers.0.qkv"], "int4<32, zero_points>");
  EXPECT_EQ(found["packed.layers.1.qkv"], "bf16");
  EXPECT_EQ(found["packed.model.layers.1.mlp.down_proj.weight"], "int8<64>");
  EXPECT_EQ(found["packed.model.layers.0.mlp.down_proj.weight"], "bf16");
  EXPECT_EQ(found["packed.lm_head.weight"], "f16");
}

TEST_F(WeightPlanFile, AllInOneEncodingIsTheUniformArtifact) {
  for (const std::string &name : matrices(2, false))
    entry(name)["encoding"] = "int8<32>";
  ASSERT_TRUE(succeeded(compile()));
  std::string uniform = compileCheckpoint(
      checkpoint, dir.path("uniform.retort"), {"--weights", "int8"});
  std::vector<int32_t> tokens = randomTokens(9, 48, 1);
  EXPECT_EQ(runLogits(output, tokens).floats,
            runLogits(uniform, tokens).floats);
}

TEST_F(WeightPlanFile, AllKeptIsExact) {
  ASSERT_TRUE(succeeded(compile()));
  std::string kept = compileCheckpoint(checkpoint, dir.path("kept.retort"));
  std::vector<int32_t> tokens = randomTokens(9, 48, 1);
  EXPECT_EQ(runLogits(output, tokens).floats, runLogits(kept, tokens).floats);
}

TEST_F(WeightPlanFile, AuditFollowsThePlan) {
  set("model.layers.1.mlp.down_proj", "int8<64>");
  set("lm_head", "int4<32, zero_points>");
  ASSERT_TRUE(succeeded(compile()));
  EXPECT_TRUE(
      succeeded(runRetort({"audit", output, "--source", checkpoint, "--all"})));
}

TEST_F(WeightPlanFile, ExcludesWeights) {
  writeText(file, plan.dump());
  ProcessResult result = runRetort({"compile", checkpoint, "-o", output,
                                    "--plan", file, "--weights", "int4"});
  EXPECT_EQ(result.exitCode, 2);
  EXPECT_NE(result.err.find("--plan excludes --weights"), std::string::npos);
}

TEST_F(WeightPlanFile, MissingFile) {
  EXPECT_TRUE(isError(runRetort({"compile", checkpoint, "-o", output, "--plan",
                                 dir.path("none.json")}),
                      1, {"none.json"}));
}

TEST_F(WeightPlanFile, NotJson) {
  writeText(file, "{\"format\": ");
  EXPECT_TRUE(
      isError(runRetort({"compile", checkpoint, "-o", output, "--plan", file}),
              1, {"plan.json"}));
}

TEST_F(WeightPlanFile, UnknownTensor) {
  plan["weights"].push_back(
      {{"tensor", "model.layers.2.mlp.up_proj.weight"}, {"encoding", "keep"}});
  expectError({"plan.json", "model.layers.2.mlp.up_proj.weight",
               "a matrix of the model"});
}

TEST_F(WeightPlanFile, MissingTensor) {
  plan["weights"].erase(3);
  expectError({"plan.json", matrices(2, false)[3], "an entry"});
}

TEST_F(WeightPlanFile, UnitsThatDisagree) {
  set("model.layers.1.mlp.up_proj", "int8<32>");
  expectError({"plan.json", "model.layers.1.mlp.up_proj.weight",
               "model.layers.1.mlp.gate_proj.weight", "keep", "int8<32>"});
}

TEST_F(WeightPlanFile, UnknownEncoding) {
  set("model.layers.1.mlp.down_proj", "int4<48>");
  expectError({"plan.json", "model.layers.1.mlp.down_proj.weight", "int4<48>",
               "32, 64 or 128"});
}

TEST_F(WeightPlanFile, EncodingThatIsOnlyKept) {
  set("model.layers.1.mlp.down_proj", "int4<32, f16_scales>");
  expectError({"plan.json", "model.layers.1.mlp.down_proj.weight",
               "int4<32, f16_scales>"});
}

} // namespace
