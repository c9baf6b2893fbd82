//===- PlanTest.cpp - Configurations, plans, random checkpoints -*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The bundled configurations compile without weights, and `retort plan` and
/// `retort synth` as a user meets them.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

using namespace retort;
using namespace retort::test;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

/// Far more than any takes, for machines that do other things beside.
constexpr double kMostSeconds = 60;

std::vector<std::string> configurations() {
  std::vector<std::string> names;
  for (const auto &entry : fs::directory_iterator(source("examples/configs")))
    if (entry.is_directory())
      names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

json printedJson(const std::vector<std::string> &arguments) {
  ProcessOptions options;
  options.timeoutSeconds = 300;
  ProcessResult result = runRetort(arguments, options);
  EXPECT_TRUE(succeeded(result));
  return result.exitCode == 0 ? json::parse(result.out) : json();
}

bool isUsageError(const ProcessResult &result, const std::string &part) {
  return result.exitCode == 2 && result.out.empty() &&
         result.err.find(part) != std::string::npos;
}

class Configurations : public ::testing::TestWithParam<std::string> {};

TEST_P(Configurations, CompileWithoutWeightsToTheSizesOfThePlan) {
  std::string config = source("examples/configs/" + GetParam());
  TempDir dir;
  json plan =
      printedJson({"plan", config, "--weights", "int4", "--weights", "int8",
                   "--context", "4096", "--threads", "2", "--json"});
  ASSERT_EQ(plan["plans"].size(), 2u);
  EXPECT_GT(plan["parameters"].get<uint64_t>(), uint64_t(1'000'000'000));
  for (const json &found : plan["plans"]) {
    std::string weights = found["weights"];
    std::string artifact = dir.path(weights + ".retort");
    json report = printedJson({"compile", config, "--no-weights", "--weights",
                               weights, "-o", artifact, "--json"});
    double seconds = report["total_seconds"];
    RecordProperty(weights + "_seconds", std::to_string(seconds));
    EXPECT_LT(seconds, kMostSeconds) << weights;
    double bytes = report["weight_bytes"];
    EXPECT_EQ(found["weight_bytes"].get<double>(), bytes);
    EXPECT_NEAR(found["artifact_bytes"].get<double>(),
                bytes + report["file_bytes"].get<double>(), 0.01 * bytes);
    json inspected = printedJson(
        {"inspect", artifact, "--context", "4096", "--threads", "2", "--json"});
    EXPECT_FALSE(inspected["weights_stored"]);
    for (const char *part :
         {"total", "weights", "caches", "activations", "scratch"})
      EXPECT_EQ(found["memory"][part], inspected["memory"][part]) << part;
    EXPECT_EQ(plan["parameters"], inspected["model"]["parameters"]);
    for (const char *work : {"decoded_token", "prefill_token"}) {
      EXPECT_GT(found[work]["bytes"].get<double>(), 0) << work;
      EXPECT_GT(found[work]["flops"].get<double>(), 0) << work;
    }
    // A token reads no more than all weights and its context's caches.
    EXPECT_LE(found["decoded_token"]["bytes"].get<double>(),
              1.01 * (bytes + inspected["memory"]["caches"].get<double>()));
  }
  EXPECT_LT(plan["plans"][0]["weight_bytes"], plan["plans"][1]["weight_bytes"]);
}

INSTANTIATE_TEST_SUITE_P(Bundled, Configurations,
                         ::testing::ValuesIn(configurations()),
                         [](const auto &info) {
                           std::string name = info.param;
                           std::erase_if(name, [](char c) {
                             return !std::isalnum(
                                 static_cast<unsigned char>(c));
                           });
                           return name;
                         });

TEST(Configurations, AreThoseOfTheDistillation) {
  EXPECT_EQ(configurations().size(), 7u);
}

json deepseek() {
  return {{"model_type", "deepseek_v3"},
          {"vocab_size", 96},
          {"hidden_size", 160},
          {"intermediate_size", 224},
          {"moe_intermediate_size", 72},
          {"num_hidden_layers", 4},
          {"first_k_dense_replace", 1},
          {"n_routed_experts", 8},
          {"n_shared_experts", 1},
          {"num_experts_per_tok", 2},
          {"n_group", 2},
          {"topk_group", 1},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 4},
          {"q_lora_rank", 40},
          {"kv_lora_rank", 24},
          {"qk_nope_head_dim", 16},
          {"qk_rope_head_dim", 8},
          {"v_head_dim", 16},
          {"num_nextn_predict_layers", 0},
          {"max_position_embeddings", 256},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"},
          {"torch_dtype", "bfloat16"}};
}

/// Commands that take the directory of a configuration.
class ConfigCommand : public ::testing::TestWithParam<const char *> {
protected:
  void SetUp() override { fs::create_directory(config); }
  std::vector<std::string> command(std::vector<std::string> flags = {}) const {
    flags.insert(flags.begin(), {GetParam(), config});
    if (GetParam() == std::string("synth"))
      flags.insert(flags.end(), {"-o", output});
    return flags;
  }
  void writeConfig(const json &value) const {
    writeText(config + "/config.json", value.dump());
  }

  TempDir dir;
  std::string config = dir.path("config"), output = dir.path("model");
};

TEST_P(ConfigCommand, MissingConfiguration) {
  EXPECT_TRUE(isError(runRetort(command()), 1, {"config.json"}));
  config = dir.path("absent");
  EXPECT_TRUE(isError(runRetort(command()), 1, {"absent"}));
  EXPECT_FALSE(fs::exists(output));
}

TEST_P(ConfigCommand, ConfigurationIsNoJson) {
  for (const char *text : {"", "{", "[]", "null", "\xff\xfe"}) {
    writeText(config + "/config.json", text);
    EXPECT_TRUE(isError(runRetort(command()), 1, {"config.json"})) << text;
  }
  EXPECT_FALSE(fs::exists(output));
}

TEST_P(ConfigCommand, HostileConfigurations) {
  struct {
    const char *patch, *part;
  } rows[] = {
      {R"({"n_routed_experts": 0})", "n_routed_experts"},
      {R"({"num_experts_per_tok": 9})", "num_experts_per_tok"},
      {R"({"n_group": 3})", "n_group"},
      {R"({"topk_group": 3})", "topk_group"},
      {R"({"kv_lora_rank": 0})", "kv_lora_rank"},
      {R"({"q_lora_rank": -1})", "q_lora_rank"},
      {R"({"qk_rope_head_dim": 7})", "qk_rope_head_dim"},
      {R"({"hidden_size": 1e300})", "hidden_size"},
      {R"({"hidden_size": 4611686018427387904})", "hidden_size"},
      {R"({"num_hidden_layers": 1000000000000})", "num_hidden_layers"},
      {R"({"vocab_size": "96"})", "vocab_size"},
      {R"({"model_type": "mamba"})", "mamba"},
  };
  for (const auto &row : rows) {
    json bad = deepseek();
    bad.merge_patch(json::parse(row.patch));
    writeConfig(bad);
    EXPECT_TRUE(isError(runRetort(command()), 1, {row.part})) << row.patch;
    EXPECT_FALSE(fs::exists(output));
  }
}

TEST_P(ConfigCommand, WrongFlags) {
  writeConfig(deepseek());
  EXPECT_TRUE(isUsageError(runRetort(command({"--frobnicate"})), "frobnicate"));
  EXPECT_TRUE(isUsageError(runRetort(command({"--threads", "0"})), "threads"));
  EXPECT_TRUE(isUsageError(runRetort({GetParam()}), "required"));
  EXPECT_FALSE(fs::exists(output));
}

INSTANTIATE_TEST_SUITE_P(Commands, ConfigCommand,
                         ::testing::Values("plan", "synth"),
                         [](const auto &info) {
                           return std::string(info.param);
                         });

class Synth : public ::testing::Test {
protected:
  void SetUp() override {
    fs::create_directory(config);
    writeText(config + "/config.json", deepseek().dump());
  }
  ProcessResult run(const std::string &name, std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"synth", config, "-o", dir.path(name)});
    return runRetort(flags);
  }
  std::string weights(const std::string &name) {
    return readFile(dir.path(name) + "/model.safetensors");
  }

  TempDir dir;
  std::string config = dir.path("config");
};

