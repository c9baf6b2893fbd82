//===- TargetsTest.cpp - Code for other CPUs than this machine's ----------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Goldens and odd shapes on every CPU target: natively where this machine can
/// run its code, under an emulator where the variable RETORT_AARCH64_RUN names
/// one with a retort-run, e.g.
/// "/usr/bin/qemu-aarch64 -cpu max build/aarch64/bin/retort-run" (`tools/dev
/// test --slow` does).
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "compiler/targets/Target.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

#include <cstdlib>
#include <iterator>
#include <sstream>

using namespace retort;
using namespace retort::test;

namespace {

/// The command that runs the runtime for a target; empty if there is none.
std::vector<std::string> runtimeFor(const Target &target) {
  llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  bool isNative = llvm::Triple(target.triple).getArch() ==
                      llvm::Triple(llvm::sys::getProcessTriple()).getArch() &&
                  llvm::all_of(target.runtimeFeatures, [&](llvm::StringRef f) {
                    return host.lookup(f);
                  });
  if (isNative)
    return {tool("retort-run")};
  const char *set = std::getenv("RETORT_AARCH64_RUN");
  if (!set || !target.name.starts_with("aarch64"))
    return {};
  std::istringstream words(set);
  return {std::istream_iterator<std::string>(words), {}};
}

ProcessResult runOn(std::vector<std::string> command,
                    const std::vector<std::string> &arguments) {
  command.insert(command.end(), arguments.begin(), arguments.end());
  ProcessOptions options;
  options.timeoutSeconds = 600;
  return runProcess(command, options);
}

/// Logits and a greedy continuation.
struct Outcome {
  std::vector<float> logits;
  std::vector<int32_t> greedy;
};

Outcome runTokens(const std::vector<std::string> &runtime,
                  const std::string &artifact, const std::string &target,
                  const std::vector<int32_t> &tokens, const std::string &chunk,
                  size_t more) {
  TempDir dir;
  std::string list = dir.path("tokens"), out = dir.path("out.safetensors");
  writeText(list, tokenList(tokens));
  ProcessResult result =
      runOn(runtime, {artifact, "--code", target, "--tokens", "@" + list,
                      "--logits", out, "--prefill-chunk", chunk, "-n",
                      std::to_string(more), "--temp", "0"});
  EXPECT_TRUE(succeeded(result)) << artifact << " for " << target;
  if (result.exitCode != 0)
    return {};
  return {readTensor(out, "logits").floats,
          readTensor(out, "greedy_ids").integers};
}

class OnTarget : public ::testing::TestWithParam<const Target *> {
protected:
  void SetUp() override {
    if (GetParam() == hostTarget())
      GTEST_SKIP() << "this machine's own target, which all other tests run";
    runtime = runtimeFor(*GetParam());
    if (runtime.empty())
      GTEST_SKIP() << "this machine can't run code for "
                   << GetParam()->name.str()
                   << (GetParam()->name.starts_with("aarch64")
                           ? ": set RETORT_AARCH64_RUN"
                           : "");
  }
  /// One artifact with code for all targets that are tested under one runtime.
  const std::string &compiled(const std::string &checkpoint,
                              std::vector<std::string> flags) {
    std::string names;
    for (const Target &target : allTargets())
      if (runtimeFor(target) == runtime && &target != hostTarget())
        names += (names.empty() ? "" : ",") + target.name.str();
    flags.insert(flags.end(), {"--target", names});
    return compiledOnce(checkpoint, flags);
  }
  std::string name() const { return GetParam()->name.str(); }

