//===- Model.cpp - The layers of a forward pass -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/reference/Model.h"

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/Rope.h"
#include "compiler/reference/ExactMath.h"
#include "compiler/reference/Linear.h"

#include <algorithm>
#include <cmath>

namespace retort::reference {

using checkpoint::Checkpoint;
using checkpoint::layerTensorName;
using checkpoint::TensorView;

namespace {

/// Rows of a weight that are read at once.
constexpr int64_t kChunkRows = 64;

} // namespace

void addTo(Matrix &x, const Matrix &y) {
  for (size_t i = 0; i < x.values.size(); ++i)
    x.values[i] += y.values[i];
}

Model::Model(const Checkpoint &checkpoint, const ReferenceOptions &options)
    : checkpoint(checkpoint), config(checkpoint.config()), options(options),
      numThreads(options.threads > 0
                     ? options.threads
                     : static_cast<int>(
                           std::max(1u, std::thread::hardware_concurrency()))),
      caches(static_cast<size_t>(config.numLayers + config.numMtpLayers)),
      invFreq(checkpoint::ropeInvFreq(config)),
      ropeFactor(checkpoint::ropeAttentionFactor(config)) {}

Status Model::trace(TraceOp op, int64_t layer, Matrix &x) const {
  if (!options.trace || layer >= config.numLayers)
    return Status::ok();
  return options.trace({layer, op}, position, x.cols, x.values);
}

Result<const TensorView *> Model::tensor(const std::string &name) const {
  if (const TensorView *view = checkpoint.find(name))
    return view;
  return Status::error(Code::NotFound, checkpoint.directory() +
                                           ": expected tensor '" + name +
                                           "', found none");
}

Status Model::read(const TensorView &tensor, WeightUse use, int64_t firstRow,
                   int64_t numRows, std::span<float> out) const {
  if (options.weights)
    return options.weights(tensor, use, firstRow, numRows, out);
  return checkpoint::readRows(tensor, firstRow, numRows, out);
}

Result<std::vector<float>> Model::readVector(const std::string &name) const {
  RETORT_ASSIGN_OR_RETURN(const TensorView *view, tensor(name));
  std::vector<float> values(static_cast<size_t>(view->shape[0]));
  RETORT_RETURN_IF_ERROR(
      read(*view, WeightUse::Vector, 0, view->shape[0], values));
  return values;
}

Result<Matrix> Model::embed(std::span<const int32_t> tokens) const {
  RETORT_ASSIGN_OR_RETURN(const TensorView *table,
                          tensor("model.embed_tokens.weight"));
  Matrix x(static_cast<int64_t>(tokens.size()), config.hiddenSize);
  for (int64_t t = 0; t < x.rows; ++t)
    RETORT_RETURN_IF_ERROR(read(*table, WeightUse::Embedding,
                                tokens[static_cast<size_t>(t)], 1,
                                {x.row(t), static_cast<size_t>(x.cols)}));
  return x;
}

Result<Matrix> Model::rmsNorm(const Matrix &x, const std::string &name,
                              double epsilon) const {
  RETORT_ASSIGN_OR_RETURN(std::vector<float> weight, readVector(name));
  Matrix out(x.rows, x.cols);
  for (int64_t t = 0; t < x.rows; ++t) {
    const float *from = x.row(t);
    double squares = 0;
    for (int64_t k = 0; k < x.cols; ++k)
      squares += double(from[k]) * from[k];
    double scale =
        1.0 / std::sqrt(squares / static_cast<double>(x.cols) + epsilon);
    for (int64_t k = 0; k < x.cols; ++k)
      out.row(t)[k] =
          static_cast<float>(from[k] * scale * weight[static_cast<size_t>(k)]);
  }
  return out;
}

Result<Matrix> Model::linear(const Matrix &x, const std::string &weightName,
                             const std::string &biasName, WeightUse use) const {
  RETORT_ASSIGN_OR_RETURN(const TensorView *weight, tensor(weightName));
  std::vector<float> bias;
  if (!biasName.empty() && checkpoint.find(biasName)) {
    RETORT_ASSIGN_OR_RETURN(bias, readVector(biasName));
  }
  Matrix rounded;
  if (options.inputs && use == WeightUse::Projection) {
    rounded = x;
    for (int64_t t = 0; t < x.rows; ++t)
      options.inputs(*weight, {rounded.row(t), static_cast<size_t>(x.cols)});
  }
  Panels panels(rounded.values.empty() ? x.values : rounded.values, x.rows,
                x.cols);
  Matrix out(x.rows, weight->shape[0]);
  auto multiply = [&](int64_t first, int64_t count) -> Status {
    std::vector<double> scratch;
    std::vector<float> rows(static_cast<size_t>(count * x.cols));
    RETORT_RETURN_IF_ERROR(read(*weight, use, first, count, rows));
    uint64_t rowBytes = weight->bytes.size() / static_cast<uint64_t>(out.cols);
    checkpoint.dropResident(*weight, static_cast<uint64_t>(first) * rowBytes,
                            static_cast<uint64_t>(count) * rowBytes);
    multiplyRows(rows.data(), count, panels, out.values.data() + first,
                 out.cols, scratch);
    for (int64_t t = 0; !bias.empty() && t < out.rows; ++t)
      for (int64_t r = first; r < first + count; ++r)
        out.row(t)[r] += bias[static_cast<size_t>(r)];
    return Status::ok();
  };
  RETORT_RETURN_IF_ERROR(parallel(out.cols, kChunkRows, multiply));
  // Pages that two pieces share.
  checkpoint.dropResident(*weight, 0, weight->bytes.size());
  return out;
}

Result<Matrix> Model::swiglu(const Matrix &x, int64_t layer,
                             const std::string &prefix) const {
  RETORT_ASSIGN_OR_RETURN(Matrix gate,
                          layerLinear(x, layer, prefix + ".gate_proj"));
  RETORT_ASSIGN_OR_RETURN(Matrix up,
                          layerLinear(x, layer, prefix + ".up_proj"));
  for (size_t i = 0; i < gate.values.size(); ++i) {
    double g = gate.values[i];
    gate.values[i] = static_cast<float>(g * sigmoid(g) * up.values[i]);
  }
  // Experts see the tokens that chose them, in another order.
  if (!config.isMoeLayer(layer))
    RETORT_RETURN_IF_ERROR(trace(TraceOp::GateUp, layer, gate));
  return layerLinear(gate, layer, prefix + ".down_proj");
}

Status Model::runLayer(Matrix &x, int64_t layer,
                       std::vector<int32_t> *chosenExperts) {
  RETORT_ASSIGN_OR_RETURN(
      Matrix normed,
      rmsNorm(x, layerTensorName(layer, "input_layernorm.weight"),
              config.rmsNormEps));
  auto mixed = config.mla ? latentAttention(normed, layer)
                          : groupedQueryAttention(normed, layer);
  RETORT_RETURN_IF_ERROR(mixed.takeStatus());
  addTo(x, *mixed);
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Output, layer, x));
  RETORT_ASSIGN_OR_RETURN(
      normed,
      rmsNorm(x, layerTensorName(layer, "post_attention_layernorm.weight"),
              config.rmsNormEps));
  bool isMoe = config.isMoeLayer(layer);
  auto out = isMoe ? experts(normed, layer, chosenExperts)
                   : swiglu(normed, layer, "mlp");
  RETORT_RETURN_IF_ERROR(out.takeStatus());
  addTo(x, *out);
  return trace(isMoe ? TraceOp::Experts : TraceOp::Down, layer, x);
}

