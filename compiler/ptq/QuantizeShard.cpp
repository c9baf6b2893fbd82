//===- QuantizeShard.cpp - A layer becomes a file -------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/QuantizeShard.h"

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/Json.h"
#include "compiler/ptq/ActivationScales.h"
#include "compiler/ptq/CompressedTensors.h"
#include "compiler/ptq/Gptq.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

namespace retort::ptq {
namespace {

using checkpoint::TensorView;

constexpr std::string_view kWeight = ".weight";
/// Rows of each matrix by which scales are chosen.
constexpr int64_t kSampleRows = 128;
/// Scales chosen by fewer tokens say more about these than about the model.
constexpr int64_t kLeastTokens = 32;

/// Matrices that see the same inputs.
struct InputGroup {
  std::shared_ptr<const Activations> inputs; ///< null if nothing reaches them
  std::vector<const TensorView *> matrices;
};

std::string moduleOf(const std::string &name) {
  return name.substr(0, name.size() - kWeight.size());
}

class ShardWriter {
public:
  ShardWriter(const ShardTask &task, std::span<const TensorView *const> views)
      : task(task) {
    for (const TensorView *view : views)
      (isProjection(task.source.config(), *view) ? matrices : others)
          .push_back(view);
    if (task.method.needsInputs() && task.layer >= 0)
      for (ScaleFold &fold : scaleFolds(task.source.config(), task.layer)) {
        std::string first = fold.consumers.front();
        folds.emplace(std::move(first), std::move(fold));
      }
  }

  Result<ShardReport> run(LayerInputs inputs) {
    std::vector<InputGroup> groups = groupByInputs(std::move(inputs));
    RETORT_RETURN_IF_ERROR(begin(groups));
    for (InputGroup &group : groups) {
      RETORT_RETURN_IF_ERROR(quantizeGroup(group));
      group.inputs = nullptr;
    }
    for (const TensorView *view : others)
      RETORT_RETURN_IF_ERROR(copy(*view));
    if (task.finishing)
      RETORT_RETURN_IF_ERROR(task.finishing(report));
    RETORT_RETURN_IF_ERROR(writer->commit());
    return std::move(report);
  }

private:
  /// Backwards, so that the rows of a matrix have their scales before it is
  /// rounded: those that the matrices behind it want.
  std::vector<InputGroup> groupByInputs(LayerInputs inputs) const {
    std::vector<InputGroup> groups;
    std::map<const Activations *, size_t> numbers;
    for (const TensorView *matrix : matrices) {
      auto found = inputs.find(matrix->name);
      auto own = found == inputs.end() ? nullptr : found->second;
      auto [number, isNew] = numbers.emplace(own.get(), groups.size());
      if (isNew)
        groups.push_back({own, {}});
      groups[number->second].matrices.push_back(matrix);
    }
    std::ranges::reverse(groups);
    return groups;
  }

  /// Declares all tensors in the order in which they will be written.
  Status begin(std::span<const InputGroup> groups) {
    std::vector<SafetensorsWriter::Tensor> declared;
    for (const InputGroup &group : groups)
      for (const TensorView *matrix : group.matrices)
        std::ranges::move(storedTensors(moduleOf(matrix->name), task.form,
                                        matrix->shape[0], matrix->shape[1]),
                          std::back_inserter(declared));
    for (const TensorView *view : others)
      declared.push_back({view->name, storedType(*view), view->shape});
    RETORT_ASSIGN_OR_RETURN(
        SafetensorsWriter created,
        SafetensorsWriter::create(task.path, declared, {{"format", "pt"}}));
    writer.emplace(std::move(created));
    return Status::ok();
  }

  static bool isStoredPlain(const TensorView &view) {
    return !view.quantized && view.dtype != DType::F8E4M3;
  }
  /// Matrices that are stored quantized and stay are written as f32.
  static DType storedType(const TensorView &view) {
    return isStoredPlain(view) ? view.dtype : DType::F32;
  }

  Status copy(const TensorView &view) {
    if (auto it = replaced.find(view.name); it != replaced.end())
      return writer->append(it->second);
    constexpr uint64_t kPiece = uint64_t(8) << 20;
    if (isStoredPlain(view)) {
      for (uint64_t at = 0; at < view.bytes.size(); at += kPiece) {
        uint64_t size = std::min<uint64_t>(kPiece, view.bytes.size() - at);
        RETORT_RETURN_IF_ERROR(writer->append(view.bytes.subspan(at, size)));
        task.source.dropResident(view, at, size);
      }
      return Status::ok();
    }
    std::vector<float> row(
        static_cast<size_t>(view.elements() / view.shape[0]));
    for (int64_t r = 0; r < view.shape[0]; ++r) {
      RETORT_RETURN_IF_ERROR(checkpoint::readRows(view, r, 1, row));
      RETORT_RETURN_IF_ERROR(writer->append(std::span<const float>(row)));
    }
    task.source.dropResident(view, 0, view.bytes.size());
    return Status::ok();
  }

