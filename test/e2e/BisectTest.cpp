//===- BisectTest.cpp - retort bisect -------------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

using namespace retort::test;
using nlohmann::json;

namespace {

constexpr const char *kTokens = "5,9,17,33,40,41,42,90,3,4,77";

/// A model of three layers, and what the command says of it.
class Bisect : public ::testing::Test {
protected:
  void SetUp() override { write(checkpoint); }
  void write(const std::string &path) {
    std::filesystem::create_directory(path);
    builder.write(path);
  }
  /// The checkpoint compiled, once for each name.
  std::string compiled(const std::string &name,
                       const std::vector<std::string> &flags = {}) {
    std::string path = dir.path(name + ".retort");
    if (!std::filesystem::exists(path))
      compileCheckpoint(checkpoint, path, flags);
    return path;
  }
  ProcessResult bisect(const std::string &a, const std::string &b,
                       std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"bisect", a, b, "--tokens", kTokens});
    return runRetort(flags);
  }
  /// The report; `parts` says whether the command should find a difference.
  json report(const std::string &a, const std::string &b, bool parts,
              std::vector<std::string> flags = {}) {
    flags.push_back("--json");
    ProcessResult result = bisect(a, b, flags);
    EXPECT_EQ(result.exitCode, parts ? 3 : 0) << result.describe();
    json out = json::parse(result.out, nullptr, false);
    EXPECT_EQ(out.value("first", json()).is_null(), !parts);
    return out;
  }
  static json at(const json &report, int layer, const std::string &op) {
    for (const json &point : report["points"])
      if (point["op"] == op && (point["layer"] == layer || layer < 0))
        return point;
    return nullptr;
  }

  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  CheckpointBuilder builder{{.vocab = 96, .intermediate = 160, .layers = 3}};
};

TEST_F(Bisect, CompiledCodeDoesNotPartFromTheReference) {
  for (const char *chunk : {"8", "1", "11"}) {
    json found = report(checkpoint, compiled("plain"), false,
                        {"--tolerance", "1e-4", "--chunk", chunk});
    EXPECT_LT(at(found, 2, "down_proj")["error"], 1e-5);
    EXPECT_LT(at(found, -1, "lm_head")["step"], 1e-5);
    EXPECT_EQ(found["tokens"].size(), 11u);
    // The code of few tokens shows all ops; others fuse some.
    EXPECT_EQ(at(found, 1, "q_proj").is_null(), chunk != std::string("8"));
    EXPECT_FALSE(at(found, 1, "rope").is_null());
    EXPECT_FALSE(at(found, 1, "gate_up").is_null());
  }
}

TEST_F(Bisect, APlantedFaultIsNamed) {
  // What stands in the checkpoint, and the point where it shows.
  const std::map<std::string, std::string> faults = {
      {"self_attn.q_proj.weight", "q_proj"},
      {"self_attn.v_proj.weight", "v_proj"},
      {"self_attn.o_proj.weight", "o_proj"},
      {"mlp.up_proj.weight", "gate_up"},
      {"mlp.down_proj.weight", "down_proj"}};
  std::string sound = compiled("plain");
  for (const auto &[name, op] : faults) {
    CheckpointBuilder good = builder;
    std::string faulty = dir.path("faulty");
    auto &tensor = builder.tensor("model.layers.2." + name);
    for (size_t i = tensor.bytes.size() / 2; i < tensor.bytes.size(); ++i)
      tensor.bytes[i] = std::byte(0);
    write(faulty);
    builder = good;
    // Both ways, and once compiled.
    std::string artifact = dir.path(op + ".retort");
    compileCheckpoint(faulty, artifact);
    for (const auto &[a, b] : {std::pair(checkpoint, faulty),
                               {sound, faulty},
                               {faulty, sound},
                               {sound, artifact}}) {
      json found = report(a, b, true);
      EXPECT_EQ(found["first"]["layer"], 2) << op;
      EXPECT_EQ(found["first"]["op"], op);
      EXPECT_EQ(found["largest_step"]["layer"], 2) << op;
      EXPECT_EQ(found["largest_step"]["op"], op);
      EXPECT_GT(found["largest_step"]["value"], 0.1) << op;
      EXPECT_LT(at(found, 1, "down_proj")["error"], 1e-5);
      EXPECT_GT(at(found, -1, "lm_head")["error"], 1e-3);
      EXPECT_LT(at(found, -1, "lm_head")["step"], 1e-5);
    }
  }
}