Result<Matrix> Model::feed(std::span<const int32_t> tokens,
                           ReferenceOutput *kept) {
  auto keep = [&](const Matrix &x) {
    if (kept && options.keepHiddenStates)
      kept->hiddenStates.insert(kept->hiddenStates.end(), x.values.begin(),
                                x.values.end());
  };
  std::vector<int32_t> *chosen =
      kept && options.keepExperts ? &kept->experts : nullptr;
  RETORT_ASSIGN_OR_RETURN(Matrix x, embed(tokens));
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Embedding, -1, x));
  for (int64_t layer = 0; layer < config.numLayers; ++layer) {
    keep(x); // what goes into the layer: the embedding, or an earlier output
    RETORT_RETURN_IF_ERROR(runLayer(x, layer, chosen));
  }
  if (kept && options.keepHiddenStates)
    kept->lastLayer.insert(kept->lastLayer.end(), x.values.begin(),
                           x.values.end());
  RETORT_ASSIGN_OR_RETURN(Matrix hidden,
                          rmsNorm(x, "model.norm.weight", config.rmsNormEps));
  keep(hidden);
  position += x.rows;
  return hidden;
}

Result<Matrix> Model::feedMtp(std::span<const int32_t> tokens,
                              const Matrix &hidden) {
  int64_t layer = config.numLayers;
  RETORT_ASSIGN_OR_RETURN(Matrix next, embed(tokens));
  RETORT_ASSIGN_OR_RETURN(
      next,
      rmsNorm(next, layerTensorName(layer, "enorm.weight"), config.rmsNormEps));
  RETORT_ASSIGN_OR_RETURN(
      Matrix now, rmsNorm(hidden, layerTensorName(layer, "hnorm.weight"),
                          config.rmsNormEps));
  Matrix both(next.rows, next.cols + now.cols);
  for (int64_t t = 0; t < both.rows; ++t)
    std::copy_n(now.row(t), now.cols,
                std::copy_n(next.row(t), next.cols, both.row(t)));
  RETORT_ASSIGN_OR_RETURN(Matrix x, layerLinear(both, layer, "eh_proj"));
  RETORT_RETURN_IF_ERROR(runLayer(x, layer, nullptr));
  position += x.rows;
  return rmsNorm(x, layerTensorName(layer, "shared_head.norm.weight"),
                 config.rmsNormEps);
}

Result<Matrix> Model::logits(const Matrix &hidden) const {
  return linear(hidden, config.tieWordEmbeddings ? "model.embed_tokens.weight"
                                                 : "lm_head.weight");
}

} // namespace retort::reference
