//===- ImportModel.cpp - From config to model IR ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/import/ImportModel.h"

#include "compiler/checkpoint/Rope.h"
#include "dialects/Model/Model.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include <cmath>

using namespace mlir;

namespace retort {
namespace {

using checkpoint::ModelConfig;

Type elementType(MLIRContext &context, DType dtype) {
  switch (dtype) {
  case DType::BF16:
    return BFloat16Type::get(&context);
  case DType::F16:
    return Float16Type::get(&context);
  case DType::F8E4M3:
    return Float8E4M3FNType::get(&context);
  default:
    return Float32Type::get(&context);
  }
}

class Importer {
public:
  Importer(MLIRContext &context, const ModelConfig &config)
      : config(config), context(context), b(&context),
        loc(UnknownLoc::get(&context)) {}

  OwningOpRef<ModuleOp> run(llvm::function_ref<DType(StringRef)> typeOf) {
    OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
    b.setInsertionPointToEnd(module->getBody());
    for (const checkpoint::ExpectedTensor &tensor :
         checkpoint::expectedTensors(config))
      model::WeightOp::create(
          b, loc, tensor.name,
          RankedTensorType::get(tensor.shape,
                                elementType(context, typeOf(tensor.name))));
    buildForward();
    if (config.numMtpLayers > 0) {
      b.setInsertionPointToEnd(module->getBody());
      buildDraft();
    }
    return module;
  }

private:
  RankedTensorType rows(int64_t width) {
    return RankedTensorType::get({ShapedType::kDynamic, width}, b.getF32Type());
  }

  Value linear(Value x, const std::string &name, int64_t outputs, bool bias) {
    FlatSymbolRefAttr biasName;
    if (bias)
      biasName = FlatSymbolRefAttr::get(&context, name + ".bias");
    return model::LinearOp::create(
        b, loc, rows(outputs), x,
        FlatSymbolRefAttr::get(&context, name + ".weight"), biasName);
  }

  Value norm(Value x, const std::string &name) {
    return norm(x, name, config.rmsNormEps);
  }

  Value norm(Value x, const std::string &name, double eps) {
    return model::RmsNormOp::create(b, loc, x.getType(), x, symbol(name),
                                    b.getF64FloatAttr(eps));
  }

  FlatSymbolRefAttr symbol(const std::string &module) {
    return FlatSymbolRefAttr::get(&context, module + ".weight");
  }

  Value rope(Value x, int64_t heads) {
    return model::RopeOp::create(
        b, loc, x.getType(), x, b.getI64IntegerAttr(heads),
        b.getDenseF64ArrayAttr(invFreq), b.getF64FloatAttr(attentionFactor));
  }

  Value attention(Value n, int64_t index, const std::string &attn) {
    Value q = linear(n, attn + "q_proj", config.queryDim(), config.qkvBias);
    Value k = linear(n, attn + "k_proj", config.kvDim(), config.qkvBias);
    Value v = linear(n, attn + "v_proj", config.kvDim(), config.qkvBias);
    q = rope(q, config.numHeads);
    k = rope(k, config.numKvHeads);
    return model::AttentionOp::create(
        b, loc, q.getType(), q, k, v, b.getI64IntegerAttr(index),
        b.getI64IntegerAttr(config.numHeads),
        b.getI64IntegerAttr(config.numKvHeads),
        b.getF64FloatAttr(1.0 / std::sqrt(double(config.headDim))));
  }

  Value latentAttention(Value n, int64_t index, const std::string &attn) {
    const checkpoint::MlaConfig &mla = *config.mla;
    double eps = checkpoint::MlaConfig::kLatentNormEps;
    int64_t queryDim = config.numHeads * mla.qkHeadDim();
    Value q;
    if (mla.qLoraRank) {
      q = linear(n, attn + "q_a_proj", mla.qLoraRank, config.qkvBias);
      q = norm(q, attn + "q_a_layernorm", eps);
      q = linear(q, attn + "q_b_proj", queryDim, false);
    } else {
      q = linear(n, attn + "q_proj", queryDim, false);
    }
    Value kv =
        linear(n, attn + "kv_a_proj_with_mqa", mla.latentDim(), config.qkvBias);
    return model::MlaOp::create(
        b, loc, rows(config.numHeads * mla.vHeadDim), q, kv,
        symbol(attn + "kv_a_layernorm"), b.getF64FloatAttr(eps),
        symbol(attn + "kv_b_proj"), b.getI64IntegerAttr(index),
        b.getI64IntegerAttr(config.numHeads),
        b.getI64IntegerAttr(mla.qkNopeHeadDim),
        b.getI64IntegerAttr(mla.qkRopeHeadDim),
        b.getI64IntegerAttr(mla.vHeadDim), b.getF64FloatAttr(mla.softmaxScale),
        b.getDenseF64ArrayAttr(invFreq), b.getF64FloatAttr(attentionFactor),
        mla.ropeInterleave ? b.getUnitAttr() : UnitAttr());
  }