  std::vector<std::string> runtime;
};

/// What int4's rounding makes of a random model's logits is large; that the
/// code computes what the reference does with such weights is in the self-test.
TEST_P(OnTarget, ReproducesGoldens) {
  struct Weights {
    const char *name;
    double tolerance;
  };
  for (const char *golden : {"qwen2-tied", "qwen2-untied", "llama3",
                             "llama-f16", "deepseek-v3", "deepseek-v3-fp8"}) {
    RETORT_REQUIRE_SHARED(dir, std::string("goldens/") + golden);
    std::string file = dir + "/golden.safetensors";
    std::vector<int32_t> tokens = readTensor(file, "input_ids").integers;
    std::vector<float> expected = readTensor(file, "logits").floats;
    std::vector<int32_t> greedy = readTensor(file, "greedy_ids").integers;
    bool withExperts = std::string_view(golden).starts_with("deepseek");
    for (Weights weights :
         {Weights{"keep", 1e-4}, Weights{"int8", withExperts ? 0.2 : 0.04},
          Weights{"int4", withExperts ? 1.0 : 0.5}}) {
      // Only integers are multiplied in another way.
      bool isKept = std::string_view(weights.name) == "keep";
      if (isKept && name() == "aarch64-i8mm")
        continue;
      SCOPED_TRACE(std::string(golden) + ", " + weights.name);
      const std::string &artifact = compiled(dir, {"--weights", weights.name});
      EXPECT_TRUE(
          succeeded(runOn(runtime, {"check", artifact, "--code", name()})));
      // One token at a time, few, and many.
      std::vector<float> one;
      for (const char *chunk : {"1", "7", "48"}) {
        Outcome found =
            runTokens(runtime, artifact, name(), tokens, chunk, greedy.size());
        EXPECT_LE(relativeRms(found.logits, expected), weights.tolerance)
            << "chunks of " << chunk;
        if (isKept)
          EXPECT_EQ(found.greedy, greedy) << "chunks of " << chunk;
        if (one.empty())
          one = found.logits;
        else if (std::string_view(chunk) == "7")
          EXPECT_EQ(found.logits, one) << "few tokens at once";
      }
    }
  }
}

/// Shapes that divide by nothing, with every layout of integers.
TEST_P(OnTarget, TakesOddShapes) {
  for (std::vector<std::string> flags :
       {std::vector<std::string>{"--weights", "int4", "--group-size", "64"},
        {"--weights", "int8", "--group-size", "128"},
        {"--weights", "int4", "--group-size", "32", "--kv", "int8"}}) {
    TempDir dir;
    TinyModel model;
    model.vocab = 301;
    model.hidden = 80;
    model.intermediate = 100;
    model.heads = 5;
    model.kvHeads = 1;
    CheckpointBuilder(model).write(dir.path());
    const std::string &artifact = compiled(dir.path(), flags);
    SCOPED_TRACE(artifact);
    EXPECT_TRUE(
        succeeded(runOn(runtime, {"check", artifact, "--code", name()})));
    std::vector<int32_t> tokens = randomTokens(37, 301, 7);
    Outcome one = runTokens(runtime, artifact, name(), tokens, "1", 4),
            many = runTokens(runtime, artifact, name(), tokens, "37", 4);
    EXPECT_LE(relativeRms(many.logits, one.logits), 5e-2);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, OnTarget, ::testing::ValuesIn([] {
                           std::vector<const Target *> all;
                           for (const Target &target : allTargets())
                             all.push_back(&target);
                           return all;
                         }()),
                         [](const auto &info) {
                           std::string name = info.param->name.str();
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

/// Under an emulator that says which CPU it is.
class OnCpu : public ::testing::Test {
protected:
  void SetUp() override {
    runtime = runtimeFor(*findTarget("aarch64"));
    auto cpu = std::find(runtime.begin(), runtime.end(), "-cpu");
    if (runtime.empty() || cpu == runtime.end())
      GTEST_SKIP() << "no emulator: set RETORT_AARCH64_RUN";
    at = cpu - runtime.begin() + 1;
    artifact = compiledOnce(source("examples/arithmetic/student"),
                            {"--target", "aarch64,aarch64-i8mm"});
  }
  ProcessResult check(const std::string &cpu,
                      std::vector<std::string> more = {}) {
    std::vector<std::string> command = runtime;
    command[at] = cpu;
    more.insert(more.begin(), {"check", artifact});
    return runOn(command, more);
  }

  std::vector<std::string> runtime;
  std::ptrdiff_t at = 0;
  std::string artifact;
};

TEST_F(OnCpu, TakesTheCodeThatSuitsIt) {
  ProcessResult best = check("max"), plain = check("neoverse-n1");
  ASSERT_TRUE(succeeded(best) && succeeded(plain));
  EXPECT_NE(best.out.find("aarch64-i8mm"), std::string::npos) << best.out;
  EXPECT_EQ(plain.out.find("aarch64-i8mm"), std::string::npos) << plain.out;
  EXPECT_NE(plain.out.find("aarch64"), std::string::npos) << plain.out;
}

TEST_F(OnCpu, BadCpuWithoutDotProducts) {
  EXPECT_TRUE(isError(check("cortex-a57"), 1,
                      {"compiled for another CPU",
                       "aarch64: this machine lacks", "dotprod", "i8mm"}));
}

TEST_F(OnCpu, BadCpuForTheNamedCode) {
  EXPECT_TRUE(isError(check("neoverse-n1", {"--code", "aarch64-i8mm"}), 1,
                      {"aarch64-i8mm: this machine lacks i8mm"}));
}

TEST(OnThisCpu, BadCodeForAnotherArchitecture) {
  std::string artifact = compiledOnce(source("examples/arithmetic/student"),
                                      {"--target", "aarch64"});
  if (runtimeFor(*findTarget("aarch64")) ==
      std::vector<std::string>{tool("retort-run")})
    GTEST_SKIP() << "this machine is an aarch64 one";
  EXPECT_TRUE(isError(runOn({tool("retort-run")}, {"check", artifact}), 1,
                      {"compiled for another CPU: aarch64: needs aarch64"}));
}

} // namespace
