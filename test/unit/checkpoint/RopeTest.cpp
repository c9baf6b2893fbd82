//===- RopeTest.cpp - Rotary frequencies ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Rope.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace retort::checkpoint;

namespace {

/// A configuration, and what `modeling_rope_utils.py` of transformers 5.24
/// computes for it in single precision.
struct Reference {
  const char *name;
  int64_t headDim;
  double theta;
  RopeScaling scaling;
  double attentionFactor;
  std::vector<double> invFreq;
};

RopeScaling make(RopeScaling::Kind kind, double factor,
                 int64_t originalMaxPosition = 0) {
  RopeScaling scaling;
  scaling.kind = kind;
  scaling.factor = factor;
  scaling.originalMaxPosition = originalMaxPosition;
  return scaling;
}

using Kind = RopeScaling::Kind;

std::vector<Reference> references() {
  std::vector<Reference> all;
  all.push_back({"default",
                 16,
                 1e4,
                 {},
                 1.0,
                 {1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978,
                  0.00316227786, 0.00100000005, 0.000316227786}});
  all.push_back(
      {"linear",
       16,
       1e6,
       make(Kind::Linear, 4.0),
       1.0,
       {0.25, 0.0444569848, 0.00790569466, 0.00140585331, 0.000250000012,
        4.44569851e-05, 7.90569356e-06, 1.40585337e-06}});
  all.push_back(
      {"llama3",
       32,
       5e5,
       make(Kind::Llama3, 8.0, 8192),
       1.0,
       {1, 0.440366626, 0.193922758, 0.0853971019, 0.0376060307, 0.0165604409,
        0.00729266508, 0.00321144611, 0.000524846022, 7.78465546e-05,
        3.42810235e-05, 1.50962178e-05, 6.64786967e-06, 2.92749974e-06,
        1.28917316e-06, 5.6770881e-07}});
  all.push_back(
      {"yarn",
       32,
       1e6,
       make(Kind::Yarn, 4.0, 32768),
       1.138629436111989,
       {1, 0.421696514, 0.177827939, 0.0749894157, 0.0316227786, 0.0133352149,
        0.00477990136, 0.00165996165, 0.000549999997, 0.000168678584,
        4.44569851e-05, 1.87473561e-05, 7.90569356e-06, 3.33380353e-06,
        1.40585337e-06, 5.92843435e-07}});
  RopeScaling mscale = make(Kind::Yarn, 40.0, 4096);
  mscale.mscale = 1.0;
  mscale.mscaleAllDim = 0.5;
  all.push_back({"yarn with mscale",
                 32,
                 1e4,
                 mscale,
                 1.1557219901962608,
                 {1, 0.562341332, 0.316227764, 0.177827939, 0.100000001,
                  0.0562341288, 0.0272181761, 0.0128290169, 0.00582142826,
                  0.00249036867, 0.000959977158, 0.000292145909, 2.49999994e-05,
                  1.40585325e-05, 7.90569447e-06, 4.44569832e-06}});
  RopeScaling untruncated = make(Kind::Yarn, 32.0, 4096);
  untruncated.betaFast = 24.0;
  untruncated.betaSlow = 2.0;
  untruncated.truncate = false;
  all.push_back({"yarn untruncated",
                 32,
                 150000.0,
                 untruncated,
                 1.3465735902799727,
                 {1, 0.47478205, 0.225418001, 0.107024424, 0.0508132726,
                  0.020149963, 0.00624051318, 0.00138360308, 8.0687154e-05,
                  3.83088118e-05, 1.8188337e-05, 8.63549576e-06, 4.09997847e-06,
                  1.94659629e-06, 9.24208962e-07, 4.38797855e-07}});
  RopeScaling attention = make(Kind::Yarn, 2.0, 4096);
  attention.attentionFactor = 1.25;
  all.push_back({"yarn with attention_factor",
                 16,
                 1e4,
                 attention,
                 1.25,
                 {1, 0.316227764, 0.100000001, 0.0276699308, 0.00749999983,
                  0.00197642366, 0.000500000024, 0.000158113893}});
  all.push_back({"yarn with factor from the contexts",
                 16,
                 1e4,
                 make(Kind::Yarn, 3.0, 4096),
                 1.109861228866811,
                 {1, 0.316227764, 0.100000001, 0.0263523143, 0.00666666683,
                  0.00158113893, 0.00033333333, 0.000105409257}});
  return all;
}

TEST(Rope, MatchesTransformers) {
  for (const Reference &reference : references()) {
    SCOPED_TRACE(reference.name);
    ModelConfig config;
    config.headDim = reference.headDim;
    config.ropeTheta = reference.theta;
    config.ropeScaling = reference.scaling;
    EXPECT_NEAR(ropeAttentionFactor(config), reference.attentionFactor, 1e-12);
    std::vector<double> found = ropeInvFreq(config);
    ASSERT_EQ(found.size(), reference.invFreq.size());
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i] / reference.invFreq[i], 1.0, 1e-6) << i;
  }
}

TEST(Rope, NullYarnFactorIsTheRatioOfTheContexts) {
  auto config = parseConfig(R"({
    "model_type": "llama", "vocab_size": 8, "hidden_size": 64,
    "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "max_position_embeddings": 12288,
    "rope_scaling": {"rope_type": "yarn", "factor": null,
                     "original_max_position_embeddings": 4096}})");
  ASSERT_TRUE(config.isOk()) << config.status().message();
  EXPECT_EQ(config->ropeScaling.factor, 3.0);
}

TEST(Rope, DegenerateYarnRampStaysFinite) {
  ModelConfig config;
  config.headDim = 2;
  config.ropeTheta = 1.0000001;
  config.ropeScaling = make(Kind::Yarn, 4.0, 1);
  for (double freq : ropeInvFreq(config))
    EXPECT_TRUE(std::isfinite(freq));
  EXPECT_TRUE(std::isfinite(ropeAttentionFactor(config)));
}

TEST(Rope, FactorUpToOneNeedsNoAttentionScaling) {
  ModelConfig config;
  config.headDim = 16;
  config.ropeScaling = make(Kind::Yarn, 1.0, 4096);
  EXPECT_EQ(ropeAttentionFactor(config), 1.0);
}

} // namespace
