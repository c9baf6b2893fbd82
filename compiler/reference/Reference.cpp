//===- Reference.cpp - The numeric oracle -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/reference/Reference.h"

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/Rope.h"
#include "compiler/reference/Linear.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace retort::reference {
namespace {

using checkpoint::Checkpoint;
using checkpoint::layerTensorName;
using checkpoint::ModelConfig;
using checkpoint::TensorView;

/// Rows of a weight that are read at once.
constexpr int64_t kChunkRows = 64;

/// Row-major [rows, cols] activations.
struct Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<float> values;

  Matrix() = default;
  Matrix(int64_t rows, int64_t cols)
      : rows(rows), cols(cols), values(static_cast<size_t>(rows * cols)) {}
  float *row(int64_t r) { return values.data() + r * cols; }
  const float *row(int64_t r) const { return values.data() + r * cols; }
};

/// Keys and values of a layer, [positions, kvDim] each, growing.
struct LayerCache {
  std::vector<float> keys, values;
};

/// A forward pass that may be continued: tokens are fed in pieces.
class Model {
public:
  Model(const Checkpoint &checkpoint, const ReferenceOptions &options)
      : checkpoint(checkpoint), config(checkpoint.config()), options(options),
        numThreads(options.threads > 0
                       ? options.threads
                       : static_cast<int>(std::max(
                             1u, std::thread::hardware_concurrency()))),
        caches(static_cast<size_t>(config.numLayers)),
        invFreq(checkpoint::ropeInvFreq(config)),
        ropeFactor(checkpoint::ropeAttentionFactor(config)) {}

  /// Runs the next tokens. Hidden states of the layers are appended to
  /// `hiddenStates` if it is given. Returns the final norm's output.
  Result<Matrix> feed(std::span<const int32_t> tokens,
                      std::vector<float> *hiddenStates);
  /// The output projection.
  Result<Matrix> logits(const Matrix &hidden);

private:
  Result<const TensorView *> tensor(const std::string &name) const;
  Status read(const TensorView &tensor, WeightUse use, int64_t firstRow,
              int64_t numRows, std::span<float> out) const;
  Result<std::vector<float>> readVector(const std::string &name) const;
  /// Calls `body(first, count)` for pieces of [0, total) on all threads.
  template <typename Body>
  Status parallel(int64_t total, int64_t piece, Body body) const;

  Result<Matrix> embed(std::span<const int32_t> tokens) const;
  Result<Matrix> rmsNorm(const Matrix &x, const std::string &name) const;
  /// x times the transposed weight, plus the bias if the checkpoint has one.
  Result<Matrix> linear(const Matrix &x, const std::string &weightName,
                        const std::string &biasName = {}) const;
  Result<Matrix> layerLinear(const Matrix &x, int64_t layer,
                             const std::string &suffix) const {
    return linear(x, layerTensorName(layer, suffix + ".weight"),
                  layerTensorName(layer, suffix + ".bias"));
  }
  void rotate(Matrix &x, int64_t heads) const;
  Status attend(const Matrix &queries, const LayerCache &cache,
                Matrix &out) const;
  Status attention(Matrix &x, int64_t layer);
  Status mlp(Matrix &x, int64_t layer) const;

  const Checkpoint &checkpoint;
  const ModelConfig &config;
  const ReferenceOptions &options;
  int numThreads;
  int64_t position = 0; ///< of the next token
  std::vector<LayerCache> caches;
  std::vector<double> invFreq;
  double ropeFactor;
};

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
  size_t rowBytes = tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]);
  return checkpoint::convertToF32(
      tensor.dtype,
      tensor.bytes.subspan(static_cast<size_t>(firstRow) * rowBytes,
                           static_cast<size_t>(numRows) * rowBytes),
      out);
}

