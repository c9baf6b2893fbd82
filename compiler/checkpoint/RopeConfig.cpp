//===- RopeConfig.cpp - Rotary fields of config.json ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/RopeConfig.h"

#include <algorithm>

namespace retort::checkpoint {
namespace {

using nlohmann::json;
using Kind = RopeScaling::Kind;

constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 1e6;
constexpr int64_t kMaxPosition = int64_t(1) << 30;
constexpr double kDefaultTheta = 10000.0;

/// Fields of a rotary object that Retort reads, and `finetuned`, a remark that
/// early YaRN checkpoints carry. Any other might change the result.
constexpr std::string_view kKnownFields[] = {
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "partial_rotary_factor",
    "finetuned",
};

struct Rope {
  double theta = kDefaultTheta;
  RopeScaling scaling;
};

bool operator==(const Rope &a, const Rope &b) {
  const RopeScaling &x = a.scaling, &y = b.scaling;
  return a.theta == b.theta && x.kind == y.kind && x.factor == y.factor &&
         x.lowFreqFactor == y.lowFreqFactor &&
         x.highFreqFactor == y.highFreqFactor &&
         x.originalMaxPosition == y.originalMaxPosition &&
         x.betaFast == y.betaFast && x.betaSlow == y.betaSlow &&
         x.attentionFactor == y.attentionFactor && x.mscale == y.mscale &&
         x.mscaleAllDim == y.mscaleAllDim && x.truncate == y.truncate;
}

/// An optional number that counts as absent when zero, as in Python's `x or y`.
std::optional<double> numberUnlessZero(ConfigFields &fields,
                                       std::string_view name) {
  const json *value = fields.find(name);
  if (!value || (value->is_number() && value->get<double>() == 0.0))
    return std::nullopt;
  return fields.number(name, 0.0, kMaxFactor);
}

void readYarn(ConfigFields &fields, RopeScaling &scaling, int64_t maxPosition) {
  scaling.kind = Kind::Yarn;
  // A factor of null asks for the ratio of the two context lengths.
  if (!fields.has("factor") || fields.find("factor"))
    scaling.factor = fields.number("factor", 0.0, kMaxFactor);
  else
    scaling.factor = static_cast<double>(maxPosition) /
                     static_cast<double>(scaling.originalMaxPosition);
  scaling.betaFast = numberUnlessZero(fields, "beta_fast").value_or(32.0);
  scaling.betaSlow = numberUnlessZero(fields, "beta_slow").value_or(1.0);
  if (fields.find("attention_factor"))
    scaling.attentionFactor =
        fields.number("attention_factor", 0.0, kMaxFactor);
  scaling.mscale = numberUnlessZero(fields, "mscale");
  scaling.truncate = fields.boolean("truncate", true);
}

void readLlama3(ConfigFields &fields, RopeScaling &scaling) {
  scaling.kind = Kind::Llama3;
  scaling.factor = fields.number("factor", 0.0, kMaxFactor);
  scaling.lowFreqFactor = fields.number("low_freq_factor", 0.0, kMaxFactor);
  scaling.highFreqFactor = fields.number("high_freq_factor", 0.0, kMaxFactor);
  if (fields.isOk() && scaling.highFreqFactor <= scaling.lowFreqFactor)
    fields.fail("high_freq_factor", "a number above low_freq_factor (" +
                                        formatNumber(scaling.lowFreqFactor) +
                                        ")");
}

/// Reads one rotary object; an absent one is plain RoPE.
Result<Rope> readObject(ConfigFields &root, std::string_view name,
                        int64_t maxPosition) {
  Rope rope;
  rope.theta = root.number("rope_theta", 1.0, kMaxTheta, kDefaultTheta);
  if (!root.isOk())
    return root.takeStatus();
  const json *object = root.find(name);
  if (!object)
    return rope;
  if (!object->is_object()) {
    root.fail(name, "an object");
    return root.takeStatus();
  }

  ConfigFields fields(*object, std::string(name) + ".");
  for (const auto &[key, value] : object->items())
    if (std::find(std::begin(kKnownFields), std::end(kKnownFields), key) ==
        std::end(kKnownFields))
      fields.fail(key, "no such field, as it is not supported",
                  Code::Unsupported);
  rope.theta = fields.number("rope_theta", 1.0, kMaxTheta, rope.theta);
  double rotary = fields.number("partial_rotary_factor", 0.0, 1.0, 1.0);
  if (rotary != 1.0)
    fields.fail("partial_rotary_factor", "1, as no other is supported",
                Code::Unsupported);

  std::string_view typeField = fields.find("rope_type") ? "rope_type" : "type";
  std::string type = fields.string(typeField, "default");
  if (!fields.isOk())
    return fields.takeStatus();
  RopeScaling &scaling = rope.scaling;
  // A value beside the object takes precedence, as in transformers.
  if (type == "llama3" || type == "yarn") {
    bool beside = root.find("original_max_position_embeddings");
    scaling.originalMaxPosition =
        (beside ? root : fields)
            .integer("original_max_position_embeddings", 1, kMaxPosition,
                     maxPosition);
    if (!root.isOk())
      return root.takeStatus();
  }
  if (type == "linear") {
    scaling.kind = Kind::Linear;
    scaling.factor = fields.number("factor", 0.0, kMaxFactor);
  } else if (type == "llama3") {
    readLlama3(fields, scaling);
  } else if (type == "yarn") {
    readYarn(fields, scaling, maxPosition);
  } else if (type != "default") {
    fields.fail(typeField, "'default', 'linear', 'llama3' or 'yarn'",
                Code::Unsupported);
  }
  // Latent attention uses it with every scaled type.
  if (type != "default")
    scaling.mscaleAllDim = numberUnlessZero(fields, "mscale_all_dim");
  if (!fields.isOk())
    return fields.takeStatus();
  return rope;
}

} // namespace

Status readRope(ConfigFields &root, ModelConfig &config) {
  bool hasScaling = root.find("rope_scaling");
  bool hasParameters = root.find("rope_parameters");
  RETORT_ASSIGN_OR_RETURN(
      Rope rope,
      readObject(root, hasParameters ? "rope_parameters" : "rope_scaling",
                 config.maxPositionEmbeddings));
  if (hasScaling && hasParameters) {
    RETORT_ASSIGN_OR_RETURN(
        Rope older,
        readObject(root, "rope_scaling", config.maxPositionEmbeddings));
    if (!(older == rope)) {
      root.fail("rope_scaling", "the same as in 'rope_parameters'");
      return root.takeStatus();
    }
  }
  config.ropeTheta = rope.theta;
  config.ropeScaling = rope.scaling;
  return Status::ok();
}

} // namespace retort::checkpoint
