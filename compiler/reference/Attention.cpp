//===- Attention.cpp - Attention as its formulas read -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/reference/ExactMath.h"
#include "compiler/reference/Model.h"

#include <cmath>

namespace retort::reference {

void Model::rotate(Matrix &x, int64_t heads, int64_t headStride, int64_t offset,
                   bool interleave) const {
  auto half = static_cast<int64_t>(invFreq.size());
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t i = 0; i < half; ++i) {
      double angle =
          static_cast<double>(position + t) * invFreq[static_cast<size_t>(i)];
      auto [s, c] = sinCos(angle);
      s *= ropeFactor;
      c *= ropeFactor;
      int64_t first = interleave ? 2 * i : i;
      int64_t second = interleave ? 2 * i + 1 : i + half;
      for (int64_t h = 0; h < heads; ++h) {
        float *head = x.row(t) + h * headStride + offset;
        double a = head[first], b = head[second];
        head[first] = static_cast<float>(a * c - b * s);
        head[second] = static_cast<float>(b * c + a * s);
      }
    }
}

void Model::attendOne(const float *query, int64_t positions,
                      const HeadRows &keys, const HeadRows &moreKeys,
                      const HeadRows &values, double scale, float *out) {
  std::vector<double> shares(static_cast<size_t>(positions));
  double most = -INFINITY, total = 0;
  for (int64_t p = 0; p < positions; ++p) {
    const float *key = keys.data + p * keys.stride;
    double score = 0;
    for (int64_t i = 0; i < keys.dim; ++i)
      score += double(query[i]) * key[i];
    for (int64_t i = 0; i < moreKeys.dim; ++i)
      score +=
          double(query[keys.dim + i]) * moreKeys.data[p * moreKeys.stride + i];
    double &share = shares[static_cast<size_t>(p)];
    share = score * scale;
    most = std::max(most, share);
  }
  for (double &share : shares)
    total += share = expOfNegative(share - most);
  std::vector<double> sum(static_cast<size_t>(values.dim));
  for (int64_t p = 0; p < positions; ++p) {
    const float *value = values.data + p * values.stride;
    for (int64_t i = 0; i < values.dim; ++i)
      sum[static_cast<size_t>(i)] += shares[static_cast<size_t>(p)] * value[i];
  }
  for (int64_t i = 0; i < values.dim; ++i)
    out[i] = static_cast<float>(sum[static_cast<size_t>(i)] / total);
}

Result<Matrix> Model::groupedQueryAttention(const Matrix &normed,
                                            int64_t layer) {
  RETORT_ASSIGN_OR_RETURN(Matrix queries,
                          layerLinear(normed, layer, "self_attn.q_proj"));
  RETORT_ASSIGN_OR_RETURN(Matrix keys,
                          layerLinear(normed, layer, "self_attn.k_proj"));
  RETORT_ASSIGN_OR_RETURN(Matrix values,
                          layerLinear(normed, layer, "self_attn.v_proj"));
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Query, layer, queries));
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Key, layer, keys));
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Value, layer, values));
  int64_t dim = config.headDim, kvDim = config.kvDim();
  rotate(queries, config.numHeads, dim, 0, false);
  rotate(keys, config.numKvHeads, dim, 0, false);
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Rope, layer, queries));
  if (options.cache)
    for (Matrix *cached : {&keys, &values})
      for (int64_t h = 0; h < cached->rows * config.numKvHeads; ++h)
        options.cache(CachePart::Head, {cached->values.data() + h * dim,
                                        static_cast<size_t>(dim)});
  LayerCache &cache = caches[static_cast<size_t>(layer)];
  cache.keys.insert(cache.keys.end(), keys.values.begin(), keys.values.end());
  cache.values.insert(cache.values.end(), values.values.begin(),
                      values.values.end());
  Matrix mixed(normed.rows, config.queryDim());
  int64_t group = config.numHeads / config.numKvHeads;
  double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  auto attend = [&](int64_t index, int64_t) {
    int64_t t = index / config.numHeads, h = index % config.numHeads;
    int64_t offset = h / group * dim;
    attendOne(queries.row(t) + h * dim, position + t + 1,
              {cache.keys.data() + offset, kvDim, dim}, {},
              {cache.values.data() + offset, kvDim, dim}, scale,
              mixed.row(t) + h * dim);
    return Status::ok();
  };
  RETORT_RETURN_IF_ERROR(parallel(mixed.rows * config.numHeads, 1, attend));
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Attention, layer, mixed));
  return layerLinear(mixed, layer, "self_attn.o_proj");
}

