//===- DeepseekConfig.cpp - Fields of deepseek_v3 ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/DeepseekConfig.h"

#include <algorithm>
#include <cmath>

namespace retort::checkpoint {
namespace {

// Bounds well past any model, so that products of a few of them fit 64 bits and
// the list of tensors fits in memory.
constexpr int64_t kMaxRank = int64_t(1) << 20;
constexpr int64_t kMaxHeadDim = int64_t(1) << 16;
constexpr int64_t kMaxProjection = int64_t(1) << 22;
constexpr int64_t kMaxWidth = int64_t(1) << 22;
constexpr int64_t kMaxExperts = int64_t(1) << 14;
constexpr int64_t kMaxExpertsOfModel = int64_t(1) << 18;
constexpr int64_t kMaxMtpLayers = 64;
constexpr double kMaxScale = 1e6;

/// An integer whose null is not the same as its absence.
int64_t notNull(ConfigFields &fields, std::string_view name, int64_t low,
                int64_t high, int64_t fallback) {
  if (fields.has(name))
    return fields.integer(name, low, high);
  return fallback;
}

/// A field that repeats what others say, if it is present.
void checkDerived(ConfigFields &fields, std::string_view name, int64_t value,
                  std::string_view meaning) {
  if (!fields.find(name))
    return;
  if (fields.integer(name, 0, INT64_MAX) != value)
    fields.fail(name, std::string(meaning) + ", " + std::to_string(value));
}

/// A string that must be `only`, if it is present.
void checkOnly(ConfigFields &fields, std::string_view name,
               const std::string &only) {
  if (fields.string(name, only) != only)
    fields.fail(name, "'" + only + "', as no other is supported",
                Code::Unsupported);
}

Status readAttention(ConfigFields &fields, ModelConfig &config) {
  MlaConfig &mla = config.mla.emplace();
  // A null rank means a plain projection, an absent one the default.
  if (!fields.has("q_lora_rank"))
    mla.qLoraRank = 1536;
  else if (fields.find("q_lora_rank"))
    mla.qLoraRank = fields.integer("q_lora_rank", 1, kMaxRank);
  mla.kvLoraRank = notNull(fields, "kv_lora_rank", 1, kMaxRank, 512);
  mla.qkNopeHeadDim = notNull(fields, "qk_nope_head_dim", 1, kMaxHeadDim, 128);
  mla.qkRopeHeadDim = notNull(fields, "qk_rope_head_dim", 2, kMaxHeadDim, 64);
  mla.vHeadDim = notNull(fields, "v_head_dim", 1, kMaxHeadDim, 128);
  if (fields.isOk() && mla.qkRopeHeadDim % 2 != 0)
    fields.fail("qk_rope_head_dim", "an even dimension for RoPE");
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  auto checkWidth = [&](std::string_view name, int64_t width,
                        const char *meaning) {
    if (width > kMaxProjection)
      fields.fail(name, std::string("num_attention_heads * ") + meaning +
                            " up to " + std::to_string(kMaxProjection) + " (" +
                            std::to_string(width) + " here)");
  };
  checkWidth("qk_nope_head_dim", config.numHeads * mla.qkHeadDim(),
             "(qk_nope_head_dim + qk_rope_head_dim)");
  checkWidth("v_head_dim", config.numHeads * (mla.qkNopeHeadDim + mla.vHeadDim),
             "(qk_nope_head_dim + v_head_dim)");
  checkDerived(fields, "num_key_value_heads", config.numHeads,
               "the number of attention heads");
  checkDerived(fields, "qk_head_dim", mla.qkHeadDim(),
               "the sum of qk_nope_head_dim and qk_rope_head_dim");
  checkDerived(fields, "head_dim", mla.qkRopeHeadDim, "the qk_rope_head_dim");
  mla.ropeInterleave = fields.boolean("rope_interleave", true);
  config.numKvHeads = config.numHeads;
  config.headDim = mla.qkRopeHeadDim;
  return fields.takeStatus();
}

/// Groups and choice, once the counts themselves are in bounds.
Status checkGroups(ConfigFields &fields, const MoeConfig &moe) {
  std::string experts =
      "n_routed_experts (" + std::to_string(moe.numExperts) + ")";
  if (moe.numExperts % moe.numGroups != 0) {
    fields.fail("n_group", "a divisor of " + experts);
    return fields.takeStatus();
  }
  int64_t groupSize = moe.numExperts / moe.numGroups;
  if (groupSize < 2)
    fields.fail("n_group", "at most half of " + experts +
                               ", as a group is judged by its two best");
  if (moe.topkGroups > moe.numGroups)
    fields.fail("topk_group",
                "at most n_group (" + std::to_string(moe.numGroups) + ")");
  if (moe.expertsPerToken > moe.numExperts)
    fields.fail("num_experts_per_tok", "at most " + experts);
  if (moe.expertsPerToken > moe.topkGroups * groupSize)
    fields.fail("num_experts_per_tok",
                "at most the " + std::to_string(moe.topkGroups * groupSize) +
                    " experts of topk_group (" +
                    std::to_string(moe.topkGroups) + ") groups");
  return fields.takeStatus();
}

Status readExperts(ConfigFields &fields, ModelConfig &config) {
  MoeConfig &moe = config.moe.emplace();
  moe.numExperts = notNull(fields, "n_routed_experts", 1, kMaxExperts, 256);
  moe.numShared = notNull(fields, "n_shared_experts", 1, kMaxExperts, 1);
  moe.expertsPerToken =
      notNull(fields, "num_experts_per_tok", 1, kMaxExperts, 8);
  moe.numGroups = notNull(fields, "n_group", 1, kMaxExperts, 8);
  moe.topkGroups = notNull(fields, "topk_group", 1, kMaxExperts, 4);
  moe.intermediateSize =
      notNull(fields, "moe_intermediate_size", 1, kMaxWidth, 2048);
  moe.normTopkProb = fields.boolean("norm_topk_prob", true);
  moe.routedScale = fields.number("routed_scaling_factor", 0.0, kMaxScale, 2.5);
  moe.firstDense = notNull(fields, "first_k_dense_replace", 0, INT64_MAX, 3);
  moe.layerFreq = fields.integer("moe_layer_freq", 1, INT64_MAX, 1);
  if (moe.layerFreq != 1)
    fields.fail("moe_layer_freq", "1, as no other is supported",
                Code::Unsupported);
  checkOnly(fields, "topk_method", "noaux_tc");
  checkOnly(fields, "scoring_func", "sigmoid");
  checkDerived(fields, "num_local_experts", moe.numExperts,
               "the n_routed_experts");
  checkDerived(fields, "num_experts", moe.numExperts, "the n_routed_experts");
  if (fields.boolean("mlp_bias", false))
    fields.fail("mlp_bias", "false, as no other is supported",
                Code::Unsupported);
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  if (moe.sharedIntermediateSize() > kMaxWidth)
    fields.fail("n_shared_experts",
                "n_shared_experts * moe_intermediate_size up to " +
                    std::to_string(kMaxWidth));
  int64_t layers = std::max<int64_t>(config.numLayers - moe.firstDense, 0);
  if (layers * moe.numExperts > kMaxExpertsOfModel)
    fields.fail("n_routed_experts",
                "at most " + std::to_string(kMaxExpertsOfModel) +
                    " experts in all " + std::to_string(layers) + " layers");
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  return checkGroups(fields, moe);
}

} // namespace

Status readDeepseek(ConfigFields &fields, ModelConfig &config) {
  RETORT_RETURN_IF_ERROR(readAttention(fields, config));
  RETORT_RETURN_IF_ERROR(readExperts(fields, config));
  // transformers knows the number by a second name.
  std::string_view name = "num_nextn_predict_layers";
  if (!fields.find(name) && fields.find("num_mtp_layers"))
    name = "num_mtp_layers";
  config.declaredMtpLayers = fields.integer(name, 0, kMaxMtpLayers, 1);
  config.numMtpLayers = std::min<int64_t>(config.declaredMtpLayers, 1);
  return fields.takeStatus();
}

void setSoftmaxScale(ModelConfig &config) {
  if (!config.mla)
    return;
  MlaConfig &mla = *config.mla;
  mla.softmaxScale = 1.0 / std::sqrt(static_cast<double>(mla.qkHeadDim()));
  const RopeScaling &rope = config.ropeScaling;
  if (rope.kind == RopeScaling::Kind::None || !rope.mscaleAllDim ||
      rope.factor <= 1.0)
    return;
  double magnitude = 0.1 * *rope.mscaleAllDim * std::log(rope.factor) + 1.0;
  mla.softmaxScale *= magnitude * magnitude;
}

} // namespace retort::checkpoint
