//===- ArtifactTest.cpp - Good and damaged artifacts ----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What inspect, check, bench and standalone executables say about a good
/// artifact, and what every tool says about a damaged one.
///
//===----------------------------------------------------------------------===//

#include "runtime/abi/Format.h"
#include "test/e2e/EndToEnd.h"

using namespace retort;
using namespace retort::test;
using nlohmann::json;
using retort::abi::FileHeader;
using retort::abi::kPageSize;

namespace {

json printedJson(const std::vector<std::string> &arguments) {
  ProcessResult result = runRetort(arguments);
  EXPECT_TRUE(succeeded(result));
  json parsed = json::parse(result.out, nullptr, false);
  EXPECT_FALSE(parsed.is_discarded()) << result.describe();
  return parsed;
}

/// Exit code 2, with a message that holds all `parts`.
void expectUsageError(const ProcessResult &result,
                      const std::vector<std::string> &parts) {
  EXPECT_EQ(result.exitCode, 2) << result.describe();
  for (const std::string &part : parts)
    EXPECT_NE(result.err.find(part), std::string::npos) << result.describe();
}

TEST(Inspect, DescribesModelAndParts) {
  json found = printedJson({"inspect", tinyArtifact(), "--json", "--weights",
                            "--program", "--code"});
  TinyModel expected;
  EXPECT_EQ(found["model"]["family"], "qwen2");
  EXPECT_EQ(found["model"]["vocab_size"], expected.vocab);
  EXPECT_EQ(found["model"]["hidden_size"], expected.hidden);
  EXPECT_EQ(found["model"]["num_layers"], expected.layers);
  EXPECT_EQ(found["model"]["max_context"], 512);
  EXPECT_FALSE(found["targets"].empty());
  EXPECT_FALSE(found["weights"].empty());
  EXPECT_FALSE(found["program"]["phases"].empty());
  EXPECT_FALSE(found["code"].empty());
}

TEST(WithoutWeights, InspectShowsTheSizesThatTheyWouldHave) {
  TempDir dir;
  CheckpointBuilder builder;
  std::filesystem::create_directory(dir.path("checkpoint"));
  builder.write(dir.path("checkpoint"));
  std::string whole = dir.path("whole.retort"), bare = dir.path("bare.retort");
  ASSERT_TRUE(succeeded(runRetort(
      {"compile", dir.path("checkpoint"), "--weights", "int8", "-o", whole})));
  std::filesystem::remove(dir.path("checkpoint") + "/model.safetensors");
  ASSERT_TRUE(
      succeeded(runRetort({"compile", dir.path("checkpoint"), "--no-weights",
                           "--weights", "int8", "-o", bare})));
  json expected = printedJson({"inspect", whole, "--json", "--program"});
  json found = printedJson({"inspect", bare, "--json", "--program"});
  EXPECT_EQ(expected["weights_stored"], true);
  EXPECT_EQ(found["weights_stored"], false);
  for (const char *part :
       {"model", "targets", "encodings", "memory", "program"})
    EXPECT_EQ(found[part], expected[part]) << part;
}

TEST(WithoutWeights, WhateverNeedsThemRefuses) {
  TempDir dir;
  CheckpointBuilder builder;
  std::filesystem::create_directory(dir.path("checkpoint"));
  builder.write(dir.path("checkpoint"));
  std::string bare = dir.path("bare.retort");
  ASSERT_TRUE(succeeded(runRetort(
      {"compile", dir.path("checkpoint"), "--no-weights", "-o", bare})));
  for (std::vector<std::string> arguments :
       {std::vector<std::string>{"run", bare, "--tokens", "3,4"},
        {"check", bare},
        {"bench", bare}})
    EXPECT_TRUE(isError(runRetort(arguments), 1, {"compiled without weights"}))
        << arguments[0];
  expectUsageError(runRetort({"compile", dir.path("checkpoint"), "--no-weights",
                              "--verify", "-o", bare}),
                   {"--no-weights excludes --verify"});
}

TEST(WeightClasses, AreStoredAsAskedFor) {
  TempDir dir;
  TinyModel model;
  model.tied = false;
  std::filesystem::create_directory(dir.path("checkpoint"));
  CheckpointBuilder(model).write(dir.path("checkpoint"));
  const char *choice = "int4,attention=bf16,dense=int8,head=f32";
  std::string artifact = dir.path("model.retort");
  ASSERT_TRUE(succeeded(runRetort({"compile", dir.path("checkpoint"),
                                   "--weights", choice, "-o", artifact})));
  json found = printedJson({"inspect", artifact, "--json", "--weights"});
  EXPECT_EQ(found["properties"]["weights"], choice);
  EXPECT_EQ(found["properties"]["group_size"], "32");
  std::map<std::string, std::string> encodings;
  for (const json &weight : found["weights"])
    encodings[weight["name"]] = weight["encoding"];
  EXPECT_EQ(encodings["packed.layers.0.qkv"], "bf16");
  EXPECT_EQ(encodings["packed.layers.1.gate_up"], "int8<32>");
  EXPECT_EQ(encodings["packed.lm_head.weight"], "f32");
  EXPECT_EQ(encodings["packed.model.embed_tokens.weight"], "int8<32>");
  EXPECT_TRUE(succeeded(runRetort({"check", artifact})));
}

TEST(WeightClasses, UnknownOnesAreWrongUsage) {
  TempDir dir;
  std::string output = dir.path("model.retort");
  expectUsageError(runRetort({"compile", dir.path(), "--weights",
                              "int4,router=int8", "-o", output}),
                   {"attention, experts, dense, embedding, head", "'router'"});
  expectUsageError(runRetort({"compile", dir.path(), "--weights",
                              "int4,head=q4", "-o", output}),
                   {"keep, f32, f16, bf16, int8, int6", "'q4'"});
}

TEST(Plan, PredictsTheSizesOfTheArtifact) {
  TempDir dir;
  CheckpointBuilder builder;
  std::filesystem::create_directory(dir.path("checkpoint"));
  builder.write(dir.path("checkpoint"));
  json plan = printedJson({"plan", dir.path("checkpoint"), "--weights", "int8",
                           "--context", "100", "--threads", "1", "--json"});
  ASSERT_EQ(plan["plans"].size(), 1u);
  const json &found = plan["plans"][0];
  std::string artifact = dir.path("model.retort");
  json report = printedJson({"compile", dir.path("checkpoint"), "--weights",
                             "int8", "--json", "-o", artifact});
  EXPECT_EQ(found["weight_bytes"], report["weight_bytes"]);
  double file = report["file_bytes"], code = report["code_bytes"];
  EXPECT_NEAR(found["artifact_bytes"].get<double>(), file - code, 8192);
  json inspected = printedJson(
      {"inspect", artifact, "--json", "--context", "100", "--threads", "1"});
  for (const char *part : {"total", "weights", "caches", "activations"})
    EXPECT_EQ(found["memory"][part], inspected["memory"][part]) << part;
  EXPECT_EQ(plan["parameters"], inspected["model"]["parameters"]);
  for (const json &machine : found["machines"]) {
    EXPECT_GT(machine["decode_tps"].get<double>(), 0) << machine;
    EXPECT_GT(machine["prefill_tps"].get<double>(), 0) << machine;
  }
  EXPECT_EQ(found["machines"][0]["name"], "this machine");
}

TEST(Plan, ComparesModelsWithTheFirst) {
  TempDir dir;
  CheckpointBuilder builder;
  std::filesystem::create_directory(dir.path("model"));
  writeText(dir.path("model") + "/config.json", builder.config.dump());
  ProcessResult result =
      runRetort({"plan", dir.path("model"), dir.path("model"), "--weights",
                 "int4", "--compare", "EPYC 9654"});
  EXPECT_TRUE(succeeded(result));
  EXPECT_NE(result.out.find("On EPYC 9654"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("| 1 |"), std::string::npos) << result.out;
  expectUsageError(runRetort({"plan", dir.path("model"), "--compare", "abacus",
                              "--weights", "int4"}),
                   {"EPYC", "abacus"});
}

TEST(Plan, RefusesABadContext) {
  TempDir dir;
  CheckpointBuilder builder;
  writeText(dir.path("config.json"), builder.config.dump());
  EXPECT_TRUE(isError(runRetort({"plan", dir.path(), "--context", "513"}), 1,
                      {"513", "512"}));
}

TEST(Inspect, SectionsAddUpToTheFile) {
  json found = printedJson({"inspect", tinyArtifact(), "--json"});
  uint64_t end = kPageSize;
  for (const json &section : found["sections"]) {
    EXPECT_EQ(section["offset"].get<uint64_t>(), end) << section;
    end += (section["size"].get<uint64_t>() + kPageSize - 1) / kPageSize *
           kPageSize;
  }
  EXPECT_LT(end, std::filesystem::file_size(tinyArtifact()));
}

TEST(Inspect, NamesTheEncodingsAskedFor) {
  const std::string &artifact =
      compiledOnce(source("examples/arithmetic/student"),
                   {"--weights", "int4", "--group-size", "64"});
  std::string encodings =
      printedJson({"inspect", artifact, "--json"})["encodings"].dump();
  EXPECT_NE(encodings.find("int4"), std::string::npos) << encodings;
  EXPECT_NE(encodings.find("64"), std::string::npos) << encodings;
}

TEST(Inspect, CountsCachesByTheirElement) {
  auto caches = [](const char *kv) {
    const std::string &artifact =
        compiledOnce(source("examples/arithmetic/student"), {"--kv", kv});
    json found =
        printedJson({"inspect", artifact, "--json", "--context", "64"});
    EXPECT_EQ(found["properties"]["kv"], kv);
    return found["memory"]["caches"].get<double>();
  };
  double f32 = caches("f32"), f16 = caches("f16"), int8 = caches("int8");
  // What tiles leave for each other is the same whatever the element.
  EXPECT_EQ(f16, caches("bf16"));
  EXPECT_NEAR((f16 - int8) / (f32 - f16), (2 - 17.0 / 16) / 2, 1e-6);
}

TEST(Inspect, PrintsTables) {
  ProcessResult result = runRetort(
      {"inspect", tinyArtifact(), "--weights", "--program", "--code"});
  EXPECT_TRUE(succeeded(result));
  EXPECT_NE(result.out.find("qwen2"), std::string::npos) << result.out;
}

TEST(Check, PassesOnAGoodArtifact) {
  EXPECT_TRUE(succeeded(runRetort({"check", tinyArtifact()})));
  EXPECT_TRUE(succeeded(runRetort({"check", studentArtifact()})));
}

TEST(Check, RunsTheStoredSelfTest) {
  json found = printedJson({"check", tinyArtifact(), "--json"});
  ASSERT_TRUE(found["self_test"].is_object()) << found;
  EXPECT_LE(found["self_test"]["relative_error"].get<double>(), 1e-3);
}

TEST(Bench, ReportsItsMeasurements) {
  json found =
      printedJson({"bench", tinyArtifact(), "--prompt", "32", "--gen", "8",
                   "--reps", "2", "--threads", "2", "--json", "--ledger"});
  for (const char *field : {"prefill_tps", "decode_tps", "load_ms",
                            "bytes_per_token", "read_gbps", "machine_gbps"})
    EXPECT_GT(found.value(field, 0.0), 0) << field;
  ASSERT_FALSE(found["ledger"].empty());
  double launches = 0;
  for (const json &line : found["ledger"]) {
    EXPECT_GT(line["bytes"].get<uint64_t>(), 0u) << line;
    EXPECT_GT(line["percent_of_roof"].get<double>(), 0) << line;
    if (line["part"] == "decode")
      launches += line["ms"].get<double>();
  }
  ASSERT_EQ(found["ledger_sums"].size(), 2u);
  EXPECT_EQ(found["ledger_sums"][0]["part"], "prefill");
  const json &decode = found["ledger_sums"][1];
  EXPECT_EQ(decode["part"], "decode");
  EXPECT_EQ(decode["tokens"], 8);
  EXPECT_NEAR(decode["launches_ms_per_token"].get<double>(), launches / 8,
              launches / 800);
  // The clock runs on between launches.
  EXPECT_LE(decode["launches_ms_per_token"].get<double>(),
            decode["ms_per_token"].get<double>());
  EXPECT_FALSE(decode["furthest_from_roof"].empty());
}

TEST(Bench, RefusesMoreTokensThanTheContextHolds) {
  EXPECT_TRUE(isError(runRetort({"bench", tinyArtifact(), "--prompt", "512",
                                 "--gen", "64", "--reps", "1"}),
                      1, {"512"}));
}

TEST(Compile, SameInputSameBytes) {
  TempDir dir;
  std::string checkpoint = source("examples/arithmetic/student");
  std::string first =
      compileCheckpoint(checkpoint, dir.path("1.retort"),
                        {"--weights", "int4", "--threads", "1"});
  std::string second =
      compileCheckpoint(checkpoint, dir.path("2.retort"),
                        {"--weights", "int4", "--threads", "2"});
  EXPECT_TRUE(readFile(first) == readFile(second));
}

TEST(Compile, VerifyAndJsonReport) {
  TempDir dir;
  ProcessResult result =
      runRetort({"compile", source("examples/arithmetic/student"), "-o",
                 dir.path("m.retort"), "--verify", "--json"});
  ASSERT_TRUE(succeeded(result));
  json report = json::parse(result.out, nullptr, false);
  EXPECT_TRUE(report.is_object()) << result.describe();
}

TEST(Compile, DumpsEveryStage) {
  TempDir dir;
  ASSERT_TRUE(succeeded(runRetort(
      {"compile", source("examples/arithmetic/student"), "-o",
       dir.path("m.retort"), "--dump-ir=all", "--dump-dir", dir.path("ir")})));
  std::string names;
  for (const auto &entry : std::filesystem::directory_iterator(dir.path("ir")))
    names += entry.path().filename().string() + " ";
  for (const char *stage : {"import", "quantize", "fuse", "plan", "lower"})
    EXPECT_NE(names.find(stage), std::string::npos) << names;
}

TEST(Standalone, RunsByItself) {
  TempDir dir;
  std::string program = dir.path("model");
  compileCheckpoint(source("examples/arithmetic/student"), program,
                    {"--standalone"});
  ProcessResult alone = runProcess({program, "-p", "12+345=?", "--temp", "0"});
  ASSERT_TRUE(succeeded(alone));
  ProcessResult usual =
      runRetort({"run", studentArtifact(), "-p", "12+345=?", "--temp", "0"});
  EXPECT_EQ(alone.out, usual.out);
  EXPECT_NE(alone.out.find("357"), std::string::npos) << alone.out;
  // The tools read a model in an executable too.
  EXPECT_TRUE(succeeded(runRetort({"check", program})));
}

TEST(RetortRun, AnswersAsRetortDoes) {
  ProcessResult small = runProcess(
      {tool("retort-run"), studentArtifact(), "-p", "70-12=?", "--temp", "0"});
  ASSERT_TRUE(succeeded(small));
  EXPECT_EQ(small.out, runRetort({"run", studentArtifact(), "-p", "70-12=?",
                                  "--temp", "0"})
                           .out);
}

/// A damaged copy of an artifact.
class Damaged : public ::testing::Test {
protected:
  void SetUp() override {
    bytes = readFile(tinyArtifact());
    ASSERT_GT(bytes.size(), 3 * kPageSize);
  }

  /// Every tool that opens artifacts refuses `damaged`, if the check that
  /// matters is among those that all of them make.
  void expectRefused(const std::string &damaged, const std::string &what) {
    std::string path = dir.path("damaged.retort");
    writeText(path, damaged);
    EXPECT_TRUE(isError(runRetort({"check", path}), 1)) << what;
  }

  TempDir dir;
  std::string bytes;
};

TEST_F(Damaged, CutAnywhere) {
  std::vector<size_t> sizes = {0,  1,  7,  8,    15,   55,
                               56, 57, 63, 4095, 4096, 4097};
  for (size_t i = 1; i < 12; ++i)
    sizes.push_back(bytes.size() * i / 12);
  for (size_t less : {1, 7, 8, 24, 4095, 4096, 4097})
    sizes.push_back(bytes.size() - less);
  for (size_t size : sizes)
    expectRefused(bytes.substr(0, size), "cut to " + std::to_string(size));
}

TEST_F(Damaged, GrownByAByteOrAPage) {
  expectRefused(bytes + '\0', "one byte more");
  expectRefused(bytes + std::string(kPageSize, '\0'), "one page more");
}

TEST_F(Damaged, AnyByteFlipped) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < sizeof(FileHeader); ++i)
    offsets.push_back(i);
  offsets.push_back(kPageSize - 1);
  std::mt19937_64 random(3);
  for (int i = 0; i < 60; ++i)
    offsets.push_back(random() % bytes.size());
  // The index, where most of the rules are.
  for (int i = 0; i < 30; ++i)
    offsets.push_back(bytes.size() - 1 - random() % kPageSize);
  for (size_t offset : offsets) {
    std::string damaged = bytes;
    damaged[offset] = static_cast<char>(damaged[offset] ^ (1 << random() % 8));
    expectRefused(damaged, "flipped byte " + std::to_string(offset));
  }
}