  Status quantizeGroup(const InputGroup &group) {
    std::optional<Hessian> hessian;
    std::vector<float> importance;
    if (group.inputs && task.method.needsInputs()) {
      const Activations &x = *group.inputs;
      importance = inputImportance(x.values, x.rows, x.cols);
      if (!std::ranges::all_of(importance,
                               [](float x) { return std::isfinite(x); }))
        return Status::error(
            Code::InvalidData,
            "layer " + std::to_string(task.layer) +
                ": expected finite inputs of " +
                checkpoint::quote(group.matrices.front()->name) +
                " on the calibration text");
      if (task.method.compensates)
        hessian = Hessian::fromInputs(x.values, x.rows, x.cols, task.threads);
      // Inputs that are all zero tell as little as none.
      bool isUsable =
          task.method.compensates
              ? hessian.has_value()
              : std::ranges::any_of(importance, [](float x) { return x > 0; });
      if (!isUsable)
        importance.clear();
    }
    std::vector<float> scales;
    if (!importance.empty()) {
      RETORT_ASSIGN_OR_RETURN(
          scales,
          chooseScales(group, importance, hessian ? &*hessian : nullptr));
    }
    for (const TensorView *matrix : group.matrices)
      RETORT_RETURN_IF_ERROR(quantizeMatrix(
          *matrix, importance, hessian ? &*hessian : nullptr, scales));
    return Status::ok();
  }

  /// Scales by input of the group's matrices, after what makes the inputs has
  /// taken them up. Empty if there is no place for some, or none are better.
  Result<std::vector<float>> chooseScales(const InputGroup &group,
                                          std::span<const float> importance,
                                          const Hessian *hessian) {
    std::vector<float> none;
    std::vector<std::string> names;
    for (const TensorView *matrix : group.matrices)
      names.push_back(matrix->name);
    auto found = folds.find(names.front());
    if (found == folds.end() || found->second.consumers != names ||
        group.inputs->rows < kLeastTokens)
      return none;
    const ScaleFold &fold = found->second;
    const TensorView *taker = nullptr; ///< what has to stay exact
    int64_t numSources = group.inputs->cols;
    if (!fold.norm.empty()) {
      taker = task.source.find(fold.norm);
    } else {
      numSources = task.source.find(fold.producer)->shape[0];
      taker = task.source.find(biasOf(fold.producer));
    }
    std::vector<float> values;
    if (taker) {
      values.resize(static_cast<size_t>(numSources));
      RETORT_RETURN_IF_ERROR(
          checkpoint::readRows(*taker, 0, numSources, values));
    }
    std::vector<MatrixSample> samples;
    for (const TensorView *matrix : group.matrices) {
      RETORT_ASSIGN_OR_RETURN(MatrixSample sample, readSample(*matrix));
      samples.push_back(std::move(sample));
    }
    ScaleSearch search{task.form,
                       *group.inputs,
                       importance,
                       hessian,
                       samples,
                       fold.sources,
                       numSources,
                       {},
                       task.method.usesActivations,
                       task.threads};
    search.settle = [&](int64_t source, float scale) {
      return taker ? exactScale(values[static_cast<size_t>(source)], scale,
                                taker->dtype)
                   : scale;
    };
    std::vector<float> bySource = findScales(search);
    if (bySource.empty())
      return none;
    if (taker)
      replace(*taker, values, bySource);
    if (fold.norm.empty())
      rowScales[fold.producer] = bySource;
    std::vector<float> byInput(static_cast<size_t>(group.inputs->cols));
    for (size_t c = 0; c < byInput.size(); ++c)
      byInput[c] =
          bySource[fold.sources.empty() ? c
                                        : static_cast<size_t>(fold.sources[c])];
    return byInput;
  }

  static std::string biasOf(const std::string &matrix) {
    return moduleOf(matrix) + ".bias";
  }

  /// Rows that lie evenly.
  Result<MatrixSample> readSample(const TensorView &view) const {
    MatrixSample sample;
    sample.rows = std::min(kSampleRows, view.shape[0]);
    auto cols = static_cast<size_t>(view.shape[1]);
    sample.weights.resize(static_cast<size_t>(sample.rows) * cols);
    for (int64_t i = 0; i < sample.rows; ++i)
      RETORT_RETURN_IF_ERROR(checkpoint::readRows(
          view, i * view.shape[0] / sample.rows, 1,
          std::span(sample.weights)
              .subspan(static_cast<size_t>(i) * cols, cols)));
    task.source.dropResident(view, 0, view.bytes.size());
    // Elsewhere in the matrix it is found when that is rounded.
    for (float &weight : sample.weights)
      if (!std::isfinite(weight))
        weight = 0;
    return sample;
  }