Result<std::vector<float>> Model::readVector(const std::string &name) const {
  RETORT_ASSIGN_OR_RETURN(const TensorView *view, tensor(name));
  std::vector<float> values(static_cast<size_t>(view->shape[0]));
  RETORT_RETURN_IF_ERROR(
      read(*view, WeightUse::Vector, 0, view->shape[0], values));
  return values;
}

template <typename Body>
Status Model::parallel(int64_t total, int64_t piece, Body body) const {
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  Status failure;
  auto work = [&] {
    while (true) {
      int64_t first = next.fetch_add(piece);
      if (first >= total)
        return;
      Status status;
      if (options.cancel && options.cancel->load(std::memory_order_relaxed)) {
        status = Status::error(Code::Cancelled, "the reference was cancelled");
      } else {
        try {
          status = body(first, std::min(piece, total - first));
        } catch (const std::bad_alloc &) {
          status = Status::error(Code::OutOfMemory,
                                 "no memory to compute the reference");
        }
      }
      if (status.isOk())
        continue;
      std::lock_guard lock(mutex);
      if (failure.isOk())
        failure = std::move(status);
      next = total;
      return;
    }
  };
  int64_t pieces = (total + piece - 1) / piece;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(numThreads));
  try {
    for (int i = 1; i < std::min<int64_t>(numThreads, pieces); ++i)
      threads.emplace_back(work);
  } catch (const std::system_error &) {
    // The threads that could be had do the work.
  }
  work();
  for (std::thread &thread : threads)
    thread.join();
  return failure;
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

Result<Matrix> Model::rmsNorm(const Matrix &x, const std::string &name) const {
  RETORT_ASSIGN_OR_RETURN(std::vector<float> weight, readVector(name));
  Matrix out(x.rows, x.cols);
  for (int64_t t = 0; t < x.rows; ++t) {
    const float *from = x.row(t);
    double squares = 0;
    for (int64_t k = 0; k < x.cols; ++k)
      squares += double(from[k]) * from[k];
    double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.cols) +
                                   config.rmsNormEps);
    for (int64_t k = 0; k < x.cols; ++k)
      out.row(t)[k] =
          static_cast<float>(from[k] * scale * weight[static_cast<size_t>(k)]);
  }
  return out;
}

