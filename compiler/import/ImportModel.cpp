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
    return model::RmsNormOp::create(
        b, loc, x.getType(), x,
        FlatSymbolRefAttr::get(&context, name + ".weight"),
        b.getF64FloatAttr(config.rmsNormEps));
  }

  Value rope(Value x, int64_t heads) {
    return model::RopeOp::create(
        b, loc, x.getType(), x, b.getI64IntegerAttr(heads),
        b.getDenseF64ArrayAttr(invFreq), b.getF64FloatAttr(attentionFactor));
  }

  Value layer(Value x, int64_t index) {
    std::string prefix = "model.layers." + std::to_string(index) + ".";
    std::string attn = prefix + "self_attn.", mlp = prefix + "mlp.";
    Value n = norm(x, prefix + "input_layernorm");
    Value q = linear(n, attn + "q_proj", config.queryDim(), config.qkvBias);
    Value k = linear(n, attn + "k_proj", config.kvDim(), config.qkvBias);
    Value v = linear(n, attn + "v_proj", config.kvDim(), config.qkvBias);
    q = rope(q, config.numHeads);
    k = rope(k, config.numKvHeads);
    Value a = model::AttentionOp::create(
        b, loc, q.getType(), q, k, v, b.getI64IntegerAttr(index),
        b.getI64IntegerAttr(config.numHeads),
        b.getI64IntegerAttr(config.numKvHeads),
        b.getF64FloatAttr(1.0 / std::sqrt(double(config.headDim))));
    Value o = linear(a, attn + "o_proj", config.hiddenSize, config.oBias);
    x = model::AddOp::create(b, loc, x, o);
    n = norm(x, prefix + "post_attention_layernorm");
    Value gate =
        linear(n, mlp + "gate_proj", config.intermediateSize, config.mlpBias);
    Value up =
        linear(n, mlp + "up_proj", config.intermediateSize, config.mlpBias);
    Value act = model::SwigluOp::create(b, loc, gate, up);
    Value down =
        linear(act, mlp + "down_proj", config.hiddenSize, config.mlpBias);
    return model::AddOp::create(b, loc, x, down);
  }

  void buildForward() {
    invFreq = checkpoint::ropeInvFreq(config);
    attentionFactor = checkpoint::ropeAttentionFactor(config);
    auto tokens = RankedTensorType::get({ShapedType::kDynamic}, b.getI32Type());
    auto func = func::FuncOp::create(
        b, loc, "forward",
        b.getFunctionType({tokens}, {rows(config.vocabSize)}));
    b.setInsertionPointToStart(func.addEntryBlock());
    Value x = model::EmbeddingOp::create(
        b, loc, rows(config.hiddenSize), func.getArgument(0),
        FlatSymbolRefAttr::get(&context, "model.embed_tokens.weight"));
    for (int64_t i = 0; i < config.numLayers; ++i)
      x = layer(x, i);
    x = norm(x, "model.norm");
    x = linear(x, config.tieWordEmbeddings ? "model.embed_tokens" : "lm_head",
               config.vocabSize, false);
    func::ReturnOp::create(b, loc, x);
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
