//===- GoldenTest.cpp - Compiled models against goldens -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Logits and greedy continuations of compiled checkpoints against those that
/// were computed in float64 from the same weights.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "compiler/reference/Reference.h"
#include "runtime/engine/Session.h"

#include <functional>
#include <map>

using namespace retort;
using namespace retort::test;

namespace {

/// Relative RMS error that a model in floats may have.
constexpr double kTolerance = 1e-4;

/// The same for integer weights, whose inputs are quantized: where compiled
/// code and the reference differ in the last digits, a quant may become its
/// neighbour, and from layer to layer more do. Wrong kernels are far beyond.
double toleranceOf(std::string_view weights) {
  return weights == "int4" ? 2e-2 : weights == "int8" ? 5e-4 : kTolerance;
}

/// Checkpoint and --weights.
class Golden
    : public ::testing::TestWithParam<std::tuple<const char *, const char *>> {
protected:
  void SetUp() override {
    auto [name, weights] = GetParam();
    RETORT_REQUIRE_SHARED(found, std::string("goldens/") + name);
    dir = found;
    artifact = compiledOnce(dir, {"--weights", weights});
    tokens = golden("input_ids").integers;
  }

  Tensor golden(std::string_view tensor) const {
    return readTensor(dir + "/golden.safetensors", tensor);
  }

  std::string dir, artifact;
  std::vector<int32_t> tokens;
};

TEST_P(Golden, Logits) {
  Tensor expected = golden("logits");
  Tensor found = runLogits(artifact, tokens);
  EXPECT_EQ(found.shape, expected.shape);
  EXPECT_LE(relativeRms(found.floats, expected.floats), kTolerance);
}

TEST_P(Golden, GreedyContinuation) {
  std::vector<int32_t> expected = golden("greedy_ids").integers;
  TempDir scratch;
  std::string out = scratch.path("out.safetensors");
  ProcessResult result =
      runRetort({"run", artifact, "--tokens", tokenList(tokens), "--logits",
                 out, "-n", std::to_string(expected.size()), "--temp", "0"});
  ASSERT_TRUE(succeeded(result));
  EXPECT_EQ(readTensor(out, "greedy_ids").integers, expected);
  // The logits are those of the tokens given, with or without a continuation.
  EXPECT_LE(
      relativeRms(readTensor(out, "logits").floats, golden("logits").floats),
      kTolerance);
}

TEST_P(Golden, AnyChunkingGivesTheSameLogits) {
  std::vector<float> expected = golden("logits").floats;
  std::vector<float> whole = runLogits(artifact, tokens).floats;
  for (const char *chunk : {"1", "7", "48"}) {
    Tensor found = runLogits(artifact, tokens, {"--prefill-chunk", chunk});
    EXPECT_LE(relativeRms(found.floats, expected), kTolerance)
        << "chunks of " << chunk;
    EXPECT_LE(relativeRms(found.floats, whole), kTolerance)
        << "chunks of " << chunk;
  }
}

/// What a draft is verified with gives what decoding gives.
TEST_P(Golden, AFewTokensGiveTheBitsOfOneAtATime) {
  std::vector<float> one =
      runLogits(artifact, tokens, {"--prefill-chunk", "1"}).floats;
  ASSERT_FALSE(one.empty());
  for (const char *chunk : {"2", "7", "8"})
    EXPECT_EQ(runLogits(artifact, tokens, {"--prefill-chunk", chunk}).floats,
              one)
        << "chunks of " << chunk;
}

TEST_P(Golden, AnyThreadCountGivesTheSameBits) {
  for (const char *chunk : {"1", "48"}) {
    Tensor one = runLogits(artifact, tokens,
                           {"--threads", "1", "--prefill-chunk", chunk});
    ASSERT_FALSE(one.floats.empty());
    for (const char *threads : {"2", "3"})
      EXPECT_EQ(runLogits(artifact, tokens,
                          {"--threads", threads, "--prefill-chunk", chunk})
                    .floats,
                one.floats)
          << threads << " threads, chunks of " << chunk;
  }
}

std::string
goldenName(const ::testing::TestParamInfo<Golden::ParamType> &info) {
  std::string name =
      std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Checkpoints, Golden,
    ::testing::Combine(::testing::Values("qwen2-tied", "qwen2-untied", "llama3",
                                         "llama-f16", "deepseek-v3",
                                         "deepseek-v3-fp8"),
                       ::testing::Values("keep", "f32")),
    goldenName);

/// --kv, and the relative RMS error that rounding the caches may make in the
/// logits of a random model: without experts, and with them, where it changes
/// who is chosen.
class CacheGolden : public ::testing::TestWithParam<
                        std::tuple<const char *, double, double>> {
protected:
  /// Checkpoint by checkpoint: its name, artifact and golden.
  void forAll(const std::function<void(const std::string &name,
                                       const std::string &artifact,
                                       const std::string &golden)> &check) {
    for (const char *name : {"qwen2-tied", "qwen2-untied", "llama3",
                             "llama-f16", "deepseek-v3", "deepseek-v3-fp8"}) {
      RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + name);
      check(name, compiledOnce(dir, {"--kv", std::get<0>(GetParam())}),
            dir + "/golden.safetensors");
    }
  }
};

