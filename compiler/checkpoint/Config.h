//===- Config.h - What config.json says of a model --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The architecture of a checkpoint, parsed from config.json and checked: every
/// number is in bounds, and every field that would change the result in a way
/// that Retort does not compute is an error that names it.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_CONFIG_H
#define RETORT_COMPILER_CHECKPOINT_CONFIG_H

#include "runtime/support/DType.h"
#include "runtime/support/Status.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace retort::checkpoint {

/// The architecture, from `model_type`.
enum class Family { Qwen2, Llama, DeepseekV3 };

/// The `model_type` string: "qwen2", "llama", "deepseek_v3".
std::string_view familyName(Family family);

/// How rotary frequencies are stretched for contexts past the trained one.
struct RopeScaling {
  enum class Kind {
    None,   ///< `default`: theta alone
    Linear, ///< all frequencies divided by `factor`
    Llama3, ///< by parts, with the thresholds of Llama 3.1
    Yarn,   ///< by parts, with the ramp of YaRN (arXiv 2309.00071)
  };
  Kind kind = Kind::None;
  double factor = 1.0;
  double lowFreqFactor = 1.0;  ///< Llama3
  double highFreqFactor = 4.0; ///< Llama3
  /// Context length of pretraining (Llama3, Yarn).
  int64_t originalMaxPosition = 0;
  double betaFast = 32.0; ///< Yarn: rotations above which nothing changes
  double betaSlow = 1.0;  ///< Yarn: rotations below which all is interpolated
  /// Yarn: multiplies cos and sin; computed from `factor` if absent.
  std::optional<double> attentionFactor;
  std::optional<double> mscale;       ///< Yarn
  std::optional<double> mscaleAllDim; ///< Yarn
  bool truncate = true; ///< Yarn: round the ramp's ends to whole dimensions
};

/// A decoder-only transformer: embedding, `numLayers` blocks of RMSNorm,
/// grouped-query attention with RoPE, RMSNorm and SwiGLU, a final RMSNorm and
/// an output projection. Linear weights are stored [out, in].
struct ModelConfig {
  Family family = Family::Llama;
  int64_t vocabSize = 0;
  int64_t hiddenSize = 0;
  int64_t intermediateSize = 0;
  int64_t numLayers = 0;
  int64_t numHeads = 0;
  int64_t numKvHeads = 0; ///< divides numHeads
  int64_t headDim = 0; ///< even; numHeads * headDim may differ from hiddenSize
  double rmsNormEps = 1e-6;
  double ropeTheta = 10000.0;
  RopeScaling ropeScaling;
  int64_t maxPositionEmbeddings = 0;
  /// The output projection is the embedding matrix. Checkpoint::open clears it
  /// if the checkpoint stores an `lm_head.weight` that differs.
  bool tieWordEmbeddings = false;
  bool qkvBias = false; ///< q_proj, k_proj, v_proj
  bool oBias = false;   ///< o_proj
  bool mlpBias = false; ///< gate_proj, up_proj, down_proj
  std::optional<int64_t> bosTokenId;
  /// Ids that end a text: those of generation_config.json if it names some,
  /// else those of config.json. Distinct, in the file's order, may be empty.
  std::vector<int64_t> eosTokenIds;
  /// `dtype` or `torch_dtype`: what the author says the weights are. The
  /// tensors' own types decide.
  std::optional<DType> storedDType;

  int64_t queryDim() const { return numHeads * headDim; }
  int64_t kvDim() const { return numKvHeads * headDim; }
};

/// Parses and checks a configuration. `text` is config.json's, reported under
/// `file`; `generationText` generation_config.json's, or empty if there is
/// none, reported under `generationFile`. Errors read `config.json: field
/// 'num_attention_heads': expected a positive integer up to 65536,
/// found -4`.
Result<ModelConfig>
parseConfig(std::string_view text, std::string_view file = "config.json",
            std::string_view generationText = {},
            std::string_view generationFile = "generation_config.json");

/// A tensor that a checkpoint of some configuration holds.
struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
  bool operator==(const ExpectedTensor &) const = default;
};

/// Every tensor that the model needs, in the order of use: embedding, layers,
/// final norm, output projection (absent if tied). Needs no checkpoint.
std::vector<ExpectedTensor> expectedTensors(const ModelConfig &config);

/// `model.layers.<layer>.<suffix>`, e.g. suffix "self_attn.q_proj.weight".
std::string layerTensorName(int64_t layer, std::string_view suffix);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_CONFIG_H
