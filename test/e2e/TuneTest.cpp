//===- TuneTest.cpp - retort compile --tune -------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include <filesystem>
#include <nlohmann/json.hpp>

using namespace retort::test;
using nlohmann::json;

namespace {

class Tune : public ::testing::Test {
protected:
  void SetUp() override {
    std::filesystem::create_directory(checkpoint);
    builder.write(checkpoint);
  }

  ProcessResult compile(const std::string &output,
                        std::vector<std::string> flags = {}) {
    std::vector<std::string> all = {"compile", checkpoint,  "-o",
                                    output,    "--weights", "int4"};
    all.insert(all.end(), flags.begin(), flags.end());
    return runRetort(all);
  }
  ProcessResult tune(const std::string &output) {
    return compile(output, {"--tune", "--tune-cache", cache, "--json"});
  }
  json inspect(const std::string &artifact) {
    return json::parse(runRetort({"inspect", artifact, "--json"}).out);
  }

  TempDir dir;
  std::string checkpoint = dir.path("checkpoint");
  std::string output = dir.path("model.retort");
  std::string cache = dir.path("folder/tuning.json");
  // Rows enough for tiles of several shapes.
  CheckpointBuilder builder{{.vocab = 1024, .intermediate = 1024}};
};

TEST_F(Tune, TimesWhatTheCacheDoesNotKnow) {
  ProcessResult first = tune(output);
  ASSERT_EQ(first.exitCode, 0) << first.err;
  json report = json::parse(first.out)["tune"];
  EXPECT_GE(report["kernels"], 9);
  EXPECT_EQ(report["timed"], report["kernels"]);
  EXPECT_LT(report["seconds"], 120);
  ASSERT_TRUE(std::filesystem::exists(cache));
  std::string before = readFile(cache);

  ProcessResult second = tune(output);
  ASSERT_EQ(second.exitCode, 0) << second.err;
  json again = json::parse(second.out)["tune"];
  EXPECT_EQ(again["timed"], 0);
  EXPECT_EQ(again["kernels"], report["kernels"]);
  EXPECT_EQ(again["changed"], report["changed"]);
  EXPECT_EQ(readFile(cache), before);
  EXPECT_EQ(inspect(output)["tuning"].size(), again["changed"]);
}

// Whatever the clock says: a cache that asks for other tiles.
TEST_F(Tune, TilesDoNotMatterToResults) {
  std::string plain = dir.path("plain.retort");
  ASSERT_EQ(compile(plain).exitCode, 0);
  EXPECT_TRUE(inspect(plain)["tuning"].empty());
  ASSERT_EQ(tune(output).exitCode, 0);
  json entries = json::parse(readFile(cache));
  for (int strips : {2, 8}) {
    for (auto &[key, entry] : entries["kernels"].items())
      entry = {{"strips", strips}, {"gain", 1.25}};
    writeText(cache, entries.dump());
    ProcessResult done = tune(output);
    ASSERT_EQ(done.exitCode, 0) << done.err;
    EXPECT_EQ(json::parse(done.out)["tune"]["changed"],
              entries["kernels"].size());
    json tuning = inspect(output)["tuning"];
    EXPECT_EQ(tuning.size(), entries["kernels"].size());
    for (const json &kernel : tuning) {
      EXPECT_EQ(kernel["strips"], strips);
      EXPECT_EQ(kernel["gain"], 1.25);
    }
    std::string text = runRetort({"inspect", output}).out;
    EXPECT_NE(text.find("1.25 times as fast as the table's"), std::string::npos)
        << text;
    for (size_t tokens : {1, 5, 40}) {
      auto ids = randomTokens(tokens, 1024, 7);
      EXPECT_EQ(runLogits(output, ids).floats, runLogits(plain, ids).floats)
          << strips << " strips, " << tokens << " tokens";
    }
  }
}

TEST_F(Tune, ACacheThatIsNoneIsNamed) {
  std::filesystem::create_directory(dir.path("folder"));
  for (auto [text, what] :
       {std::pair("no json", "tuning.json"),
        {"[]", "retort-tuning"},
        {R"({"retort-tuning": 2})", "retort-tuning"},
        {R"({"retort-tuning": 1, "kernels": []})", "kernels"},
        {R"({"retort-tuning": 1, "kernels": {"a": 1}})", "'a'"},
        {R"({"retort-tuning": 1, "kernels": {"a": {"strips": -1, "gain": 1}}})",
         "strips from 0"}}) {
    writeText(cache, text);
    EXPECT_TRUE(isError(tune(output), 1, {"tuning.json", what})) << text;
    EXPECT_FALSE(std::filesystem::exists(output));
    EXPECT_EQ(readFile(cache), text);
  }
}

TEST_F(Tune, NeedsATargetOfThisMachine) {
  EXPECT_TRUE(isError(
      compile(output, {"--tune", "--tune-cache", cache, "--target", "aarch64"}),
      1, {"--tune", "aarch64"}));
  ProcessResult alone = compile(output, {"--tune-cache", cache});
  EXPECT_EQ(alone.exitCode, 2);
  EXPECT_NE(alone.err.find("requires --tune"), std::string::npos)
      << alone.describe();
}

} // namespace
