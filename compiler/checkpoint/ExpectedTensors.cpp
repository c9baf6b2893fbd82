//===- ExpectedTensors.cpp - What a checkpoint holds ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Config.h"
#include "runtime/support/CheckedMath.h"

namespace retort::checkpoint {
namespace {

/// Lists the tensors of a model in the order of use.
class TensorList {
public:
  explicit TensorList(const ModelConfig &config)
      : config(config), plain(config.storedDType.value_or(DType::BF16)) {
    if (plain == DType::F8E4M3)
      plain = DType::BF16;
    projection = config.fp8 ? DType::F8E4M3 : plain;
  }

  std::vector<ExpectedTensor> list() {
    int64_t hidden = config.hiddenSize;
    add("model.embed_tokens.weight", {config.vocabSize, hidden});
    for (layer = 0; layer < config.numLayers; ++layer)
      addLayer();
    add("model.norm.weight", {hidden});
    if (!config.tieWordEmbeddings)
      add("lm_head.weight", {config.vocabSize, hidden});
    if (config.numMtpLayers > 0)
      addMtpLayer();
    return std::move(out);
  }

private:
  void add(std::string name, std::vector<int64_t> shape) {
    out.push_back({std::move(name), std::move(shape), plain});
  }
  void addToLayer(std::string_view suffix, std::vector<int64_t> shape) {
    add(layerTensorName(layer, suffix), std::move(shape));
  }
  void addLinear(const std::string &suffix, int64_t rows, int64_t columns,
                 bool bias = false) {
    addToLayer(suffix + ".weight", {rows, columns});
    out.back().dtype = projection;
    if (bias)
      addToLayer(suffix + ".bias", {rows});
  }

  void addSwiglu(const std::string &prefix, int64_t inner, bool bias) {
    addLinear(prefix + ".gate_proj", inner, config.hiddenSize, bias);
    addLinear(prefix + ".up_proj", inner, config.hiddenSize, bias);
    addLinear(prefix + ".down_proj", config.hiddenSize, inner, bias);
  }

  void addGroupedQueryAttention() {
    int64_t hidden = config.hiddenSize;
    int64_t query = config.queryDim(), kv = config.kvDim();
    addLinear("self_attn.q_proj", query, hidden, config.qkvBias);
    addLinear("self_attn.k_proj", kv, hidden, config.qkvBias);
    addLinear("self_attn.v_proj", kv, hidden, config.qkvBias);
    addLinear("self_attn.o_proj", hidden, query, config.oBias);
  }

  void addLatentAttention(const MlaConfig &mla) {
    int64_t hidden = config.hiddenSize, heads = config.numHeads;
    int64_t query = heads * mla.qkHeadDim();
    if (mla.qLoraRank == 0) {
      addLinear("self_attn.q_proj", query, hidden);
    } else {
      addLinear("self_attn.q_a_proj", mla.qLoraRank, hidden, config.qkvBias);
      addToLayer("self_attn.q_a_layernorm.weight", {mla.qLoraRank});
      addLinear("self_attn.q_b_proj", query, mla.qLoraRank);
    }
    addLinear("self_attn.kv_a_proj_with_mqa", mla.latentDim(), hidden,
              config.qkvBias);
    addToLayer("self_attn.kv_a_layernorm.weight", {mla.kvLoraRank});
    addLinear("self_attn.kv_b_proj", heads * (mla.qkNopeHeadDim + mla.vHeadDim),
              mla.kvLoraRank);
    addLinear("self_attn.o_proj", hidden, heads * mla.vHeadDim, config.oBias);
  }

  void addExperts(const MoeConfig &moe) {
    addToLayer("mlp.gate.weight", {moe.numExperts, config.hiddenSize});
    addToLayer("mlp.gate.e_score_correction_bias", {moe.numExperts});
    out.back().dtype = DType::F32;
    for (int64_t expert = 0; expert < moe.numExperts; ++expert)
      addSwiglu("mlp.experts." + std::to_string(expert), moe.intermediateSize,
                false);
    addSwiglu("mlp.shared_experts", moe.sharedIntermediateSize(), false);
  }

  void addLayer() {
    addToLayer("input_layernorm.weight", {config.hiddenSize});
    if (config.mla)
      addLatentAttention(*config.mla);
    else
      addGroupedQueryAttention();
    addToLayer("post_attention_layernorm.weight", {config.hiddenSize});
    if (config.isMoeLayer(layer))
      addExperts(*config.moe);
    else
      addSwiglu("mlp", config.intermediateSize, config.mlpBias);
  }

  void addMtpLayer() {
    int64_t hidden = config.hiddenSize;
    layer = config.numLayers;
    addToLayer("enorm.weight", {hidden});
    addToLayer("hnorm.weight", {hidden});
    addToLayer("eh_proj.weight", {hidden, 2 * hidden});
    addLayer();
    addToLayer("shared_head.norm.weight", {hidden});
  }

  const ModelConfig &config;
  DType plain;      ///< of embeddings, norms, routers and biases
  DType projection; ///< of a layer's matrices
  int64_t layer = 0;
  std::vector<ExpectedTensor> out;
};

} // namespace

std::string layerTensorName(int64_t layer, std::string_view suffix) {
  return "model.layers." + std::to_string(layer) + "." + std::string(suffix);
}

std::vector<int64_t> scaleShape(const Fp8Config &fp8,
                                const std::vector<int64_t> &shape) {
  return {ceilDiv(shape[0], fp8.blockRows), ceilDiv(shape[1], fp8.blockCols)};
}

std::string scaleTensorName(std::string_view name) {
  return std::string(name) + "_scale_inv";
}

std::vector<ExpectedTensor> expectedTensors(const ModelConfig &config) {
  return TensorList(config).list();
}

} // namespace retort::checkpoint