TEST_F(Synth, TheSameSeedGivesTheSameBytes) {
  ASSERT_TRUE(succeeded(run("a", {"--seed", "5", "--threads", "1"})));
  ASSERT_TRUE(succeeded(run("b", {"--seed", "5", "--threads", "3"})));
  ASSERT_TRUE(succeeded(run("c", {"--seed", "6"})));
  EXPECT_TRUE(weights("a") == weights("b"));
  EXPECT_FALSE(weights("a") == weights("c"));
  EXPECT_EQ(weights("a").size(), weights("c").size());
}

TEST_F(Synth, TypesAndLayersAreThoseAskedFor) {
  ASSERT_TRUE(succeeded(run("bf16", {"--dtype", "bf16", "--layers", "2"})));
  ASSERT_TRUE(succeeded(run("fp8", {"--dtype", "fp8", "--layers", "2"})));
  ASSERT_TRUE(succeeded(run("whole", {})));
  for (const char *name : {"bf16", "fp8"}) {
    json written = json::parse(readFile(dir.path(name) + "/config.json"));
    EXPECT_EQ(written["num_hidden_layers"], 2) << name;
    EXPECT_EQ(written.contains("quantization_config"), name[0] == 'f');
    std::string artifact = dir.path(name) + ".retort";
    compileCheckpoint(dir.path(name), artifact, {"--verify"});
  }
  EXPECT_LT(weights("fp8").size(), weights("bf16").size());
  EXPECT_LT(weights("bf16").size(), weights("whole").size());
}

