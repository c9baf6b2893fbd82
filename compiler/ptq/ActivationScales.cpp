//===- ActivationScales.cpp - Scales between layers -----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/ActivationScales.h"

#include "compiler/ptq/Dense.h"

#include <algorithm>
#include <cmath>

namespace retort::ptq {
namespace {

using checkpoint::MlaConfig;
using checkpoint::ModelConfig;

constexpr int kPowers = 10; ///< steps from 0 to 1
/// Tokens whose outputs are compared, at most.
constexpr int64_t kTokens = 512;
/// Of the mean of all, the least magnitude that counts.
constexpr double kLeastMagnitude = 1e-3;
/// Powers beyond one that loses so much more than the best are not tried.
constexpr double kHopeless = 2;

class FoldList {
public:
  FoldList(const ModelConfig &config, int64_t layer)
      : config(config), layer(layer) {}

  std::vector<ScaleFold> list() {
    if (config.mla)
      addLatentAttention(*config.mla);
    else
      addGroupedQueryAttention();
    if (config.isMoeLayer(layer)) {
      for (int64_t e = 0; e < config.moe->numExperts; ++e)
        addDown("mlp.experts." + std::to_string(e));
      addDown("mlp.shared_experts");
    } else {
      addNorm("post_attention_layernorm", {"mlp.gate_proj", "mlp.up_proj"});
      addDown("mlp");
    }
    return std::move(out);
  }

private:
  std::string name(const std::string &module) const {
    return checkpoint::layerTensorName(layer, module + ".weight");
  }
  void addNorm(const std::string &norm,
               std::initializer_list<const char *> consumers) {
    ScaleFold fold;
    fold.norm = name(norm);
    for (const char *consumer : consumers)
      fold.consumers.push_back(name(consumer));
    out.push_back(std::move(fold));
  }
  void addDown(const std::string &prefix) {
    out.push_back(
        {{name(prefix + ".down_proj")}, {}, name(prefix + ".up_proj"), {}});
  }

  /// Heads of values, of `width` inputs each; head h is made by rows from
  /// `firstRow(h)` on.
  template <typename FirstRow>
  void addOutput(const char *producer, int64_t width, FirstRow firstRow) {
    ScaleFold fold{{name("self_attn.o_proj")}, {}, name(producer), {}};
    for (int64_t head = 0; head < config.numHeads; ++head)
      for (int64_t d = 0; d < width; ++d)
        fold.sources.push_back(static_cast<int32_t>(firstRow(head) + d));
    out.push_back(std::move(fold));
  }

