//===- RealModelTest.cpp - Real models against their goldens --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Loss, greedy text and quantization error of real checkpoints, which lie in
/// the folder that RETORT_MODELS names. Minutes of work; skipped without it.
///
//===----------------------------------------------------------------------===//

#include "test/e2e/EndToEnd.h"

#include "compiler/checkpoint/Safetensors.h"

using namespace retort;
using namespace retort::test;
using nlohmann::json;

namespace {

/// The directory of a real checkpoint; empty if it isn't there.
std::string realModel(const std::string &name) {
  const char *models = std::getenv("RETORT_MODELS");
  if (!models)
    return "";
  std::string path = std::string(models) + "/" + name;
  return std::filesystem::exists(path) ? path : "";
}

#define RETORT_REQUIRE_MODEL(variable, name)                                   \
  std::string variable = realModel(name);                                      \
  if (variable.empty())                                                        \
  GTEST_SKIP() << "no model '" << (name)                                       \
               << "': set RETORT_MODELS to the folder that holds it"

/// A file of logits, mapped: a text's are a gigabyte.
class LogitsFile {
public:
  LogitsFile(const std::string &artifact, const std::vector<int32_t> &tokens) {
    std::string list = dir.path("tokens"), out = dir.path("logits");
    writeText(list, tokenList(tokens));
    ProcessOptions options;
    options.timeoutSeconds = 1800;
    ProcessResult result = runRetort(
        {"run", artifact, "--tokens", "@" + list, "--logits", out}, options);
    EXPECT_TRUE(succeeded(result));
    auto opened = checkpoint::SafetensorsFile::open(out);
    if (!opened)
      throw std::runtime_error(opened.status().message());
    file = std::move(*opened);
    view = file->find("logits");
  }

  size_t rows() const { return static_cast<size_t>(view->shape[0]); }

  /// Log-probabilities [vocab] after token `row`.
  std::vector<double> logProbabilities(size_t row) const {
    auto vocab = static_cast<size_t>(view->shape[1]);
    std::vector<float> logits(vocab);
    std::memcpy(logits.data(), view->bytes.data() + row * vocab * sizeof(float),
                vocab * sizeof(float));
    double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (float logit : logits)
      sum += std::exp(logit - largest);
    double shift = largest + std::log(sum);
    std::vector<double> result(vocab);
    for (size_t i = 0; i < vocab; ++i)
      result[i] = logits[i] - shift;
    return result;
  }

private:
  TempDir dir;
  std::optional<checkpoint::SafetensorsFile> file;
  const checkpoint::TensorView *view = nullptr;
};

/// Mean of KL(expected || found) over all rows, in nats.
double meanKl(const LogitsFile &expected, const LogitsFile &found) {
  double sum = 0;
  for (size_t row = 0; row < expected.rows(); ++row) {
    std::vector<double> p = expected.logProbabilities(row);
    std::vector<double> q = found.logProbabilities(row);
    for (size_t i = 0; i < p.size(); ++i)
      sum += std::exp(p[i]) * (p[i] - q[i]);
  }
  return sum / static_cast<double>(expected.rows());
}

class RealModel : public ::testing::TestWithParam<const char *> {};

TEST_P(RealModel, LossOnTextsIsTheGoldenOne) {
  RETORT_REQUIRE_MODEL(checkpoint, GetParam());
  RETORT_REQUIRE_SHARED(goldens, "goldens/real");
  const std::string &artifact = compiledOnce(checkpoint, {"--weights", "bf16"});
  for (const char *text : {"gpl3", "heapq"}) {
    std::string golden =
        goldens + "/" + GetParam() + "-" + text + ".safetensors";
    std::vector<int32_t> tokens = readTensor(golden, "input_ids").integers;
    std::vector<float> expected = readTensor(golden, "nll").floats;
    LogitsFile logits(artifact, tokens);
    double found = 0, wanted = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      found -= logits.logProbabilities(i)[static_cast<size_t>(tokens[i + 1])];
      wanted += expected[i];
    }
    auto count = static_cast<double>(expected.size());
    EXPECT_NEAR(found / count, wanted / count, 0.001) << text;
  }
}