TEST_F(Synth, WrongFlags) {
  EXPECT_TRUE(isUsageError(run("m", {"--dtype", "int4"}), "dtype"));
  EXPECT_TRUE(isUsageError(run("m", {"--layers", "0"}), "layers"));
  EXPECT_TRUE(isUsageError(run("m", {"--layers", "-3"}), "layers"));
  EXPECT_TRUE(isUsageError(run("m", {"--seed", "-1"}), "seed"));
  EXPECT_TRUE(isUsageError(runRetort({"synth", config}), "output"));
  EXPECT_FALSE(fs::exists(dir.path("m")));
}

TEST_F(Synth, LayersThatCannotBe) {
  EXPECT_TRUE(
      isError(run("m", {"--layers", "1000000000"}), 1, {"num_hidden_layers"}));
  EXPECT_FALSE(fs::exists(dir.path("m")));
}

TEST_F(Synth, KeepsAFolderThatIsThere) {
  fs::create_directory(dir.path("m"));
  writeText(dir.path("m") + "/mine.txt", "mine");
  EXPECT_TRUE(isError(run("m", {}), 1, {dir.path("m")}));
  EXPECT_EQ(readFile(dir.path("m") + "/mine.txt"), "mine");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path("m")), {}), 1);
}

TEST_F(Synth, KeepsAFileThatIsThere) {
  writeText(dir.path("m"), "mine");
  EXPECT_TRUE(isError(run("m", {}), 1, {dir.path("m")}));
  EXPECT_EQ(readFile(dir.path("m")), "mine");
}

TEST_F(Synth, MtpThatTheConfigurationLacks) {
  EXPECT_TRUE(isError(run("m", {"--mtp"}), 1, {"num_nextn_predict_layers"}));
  EXPECT_FALSE(fs::exists(dir.path("m")));
}

TEST_F(Synth, PlanIsThatOfTheCheckpoint) {
  // Types are what the hub stores, with or without weights.
  ASSERT_TRUE(succeeded(run("m", {})));
  auto bytes = [&](const std::string &path) {
    return printedJson({"plan", path, "--weights", "int8",
                        "--json"})["plans"][0]["weight_bytes"];
  };
  EXPECT_EQ(bytes(config), bytes(dir.path("m")));
}

class Plan : public Synth {};

TEST_F(Plan, DefaultsListEveryEncoding) {
  json plan = printedJson({"plan", config, "--json"});
  std::vector<std::string> weights;
  for (const json &found : plan["plans"])
    weights.push_back(found["weights"]);
  EXPECT_EQ(weights,
            (std::vector<std::string>{"keep", "bf16", "int8", "int4"}));
  EXPECT_EQ(plan["family"], "deepseek_v3");
  EXPECT_EQ(plan["context"], 256);
  for (const json &found : plan["plans"])
    for (const json &machine : found["machines"])
      for (const char *field : {"name", "gbps", "tflops", "memory_gb", "fits",
                                "decode_tps", "prefill_tps"})
        EXPECT_TRUE(machine.contains(field)) << field;
}

TEST_F(Plan, SeveralModelsGiveSeveralPlans) {
  ProcessResult text = runRetort({"plan", config, "--weights", "int8"});
  EXPECT_TRUE(succeeded(text));
  EXPECT_NE(text.out.find("int8"), std::string::npos) << text.out;
}

TEST_F(Plan, WrongFlags) {
  for (const std::vector<std::string> &flags :
       {std::vector<std::string>{"--weights", "int7"},
        {"--group-size", "48"},
        {"--kv", "int4"},
        {"--context", "0"},
        {"--compare", "no such machine"}}) {
    std::vector<std::string> command = {"plan", config};
    command.insert(command.end(), flags.begin(), flags.end());
    EXPECT_TRUE(isUsageError(runRetort(command), flags[0])) << flags[0];
  }
}

TEST_F(Plan, ContextPastTheModel) {
  EXPECT_TRUE(isError(runRetort({"plan", config, "--context", "257"}), 1,
                      {"257", "256"}));
}

} // namespace
