//===- EndToEnd.cpp - What end-to-end tests share -------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "compiler/checkpoint/Safetensors.h"

#include <limits>
#include <sstream>

namespace retort::test {

std::string tool(std::string_view name) {
  const char *set = std::getenv("RETORT_BIN_DIR");
  return std::string(set ? set : RETORT_BIN_DIR) + "/" + std::string(name);
}

ProcessResult runRetort(std::vector<std::string> arguments,
                        const ProcessOptions &options) {
  arguments.insert(arguments.begin(), tool("retort"));
  return runProcess(arguments, options);
}

std::string source(std::string_view path) {
  return std::string(RETORT_SOURCE_DIR) + "/" + std::string(path);
}

std::string shared(std::string_view path) {
  const char *set = std::getenv("RETORT_SHARED");
  std::string full =
      (set ? std::string(set) : source("../shared")) + "/" + std::string(path);
  return std::filesystem::exists(full) ? full : std::string();
}

std::string readFile(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw std::runtime_error("cannot read " + path);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return std::move(bytes).str();
}

Tensor readTensor(const std::string &path, std::string_view name) {
  auto file = checkpoint::SafetensorsFile::open(path);
  if (!file)
    throw std::runtime_error(file.status().message());
  const checkpoint::TensorView *view = file->find(name);
  if (!view)
    throw std::runtime_error(path + ": no tensor '" + std::string(name) + "'");
  Tensor tensor;
  tensor.shape = view->shape;
  auto count = static_cast<size_t>(view->elements());
  if (view->dtype == DType::F32) {
    tensor.floats.resize(count);
    std::memcpy(tensor.floats.data(), view->bytes.data(), view->bytes.size());
  } else if (view->dtype == DType::I32) {
    tensor.integers.resize(count);
    std::memcpy(tensor.integers.data(), view->bytes.data(), view->bytes.size());
  } else {
    throw std::runtime_error(path + ": tensor '" + std::string(name) +
                             "' is neither f32 nor i32");
  }
  return tensor;
}

double relativeRms(const std::vector<float> &found,
                   const std::vector<float> &expected) {
  if (found.size() != expected.size())
    return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    double d = static_cast<double>(found[i]) - expected[i];
    difference += d * d;
    norm += static_cast<double>(expected[i]) * expected[i];
  }
  double ratio = std::sqrt(difference / norm);
  return std::isfinite(ratio) ? ratio : std::numeric_limits<double>::infinity();
}

std::string tokenList(const std::vector<int32_t> &tokens) {
  std::string list;
  for (int32_t token : tokens)
    list += (list.empty() ? "" : ",") + std::to_string(token);
  return list;
}

std::vector<int32_t> randomTokens(size_t count, int64_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t &token : tokens)
    token =
        static_cast<int32_t>(3 + random() % static_cast<uint64_t>(vocab - 3));
  return tokens;
}

std::string compileCheckpoint(const std::string &checkpoint,
                              const std::string &output,
                              const std::vector<std::string> &flags) {
  std::vector<std::string> arguments = {"compile", checkpoint, "-o", output};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  ProcessOptions options;
  options.timeoutSeconds = 600;
  EXPECT_TRUE(succeeded(runRetort(arguments, options)))
      << "compiling " << checkpoint;
  return output;
}

const std::string &compiledOnce(const std::string &checkpoint,
                                const std::vector<std::string> &flags) {
  static TempDir dir;
  static std::map<std::string, std::string> artifacts;
  std::string key = checkpoint;
  for (const std::string &flag : flags)
    key += "\n" + flag;
  auto [at, isNew] = artifacts.try_emplace(key);
  if (isNew)
    at->second = compileCheckpoint(
        checkpoint, dir.path(std::to_string(artifacts.size()) + ".retort"),
        flags);
  return at->second;
}

const std::string &studentArtifact() {
  return compiledOnce(source("examples/arithmetic/student"));
}

const std::string &tinyArtifact() {
  static TempDir dir;
  static bool written = (CheckpointBuilder().write(dir.path()), true);
  (void)written;
  return compiledOnce(dir.path());
}

Tensor runLogits(const std::string &artifact,
                 const std::vector<int32_t> &tokens,
                 const std::vector<std::string> &flags) {
  TempDir dir;
  std::string list = dir.path("tokens"), out = dir.path("logits.safetensors");
  writeText(list, tokenList(tokens));
  std::vector<std::string> arguments = {"run",      artifact,   "--tokens",
                                        "@" + list, "--logits", out};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  ProcessOptions options;
  options.timeoutSeconds = 600;
  ProcessResult result = runRetort(arguments, options);
  EXPECT_TRUE(succeeded(result)) << artifact;
  return result.exitCode == 0 ? readTensor(out, "logits") : Tensor();
}

::testing::AssertionResult isError(const ProcessResult &result, int exitCode,
                                   const std::vector<std::string> &parts) {
  auto failure = [&](const std::string &why) {
    return ::testing::AssertionFailure() << why << "\n" << result.describe();
  };
  if (result.exitCode != exitCode)
    return failure("expected exit code " + std::to_string(exitCode));
  std::istringstream lines(result.err);
  std::string line, error;
  int count = 0;
  while (std::getline(lines, line))
    if (line.find("error: ") != std::string::npos) {
      error = line;
      ++count;
    }
  if (count != 1)
    return failure("expected one error line");
  if (error.back() == '.')
    return failure("expected an error without a full stop");
  for (const std::string &part : parts)
    if (error.find(part) == std::string::npos)
      return failure("expected an error with '" + part + "'");
  return ::testing::AssertionSuccess();
}

::testing::AssertionResult succeeded(const ProcessResult &result) {
  if (result.exitCode == 0 && !result.timedOut)
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << result.describe();
}

} // namespace retort::test