Result<Matrix> Model::linear(const Matrix &x, const std::string &weightName,
                             const std::string &biasName) const {
  RETORT_ASSIGN_OR_RETURN(const TensorView *weight, tensor(weightName));
  std::vector<float> bias;
  if (!biasName.empty() && checkpoint.find(biasName)) {
    RETORT_ASSIGN_OR_RETURN(bias, readVector(biasName));
  }
  Panels panels(x.values, x.rows, x.cols);
  Matrix out(x.rows, weight->shape[0]);
  auto multiply = [&](int64_t first, int64_t count) -> Status {
    std::vector<double> scratch;
    std::vector<float> rows(static_cast<size_t>(count * x.cols));
    RETORT_RETURN_IF_ERROR(
        read(*weight, WeightUse::Projection, first, count, rows));
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

void Model::rotate(Matrix &x, int64_t heads) const {
  auto half = static_cast<int64_t>(invFreq.size());
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t i = 0; i < half; ++i) {
      double angle =
          static_cast<double>(position + t) * invFreq[static_cast<size_t>(i)];
      double c = std::cos(angle) * ropeFactor;
      double s = std::sin(angle) * ropeFactor;
      for (int64_t h = 0; h < heads; ++h) {
        float *head = x.row(t) + h * config.headDim;
        double a = head[i], b = head[i + half];
        head[i] = static_cast<float>(a * c - b * s);
        head[i + half] = static_cast<float>(b * c + a * s);
      }
    }
}

Status Model::attend(const Matrix &queries, const LayerCache &cache,
                     Matrix &out) const {
  int64_t dim = config.headDim, kvDim = config.kvDim();
  int64_t group = config.numHeads / config.numKvHeads;
  double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  auto attendOne = [&](int64_t index, int64_t) {
    int64_t t = index / config.numHeads, h = index % config.numHeads;
    const float *query = queries.row(t) + h * dim;
    int64_t offset = h / group * dim;
    std::vector<double> shares(static_cast<size_t>(position + t + 1));
    double most = -INFINITY, total = 0;
    for (size_t p = 0; p < shares.size(); ++p) {
      const float *key =
          cache.keys.data() + static_cast<int64_t>(p) * kvDim + offset;
      double score = 0;
      for (int64_t i = 0; i < dim; ++i)
        score += double(query[i]) * key[i];
      shares[p] = score * scale;
      most = std::max(most, shares[p]);
    }
    for (double &share : shares)
      total += share = std::exp(share - most);
    std::vector<double> sum(static_cast<size_t>(dim));
    for (size_t p = 0; p < shares.size(); ++p) {
      const float *value =
          cache.values.data() + static_cast<int64_t>(p) * kvDim + offset;
      for (int64_t i = 0; i < dim; ++i)
        sum[static_cast<size_t>(i)] += shares[p] * value[i];
    }
    for (int64_t i = 0; i < dim; ++i)
      out.row(t)[h * dim + i] =
          static_cast<float>(sum[static_cast<size_t>(i)] / total);
    return Status::ok();
  };
  return parallel(queries.rows * config.numHeads, 1, attendOne);
}

void addTo(Matrix &x, const Matrix &y) {
  for (size_t i = 0; i < x.values.size(); ++i)
    x.values[i] += y.values[i];
}

Status Model::attention(Matrix &x, int64_t layer) {
  RETORT_ASSIGN_OR_RETURN(
      Matrix normed,
      rmsNorm(x, layerTensorName(layer, "input_layernorm.weight")));
  RETORT_ASSIGN_OR_RETURN(Matrix queries,
                          layerLinear(normed, layer, "self_attn.q_proj"));
  RETORT_ASSIGN_OR_RETURN(Matrix keys,
                          layerLinear(normed, layer, "self_attn.k_proj"));
  RETORT_ASSIGN_OR_RETURN(Matrix values,
                          layerLinear(normed, layer, "self_attn.v_proj"));
  rotate(queries, config.numHeads);
  rotate(keys, config.numKvHeads);
  LayerCache &cache = caches[static_cast<size_t>(layer)];
  cache.keys.insert(cache.keys.end(), keys.values.begin(), keys.values.end());
  cache.values.insert(cache.values.end(), values.values.begin(),
                      values.values.end());
  Matrix mixed(x.rows, config.queryDim());
  RETORT_RETURN_IF_ERROR(attend(queries, cache, mixed));
  RETORT_ASSIGN_OR_RETURN(Matrix out,
                          layerLinear(mixed, layer, "self_attn.o_proj"));
  addTo(x, out);
  return Status::ok();
}

Status Model::mlp(Matrix &x, int64_t layer) const {
  RETORT_ASSIGN_OR_RETURN(
      Matrix normed,
      rmsNorm(x, layerTensorName(layer, "post_attention_layernorm.weight")));
  RETORT_ASSIGN_OR_RETURN(Matrix gate,
                          layerLinear(normed, layer, "mlp.gate_proj"));
  RETORT_ASSIGN_OR_RETURN(Matrix up, layerLinear(normed, layer, "mlp.up_proj"));
  for (size_t i = 0; i < gate.values.size(); ++i) {
    double g = gate.values[i];
    gate.values[i] =
        static_cast<float>(g / (1.0 + std::exp(-g)) * up.values[i]);
  }
  RETORT_ASSIGN_OR_RETURN(Matrix out,
                          layerLinear(gate, layer, "mlp.down_proj"));
  addTo(x, out);
  return Status::ok();
}

Result<Matrix> Model::feed(std::span<const int32_t> tokens,
                           std::vector<float> *hiddenStates) {
  auto keep = [&](const Matrix &x) {
    if (hiddenStates)
      hiddenStates->insert(hiddenStates->end(), x.values.begin(),
                           x.values.end());
  };
  RETORT_ASSIGN_OR_RETURN(Matrix x, embed(tokens));
  for (int64_t layer = 0; layer < config.numLayers; ++layer) {
    keep(x); // what goes into the layer: the embedding, or an earlier output
    RETORT_RETURN_IF_ERROR(attention(x, layer));
    RETORT_RETURN_IF_ERROR(mlp(x, layer));
  }
  RETORT_ASSIGN_OR_RETURN(Matrix hidden, rmsNorm(x, "model.norm.weight"));
  keep(hidden);
  position += x.rows;
  return hidden;
}

Result<Matrix> Model::logits(const Matrix &hidden) {
  return linear(hidden, config.tieWordEmbeddings ? "model.embed_tokens.weight"
                                                 : "lm_head.weight");
}

Status checkInput(const ModelConfig &config, std::span<const int32_t> tokens) {
  if (config.family != checkpoint::Family::Qwen2 &&
      config.family != checkpoint::Family::Llama)
    return Status::error(
        Code::Unsupported,
        "the reference computes qwen2 and llama, found " +
            std::string(checkpoint::familyName(config.family)));
  if (tokens.empty())
    return Status::error(Code::InvalidArgument,
                         "expected at least one token, found none");
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= config.vocabSize)
      return Status::error(Code::InvalidArgument,
                           "token " + std::to_string(i) +
                               ": expected an id in [0, " +
                               std::to_string(config.vocabSize) + "), found " +
                               std::to_string(tokens[i]));
  return Status::ok();
}

