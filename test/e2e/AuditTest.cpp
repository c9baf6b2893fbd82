//===- AuditTest.cpp - retort audit ---------------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "runtime/abi/artifact_generated.h"
#include "runtime/loader/Artifact.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

using namespace retort::test;
using nlohmann::json;

namespace {

class Audit : public ::testing::Test {
protected:
  void SetUp() override {
    std::filesystem::create_directory(checkpoint);
    builder.write(checkpoint);
  }
  ProcessResult compile(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"compile", checkpoint, "-o", artifact});
    return runRetort(flags);
  }
  ProcessResult audit(std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"audit", artifact, "--source", checkpoint});
    return runRetort(flags);
  }

  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  std::string artifact = dir.path("model.retort");
  CheckpointBuilder builder{{.vocab = 96, .intermediate = 128}};
};

TEST_F(Audit, WhatWasCompiledPasses) {
  for (const char *weights : {"keep", "int8", "int4,attention=bf16"}) {
    ASSERT_TRUE(succeeded(compile({"--weights", weights, "--kv", "f16"})));
    ProcessResult result = audit({"--all", "--json"});
    ASSERT_EQ(result.exitCode, 0) << weights << result.describe();
    json report = json::parse(result.out);
    EXPECT_EQ(report["audited"].size(), report["tensors"]) << weights;
    EXPECT_TRUE(report["differing"].empty()) << weights;
    EXPECT_GT(report["audited_bytes"], 0);
  }
}

TEST_F(Audit, ASeedChoosesTensors) {
  ASSERT_TRUE(succeeded(compile({"--weights", "int4"})));
  auto chosen = [&](const char *seed) {
    ProcessResult result = audit({"--samples", "3", "--seed", seed, "--json"});
    EXPECT_EQ(result.exitCode, 0) << result.describe();
    return json::parse(result.out)["audited"];
  };
  json first = chosen("1");
  EXPECT_EQ(first.size(), 3u);
  EXPECT_EQ(chosen("1"), first);
  bool differs = false;
  for (const char *seed : {"2", "3", "4", "5"})
    differs |= chosen(seed) != first;
  EXPECT_TRUE(differs);
  ProcessResult text = audit({"--samples", "2"});
  ASSERT_EQ(text.exitCode, 0) << text.describe();
  EXPECT_NE(text.out.find("2 of "), std::string::npos) << text.out;
}

// One element of one tensor: the artifact is sound, its source another.
TEST_F(Audit, AChangedCheckpointIsFound) {
  ASSERT_TRUE(succeeded(compile({"--weights", "int8"})));
  auto &tensor = builder.tensor("model.layers.1.mlp.down_proj.weight");
  tensor.bytes[100] ^= std::byte(0x40); // of the mantissa
  builder.write(checkpoint);
  EXPECT_TRUE(isError(audit({"--all"}), 1,
                      {"1 of ", "model.layers.1.mlp.down_proj.weight"}));
  json report = json::parse(audit({"--all", "--json"}).out);
  EXPECT_EQ(report["differing"].size(), 1u);
}

// Hashes in the file's index don't help whoever changes bytes and hashes them
// anew: bytes are compared.
TEST_F(Audit, AChangedArtifactIsFound) {
  ASSERT_TRUE(succeeded(compile({"--weights", "bf16"})));
  uint64_t at = 0;
  {
    retort::OpenOptions open;
    open.weights = retort::WeightCheck::Never;
    auto opened = retort::Artifact::open(artifact, open);
    ASSERT_TRUE(opened.isOk());
    for (const auto *section : *(*opened)->index().sections())
      if (section->kind() == retort::abi::SectionKind::Weights)
        at = section->offset() + section->size() / 2;
  }
  ASSERT_NE(at, 0u);
  std::string bytes = readFile(artifact);
  bytes[at] ^= 1;
  writeText(artifact, bytes);
  EXPECT_TRUE(isError(audit({"--all"}), 1, {"1 of "}));
}

TEST_F(Audit, AnotherModelIsNamed) {
  ASSERT_TRUE(succeeded(compile({"--weights", "int8"})));
  std::filesystem::remove_all(checkpoint);
  std::filesystem::create_directory(checkpoint);
  CheckpointBuilder({.vocab = 96, .intermediate = 160}).write(checkpoint);
  EXPECT_TRUE(isError(audit(), 1, {"compiling the checkpoint gives"}));
  EXPECT_TRUE(
      isError(runRetort({"audit", artifact, "--source", dir.path("none")}), 1,
              {"none"}));
  EXPECT_EQ(runRetort({"audit", artifact}).exitCode, 2);
  EXPECT_EQ(audit({"--all", "--samples", "3"}).exitCode, 2);
}

} // namespace
