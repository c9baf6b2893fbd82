//===- BisectTest.cpp - Where two models part -----------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Bisect.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace retort {
namespace {

using checkpoint::ModelConfig;
using reference::TraceObserver;
using reference::TraceOp;
using reference::TracePoint;

/// A model of two layers whose rows are of four elements: each point's value is
/// a simple function of the point before, so that what is put in there shows.
class ToyModel : public TracedModel {
public:
  ToyModel() {
    modelConfig.numLayers = 2;
    modelConfig.hiddenSize = 4;
    modelConfig.numHeads = modelConfig.numKvHeads = 1;
    modelConfig.headDim = 4;
    modelConfig.intermediateSize = 4;
    modelConfig.vocabSize = 4;
  }

  const ModelConfig &config() const override { return modelConfig; }
  int64_t maxContext() const override { return 16; }
  const ModelText &text() const override { return modelText; }
  std::string describe() const override { return name; }

  Status run(std::span<const int32_t> tokens,
             const TraceObserver &observer) override {
    ++runs;
    for (size_t first = 0; first < tokens.size(); first += chunk)
      RETORT_RETURN_IF_ERROR(runChunk(
          tokens.subspan(first, std::min(chunk, tokens.size() - first)),
          static_cast<int64_t>(first), observer));
    return Status::ok();
  }

  ModelConfig modelConfig;
  std::string name = "toy";
  size_t chunk = 3;
  int runs = 0;
  std::set<TraceOp> hidden; ///< points that it doesn't show
  /// Changes the value that a point has for a token.
  std::function<void(TracePoint, int64_t token, std::span<float>)> fault;

private:
  Status runChunk(std::span<const int32_t> tokens, int64_t first,
                  const TraceObserver &observer) {
    std::vector<float> x;
    for (int32_t token : tokens)
      for (int k = 0; k < 4; ++k)
        x.push_back(static_cast<float>(token + 1) * (k % 2 ? -100.f : 100.f));
    auto show = [&](TracePoint point, std::vector<float> &rows) -> Status {
      for (size_t t = 0; fault && t < tokens.size(); ++t)
        fault(point, first + static_cast<int64_t>(t),
              std::span(rows).subspan(4 * t, 4));
      return hidden.contains(point.op) ? Status::ok()
                                       : observer(point, first, 4, rows);
    };
    RETORT_RETURN_IF_ERROR(show({-1, TraceOp::Embedding}, x));
    for (int64_t layer = 0; layer < 2; ++layer) {
      std::vector<float> inner(x.size());
      for (size_t i = 0; i < x.size(); ++i)
        inner[i] = x[i] / 100;
      RETORT_RETURN_IF_ERROR(show({layer, TraceOp::Attention}, inner));
      for (size_t i = 0; i < x.size(); ++i)
        x[i] += inner[i];
      RETORT_RETURN_IF_ERROR(show({layer, TraceOp::Output}, x));
      for (size_t i = 0; i < x.size(); ++i)
        x[i] += x[i] / 50;
      RETORT_RETURN_IF_ERROR(show({layer, TraceOp::Down}, x));
    }
    return show({-1, TraceOp::Logits}, x);
  }