Status outOfMemory() {
  return Status::error(Code::OutOfMemory, "no memory to compute the reference");
}

Matrix lastRow(const Matrix &x) {
  Matrix out(1, x.cols);
  std::copy_n(x.row(x.rows - 1), x.cols, out.row(0));
  return out;
}

} // namespace

Result<ReferenceOutput> runReference(const Checkpoint &checkpoint,
                                     std::span<const int32_t> tokens,
                                     const ReferenceOptions &options) {
  RETORT_RETURN_IF_ERROR(checkInput(checkpoint.config(), tokens));
  try {
    ReferenceOutput out;
    Model model(checkpoint, options);
    RETORT_ASSIGN_OR_RETURN(Matrix hidden,
                            model.feed(tokens, options.keepHiddenStates
                                                   ? &out.hiddenStates
                                                   : nullptr));
    if (options.lastLogitsOnly)
      hidden = lastRow(hidden);
    RETORT_ASSIGN_OR_RETURN(Matrix logits, model.logits(hidden));
    out.logits = std::move(logits.values);
    return out;
  } catch (const std::bad_alloc &) {
    return outOfMemory();
  }
}

Result<std::vector<int32_t>> generateGreedy(const Checkpoint &checkpoint,
                                            std::span<const int32_t> prompt,
                                            int count,
                                            const ReferenceOptions &options) {
  RETORT_RETURN_IF_ERROR(checkInput(checkpoint.config(), prompt));
  try {
    Model model(checkpoint, options);
    std::vector<int32_t> generated;
    std::vector<int32_t> next(prompt.begin(), prompt.end());
    for (int i = 0; i < count; ++i) {
      RETORT_ASSIGN_OR_RETURN(Matrix hidden, model.feed(next, nullptr));
      RETORT_ASSIGN_OR_RETURN(Matrix logits, model.logits(lastRow(hidden)));
      auto best = std::max_element(logits.values.begin(), logits.values.end());
      generated.push_back(static_cast<int32_t>(best - logits.values.begin()));
      next = {generated.back()};
    }
    return generated;
  } catch (const std::bad_alloc &) {
    return outOfMemory();
  }
}

} // namespace retort::reference