TEST_F(Damaged, EveryToolRefuses) {
  std::string damaged = bytes;
  damaged[kPageSize + 100] ^= 0x10;
  std::string path = dir.path("damaged.retort");
  writeText(path, damaged);
  EXPECT_TRUE(isError(runRetort({"run", path, "--tokens", "3,4"}), 1));
  EXPECT_TRUE(
      isError(runRetort({"bench", path, "--prompt", "4", "--gen", "1"}), 1));
  EXPECT_TRUE(isError(runRetort({"inspect", path}), 1));
  EXPECT_TRUE(
      isError(runProcess({tool("retort-run"), path, "--tokens", "3,4"}), 1));
}

TEST_F(Damaged, OtherFilesAreNoArtifacts) {
  expectRefused("", "an empty file");
  expectRefused("hello\n", "a text");
  expectRefused(readFile(tool("retort-run")).substr(0, 1 << 16),
                "an executable");
}

TEST(OtherMachine, IsRefusedByName) {
#if defined(__x86_64__)
  const char *other = "aarch64";
#else
  const char *other = "x86-64-v3";
#endif
  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  std::filesystem::create_directory(checkpoint);
  CheckpointBuilder().write(checkpoint);
  std::string artifact =
      compileCheckpoint(checkpoint, dir.path("m.retort"), {"--target", other});
  EXPECT_TRUE(
      isError(runRetort({"run", artifact, "--tokens", "3,4"}), 1, {other}));
  EXPECT_TRUE(isError(runRetort({"check", artifact}), 1, {other}));
  // It can still be looked at.
  EXPECT_TRUE(succeeded(runRetort({"inspect", artifact})));
}

TEST(OtherMachine, OneArtifactForSeveral) {
  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  std::filesystem::create_directory(checkpoint);
  CheckpointBuilder().write(checkpoint);
  std::string artifact =
      compileCheckpoint(checkpoint, dir.path("m.retort"),
                        {"--target", "x86-64-v3,x86-64-v4,aarch64"});
  EXPECT_EQ(printedJson({"inspect", artifact, "--json"})["targets"].size(), 3u);
  EXPECT_TRUE(succeeded(runRetort(
      {"run", artifact, "--tokens", "3,4", "-n", "2", "--temp", "0"})));
}

} // namespace