// The fault shows with the tokens that meet it alone.
TEST_F(Bisect, TheTokenIsNamed) {
  auto &table = builder.tensor("model.embed_tokens.weight");
  size_t row = table.bytes.size() / 96;
  table.bytes[42 * row + 8] ^= std::byte(0x40);
  std::string faulty = dir.path("faulty");
  write(faulty);
  json found = report(checkpoint, faulty, true);
  EXPECT_EQ(found["first"]["op"], "embed_tokens");
  EXPECT_TRUE(found["first"]["layer"].is_null());
  EXPECT_EQ(found["first"]["token"], 6);
  EXPECT_EQ(found["first"]["errors"].size(), 11u);
  EXPECT_EQ(found["first"]["errors"][5], 0);
  json elements = found["first"]["elements"];
  size_t at =
      found["first"]["element"].get<size_t>() - elements["first"].get<size_t>();
  EXPECT_NE(elements["a"][at], elements["b"][at]);

  ProcessResult text = bisect(checkpoint, faulty);
  EXPECT_EQ(text.exitCode, 3);
  EXPECT_NE(text.out.find("they part at embed_tokens, token 6"),
            std::string::npos)
      << text.out;
}

TEST_F(Bisect, EncodingsAreComparedOpByOp) {
  json found =
      report(compiled("plain"), compiled("int4", {"--weights", "int4"}), true,
             {"--tolerance", "0.01"});
  for (int layer : {0, 1, 2})
    for (const char *op :
         {"q_proj", "k_proj", "v_proj", "o_proj", "gate_up", "down_proj"}) {
      double step = at(found, layer, op)["step"];
      EXPECT_GT(step, 0.02) << layer << op;
      EXPECT_LT(step, 0.3) << layer << op;
    }
  EXPECT_EQ(found["first"]["layer"], 0);
  EXPECT_GT(at(found, 2, "down_proj")["error"],
            at(found, 0, "down_proj")["error"]);
}

// Rows that a launch leaves as integers are read and replaced as what they
// stand for: were they replaced wrongly, the ops that read them would part.
TEST_F(Bisect, IntegerActivationsCostWhatTheirRoundingCosts) {
  for (const char *weights : {"int4", "int8"}) {
    std::string name(weights);
    json found = report(
        compiled(name + "f", {"--weights", weights, "--activations", "f32"}),
        compiled(name + "i", {"--weights", weights, "--activations", "int"}),
        name == "int4", {"--tolerance", "3e-3"});
    for (const char *op :
         {"q_proj", "attention", "o_proj", "gate_up", "down_proj"}) {
      double step = at(found, 1, op)["step"];
      EXPECT_GT(step, 0) << weights << op;
      EXPECT_LT(step, name == "int4" ? 0.02 : 2e-4) << weights << op;
    }
  }
}

TEST_F(Bisect, CachesPartInAttention) {
  json found =
      report(compiled("plain"), compiled("kv8", {"--kv", "int8"}), true);
  EXPECT_EQ(found["first"]["layer"], 0);
  EXPECT_EQ(found["first"]["op"], "attention");
  EXPECT_EQ(at(found, 0, "rope")["error"], 0);
  EXPECT_GT(at(found, 1, "attention")["step"], 1e-3);
  EXPECT_LT(at(found, 1, "o_proj")["step"], 1e-5);
}

TEST_F(Bisect, TextIsCutToTheTokensAskedFor) {
  std::string student = source("examples/arithmetic/student");
  const std::string &artifact = studentArtifact();
  std::string path = dir.path("text");
  writeText(path, "12+345=? What is 9 times 31?");
  auto count = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"bisect", student, artifact, "--json"});
    ProcessResult result = runRetort(flags);
    EXPECT_EQ(result.exitCode, 0) << result.describe();
    return json::parse(result.out)["tokens"].size();
  };
  size_t all = count({"--text", path});
  EXPECT_GT(all, 5u);
  EXPECT_EQ(count({"--prompt", "12+345=? What is 9 times 31?"}), all);
  EXPECT_EQ(count({"--text", path, "-n", "5"}), 5u);
  EXPECT_EQ(count({}), 16u);
}