  Value mlp(Value n, const std::string &mlp) {
    Value gate =
        linear(n, mlp + "gate_proj", config.intermediateSize, config.mlpBias);
    Value up =
        linear(n, mlp + "up_proj", config.intermediateSize, config.mlpBias);
    Value act = model::SwigluOp::create(b, loc, gate, up);
    return linear(act, mlp + "down_proj", config.hiddenSize, config.mlpBias);
  }

  Value experts(Value n, int64_t index, const std::string &mlp) {
    const checkpoint::MoeConfig &moe = *config.moe;
    SmallVector<Attribute> gates, ups, downs;
    for (int64_t e = 0; e < moe.numExperts; ++e) {
      std::string expert = mlp + "experts." + std::to_string(e) + ".";
      gates.push_back(symbol(expert + "gate_proj"));
      ups.push_back(symbol(expert + "up_proj"));
      downs.push_back(symbol(expert + "down_proj"));
    }
    ArrayAttr shared;
    if (moe.numShared)
      shared = b.getArrayAttr({symbol(mlp + "shared_experts.gate_proj"),
                               symbol(mlp + "shared_experts.up_proj"),
                               symbol(mlp + "shared_experts.down_proj")});
    return model::MoeOp::create(
        b, loc, n.getType(), n, symbol(mlp + "gate"),
        FlatSymbolRefAttr::get(&context, mlp + "gate.e_score_correction_bias"),
        b.getArrayAttr(gates), b.getArrayAttr(ups), b.getArrayAttr(downs),
        shared, b.getI64IntegerAttr(index),
        b.getI64IntegerAttr(moe.expertsPerToken),
        b.getI64IntegerAttr(moe.numGroups), b.getI64IntegerAttr(moe.topkGroups),
        moe.normTopkProb ? b.getUnitAttr() : UnitAttr(),
        b.getF64FloatAttr(moe.routedScale));
  }

  Value layer(Value x, int64_t index) {
    std::string prefix = "model.layers." + std::to_string(index) + ".";
    Value n = norm(x, prefix + "input_layernorm");
    Value a = config.mla ? latentAttention(n, index, prefix + "self_attn.")
                         : attention(n, index, prefix + "self_attn.");
    Value o =
        linear(a, prefix + "self_attn.o_proj", config.hiddenSize, config.oBias);
    x = model::AddOp::create(b, loc, x, o);
    n = norm(x, prefix + "post_attention_layernorm");
    Value y = config.isMoeLayer(index) ? experts(n, index, prefix + "mlp.")
                                       : mlp(n, prefix + "mlp.");
    return model::AddOp::create(b, loc, x, y);
  }

  void buildForward() {
    invFreq = checkpoint::ropeInvFreq(config);
    attentionFactor = checkpoint::ropeAttentionFactor(config);
    auto tokens = RankedTensorType::get({ShapedType::kDynamic}, b.getI32Type());
    auto func = func::FuncOp::create(
        b, loc, "forward",
        b.getFunctionType({tokens}, {rows(config.vocabSize)}));
    b.setInsertionPointToStart(func.addEntryBlock());
    Value x = embedding(func.getArgument(0));
    for (int64_t i = 0; i < config.numLayers; ++i)
      x = layer(x, i);
    func::ReturnOp::create(b, loc, logits(norm(x, "model.norm")));
  }

  Value logits(Value x) {
    return linear(x,
                  config.tieWordEmbeddings ? "model.embed_tokens" : "lm_head",
                  config.vocabSize, false);
  }

  Value embedding(Value tokens) {
    return model::EmbeddingOp::create(
        b, loc, rows(config.hiddenSize), tokens,
        FlatSymbolRefAttr::get(&context, "model.embed_tokens.weight"));
  }

  /// The multi-token-prediction layer. It shares the embedding and the output
  /// matrix with the model, of which the checkpoint holds copies.
  void buildDraft() {
    auto tokens = RankedTensorType::get({ShapedType::kDynamic}, b.getI32Type());
    auto func = func::FuncOp::create(
        b, loc, "draft",
        b.getFunctionType({tokens, rows(config.hiddenSize)},
                          {rows(config.vocabSize)}));
    b.setInsertionPointToStart(func.addEntryBlock());
    int64_t index = config.numLayers;
    std::string prefix = "model.layers." + std::to_string(index) + ".";
    Value next = norm(embedding(func.getArgument(0)), prefix + "enorm");
    Value now = norm(func.getArgument(1), prefix + "hnorm");
    Value both =
        model::ConcatOp::create(b, loc, rows(2 * config.hiddenSize), next, now);
    Value x = layer(linear(both, prefix + "eh_proj", config.hiddenSize, false),
                    index);
    func::ReturnOp::create(b, loc,
                           logits(norm(x, prefix + "shared_head.norm")));
  }

  const ModelConfig &config;
  MLIRContext &context;
  OpBuilder b;
  Location loc;
  std::vector<double> invFreq;
  double attentionFactor = 1.0;
};

} // namespace

OwningOpRef<ModuleOp>
importModel(MLIRContext &context, const ModelConfig &config,
            llvm::function_ref<DType(llvm::StringRef)> typeOf) {
  context.loadDialect<model::ModelDialect, func::FuncDialect>();
  return Importer(context, config).run(typeOf);
}

} // namespace retort
