//===- Certify.cpp - What a verified artifact says of itself --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Certify.h"

#include "compiler/checkpoint/QuantizedMatrix.h"
#include "runtime/support/Sha256.h"
#include "runtime/support/Threads.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace retort {

using checkpoint::Checkpoint;
using checkpoint::TensorView;
using reference::ReferenceOutput;

void forEachStored(const TensorView &tensor,
                   const std::function<void(const TensorView &)> &visit) {
  if (tensor.quantized)
    return tensor.quantized->forEachPart(visit);
  visit(tensor);
  if (!tensor.scales)
    return;
  TensorView scales;
  scales.name = tensor.scales->name;
  scales.dtype = tensor.scales->dtype;
  scales.shape = {tensor.scales->rows, tensor.scales->cols};
  scales.bytes = tensor.scales->bytes;
  visit(scales);
}

Result<std::vector<std::unique_ptr<abi::SourceTensorT>>>
hashSources(const Checkpoint &source, int threads,
            const std::atomic<bool> *cancel) {
  std::vector<const TensorView *> tensors;
  for (const TensorView &tensor : source.tensors())
    tensors.push_back(&tensor);
  return hashTensors(tensors, threads, cancel);
}

Result<std::vector<std::unique_ptr<abi::SourceTensorT>>>
hashTensors(std::span<const TensorView *const> tensors, int threads,
            const std::atomic<bool> *cancel) {
  constexpr size_t kPiece = size_t(8) << 20;
  std::vector<TensorView> stored;
  for (const TensorView *tensor : tensors)
    forEachStored(*tensor,
                  [&](const TensorView &part) { stored.push_back(part); });
  std::vector<std::unique_ptr<abi::SourceTensorT>> out(stored.size());
  // The largest first, since one tensor is one thread's.
  std::vector<size_t> order(stored.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](size_t a, size_t b) {
    size_t x = stored[a].bytes.size(), y = stored[b].bytes.size();
    return x != y ? x > y : a < b;
  });
  std::atomic<size_t> next{0};
  auto isCancelled = [&] { return cancel && cancel->load(); };
  size_t count = threads > 0
                     ? static_cast<size_t>(threads)
                     : std::max(1u, std::thread::hardware_concurrency());
  runOnThreads(std::min(count, order.size()), [&] {
    for (size_t i; (i = next.fetch_add(1)) < order.size() && !isCancelled();) {
      const TensorView &tensor = stored[order[i]];
      Sha256 hash;
      for (size_t at = 0; at < tensor.bytes.size() && !isCancelled();
           at += kPiece) {
        auto piece = tensor.bytes.subspan(
            at, std::min(kPiece, tensor.bytes.size() - at));
        hash.add(piece);
        dropResidentPages(piece);
      }
      auto made = std::make_unique<abi::SourceTensorT>();
      made->name = tensor.name;
      made->dtype = dtypeName(tensor.dtype);
      made->shape = tensor.shape;
      Sha256Digest digest = hash.finish();
      made->sha256.assign(digest.begin(), digest.end());
      out[order[i]] = std::move(made);
    }
  });
  if (isCancelled())
    return Status::error(Code::Cancelled, "hashing was cancelled");
  return out;
}

std::vector<std::unique_ptr<abi::MatrixPlanT>>
describePlan(std::span<const WeightSpec> specs, const abi::ProgramT &program) {
  std::vector<std::unique_ptr<abi::MatrixPlanT>> out;
  for (size_t i = 0; i < specs.size(); ++i) {
    const WeightSpec &spec = specs[i];
    if (spec.form != WeightForm::Matrix)
      continue;
    auto plan = std::make_unique<abi::MatrixPlanT>();
    plan->weight = spec.name;
    bool isExact = program.weights[i]->relative_error == 0;
    plan->method = isExact                     ? "exact"
                   : spec.encoding.isInteger() ? "nearest"
                                               : "cast";
    if (spec.inputs)
      plan->inputs = spec.inputs->str();
    out.push_back(std::move(plan));
  }
  return out;
}

double relativeRms(std::span<const float> found,
                   std::span<const float> expected) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    double d = double(found[i]) - expected[i];
    error += d * d;
    norm += double(expected[i]) * expected[i];
  }
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

std::vector<double> layerErrors(const ReferenceOutput &found,
                                const ReferenceOutput &expected,
                                int64_t layers) {
  // hiddenStates: the embedding and the outputs of all layers but the last.
  size_t plane = expected.lastLayer.size();
  std::vector<double> out;
  for (int64_t l = 0; l < layers; ++l) {
    auto of = [&](const ReferenceOutput &output) {
      return l + 1 < layers
                 ? std::span(output.hiddenStates)
                       .subspan(static_cast<size_t>(l + 1) * plane, plane)
                 : std::span(output.lastLayer);
    };
    out.push_back(relativeRms(of(found), of(expected)));
  }
  return out;
}

std::unique_ptr<abi::TestInputT> makeTestInput(std::span<const int32_t> tokens,
                                               std::span<const float> logits,
                                               int64_t vocab) {
  auto test = std::make_unique<abi::TestInputT>();
  test->tokens.assign(tokens.begin(), tokens.end());
  size_t width = static_cast<size_t>(vocab);
  std::vector<int32_t> ids(width);
  for (size_t t = 0; t < tokens.size(); ++t) {
    std::span<const float> row = logits.subspan(t * width, width);
    auto kept = static_cast<ptrdiff_t>(std::min(kTestRowIds, width));
    std::iota(ids.begin(), ids.end(), 0);
    std::partial_sort(ids.begin(), ids.begin() + kept, ids.end(),
                      [&](int32_t a, int32_t b) {
                        float x = row[static_cast<size_t>(a)];
                        float y = row[static_cast<size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    auto made = std::make_unique<abi::TestRowT>();
    made->ids.assign(ids.begin(), ids.begin() + kept);
    for (int32_t id : made->ids)
      made->logits.push_back(row[static_cast<size_t>(id)]);
    double squares = 0;
    for (float x : row)
      squares += double(x) * x;
    made->rms = std::sqrt(squares / static_cast<double>(vocab));
    test->rows.push_back(std::move(made));
  }
  return test;
}

} // namespace retort