TEST_F(Bisect, CodeIsChosenForEachSide) {
  std::string both =
      compiled("both", {"--target", "x86-64-v3,x86-64-v4,aarch64"});
  json found =
      report(both, both, false, {"--code-a", "x86-64-v3", "--threads", "1"});
  EXPECT_NE(found["a"].get<std::string>().find("x86-64-v3"), std::string::npos);
  EXPECT_TRUE(
      isError(bisect(both, both, {"--code-b", "aarch64"}), 1, {"aarch64"}));
  EXPECT_TRUE(isError(bisect(both, both, {"--code", "none"}), 1, {"none"}));
  EXPECT_TRUE(isError(bisect(checkpoint, both, {"--code-a", "x86-64-v3"}), 1,
                      {"is a checkpoint directory"}));
  EXPECT_TRUE(isError(bisect(checkpoint, checkpoint, {"--code", "x86-64-v3"}),
                      1, {"two checkpoint directories"}));
}

TEST_F(Bisect, OtherModelsAreRefused) {
  std::string other = dir.path("other");
  std::filesystem::create_directory(other);
  CheckpointBuilder({.vocab = 96, .intermediate = 160, .layers = 2})
      .write(other);
  EXPECT_TRUE(
      isError(bisect(checkpoint, other), 1,
              {checkpoint, other, "can't be compared", "layers: 3 and 2"}));
  CheckpointBuilder({.vocab = 96, .intermediate = 128, .layers = 3})
      .write(other);
  EXPECT_TRUE(isError(bisect(compiled("plain"), other), 1,
                      {"intermediate size: 160 and 128"}));
  CheckpointBuilder({.vocab = 128, .intermediate = 160, .layers = 3})
      .write(other);
  EXPECT_TRUE(
      isError(bisect(other, checkpoint), 1, {"vocabulary: 128 and 96"}));
}

TEST_F(Bisect, WhatIsMissingOrBrokenIsNamed) {
  std::string artifact = compiled("plain");
  EXPECT_TRUE(isError(bisect(dir.path("none"), artifact), 1, {"none"}));
  EXPECT_TRUE(isError(bisect(artifact, dir.path("none")), 1, {"none"}));
  std::string empty = dir.path("empty");
  std::filesystem::create_directory(empty);
  EXPECT_TRUE(isError(bisect(artifact, empty), 1, {"empty"}));
  std::string bytes = readFile(artifact);
  writeText(dir.path("cut.retort"), bytes.substr(0, bytes.size() / 2));
  EXPECT_TRUE(
      isError(bisect(artifact, dir.path("cut.retort")), 1, {"cut.retort"}));
  std::string bare = compiled("bare", {"--no-weights"});
  EXPECT_TRUE(isError(bisect(artifact, bare), 1, {"without weights"}));
}

TEST_F(Bisect, UnusableTokensAreRefused) {
  std::string artifact = compiled("short", {"--max-context", "4"});
  auto with = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"bisect", artifact, artifact});
    return runRetort(flags);
  };
  EXPECT_TRUE(isError(with({"--tokens", "1,96"}), 1,
                      {"token 1: expected an id below 96, found 96"}));
  EXPECT_TRUE(isError(with({"--tokens", "1,-2"}), 1, {"-2"}));
  EXPECT_TRUE(isError(with({"--tokens", "1,2,3,4,5"}), 1,
                      {"at most 4 tokens, its context, found 5"}));
  EXPECT_TRUE(isError(with({"--tokens", "@" + dir.path("none")}), 1, {"none"}));
  EXPECT_TRUE(isError(with({"--prompt", "text"}), 1, {"no tokenizer"}));
  EXPECT_TRUE(isError(with({"--tokens", "1", "--chunk", "100000"}), 1,
                      {"prefill chunk"}));
}

TEST_F(Bisect, WrongUsageIsToldApart) {
  std::string artifact = compiled("plain");
  EXPECT_EQ(runRetort({"bisect", artifact}).exitCode, 2);
  for (std::vector<std::string> flags :
       {std::vector<std::string>{"--prompt", "x"},
        {"--tolerance", "-1"},
        {"--tolerance", "nan"},
        {"--tolerance", "some"},
        {"--max-tokens", "0"},
        {"--chunk", "0"},
        {"--code", "a", "--code-b", "b"},
        {"--no-such-flag"}})
    EXPECT_EQ(bisect(artifact, artifact, flags).exitCode, 2) << flags[0];
}

} // namespace
