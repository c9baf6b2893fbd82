//===- CertificateTest.cpp - What artifacts say of their fidelity ---------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "runtime/loader/Certificate.h"
#include "runtime/support/Sha256.h"

#include <filesystem>
#include <nlohmann/json.hpp>

using namespace retort::test;
using nlohmann::json;

namespace {

constexpr const char *kTokens = "5,9,17,33,40,41,42,90,3,4,77";

class Certificate : public ::testing::Test {
protected:
  void SetUp() override {
    std::filesystem::create_directory(checkpoint);
    builder.write(checkpoint);
  }
  void compile(std::vector<std::string> flags) {
    compileCheckpoint(checkpoint, artifact, flags);
  }
  ProcessResult run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin() + 1, artifact);
    return runRetort(arguments);
  }
  json certificate() {
    ProcessResult result = run({"inspect", "--certificate", "--json"});
    EXPECT_TRUE(succeeded(result));
    return json::parse(result.out, nullptr, false);
  }
  /// Writes another certificate into the artifact, as whoever lies would.
  void change(const std::function<void(retort::abi::CertificateT &)> &edit) {
    auto opened = retort::Artifact::open(artifact);
    ASSERT_TRUE(opened.isOk());
    auto found = retort::readCertificate(**opened);
    ASSERT_TRUE(found.isOk() && found->has_value());
    edit(**found);
    ASSERT_TRUE(retort::replaceCertificate(**opened, **found).isOk());
  }

  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  std::string artifact = dir.path("model.retort");
  CheckpointBuilder builder{{.vocab = 96, .intermediate = 160, .layers = 3}};
};