TEST_P(RealModel, GreedyTextIsTheGoldenOne) {
  RETORT_REQUIRE_MODEL(checkpoint, GetParam());
  RETORT_REQUIRE_SHARED(summary, "goldens/real/summary.json");
  const std::string &artifact = compiledOnce(checkpoint, {"--weights", "bf16"});
  json goldens = json::parse(readFile(summary));
  for (const char *which : {"greedy0", "greedy1"}) {
    const json &golden = goldens[std::string(GetParam()) + "/" + which];
    TempDir dir;
    writeText(dir.path("prompt"), golden["prompt"].get<std::string>());
    ProcessOptions options;
    options.timeoutSeconds = 600;
    ProcessResult result = runRetort(
        {"run", artifact, "-f", dir.path("prompt"), "--raw", "--temp", "0",
         "-n", std::to_string(golden["ids"].size()), "--ignore-eos", "--json"},
        options);
    ASSERT_TRUE(succeeded(result));
    json ids = json::parse(result.out)["ids"];
    ASSERT_EQ(ids.size(), golden["ids"].size());
    // Where two tokens are nearly alike rounding may choose, and from there on
    // the texts differ.
    size_t step = 0;
    for (; step < ids.size() && golden["margins"][step].get<double>() >= 0.02;
         ++step)
      ASSERT_EQ(ids[step], golden["ids"][step]) << which << " step " << step;
    EXPECT_GT(step, 8u) << which;
  }
}

TEST_P(RealModel, AnswersEndAtTheEndToken) {
  RETORT_REQUIRE_MODEL(checkpoint, GetParam());
  const std::string &artifact = compiledOnce(checkpoint, {"--weights", "bf16"});
  ProcessOptions options;
  options.timeoutSeconds = 600;
  ProcessResult result =
      runRetort({"run", artifact, "-p",
                 "What is the capital of France? Answer in one word.", "--temp",
                 "0", "-n", "60", "--json"},
                options);
  ASSERT_TRUE(succeeded(result));
  json answer = json::parse(result.out);
  EXPECT_EQ(answer["stop"], "end_token") << answer;
  EXPECT_NE(answer["text"].get<std::string>().find("Paris"), std::string::npos)
      << answer;
}

INSTANTIATE_TEST_SUITE_P(Models, RealModel,
                         ::testing::Values("qwen05", "qwen15"),
                         [](const auto &info) {
                           return std::string(info.param);
                         });

TEST(RealQuantization, StaysNearTheOriginal) {
  RETORT_REQUIRE_MODEL(checkpoint, "qwen05-dithered");
  RETORT_REQUIRE_SHARED(goldens, "goldens/real");
  const std::string &exact = compiledOnce(checkpoint, {"--weights", "bf16"});
  for (auto [weights, bar] :
       {std::pair("int8", 0.004), std::pair("int4", 0.12)}) {
    const std::string &quantized =
        compiledOnce(checkpoint, {"--weights", weights, "--group-size", "32"});
    double sum = 0;
    for (const char *text : {"gpl3", "heapq"}) {
      std::vector<int32_t> tokens =
          readTensor(goldens + "/qwen05-" + text + ".safetensors", "input_ids")
              .integers;
      sum += meanKl(LogitsFile(exact, tokens), LogitsFile(quantized, tokens));
    }
    RecordProperty(std::string("kl_") + weights, std::to_string(sum / 2));
    EXPECT_LE(sum / 2, bar) << weights;
    EXPECT_GT(sum / 2, 1e-6) << weights << " isn't quantized";
  }
}

TEST(RealCompile, KeepsToItsMemory) {
  RETORT_REQUIRE_MODEL(checkpoint, "qwen05");
  for (const char *weights : {"keep", "int4"}) {
    TempDir dir;
    ProcessOptions options;
    options.timeoutSeconds = 600;
    ProcessResult result =
        runRetort({"compile", checkpoint, "-o", dir.path("m.retort"),
                   "--weights", weights, "--max-ram", "512MB"},
                  options);
    ASSERT_TRUE(succeeded(result));
    EXPECT_LE(result.peakBytes, uint64_t(512) << 20) << weights;
  }
}

} // namespace