Result<Matrix> Model::latentAttention(const Matrix &normed, int64_t layer) {
  using checkpoint::layerTensorName;
  using checkpoint::MlaConfig;
  const MlaConfig &mla = *config.mla;
  int64_t heads = config.numHeads, queryDim = mla.qkHeadDim();
  Matrix queries;
  if (mla.qLoraRank == 0) {
    RETORT_ASSIGN_OR_RETURN(queries,
                            layerLinear(normed, layer, "self_attn.q_proj"));
  } else {
    RETORT_ASSIGN_OR_RETURN(Matrix latent,
                            layerLinear(normed, layer, "self_attn.q_a_proj"));
    RETORT_ASSIGN_OR_RETURN(
        latent,
        rmsNorm(latent,
                layerTensorName(layer, "self_attn.q_a_layernorm.weight"),
                MlaConfig::kLatentNormEps));
    RETORT_ASSIGN_OR_RETURN(queries,
                            layerLinear(latent, layer, "self_attn.q_b_proj"));
  }
  rotate(queries, heads, queryDim, mla.qkNopeHeadDim, mla.ropeInterleave);

  RETORT_ASSIGN_OR_RETURN(
      Matrix compressed,
      layerLinear(normed, layer, "self_attn.kv_a_proj_with_mqa"));
  rotate(compressed, 1, 0, mla.kvLoraRank, mla.ropeInterleave);
  Matrix latent(normed.rows, mla.kvLoraRank);
  LayerCache &cache = caches[static_cast<size_t>(layer)];
  for (int64_t t = 0; t < normed.rows; ++t) {
    float *row = compressed.row(t);
    if (options.cache)
      options.cache(mla.ropeInterleave ? CachePart::InterleavedRotary
                                       : CachePart::Rotary,
                    {row + mla.kvLoraRank, row + compressed.cols});
    std::copy_n(row, mla.kvLoraRank, latent.row(t));
    cache.keys.insert(cache.keys.end(), row + mla.kvLoraRank,
                      row + compressed.cols);
  }
  RETORT_ASSIGN_OR_RETURN(
      latent,
      rmsNorm(latent, layerTensorName(layer, "self_attn.kv_a_layernorm.weight"),
              MlaConfig::kLatentNormEps));
  if (options.cache)
    for (int64_t t = 0; t < latent.rows; ++t)
      options.cache(CachePart::Latent, {latent.row(t), latent.row(t + 1)});
  cache.values.insert(cache.values.end(), latent.values.begin(),
                      latent.values.end());

  // Keys and values of all positions so far, made again for each piece: the
  // cache stays small, as the definition says.
  Matrix all(position + normed.rows, mla.kvLoraRank);
  all.values = cache.values;
  RETORT_ASSIGN_OR_RETURN(Matrix expanded,
                          layerLinear(all, layer, "self_attn.kv_b_proj"));
  int64_t pairDim = mla.qkNopeHeadDim + mla.vHeadDim;
  Matrix mixed(normed.rows, heads * mla.vHeadDim);
  auto attend = [&](int64_t index, int64_t) {
    int64_t t = index / heads, h = index % heads;
    const float *pair = expanded.values.data() + h * pairDim;
    attendOne(queries.row(t) + h * queryDim, position + t + 1,
              {pair, expanded.cols, mla.qkNopeHeadDim},
              {cache.keys.data(), mla.qkRopeHeadDim, mla.qkRopeHeadDim},
              {pair + mla.qkNopeHeadDim, expanded.cols, mla.vHeadDim},
              mla.softmaxScale, mixed.row(t) + h * mla.vHeadDim);
    return Status::ok();
  };
  RETORT_RETURN_IF_ERROR(parallel(mixed.rows * heads, 1, attend));
  RETORT_RETURN_IF_ERROR(trace(TraceOp::Attention, layer, mixed));
  return layerLinear(mixed, layer, "self_attn.o_proj");
}

} // namespace retort::reference