  void replace(const TensorView &view, std::span<const float> values,
               std::span<const float> scales) {
    std::vector<std::byte> all;
    for (size_t i = 0; i < values.size(); ++i) {
      float value = roundTo(view.dtype, values[i] / scales[i]);
      std::byte bytes[4];
      size_t size = dtypeBytes(view.dtype);
      if (view.dtype == DType::F16) {
        auto half = static_cast<_Float16>(value);
        std::memcpy(bytes, &half, size);
      } else {
        auto bits = std::bit_cast<uint32_t>(value);
        if (view.dtype == DType::BF16)
          bits >>= 16;
        std::memcpy(bytes, &bits, size); // little-endian, as the file is
      }
      all.insert(all.end(), bytes, bytes + size);
    }
    replaced[view.name] = std::move(all);
  }

  Status quantizeMatrix(const TensorView &view,
                        std::span<const float> importance,
                        const Hessian *hessian, std::span<const float> scales) {
    if (task.cancel && task.cancel->load())
      return Status::error(Code::Cancelled, "quantizing was cancelled");
    int64_t rows = view.shape[0], cols = view.shape[1];
    std::vector<float> weights(static_cast<size_t>(view.elements()));
    RETORT_RETURN_IF_ERROR(checkpoint::readRows(view, 0, rows, weights));
    task.source.dropResident(view, 0, view.bytes.size());
    RETORT_RETURN_IF_ERROR(checkFinite(view, weights));
    if (auto divisors = rowScales.find(view.name); divisors != rowScales.end())
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c)
          weights[static_cast<size_t>(r * cols + c)] /=
              divisors->second[static_cast<size_t>(r)];
    QuantizedResult result =
        importance.empty()
            ? roundToNearest(task.form, weights, rows, cols, task.threads)
        : hessian ? roundWithHessian(task.form, weights, rows, *hessian,
                                     task.threads, scales)
                  : roundWeighted(task.form, weights, rows, importance,
                                  task.threads, scales);
    for (const std::vector<std::byte> &part : storedParts(task.form, result))
      RETORT_RETURN_IF_ERROR(writer->append(part));
    ++report.matrices;
    if (!importance.empty())
      ++report.calibrated;
    else if (task.method.needsInputs())
      report.unreached.push_back(moduleOf(view.name));
    report.scaled += !scales.empty();
    if (task.advance)
      task.advance();
    return Status::ok();
  }

  static Status checkFinite(const TensorView &view,
                            std::span<const float> weights) {
    auto bad = std::ranges::find_if(
        weights, [](float weight) { return !std::isfinite(weight); });
    if (bad == weights.end())
      return Status::ok();
    int64_t at = bad - weights.begin();
    return Status::error(
        Code::InvalidData,
        std::string(view.file) + ": tensor " + checkpoint::quote(view.name) +
            ": row " + std::to_string(at / view.shape[1]) + ", column " +
            std::to_string(at % view.shape[1]) +
            ": expected a finite value, found " + std::to_string(*bad));
  }

  const ShardTask &task;
  std::vector<const TensorView *> matrices, others;
  std::map<std::string, ScaleFold> folds; ///< by the first consumer
  std::map<std::string, std::vector<float>> rowScales; ///< divide rows
  std::map<std::string, std::vector<std::byte>> replaced;
  std::optional<SafetensorsWriter> writer;
  ShardReport report;
};

} // namespace

Result<QuantizeMethod> parseQuantizeMethod(std::string_view name) {
  QuantizeMethod method;
  method.usesActivations = name == "awq" || name == "awq+gptq";
  method.compensates = name == "gptq" || name == "awq+gptq";
  if (name == "rtn" || method.needsInputs())
    return method;
  return Status::error(Code::InvalidArgument,
                       "expected rtn, gptq, awq or awq+gptq, found '" +
                           std::string(name) + "'");
}

bool isProjection(const checkpoint::ModelConfig &config,
                  const TensorView &view) {
  bool isLinear = view.name.ends_with("_proj.weight") ||
                  view.name.ends_with("_proj_with_mqa.weight");
  return isLinear && view.shape.size() == 2 &&
         !view.name.starts_with(
             checkpoint::layerTensorName(config.numLayers, ""));
}

Result<ShardReport> writeShard(const ShardTask &task,
                               std::span<const TensorView *const> views,
                               LayerInputs inputs) {
  return ShardWriter(task, views).run(std::move(inputs));
}

} // namespace retort::ptq
