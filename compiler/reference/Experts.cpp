//===- Experts.cpp - Mixture of experts -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/reference/ExactMath.h"
#include "compiler/reference/Model.h"

#include <cmath>

namespace retort::reference {
namespace {

using checkpoint::MoeConfig;

/// The indices of the `count` largest of `values` among those that `allows`,
/// ascending; of equal values the lower index is taken. There must be as many.
template <typename Allows>
std::vector<int32_t> largest(std::span<const float> values, int64_t count,
                             Allows allows) {
  std::vector<int32_t> order;
  for (size_t i = 0; i < values.size(); ++i)
    if (allows(static_cast<int64_t>(i)))
      order.push_back(static_cast<int32_t>(i));
  // Total also for NaNs, which come last.
  auto isBefore = [&](int32_t a, int32_t b) {
    float x = values[static_cast<size_t>(a)],
          y = values[static_cast<size_t>(b)];
    if (std::isnan(x) || std::isnan(y))
      return std::isnan(x) == std::isnan(y) ? a < b : !std::isnan(x);
    return x != y ? x > y : a < b;
  };
  std::sort(order.begin(), order.end(), isBefore);
  order.resize(std::min(order.size(), static_cast<size_t>(count)));
  std::sort(order.begin(), order.end());
  return order;
}

/// The experts of one token, by its scores with the bias.
std::vector<int32_t> chooseExperts(const MoeConfig &moe,
                                   std::span<const float> choice) {
  int64_t groupSize = moe.numExperts / moe.numGroups;
  std::vector<float> groupScores;
  for (int64_t g = 0; g < moe.numGroups; ++g) {
    auto members = choice.subspan(static_cast<size_t>(g * groupSize),
                                  static_cast<size_t>(groupSize));
    auto best = largest(members, 2, [](int64_t) { return true; });
    groupScores.push_back(members[static_cast<size_t>(best[0])] +
                          members[static_cast<size_t>(best[1])]);
  }
  std::vector<int32_t> groups =
      largest(groupScores, moe.topkGroups, [](int64_t) { return true; });
  return largest(choice, moe.expertsPerToken, [&](int64_t expert) {
    return std::binary_search(groups.begin(), groups.end(),
                              static_cast<int32_t>(expert / groupSize));
  });
}

} // namespace

Result<Model::Routing> Model::route(const Matrix &normed, int64_t layer) const {
  const MoeConfig &moe = *config.moe;
  RETORT_ASSIGN_OR_RETURN(
      Matrix scores,
      linear(normed, checkpoint::layerTensorName(layer, "mlp.gate.weight"), {},
             WeightUse::Router));
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Router, layer, scores));
  RETORT_ASSIGN_OR_RETURN(std::vector<float> bias,
                          readVector(checkpoint::layerTensorName(
                              layer, "mlp.gate.e_score_correction_bias")));
  Routing routing;
  std::vector<float> choice(bias.size());
  for (int64_t t = 0; t < scores.rows; ++t) {
    float *score = scores.row(t);
    for (size_t e = 0; e < choice.size(); ++e) {
      score[e] = static_cast<float>(sigmoid(score[e]));
      choice[e] = score[e] + bias[e];
    }
    double sum = 1e-20;
    std::vector<int32_t> chosen = chooseExperts(moe, choice);
    for (int32_t expert : chosen)
      sum += score[expert];
    for (int32_t expert : chosen)
      routing.weights.push_back(score[expert] / (moe.normTopkProb ? sum : 1.0) *
                                moe.routedScale);
    routing.experts.insert(routing.experts.end(), chosen.begin(), chosen.end());
  }
  return routing;
}

Result<Matrix> Model::experts(const Matrix &normed, int64_t layer,
                              std::vector<int32_t> *chosen) const {
  const MoeConfig &moe = *config.moe;
  RETORT_ASSIGN_OR_RETURN(Routing routing, route(normed, layer));
  if (chosen)
    chosen->insert(chosen->end(), routing.experts.begin(),
                   routing.experts.end());
  RETORT_ASSIGN_OR_RETURN(Matrix out,
                          swiglu(normed, layer, "mlp.shared_experts"));
  std::vector<double> sums(out.values.begin(), out.values.end());
  for (int64_t expert = 0; expert < moe.numExperts; ++expert) {
    std::vector<size_t> uses; // in routing's arrays
    for (size_t i = 0; i < routing.experts.size(); ++i)
      if (routing.experts[i] == expert)
        uses.push_back(i);
    if (uses.empty())
      continue;
    auto tokenOf = [&](size_t use) {
      return static_cast<int64_t>(use) / moe.expertsPerToken;
    };
    Matrix inputs(static_cast<int64_t>(uses.size()), normed.cols);
    for (int64_t r = 0; r < inputs.rows; ++r)
      std::copy_n(normed.row(tokenOf(uses[static_cast<size_t>(r)])),
                  normed.cols, inputs.row(r));
    RETORT_ASSIGN_OR_RETURN(
        Matrix results,
        swiglu(inputs, layer, "mlp.experts." + std::to_string(expert)));
    for (int64_t r = 0; r < results.rows; ++r) {
      size_t use = uses[static_cast<size_t>(r)];
      double *to = sums.data() + tokenOf(use) * out.cols;
      for (int64_t k = 0; k < out.cols; ++k)
        to[k] += routing.weights[use] * results.row(r)[k];
    }
  }
  std::transform(sums.begin(), sums.end(), out.values.begin(),
                 [](double sum) { return static_cast<float>(sum); });
  return out;
}

} // namespace retort::reference