TEST_P(CacheGolden, LogitsAreNearTheExactOnes) {
  auto [kv, dense, withExperts] = GetParam();
  forAll([&, dense = dense, withExperts = withExperts](
             const std::string &name, const std::string &artifact,
             const std::string &golden) {
    std::vector<int32_t> tokens = readTensor(golden, "input_ids").integers;
    std::vector<float> expected = readTensor(golden, "logits").floats;
    for (const char *chunk : {"1", "48"}) {
      double error = relativeRms(
          runLogits(artifact, tokens, {"--prefill-chunk", chunk}).floats,
          expected);
      EXPECT_LE(error, name.starts_with("deepseek") ? withExperts : dense)
          << name << ", chunks of " << chunk;
      EXPECT_GT(error, 1e-5) << name << " isn't rounded";
    }
  });
}

TEST_P(CacheGolden, CodeComputesWhatTheReferenceDoesWithSuchCaches) {
  for (const char *name : {"qwen2-untied", "llama-f16", "deepseek-v3"}) {
    RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + name);
    TempDir scratch;
    ProcessResult result =
        runRetort({"compile", dir, "-o", scratch.path("m.retort"), "--kv",
                   std::get<0>(GetParam()), "--verify", "--json"});
    ASSERT_TRUE(succeeded(result)) << name;
    auto report = nlohmann::json::parse(result.out);
    EXPECT_EQ(report["kv"], std::get<0>(GetParam()));
    EXPECT_LE(report["verify"]["logits"].get<double>(), 5e-3) << name;
  }
}