  void addGroupedQueryAttention() {
    addNorm("input_layernorm",
            {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
    int64_t shared = config.numHeads / config.numKvHeads;
    addOutput("self_attn.v_proj", config.headDim,
              [&](int64_t head) { return head / shared * config.headDim; });
  }

  void addLatentAttention(const MlaConfig &mla) {
    if (mla.qLoraRank == 0) {
      addNorm("input_layernorm",
              {"self_attn.q_proj", "self_attn.kv_a_proj_with_mqa"});
    } else {
      addNorm("input_layernorm",
              {"self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"});
      addNorm("self_attn.q_a_layernorm", {"self_attn.q_b_proj"});
    }
    addNorm("self_attn.kv_a_layernorm", {"self_attn.kv_b_proj"});
    addOutput("self_attn.kv_b_proj", mla.vHeadDim, [&](int64_t head) {
      return head * (mla.qkNopeHeadDim + mla.vHeadDim) + mla.qkNopeHeadDim;
    });
  }

  const ModelConfig &config;
  int64_t layer;
  std::vector<ScaleFold> out;
};

/// Mean magnitudes of each source, from sums over the columns of rows.
class Magnitudes {
public:
  explicit Magnitudes(const ScaleSearch &search)
      : search(search), byInput(static_cast<size_t>(search.inputs.cols)) {}

  void add(std::span<const float> rows) {
    for (size_t at = 0; at < rows.size(); at += byInput.size())
      for (size_t c = 0; c < byInput.size(); ++c)
        byInput[c] += std::abs(rows[at + c]);
  }

  /// Relative to their mean, and 0 for a row that makes no input: of keys, in a
  /// matrix of keys and values.
  std::vector<double> take() const {
    std::vector<double> out(static_cast<size_t>(search.numSources));
    std::vector<double> count(out.size());
    double mean = 0;
    for (size_t c = 0; c < byInput.size(); ++c) {
      size_t source =
          search.sources.empty() ? c : static_cast<size_t>(search.sources[c]);
      out[source] += byInput[c];
      mean += byInput[c] / static_cast<double>(byInput.size());
      ++count[source];
    }
    for (size_t i = 0; i < out.size(); ++i)
      if (count[i] > 0)
        out[i] =
            mean > 0 ? std::max(out[i] / count[i] / mean, kLeastMagnitude) : 1;
    return out;
  }

private:
  const ScaleSearch &search;
  std::vector<double> byInput;
};

/// The outputs' distance for one choice of scales per input.
class Loss {
public:
  explicit Loss(const ScaleSearch &search) : search(search) {
    const Activations &inputs = search.inputs;
    tokens = std::min(kTokens, inputs.rows);
    for (int64_t t = 0; t < tokens; ++t) {
      auto row = inputs.values.begin() + t * inputs.rows / tokens * inputs.cols;
      some.insert(some.end(), row, row + inputs.cols);
    }
  }

  double of(std::span<const float> scales) const {
    double sum = 0;
    for (const MatrixSample &sample : search.samples)
      sum += lossOf(sample, scales);
    return sum;
  }

private:
  double lossOf(const MatrixSample &sample,
                std::span<const float> scales) const {
    int64_t cols = search.inputs.cols, width = search.form.width(cols);
    QuantizedResult rounded =
        search.hessian
            ? roundWithHessian(search.form, sample.weights, sample.rows,
                               *search.hessian, search.threads, scales)
            : roundWeighted(search.form, sample.weights, sample.rows,
                            search.importance, search.threads, scales);
    std::vector<float> errors(sample.weights.size());
    for (int64_t r = 0; r < sample.rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        auto i = static_cast<size_t>(r * cols + c);
        const Grid &grid = rounded.grids[static_cast<size_t>(
            r * search.form.groups(cols) + c / width)];
        float scale = scales.empty() ? 1 : scales[static_cast<size_t>(c)];
        errors[i] = valueOnGrid(search.form, grid, rounded.quants[i]) / scale -
                    sample.weights[i];
      }
    std::vector<float> outputs(static_cast<size_t>(sample.rows * tokens));
    subtractProductTransposed(outputs.data(), tokens, errors.data(), cols,
                              some.data(), cols, sample.rows, tokens, cols,
                              search.threads);
    double sum = 0;
    for (float output : outputs)
      sum += double(output) * output;
    return sum;
  }

  const ScaleSearch &search;
  int64_t tokens = 0;
  std::vector<float> some; ///< [tokens, cols] of the inputs
};

} // namespace

std::vector<ScaleFold> scaleFolds(const ModelConfig &config, int64_t layer) {
  return FoldList(config, layer).list();
}

float roundTo(DType dtype, float value) {
  switch (dtype) {
  case DType::F16:
    return static_cast<float>(static_cast<_Float16>(value));
  case DType::BF16:
    return std::copysign(nearestBF16(std::abs(value)), value);
  default:
    return value;
  }
}

float exactScale(float value, float wanted, DType dtype) {
  if (value == 0)
    return wanted;
  float quotient = roundTo(dtype, value / wanted);
  float scale = value / quotient;
  bool isExact = std::isfinite(scale) && scale > 0 &&
                 std::abs(scale / wanted - 1) < 0.01f &&
                 std::isfinite(1 / scale);
  return isExact ? scale : 1.0f;
}

std::vector<float> findScales(const ScaleSearch &search) {
  Magnitudes inputs(search), weights(search);
  inputs.add(search.inputs.values);
  for (const MatrixSample &sample : search.samples)
    weights.add(sample.weights);
  std::vector<double> x = inputs.take(), w = weights.take();
  Loss loss(search);
  double least = loss.of({});
  std::vector<float> best, bySource(x.size()),
      byInput(static_cast<size_t>(search.inputs.cols));
  std::vector<double> logs(x.size());
  for (int step = 0; step <= (search.usesInputs ? kPowers : 0); ++step) {
    double power = double(step) / kPowers, mean = 0, count = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i] == 0)
        continue;
      logs[i] = power * std::log(x[i]) - (1 - power) * std::log(w[i]);
      mean += logs[i];
      ++count;
    }
    mean /= std::max(count, 1.0);
    for (size_t i = 0; i < x.size(); ++i)
      bySource[i] =
          x[i] == 0
              ? 1.0f
              : search.settle(static_cast<int64_t>(i),
                              static_cast<float>(std::exp(logs[i] - mean)));
    for (size_t c = 0; c < byInput.size(); ++c)
      byInput[c] = bySource[search.sources.empty()
                                ? c
                                : static_cast<size_t>(search.sources[c])];
    double found = loss.of(byInput);
    if (found > kHopeless * least)
      break;
    if (!(found < least))
      continue;
    least = found;
    best = bySource;
  }
  return best;
}

} // namespace retort::ptq