TEST_F(Certificate, SaysWhereWeightsComeFromAndWhatTheyCost) {
  compile({"--weights", "int4,attention=bf16", "--verify"});
  json found = certificate();
  EXPECT_TRUE(found["verified"]);
  std::string name = "model.layers.1.mlp.down_proj.weight";
  auto &tensor = builder.tensor(name);
  bool isThere = false;
  for (const json &source : found["sources"])
    if (source["name"] == name) {
      isThere = true;
      EXPECT_EQ(source["sha256"],
                retort::formatHex(retort::sha256(tensor.bytes)));
      EXPECT_EQ(source["shape"].size(), 2u);
    }
  EXPECT_TRUE(isThere);
  std::map<std::string, json> plan;
  for (const json &matrix : found["plan"])
    for (const json &source : matrix["sources"])
      plan[source] = matrix;
  EXPECT_EQ(plan.at(name)["method"], "nearest");
  EXPECT_TRUE(plan.at(name)["encoding"].get<std::string>().starts_with("int4"));
  EXPECT_EQ(plan.at(name)["inputs"], "int8<32>");
  json query = plan.at("model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(query["encoding"], "bf16");
  EXPECT_TRUE(query["inputs"].is_null());
  ASSERT_EQ(found["layers"].size(), 3u);
  EXPECT_GT(found["layers"][0], 1e-3);
  EXPECT_LT(found["layers"][0], 0.5);
  EXPECT_GT(found["logits"], found["layers"][0].get<double>() / 10);
  ASSERT_EQ(found["tests"].size(), 1u);
  EXPECT_EQ(found["tests"][0]["tokens"].size(), 16u);
  EXPECT_EQ(found["tests"][0]["rows"].size(), 16u);
  EXPECT_TRUE(found["texts"].empty());

  ProcessResult text = run({"inspect", "--certificate"});
  ASSERT_TRUE(succeeded(text));
  EXPECT_NE(text.out.find("int8<32>"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("layer 2"), std::string::npos) << text.out;
}

TEST_F(Certificate, KeptWeightsCostNothing) {
  compile({"--verify"});
  json found = certificate();
  for (const json &matrix : found["plan"])
    EXPECT_EQ(matrix["method"], "exact");
  EXPECT_EQ(found["layers"], json({0.0, 0.0, 0.0}));
}

TEST_F(Certificate, BytesDoNotDependOnThreads) {
  for (const char *weights : {"keep", "int4", "int8"}) {
    std::string first;
    for (const char *threads : {"1", "2", "3"}) {
      compile({"--weights", weights, "--verify", "--threads", threads});
      ASSERT_TRUE(succeeded(run(
          {"score", "--tokens", kTokens, "--certify", "--threads", threads})));
      if (first.empty())
        first = readFile(artifact);
      EXPECT_TRUE(readFile(artifact) == first) << weights << threads;
    }
  }
}

TEST_F(Certificate, CheckProvesTestInputs) {
  compile({"--weights", "int4", "--verify"});
  ProcessResult result = run({"check", "--json"});
  ASSERT_TRUE(succeeded(result));
  json found = json::parse(result.out)["certificate"];
  EXPECT_EQ(found["rows"], 16);
  EXPECT_EQ(found["agrees"], true);
  EXPECT_GE(found["same_greedy"], 15);
  EXPECT_LT(found["relative_error"], 0.03);
}

TEST_F(Certificate, CheckFindsLogitsThatTheModelDoesNotGive) {
  compile({"--verify"});
  change([](auto &c) {
    for (auto &row : c.tests[0]->rows)
      for (float &logit : row->logits)
        logit *= 1.01f;
  });
  ProcessResult result = run({"check"});
  EXPECT_EQ(result.exitCode, 1);
  EXPECT_NE(result.err.find("certificate: expected logits within"),
            std::string::npos)
      << result.err;
  EXPECT_NE(result.out.find("self test passed"), std::string::npos)
      << "what agrees is told too";
  EXPECT_NE(result.out.find("test inputs disagree"), std::string::npos);
}

TEST_F(Certificate, ScoreAddsTextsWhenAsked) {
  compile({"--weights", "int4", "--verify"});
  std::string before = readFile(artifact);
  ASSERT_TRUE(succeeded(run({"score", "--tokens", kTokens})));
  EXPECT_TRUE(readFile(artifact) == before) << "not asked to write";
  ProcessResult scored = run({"score", "--tokens", kTokens, "--against",
                              checkpoint, "--certify", "--json"});
  ASSERT_TRUE(succeeded(scored));
  json figures = json::parse(scored.out), found = certificate();
  ASSERT_EQ(found["texts"].size(), 1u);
  json text = found["texts"][0];
  for (const char *key : {"tokens", "mean_loss", "kl_mean", "kl_median",
                          "kl_p99", "top1", "top5"})
    EXPECT_EQ(text[key], figures[key]) << key;
  EXPECT_EQ(text["name"], "tokens");
  EXPECT_EQ(text["against"], "checkpoint");
  std::vector<int32_t> ids = {5, 9, 17, 33, 40, 41, 42, 90, 3, 4, 77};
  EXPECT_EQ(text["sha256"],
            retort::formatHex(retort::sha256(std::as_bytes(std::span(ids)))));
  EXPECT_TRUE(found["verified"]) << "the rest is kept";

  // The same again changes nothing; another measurement comes beside it.
  std::string once = readFile(artifact);
  ASSERT_TRUE(succeeded(run({"score", "--tokens", kTokens, "--against",
                             checkpoint, "--certify", "--json"})));
  EXPECT_TRUE(readFile(artifact) == once);
  ASSERT_TRUE(succeeded(run({"score", "--tokens", "1,2,3", "--certify"})));
  found = certificate();
  ASSERT_EQ(found["texts"].size(), 2u);
  EXPECT_TRUE(found["texts"][1]["against"].is_null());
  ASSERT_TRUE(succeeded(run({"check"})));
  ASSERT_TRUE(
      succeeded(runRetort({"audit", artifact, "--source", checkpoint})));
}

TEST_F(Certificate, SeveralTextsAndTeacherFilesAreCertified) {
  std::string student = dir.path("student.retort");
  compileCheckpoint(source("examples/arithmetic/student"), student,
                    {"--weights", "int8"});
  std::string one = dir.path("one.txt"), two = dir.path("two.txt"),
              teacher = dir.path("file.teacher");
  writeText(one, "12+345=? What is 9 times 31?");
  writeText(two, "Add 17 and 5.");
  ASSERT_TRUE(
      succeeded(runRetort({"score", source("examples/arithmetic/student"),
                           "--text", one, "--save-teacher", teacher})));
  ASSERT_TRUE(succeeded(runRetort(
      {"score", student, "--text", one, "--text", two, "--certify"})));
  ASSERT_TRUE(succeeded(
      runRetort({"score", student, "--against", teacher, "--certify"})));
  ProcessResult result =
      runRetort({"inspect", student, "--certificate", "--json"});
  ASSERT_TRUE(succeeded(result));
  json texts = json::parse(result.out)["texts"];
  ASSERT_EQ(texts.size(), 3u);
  EXPECT_EQ(texts[0]["name"], "one.txt");
  EXPECT_EQ(texts[1]["name"], "two.txt");
  EXPECT_EQ(texts[2]["sha256"], texts[0]["sha256"]);
  EXPECT_GE(texts[2]["kl_mean_upper"], texts[2]["kl_mean"]);
  EXPECT_FALSE(json::parse(result.out)["verified"]);
}

TEST_F(Certificate, CheckProvesTextsThatItIsGiven) {
  artifact = dir.path("student.retort");
  compileCheckpoint(source("examples/arithmetic/student"), artifact,
                    {"--weights", "int8"});
  std::string path = dir.path("one.txt"), other = dir.path("other.txt");
  writeText(path, "12+345=? What is 9 times 31? And 4 plus 4 is 8.");
  writeText(other, "12+345=?");
  EXPECT_TRUE(
      isError(run({"check", "--text", path}), 1, {"holds no certificate"}));
  ASSERT_TRUE(succeeded(run({"score", "--text", path, "--certify"})));
  ASSERT_TRUE(
      succeeded(run({"score", "--text", path, "--context", "8", "--certify"})));
  ProcessResult result = run({"check", "--text", path, "--json"});
  ASSERT_TRUE(succeeded(result));
  json texts = json::parse(result.out)["certificate"]["checked_texts"];
  ASSERT_EQ(texts.size(), 2u) << "each way in which it was scored";
  for (const json &text : texts) {
    EXPECT_EQ(text["agrees"], true);
    EXPECT_EQ(text["loss"], text["certified_loss"]);
  }
  EXPECT_NE(texts[0]["loss"], texts[1]["loss"]);

  EXPECT_TRUE(isError(run({"check", "--text", other}), 1,
                      {"other.txt", "names no text"}));
  EXPECT_TRUE(isError(run({"check", "--text", dir.path("none")}), 1, {"none"}));
  change([](auto &c) { c.texts[1]->mean_loss -= 0.5; });
  result = run({"check", "--text", path});
  EXPECT_EQ(result.exitCode, 1);
  EXPECT_NE(result.out.find("one.txt agrees"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("one.txt disagrees"), std::string::npos);
}

TEST_F(Certificate, AuditComparesHashesOfSources) {
  compile({"--weights", "int8", "--verify"});
  ProcessResult result =
      runRetort({"audit", artifact, "--source", checkpoint, "--all", "--json"});
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(json::parse(result.out)["hashed_sources"],
            certificate()["sources"].size());
  change([](auto &c) {
    for (auto &source : c.sources)
      if (source->name == "model.layers.2.mlp.up_proj.weight")
        source->sha256[5] ^= 1;
  });
  EXPECT_TRUE(
      isError(runRetort({"audit", artifact, "--source", checkpoint, "--all"}),
              1, {"certificate", "1 of", "model.layers.2.mlp.up_proj.weight"}));
}

TEST_F(Certificate, StandaloneAndSplitArtifactsHaveOne) {
  compile({"--verify", "--split", "192K"});
  size_t parts = json::parse(run({"inspect", "--json"}).out)["parts"].size();
  EXPECT_GT(parts, 0u);
  ASSERT_TRUE(succeeded(run({"score", "--tokens", kTokens, "--certify"})));
  ASSERT_TRUE(succeeded(run({"check"})));
  EXPECT_EQ(certificate()["texts"].size(), 1u);

  std::string executable = dir.path("ask");
  compileCheckpoint(checkpoint, executable, {"--verify", "--standalone"});
  ASSERT_TRUE(succeeded(
      runRetort({"score", executable, "--tokens", kTokens, "--certify"})));
  ASSERT_TRUE(succeeded(runRetort({"check", executable})));
  ProcessResult runs = runProcess({executable, "--tokens", "1,2", "-n", "2"});
  EXPECT_EQ(runs.exitCode, 0) << runs.describe();
}

TEST_F(Certificate, OldArtifactsSayThatTheyHaveNone) {
  compile({});
  EXPECT_TRUE(isError(run({"inspect", "--certificate"}), 1,
                      {"holds no certificate", "--verify", "--certify"}));
  ProcessResult checked = run({"check", "--json"});
  ASSERT_TRUE(succeeded(checked));
  EXPECT_TRUE(json::parse(checked.out)["certificate"].is_null());
  json audited = json::parse(
      runRetort({"audit", artifact, "--source", checkpoint, "--json"}).out);
  EXPECT_EQ(audited["hashed_sources"], 0);
}

TEST_F(Certificate, OneOfOtherWeightsIsRefused) {
  compile({"--verify"});
  change([](auto &c) { ++c.weights; });
  for (const char *command : {"check", "inspect"}) {
    std::vector<std::string> arguments = {command};
    if (std::string(command) == "inspect")
      arguments.push_back("--certificate");
    EXPECT_TRUE(isError(run(arguments), 1, {"is that of other weights"}));
  }
  std::string before = readFile(artifact);
  ProcessResult scored = run({"score", "--tokens", kTokens, "--certify"});
  EXPECT_EQ(scored.exitCode, 1);
  EXPECT_TRUE(readFile(artifact) == before);
}

// As if the disk were full half-way.
TEST_F(Certificate, AnInterruptedWriteLeavesTheArtifact) {
  compile({"--verify"});
  std::string before = readFile(artifact);
  ProcessOptions options;
  options.fileSizeLimit = before.size() / 2;
  ProcessResult result =
      runRetort({"score", artifact, "--tokens", kTokens, "--certify"}, options);
  EXPECT_EQ(result.exitCode, 1) << result.describe();
  EXPECT_NE(result.out.find("loss"), std::string::npos)
      << "what was measured isn't lost";
  EXPECT_TRUE(readFile(artifact) == before);
  for (const auto &entry : std::filesystem::directory_iterator(dir.path()))
    EXPECT_EQ(entry.path().filename().string().find("partial"),
              std::string::npos);
  ASSERT_TRUE(succeeded(run({"check"})));
}

TEST_F(Certificate, WhatCannotBeCertifiedIsRefused) {
  compile({});
  EXPECT_TRUE(isError(
      runRetort({"score", checkpoint, "--tokens", kTokens, "--certify"}), 1,
      {"expected an artifact to certify"}));
  EXPECT_EQ(run({"score", "--suite", "x.jsonl", "--certify"}).exitCode, 2);
  EXPECT_EQ(run({"score", "--tokens", kTokens, "--save-teacher", dir.path("t"),
                 "--certify"})
                .exitCode,
            2);
  // Nothing of the artifact is lost where the folder can't be written.
  std::string before = readFile(artifact);
  std::string folder = dir.path("full");
  std::filesystem::create_directory(folder);
  std::filesystem::create_symlink("/dev/full", folder + "/model.retort");
  EXPECT_TRUE(isError(runRetort({"score", folder + "/model.retort", "--tokens",
                                 kTokens, "--certify"}),
                      1, {"model.retort"}));
  EXPECT_TRUE(readFile(artifact) == before);
}

} // namespace