/// Beyond several blocks of positions, so that one token has many tiles.
TEST_P(CacheGolden, AnyThreadCountAndFewTokensGiveTheSameBits) {
  for (const char *name : {"qwen2-untied", "llama3", "deepseek-v3"}) {
    RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + name);
    const std::string &artifact =
        compiledOnce(dir, {"--kv", std::get<0>(GetParam())});
    std::vector<int32_t> tokens = randomTokens(330, 250, 7);
    std::vector<float> one =
        runLogits(artifact, tokens, {"--threads", "1", "--prefill-chunk", "1"})
            .floats;
    ASSERT_FALSE(one.empty());
    for (const char *threads : {"2", "3", "4"})
      for (const char *chunk : {"1", "7"})
        EXPECT_EQ(runLogits(artifact, tokens,
                            {"--threads", threads, "--prefill-chunk", chunk})
                      .floats,
                  one)
            << name << ", " << threads << " threads, chunks of " << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(Caches, CacheGolden,
                         ::testing::Values(std::tuple("f16", 1.5e-3, 3e-3),
                                           std::tuple("bf16", 1e-2, 0.1),
                                           std::tuple("int8", 3e-2, 0.2)),
                         [](const auto &info) {
                           return std::string(std::get<0>(info.param));
                         });

/// Weights of every number of bits, by integers and by floats.
class FormatGolden : public ::testing::TestWithParam<const char *> {};

/// `--verify` fails beyond 3e-2 with integers, and 1e-3 with floats.
TEST_P(FormatGolden, CodeComputesWhatTheReferenceDoesWithSuchWeights) {
  RETORT_REQUIRE_SHARED(dir, "goldens/qwen2-untied");
  TempDir scratch;
  std::string weights = std::string(GetParam()) + ",embedding=" + GetParam();
  ProcessResult result = runRetort(
      {"compile", dir, "-o", scratch.path("m.retort"), "--weights", weights,
       "--activations", "f32", "--kv", "f32", "--verify", "--json"});
  ASSERT_TRUE(succeeded(result));
  auto report = nlohmann::json::parse(result.out);
  EXPECT_LE(report["verify"]["logits"].get<double>(), 1e-3);
}

TEST_P(FormatGolden, FewTokensGiveTheBitsOfOne) {
  RETORT_REQUIRE_SHARED(dir, "goldens/qwen2-untied");
  const std::string &artifact =
      compiledOnce(dir, {"--weights", GetParam(), "--verify"});
  std::vector<int32_t> tokens = randomTokens(40, 250, 9);
  std::vector<float> one =
      runLogits(artifact, tokens, {"--threads", "1", "--prefill-chunk", "1"})
          .floats;
  ASSERT_FALSE(one.empty());
  EXPECT_EQ(
      runLogits(artifact, tokens, {"--threads", "2", "--prefill-chunk", "7"})
          .floats,
      one);
}

INSTANTIATE_TEST_SUITE_P(Bits, FormatGolden,
                         ::testing::Values("int2", "int3", "int5", "int6",
                                           "nf4"),
                         [](const auto &info) {
                           return std::string(info.param);
                         });

/// Nothing is rounded where nothing else is.
TEST(CacheDefault, FollowsTheWeights) {
  std::string dir = source("examples/arithmetic/student");
  for (auto [weights, kv] :
       {std::pair<const char *, const char *>{"keep", "f32"},
        {"f32", "f32"},
        {"bf16", "f16"},
        {"int8", "f16"},
        {"keep,head=int8", "f16"}}) {
    TempDir scratch;
    ProcessResult result =
        runRetort({"compile", dir, "-o", scratch.path("m.retort"), "--weights",
                   weights, "--json"});
    ASSERT_TRUE(succeeded(result)) << weights;
    EXPECT_EQ(nlohmann::json::parse(result.out)["kv"], kv) << weights;
  }
}

TEST(CacheDefault, RefusesAnUnknownElement) {
  std::string dir = source("examples/arithmetic/student");
  TempDir scratch;
  ProcessResult result =
      runRetort({"compile", dir, "-o", scratch.path("m.retort"), "--kv", "f8"});
  EXPECT_EQ(result.exitCode, 2);
  EXPECT_NE(result.err.find("--kv"), std::string::npos) << result.err;
}

/// The reference, which is checked against transformers, and compiled code give
/// every token of every layer the same experts.
TEST(ExpertGolden, TokensGoToTheReferencesExperts) {
  for (const char *name : {"deepseek-v3", "deepseek-v3-fp8"})
    for (const char *weights : {"keep", "int8"}) {
      RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + name);
      TempDir scratch;
      ProcessResult result =
          runRetort({"compile", dir, "-o", scratch.path("m.retort"),
                     "--weights", weights, "--verify", "--json"});
      ASSERT_TRUE(succeeded(result)) << name;
      auto verify = nlohmann::json::parse(result.out)["verify"];
      ASSERT_TRUE(verify.contains("same_experts")) << name;
      EXPECT_TRUE(verify["same_experts"].get<bool>()) << name;
      EXPECT_LE(verify["logits"].get<double>(), toleranceOf(weights)) << name;
    }
}

/// The same read out of the running program, for the golden's own tokens, in
/// chunks that meet every kind of phase.
TEST(ExpertGolden, TokensOfTheGoldenGoToTheReferencesExperts) {
  for (const char *name : {"deepseek-v3", "deepseek-v3-fp8"}) {
    RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + name);
    std::vector<int32_t> tokens =
        readTensor(dir + "/golden.safetensors", "input_ids").integers;
    auto checkpoint = checkpoint::Checkpoint::open(dir);
    ASSERT_TRUE(checkpoint) << checkpoint.status().message();
    size_t perToken =
        static_cast<size_t>(checkpoint->config().moe->expertsPerToken);
    reference::ReferenceOptions keep;
    keep.keepExperts = true;
    auto expected = reference::runReference(*checkpoint, tokens, keep);
    ASSERT_TRUE(expected) << expected.status().message();

    auto artifact = Artifact::open(compiledOnce(dir, {"--weights", "keep"}));
    ASSERT_TRUE(artifact) << artifact.status().message();
    auto model = Model::load(*artifact);
    ASSERT_TRUE(model) << model.status().message();
    for (uint32_t chunk : {1u, 5u, 48u}) {
      std::map<int, std::vector<int32_t>> byLayer;
      SessionOptions options;
      options.prefillChunk = chunk;
      options.observer = [&](const LaunchEvent &event) {
        if (event.launch.label()->string_view() != "moe_route")
          return;
        std::vector<int32_t> &found = byLayer[event.launch.layer()];
        for (int64_t t = 0; t < event.scalars.n_tokens; ++t) {
          const auto *ids = reinterpret_cast<const int32_t *>(
              event.result + t * event.rowBytes);
          found.insert(found.end(), ids, ids + perToken);
        }
      };
      auto session = Session::create(*model, options);
      ASSERT_TRUE(session) << session.status().message();
      ASSERT_TRUE((*session)->feed(tokens).isOk());
      std::vector<int32_t> found;
      for (auto &[layer, ids] : byLayer)
        found.insert(found.end(), ids.begin(), ids.end());
      EXPECT_FALSE(byLayer.empty()) << name;
      EXPECT_EQ(found, expected->experts) << name << ", chunks of " << chunk;
    }
  }
}

