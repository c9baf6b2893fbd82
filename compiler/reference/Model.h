//===- Model.h - The layers of a forward pass -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A forward pass, layer by layer, that may be continued.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_REFERENCE_MODEL_H
#define RETORT_COMPILER_REFERENCE_MODEL_H

#include "compiler/reference/Reference.h"
#include "runtime/support/Threads.h"

#include <algorithm>
#include <mutex>
#include <new>

namespace retort::reference {

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

/// x += y, of equal shape.
void addTo(Matrix &x, const Matrix &y);

/// Growing, per position: rotated keys and values of all heads, or, with latent
/// attention, the rotated shared key in `keys` and the normed latent in
/// `values`.
struct LayerCache {
  std::vector<float> keys, values;
};

/// What attention reads for one head: element i of position p at
/// data[p * stride + i].
struct HeadRows {
  const float *data = nullptr;
  int64_t stride = 0;
  int64_t dim = 0;
};

/// A forward pass that may be continued: tokens are fed in pieces.
class Model {
public:
  Model(const checkpoint::Checkpoint &checkpoint,
        const ReferenceOptions &options);

  /// Runs the next tokens. Appends what `options` ask for to `kept`, if given.
  /// Returns the final norm's output.
  Result<Matrix> feed(std::span<const int32_t> tokens, ReferenceOutput *kept);
  /// Runs the multi-token-prediction layer, in a Model of its own: row i of
  /// `hidden` is feed()'s result for a position, tokens[i] the token after it.
  /// Returns the output of shared_head.norm, from which logits() predicts the
  /// token after that.
  Result<Matrix> feedMtp(std::span<const int32_t> tokens, const Matrix &hidden);
  /// The output projection.
  Result<Matrix> logits(const Matrix &hidden) const;

private:
  /// Experts of each token, ascending, and what their outputs count.
  struct Routing {
    std::vector<int32_t> experts; ///< [tokens, expertsPerToken]
    std::vector<double> weights;  ///< of the same shape
  };

  /// Shows a value to the observer that `options` have, if any.
  Status trace(TraceOp op, int64_t layer, Matrix &x) const;

  Result<const checkpoint::TensorView *> tensor(const std::string &name) const;
  Status read(const checkpoint::TensorView &tensor, WeightUse use,
              int64_t firstRow, int64_t numRows, std::span<float> out) const;
  Result<std::vector<float>> readVector(const std::string &name) const;
  /// Calls `body(first, count)` for pieces of [0, total) on all threads.
  template <typename Body>
  Status parallel(int64_t total, int64_t piece, Body body) const;

  Result<Matrix> embed(std::span<const int32_t> tokens) const;
  Result<Matrix> rmsNorm(const Matrix &x, const std::string &name,
                         double epsilon) const;
  /// x times the transposed weight, plus the bias if the checkpoint has one.
  Result<Matrix> linear(const Matrix &x, const std::string &weightName,
                        const std::string &biasName = {},
                        WeightUse use = WeightUse::Projection) const;
  Result<Matrix> layerLinear(const Matrix &x, int64_t layer,
                             const std::string &suffix) const {
    return linear(x, checkpoint::layerTensorName(layer, suffix + ".weight"),
                  checkpoint::layerTensorName(layer, suffix + ".bias"));
  }
  Result<Matrix> swiglu(const Matrix &x, int64_t layer,
                        const std::string &prefix) const;

  // Attention.cpp
  /// Rotates the part of each head that begins at `offset`, heads being
  /// `headStride` apart: pairs (2i, 2i + 1) if `interleave`, else (i, i +
  /// half).
  void rotate(Matrix &x, int64_t heads, int64_t headStride, int64_t offset,
              bool interleave) const;
  /// Causal softmax attention of one query at `query`, over `positions`
  /// positions whose keys are `keys` and then `moreKeys`.
  static void attendOne(const float *query, int64_t positions,
                        const HeadRows &keys, const HeadRows &moreKeys,
                        const HeadRows &values, double scale, float *out);
  Result<Matrix> groupedQueryAttention(const Matrix &normed, int64_t layer);
  Result<Matrix> latentAttention(const Matrix &normed, int64_t layer);

  // Experts.cpp
  Result<Routing> route(const Matrix &normed, int64_t layer) const;
  /// Appends the chosen experts to `chosen` if it is given.
  Result<Matrix> experts(const Matrix &normed, int64_t layer,
                         std::vector<int32_t> *chosen) const;

  Status runLayer(Matrix &x, int64_t layer,
                  std::vector<int32_t> *chosenExperts);

  const checkpoint::Checkpoint &checkpoint;
  const checkpoint::ModelConfig &config;
  const ReferenceOptions &options;
  int numThreads;
  int64_t position = 0; ///< of the next token
  std::vector<LayerCache> caches;
  std::vector<double> invFreq;
  double ropeFactor;
};

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
  runOnThreads(static_cast<size_t>(std::min<int64_t>(numThreads, pieces)),
               work);
  return failure;
}

} // namespace retort::reference

#endif // RETORT_COMPILER_REFERENCE_MODEL_H