  ModelText modelText;
};

const std::vector<int32_t> kTokens = {0, 1, 2, 3, 2, 1, 0};

BisectReport run(ToyModel &a, ToyModel &b, const BisectOptions &options = {}) {
  auto report = bisect(a, b, kTokens, options);
  EXPECT_TRUE(report.isOk()) << report.status().message();
  return report.isOk() ? std::move(*report) : BisectReport();
}

const PointDifference &at(const BisectReport &report, TracePoint point) {
  for (const PointDifference &found : report.points)
    if (found.point == point)
      return found;
  ADD_FAILURE() << "no " << traceOpName(point.op);
  return report.points.front();
}

std::string refusal(ToyModel &a, ToyModel &b,
                    const std::vector<int32_t> &tokens = kTokens,
                    const BisectOptions &options = {}) {
  auto report = bisect(a, b, tokens, options);
  EXPECT_FALSE(report.isOk());
  return report.isOk() ? "" : report.status().message();
}

TEST(BisectTest, EqualModelsDoNotPart) {
  ToyModel a, b;
  b.chunk = 2; // pieces are no difference
  BisectReport report = run(a, b);
  EXPECT_FALSE(report.first);
  ASSERT_EQ(report.points.size(), 8u);
  EXPECT_EQ(report.points.front().point.op, TraceOp::Embedding);
  EXPECT_EQ(report.points.back().point.op, TraceOp::Logits);
  for (const PointDifference &point : report.points) {
    EXPECT_EQ(point.error.all, 0);
    EXPECT_EQ(point.step.all, 0);
    EXPECT_EQ(point.error.tokens.size(), kTokens.size());
  }
  EXPECT_EQ(a.runs, 1);
  EXPECT_EQ(b.runs, 2);
}

TEST(BisectTest, TheFirstPointAndTokenAreNamed) {
  ToyModel a, b;
  b.fault = [](TracePoint point, int64_t token, std::span<float> row) {
    if (point == TracePoint{1, TraceOp::Attention} && token >= 4)
      row[2] += 5;
  };
  BisectReport report = run(a, b, {.tolerance = 1e-3});
  ASSERT_TRUE(report.first);
  const Parting &first = *report.first;
  EXPECT_EQ(report.points[first.index].point,
            (TracePoint{1, TraceOp::Attention}));
  EXPECT_EQ(first.token, 4u);
  EXPECT_EQ(first.elements.worst, 2);
  EXPECT_EQ(first.elements.first, 0);
  ASSERT_EQ(first.elements.a.size(), 4u);
  EXPECT_FLOAT_EQ(first.elements.b[2] - first.elements.a[2], 5);
  EXPECT_EQ(first.elements.a[1], first.elements.b[1]);
}

TEST(BisectTest, TheErrorGoesOnAndTheStepDoesNot) {
  ToyModel a, b;
  b.fault = [](TracePoint point, int64_t, std::span<float> row) {
    if (point == TracePoint{0, TraceOp::Attention})
      for (float &x : row)
        x *= 2;
  };
  BisectReport report = run(a, b);
  EXPECT_DOUBLE_EQ(at(report, {0, TraceOp::Attention}).step.all, 1);
  for (TracePoint point : {TracePoint{0, TraceOp::Output},
                           {1, TraceOp::Attention},
                           {-1, TraceOp::Logits}}) {
    EXPECT_NEAR(at(report, point).error.all, 1. / 101, 1e-4);
    EXPECT_NEAR(at(report, point).step.all, 0, 1e-7);
  }
  EXPECT_EQ(report.points[report.largestStep].point,
            (TracePoint{0, TraceOp::Attention}));
}

// Beside a stream of hundreds, what down_proj adds is a fiftieth.
TEST(BisectTest, AStepIsSetAgainstWhatTheOpAdds) {
  ToyModel a, b;
  b.fault = [](TracePoint point, int64_t token, std::span<float> row) {
    if (point == TracePoint{0, TraceOp::Down} && token == 2)
      for (float &x : row)
        x /= 1.02f; // nothing added
  };
  BisectReport report = run(a, b);
  const PointDifference &down = at(report, {0, TraceOp::Down});
  EXPECT_NEAR(down.step.tokens[2], 1, 1e-4);
  EXPECT_NEAR(down.error.tokens[2], 0.02 / 1.02, 1e-4);
  EXPECT_EQ(down.step.worst(), 2u);
  EXPECT_EQ(down.step.tokens[1], 0);
}

// What only one shows is taken together with the next that both have.
TEST(BisectTest, PointsThatOneSideLacksAreLeftOut) {
  ToyModel a, b;
  b.hidden = {TraceOp::Attention};
  b.fault = [](TracePoint point, int64_t, std::span<float> row) {
    if (point == TracePoint{1, TraceOp::Attention})
      row[0] *= 3;
  };
  BisectReport report = run(a, b);
  EXPECT_EQ(report.points.size(), 6u);
  ASSERT_TRUE(report.first);
  EXPECT_EQ(report.points[report.first->index].point,
            (TracePoint{1, TraceOp::Output}));
  // The same the other way around.
  BisectReport swapped = run(b, a);
  EXPECT_EQ(swapped.points.size(), 6u);
}

TEST(BisectTest, WhatIsNotANumberParts) {
  ToyModel a, b;
  b.fault = [](TracePoint point, int64_t token, std::span<float> row) {
    if (point == TracePoint{0, TraceOp::Output} && token == 3)
      row[1] = NAN;
  };
  BisectReport report = run(a, b, {.tolerance = 1e30});
  ASSERT_TRUE(report.first);
  EXPECT_EQ(report.points[report.first->index].point,
            (TracePoint{0, TraceOp::Output}));
  EXPECT_EQ(report.first->token, 3u);
  EXPECT_EQ(report.first->elements.worst, 1);
  EXPECT_TRUE(std::isinf(at(report, {0, TraceOp::Output}).error.all));
}

TEST(BisectTest, LogitsOfTheCommonIdsAreCompared) {
  ToyModel a, b;
  b.fault = [](TracePoint point, int64_t, std::span<float> row) {
    if (point.op == TraceOp::Logits)
      row[3] = 1e9f;
  };
  EXPECT_TRUE(run(a, b).first);
  EXPECT_FALSE(run(a, b, {.ids = 3}).first);
}

TEST(BisectTest, OtherModelsAreRefused) {
  ToyModel a, b;
  a.name = "one";
  b.name = "other";
  b.modelConfig.numLayers = 3;
  EXPECT_EQ(refusal(a, b), "one and other can't be compared: layers: 2 and 3");
  b.modelConfig = a.modelConfig;
  b.modelConfig.hiddenSize = 8;
  EXPECT_EQ(refusal(a, b),
            "one and other can't be compared: hidden size: 4 and 8");
  b.modelConfig = a.modelConfig;
  b.modelConfig.vocabSize = 5;
  EXPECT_EQ(refusal(a, b),
            "one and other can't be compared: vocabulary: 4 and 5");
  EXPECT_EQ(refusal(a, b, kTokens, {.ids = 5}),
            "expected at most 4 ids to compare, found 5");
  b.modelConfig = a.modelConfig;
  b.modelConfig.mla.emplace().vHeadDim = 4;
  EXPECT_EQ(refusal(a, b),
            "one and other can't be compared: latent attention: 0 and 1");
}

TEST(BisectTest, UnusableTokensAreRefused) {
  ToyModel a, b;
  EXPECT_EQ(refusal(a, b, {}), "expected at least one token, found none");
  EXPECT_EQ(refusal(a, b, {1, 4}),
            "toy: token 1: expected an id below 4, found 4");
  EXPECT_EQ(refusal(a, b, {-1}),
            "toy: token 0: expected an id below 4, found -1");
  EXPECT_EQ(refusal(a, b, std::vector<int32_t>(17)),
            "toy: expected at most 16 tokens, its context, found 17");
}

TEST(BisectTest, AFailureOfEitherIsReported) {
  struct Failing : ToyModel {
    Status run(std::span<const int32_t>, const TraceObserver &) override {
      return Status::error(Code::Cancelled, "stopped");
    }
  } failing;
  ToyModel sound;
  EXPECT_EQ(refusal(failing, sound), "stopped");
  EXPECT_EQ(refusal(sound, failing), "stopped");
}

} // namespace
} // namespace retort