/// Integer weights: --weights, --group-size, and the relative RMS error that
/// rounding may make in the logits of a random model. What it makes in a
/// trained one is checked on the real models.
class QuantizedGolden : public ::testing::TestWithParam<
                            std::tuple<const char *, const char *, double>> {};

TEST_P(QuantizedGolden, CodeComputesWhatThePackedWeightsMean) {
  auto [weights, groupSize, tolerance] = GetParam();
  for (const char *name :
       {"qwen2-tied", "qwen2-untied", "llama3", "llama-f16"}) {
    RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + name);
    TempDir scratch;
    ProcessResult result =
        runRetort({"compile", dir, "-o", scratch.path("m.retort"), "--weights",
                   weights, "--group-size", groupSize, "--verify", "--json"});
    ASSERT_TRUE(succeeded(result)) << name;
    auto verify = nlohmann::json::parse(result.out)["verify"];
    EXPECT_LE(verify["logits"].get<double>(), toleranceOf(weights)) << name;
    // Only rounded inputs explain the code's results so well.
    EXPECT_GT(verify["plain"].get<double>(), verify["logits"].get<double>())
        << name;
    EXPECT_TRUE(verify["same_greedy"].get<bool>()) << name;
  }
}

TEST_P(QuantizedGolden, LogitsAreNearTheExactOnes) {
  auto [weights, groupSize, tolerance] = GetParam();
  for (const char *name :
       {"qwen2-tied", "qwen2-untied", "llama3", "llama-f16"}) {
    RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + name);
    std::string golden = dir + "/golden.safetensors";
    const std::string &artifact =
        compiledOnce(dir, {"--weights", weights, "--group-size", groupSize});
    Tensor found =
        runLogits(artifact, readTensor(golden, "input_ids").integers);
    double error =
        relativeRms(found.floats, readTensor(golden, "logits").floats);
    EXPECT_LE(error, tolerance) << name;
    EXPECT_GT(error, 1e-5) << name << " isn't quantized";
  }
}

TEST_P(QuantizedGolden, ChunkingsAndThreadCountsAgree) {
  auto [weights, groupSize, tolerance] = GetParam();
  RETORT_REQUIRE_SHARED(dir, "goldens/qwen2-untied");
  const std::string &artifact =
      compiledOnce(dir, {"--weights", weights, "--group-size", groupSize});
  std::vector<int32_t> tokens =
      readTensor(dir + "/golden.safetensors", "input_ids").integers;
  std::vector<float> one =
      runLogits(artifact, tokens, {"--threads", "1"}).floats;
  EXPECT_EQ(runLogits(artifact, tokens, {"--threads", "3"}).floats, one);
  for (const char *chunk : {"1", "7"})
    EXPECT_LE(
        relativeRms(
            runLogits(artifact, tokens, {"--prefill-chunk", chunk}).floats,
            one),
        tolerance / 4)
        << "chunks of " << chunk;
}

INSTANTIATE_TEST_SUITE_P(Weights, QuantizedGolden,
                         ::testing::Values(std::tuple("int8", "32", 0.04),
                                           std::tuple("int8", "128", 0.05),
                                           std::tuple("int4", "32", 0.5),
                                           std::tuple("int4", "64", 0.55)),
                         [](const auto &info) {
                           return std::string(std::get<0>(info.param)) + "_g" +
                                  std::get<1>(info.param);
                         });

} // namespace
