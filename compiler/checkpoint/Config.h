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

#include "compiler/checkpoint/QuantConfig.h"
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
  std::optional<double> mscale; ///< Yarn
  /// Yarn; latent attention uses it with every kind but None.
  std::optional<double> mscaleAllDim;
  bool truncate = true; ///< Yarn: round the ramp's ends to whole dimensions
};

/// Multi-head latent attention of deepseek_v3 (arXiv 2405.04434, section 2.1).
/// Queries come from a latent of `qLoraRank` values, or directly from the
/// hidden state; keys and values of all heads from one latent of `kvLoraRank`
/// values beside a rotary key of `qkRopeHeadDim` values that the heads share.
struct MlaConfig {
  int64_t qLoraRank = 0; ///< 0: q_proj instead of q_a_proj, norm and q_b_proj
  int64_t kvLoraRank = 0;
  int64_t qkNopeHeadDim = 0; ///< of a head's query and key, without rotation
  int64_t qkRopeHeadDim = 0; ///< of a head's query and key, rotated; even
  int64_t vHeadDim = 0;
  /// The rotated pairs are stored as (2i, 2i + 1), else as (i, i + half).
  bool ropeInterleave = true;
  /// What scores are multiplied by before the softmax: qkHeadDim()^-0.5, times
  /// m(mscale_all_dim)^2 if the positions are scaled (m as in Rope.h).
  double softmaxScale = 1.0;
  /// Epsilon of q_a_layernorm and kv_a_layernorm, whatever rms_norm_eps says.
  static constexpr double kLatentNormEps = 1e-6;

  /// A head's query and key: first the part without rotation.
  int64_t qkHeadDim() const { return qkNopeHeadDim + qkRopeHeadDim; }
  /// What a position leaves in the cache.
  int64_t latentDim() const { return kvLoraRank + qkRopeHeadDim; }
};

/// Mixture of experts of deepseek_v3 (arXiv 2412.19437, section 2.1.2): scores
/// are sigmoids of f32 logits; the choice adds e_score_correction_bias, takes
/// the `topkGroups` groups whose two best experts have the largest sum, and of
/// those the best `expertsPerToken`, the lower index first among equals;
/// weights are scores without the bias, divided by their sum + 1e-20 if
/// `normTopkProb`, times `routedScale`.
struct MoeConfig {
  int64_t numExperts = 0;       ///< a multiple of numGroups
  int64_t numShared = 0;        ///< one SwiGLU of numShared times the width
  int64_t expertsPerToken = 0;  ///< at most those of topkGroups groups
  int64_t numGroups = 0;        ///< of at least two experts each
  int64_t topkGroups = 0;       ///< at most numGroups
  int64_t intermediateSize = 0; ///< width of one expert
  bool normTopkProb = true;
  double routedScale = 1.0;
  /// Layers below this index have a dense SwiGLU of ModelConfig's
  /// intermediateSize; may be past the last layer.
  int64_t firstDense = 0;
  int64_t layerFreq = 1; ///< no other is supported

  int64_t sharedIntermediateSize() const {
    return numShared * intermediateSize;
  }
};

/// `quantization_config` of fp8 checkpoints: matrices of e4m3 have a companion
/// tensor with one f32 scale per block.
struct Fp8Config {
  int64_t blockRows = 128;
  int64_t blockCols = 128;
};

/// A decoder-only transformer: embedding, `numLayers` blocks of RMSNorm,
/// attention with RoPE, RMSNorm and SwiGLU, a final RMSNorm and an output
/// projection. Attention is grouped-query, or latent if `mla` is set; the
/// SwiGLU of a layer is a mixture of experts if isMoeLayer(). Linear weights
/// are stored [out, in].
struct ModelConfig {
  Family family = Family::Llama;
  int64_t vocabSize = 0;
  int64_t hiddenSize = 0;
  int64_t intermediateSize = 0;
  int64_t numLayers = 0;
  int64_t numHeads = 0;
  int64_t numKvHeads = 0; ///< divides numHeads
  /// Even; numHeads * headDim may differ from hiddenSize. With `mla`: the part
  /// that is rotated, qkRopeHeadDim.
  int64_t headDim = 0;
  double rmsNormEps = 1e-6;
  double ropeTheta = 10000.0;
  RopeScaling ropeScaling;
  int64_t maxPositionEmbeddings = 0;
  /// The output projection is the embedding matrix. Checkpoint::open clears it
  /// if the checkpoint stores an `lm_head.weight` that differs.
  bool tieWordEmbeddings = false;
  /// q_proj, k_proj, v_proj; with `mla`: q_a_proj, kv_a_proj_with_mqa
  bool qkvBias = false;
  bool oBias = false;   ///< o_proj
  bool mlpBias = false; ///< gate_proj, up_proj, down_proj
  std::optional<int64_t> bosTokenId;
  /// Ids that end a text: those of generation_config.json if it names some,
  /// else those of config.json. Distinct, in the file's order, may be empty.
  std::vector<int64_t> eosTokenIds;
  /// `dtype` or `torch_dtype`: what the author says the weights are. The
  /// tensors' own types decide.
  std::optional<DType> storedDType;
  std::optional<MlaConfig> mla; ///< deepseek_v3
  std::optional<MoeConfig> moe; ///< deepseek_v3, also if all layers are dense
  std::optional<Fp8Config> fp8; ///< from `quantization_config`, or
  std::optional<QuantConfig> quant; ///< what other methods say there
  /// Multi-token-prediction layers that are used, 0 or 1: one if config.json
  /// declares any (as deepseek_v3 does by default); Checkpoint::open clears it
  /// if the checkpoint does not store all of the first.
  int64_t numMtpLayers = 0;
  /// num_nextn_predict_layers, of which the first is used.
  int64_t declaredMtpLayers = 0;

  /// Whether layer `layer`, numLayers being the multi-token-prediction layer,
  /// has experts.
  bool isMoeLayer(int64_t layer) const {
    return moe && layer >= moe->firstDense;
  }
  /// Without `mla`.
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
  /// What the hub would store for this configuration: fp8 for the projections
  /// of layers if `ModelConfig::fp8` is set, f32 for e_score_correction_bias,
  /// else what `storedDType` says, or bf16. A checkpoint may differ.
  DType dtype = DType::BF16;
  bool operator==(const ExpectedTensor &) const = default;
};

/// Every tensor that the model needs, in the order of use: embedding, layers,
/// final norm, output projection (absent if tied), multi-token-prediction layer
/// (if numMtpLayers). Experts come in the order of their index, each gate, up,
/// down. Scales of fp8 tensors are not listed: they come with a tensor. Needs
/// no checkpoint.
std::vector<ExpectedTensor> expectedTensors(const ModelConfig &config);

/// The shape of the scales of a matrix of `shape`:
/// [ceil(rows / blockRows), ceil(cols / blockCols)].
std::vector<int64_t> scaleShape(const Fp8Config &fp8,
                                const std::vector<int64_t> &shape);

/// The name of the scales of a weight: `<name>_scale_inv`. A value is the fp8
/// element times the scale of its block.
std::string scaleTensorName(std::string_view name);

/// `model.layers.<layer>.<suffix>`, e.g. suffix "self_attn.q_proj.weight".
std::string layerTensorName(int64_t layer, std::string_view suffix);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_CONFIG_H
