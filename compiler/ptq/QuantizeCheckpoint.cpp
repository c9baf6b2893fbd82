//===- QuantizeCheckpoint.cpp - The quantize command ----------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/QuantizeCheckpoint.h"

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/Json.h"
#include "compiler/pack/PackInputs.h"
#include "compiler/ptq/Calibration.h"
#include "compiler/ptq/CompressedTensors.h"
#include "compiler/ptq/Gptq.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

namespace retort::ptq {
namespace {

using checkpoint::Checkpoint;
using checkpoint::ModelConfig;
using checkpoint::TensorView;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr size_t kMaxTextBytes = size_t(256) << 20;
constexpr const char *kState = "inputs.json";
constexpr std::string_view kWeight = ".weight";

Status systemError(const std::string &path, const char *what,
                   const std::error_code &error) {
  return Status::error(Code::Io,
                       path + ": cannot " + what + ": " + error.message());
}

Status writeText(const std::string &path, std::string_view text) {
  RETORT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path));
  RETORT_RETURN_IF_ERROR(file.writeAt(
      0, std::as_bytes(std::span<const char>(text.data(), text.size()))));
  return file.commit();
}

/// A matrix of a layer that becomes integers.
bool isProjection(const ModelConfig &config, const TensorView &view) {
  bool isLinear = view.name.ends_with("_proj.weight") ||
                  view.name.ends_with("_proj_with_mqa.weight");
  // The multi-token-prediction layer stays as it is.
  return isLinear && view.shape.size() == 2 &&
         !view.name.starts_with(
             checkpoint::layerTensorName(config.numLayers, ""));
}

std::string moduleOf(const std::string &name) {
  return name.substr(0, name.size() - kWeight.size());
}

/// One run. The steps follow each other as run() has them.
class Quantization {
public:
  explicit Quantization(const QuantizeOptions &options)
      : options(options), dir(options.output + ".partial") {}

  Result<QuantizeReport> run() {
    RETORT_RETURN_IF_ERROR(open());
    RETORT_RETURN_IF_ERROR(checkShapes());
    if (options.method != QuantizeMethod::Rtn)
      RETORT_RETURN_IF_ERROR(readCalibration());
    RETORT_RETURN_IF_ERROR(checkMemory());
    RETORT_RETURN_IF_ERROR(prepareDirectory());
    RETORT_RETURN_IF_ERROR(writeShards());
    RETORT_RETURN_IF_ERROR(finish());
    return std::move(report);
  }

private:
  int threads() const {
    return options.threads > 0 ? options.threads
                               : static_cast<int>(std::max(
                                     1u, std::thread::hardware_concurrency()));
  }
  void step() {
    if (options.progress)
      options.progress("quantizing", report.matrices, totalMatrices);
  }
  void tell(const std::string &what) {
    if (options.note)
      options.note(what);
  }
  Status cancelled() const {
    if (options.cancel && options.cancel->load())
      return Status::error(Code::Cancelled, "quantizing was cancelled");
    return Status::ok();
  }

  Status open() {
    RETORT_RETURN_IF_ERROR(checkOutput());
    RETORT_ASSIGN_OR_RETURN(Checkpoint opened,
                            Checkpoint::open(options.checkpoint));
    source = std::make_unique<Checkpoint>(std::move(opened));
    for (const std::string &note : source->notes())
      tell(note);
    report.sourceBytes = source->totalBytes();
    return Status::ok();
  }

  Status checkOutput() const {
    std::error_code error;
    if (options.output.empty())
      return Status::error(Code::InvalidArgument, "expected an output");
    if (fs::exists(options.output, error) &&
        !(fs::is_directory(options.output, error) &&
          fs::is_empty(options.output, error)))
      return Status::error(Code::InvalidArgument,
                           options.output +
                               ": expected a directory that is empty or "
                               "does not exist");
    return Status::ok();
  }

  Status checkShapes() {
    if (options.form.bits == 4 && options.form.groupSize < 1)
      return Status::error(Code::InvalidArgument,
                           "expected a positive group size, found " +
                               std::to_string(options.form.groupSize));
    for (const TensorView &view : source->tensors()) {
      if (!isProjection(source->config(), view))
        continue;
      ++totalMatrices;
      largestRow = std::max(largestRow, view.shape[1]);
      largestMatrix = std::max(largestMatrix, view.elements());
      int64_t group = options.form.groupSize;
      if (group > 0 && view.shape[1] % group != 0)
        return Status::error(Code::InvalidArgument,
                             std::string(view.file) + ": tensor " +
                                 checkpoint::quote(view.name) +
                                 ": expected a group size that divides its " +
                                 std::to_string(view.shape[1]) +
                                 " columns, found " + std::to_string(group));
    }
    return Status::ok();
  }

  Status readCalibration() {
    RETORT_ASSIGN_OR_RETURN(tokens,
                            calibrationTokens(*source, options.calibration,
                                              options.calibrationTokens));
    report.calibrationTokens = static_cast<int64_t>(tokens.size());
    return Status::ok();
  }

  /// What is held at once: a matrix in f32 and quantized, twice, and with
  /// calibration the inputs of a layer, their ordered copy, and two squares.
  Status checkMemory() const {
    constexpr uint64_t kFixed = uint64_t(64) << 20;
    auto row = static_cast<uint64_t>(largestRow);
    uint64_t least = kFixed + static_cast<uint64_t>(largestMatrix) * 14;
    if (!tokens.empty()) {
      uint64_t hidden = static_cast<uint64_t>(source->config().hiddenSize);
      least += tokens.size() * (2 * row + 5 * hidden) * 4 + 2 * row * row * 4;
    }
    if (least > options.maxRam)
      return Status::error(Code::OutOfMemory,
                           "quantizing needs a memory limit of at least " +
                               std::to_string((least >> 20) + 1) +
                               " MiB, found " +
                               std::to_string(options.maxRam >> 20) +
                               " MiB: fewer calibration tokens need less");
    return Status::ok();
  }

  /// What the result depends on, as JSON text.
  Result<std::string> describeInputs() const {
    RETORT_ASSIGN_OR_RETURN(std::vector<JournalInput> inputs,
                            packInputs({}, *source));
    Json out = Json::object();
    for (const JournalInput &input : inputs)
      out[input.name] = input.value;
    out["config"] = source->configText();
    out["bits"] = options.form.bits;
    out["float"] = options.form.isFloat;
    out["zero points"] = options.form.zeroPoints;
    out["group size"] = options.form.groupSize;
    out["method"] = static_cast<int>(options.method);
    out["window"] = options.window;
    out["calibration tokens"] = tokens;
    return out.dump(-1, ' ', true, Json::error_handler_t::replace);
  }

  Status prepareDirectory() {
    RETORT_ASSIGN_OR_RETURN(std::string inputs, describeInputs());
    std::error_code error;
    std::string state = dir + "/" + kState;
    if (fs::exists(dir, error)) {
      auto found = readFile(state, kMaxTextBytes);
      if (options.resume && found && *found == inputs)
        return removeOthers([](const std::string &name) {
          return name.find(".partial-") == std::string::npos;
        });
      if (options.resume)
        tell("what an interrupted run has left in " + dir +
             " came from other inputs and is made anew");
      fs::remove_all(dir, error);
      if (error)
        return systemError(dir, "remove", error);
    }
    fs::create_directories(dir, error);
    if (error)
      return systemError(dir, "create", error);
    return writeText(state, inputs);
  }

  /// Removes files and folders of the directory, but for those that `keeps`:
  /// what a killed run was in the middle of.
  template <typename Keeps> Status removeOthers(Keeps keeps) const {
    std::error_code error;
    std::vector<fs::path> others;
    for (fs::directory_iterator it(dir, error), end; !error && it != end;
         it.increment(error))
      if (!keeps(it->path().filename().string()))
        others.push_back(it->path());
    for (const fs::path &path : others)
      if (!error)
        fs::remove_all(path, error);
    return error ? systemError(dir, "clean up", error) : Status::ok();
  }

  // Shards: what comes before the layers, each layer, what comes after.
  int64_t shardCount() const { return source->config().numLayers + 2; }
  std::string shardName(int64_t shard) const {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05d-of-%05d.safetensors",
                  static_cast<int>(shard + 1), static_cast<int>(shardCount()));
    return name;
  }
  /// -1 before the layers, numLayers after them.
  int64_t shardOf(const TensorView &view) const {
    if (view.name == "model.embed_tokens.weight")
      return 0;
    for (int64_t layer = 0; layer < source->config().numLayers; ++layer)
      if (view.name.starts_with(checkpoint::layerTensorName(layer, "")))
        return layer + 1;
    return shardCount() - 1;
  }
  bool isWritten(int64_t shard) const {
    std::error_code error;
    return fs::exists(dir + "/" + shardName(shard), error);
  }

  Status writeShards() {
    std::vector<std::vector<const TensorView *>> members(
        static_cast<size_t>(shardCount()));
    for (const TensorView &view : source->tensors())
      members[static_cast<size_t>(shardOf(view))].push_back(&view);
    for (int64_t shard = 0; shard < shardCount(); ++shard) {
      RETORT_RETURN_IF_ERROR(cancelled());
      const auto &views = members[static_cast<size_t>(shard)];
      bool isLayer = shard > 0 && shard + 1 < shardCount();
      if (isWritten(shard)) {
        report.resumedLayers += isLayer;
        for (const TensorView *view : views)
          report.matrices += isProjection(source->config(), *view);
        continue;
      }
      LayerInputs inputs;
      if (isLayer && !tokens.empty()) {
        RETORT_ASSIGN_OR_RETURN(inputs, calibrate(shard - 1));
      }
      RETORT_RETURN_IF_ERROR(writeShard(shard, views, inputs));
      removeState(shard - 1);
    }
    return Status::ok();
  }

  std::string statePath(int64_t layer) const {
    return dir + "/hidden-" + std::to_string(layer) + ".safetensors";
  }
  void removeState(int64_t layer) const {
    std::error_code ignored;
    fs::remove(statePath(layer), ignored);
  }

  /// Runs a layer on what the one before left, and leaves what the next needs
  /// before this one counts as done.
  Result<LayerInputs> calibrate(int64_t layer) {
    step();
    Activations hidden;
    if (layer == 0) {
      RETORT_ASSIGN_OR_RETURN(hidden, embedTokens(*source, tokens));
    } else {
      RETORT_ASSIGN_OR_RETURN(
          checkpoint::SafetensorsFile file,
          checkpoint::SafetensorsFile::open(statePath(layer)));
      const TensorView *view = file.find("hidden");
      if (!view || view->shape.size() != 2)
        return Status::error(Code::InvalidData,
                             statePath(layer) + ": expected a tensor 'hidden'");
      hidden.rows = view->shape[0];
      hidden.cols = view->shape[1];
      hidden.values.resize(static_cast<size_t>(view->elements()));
      RETORT_RETURN_IF_ERROR(
          checkpoint::readRows(*view, 0, hidden.rows, hidden.values));
    }
    CalibrationOptions calibration;
    calibration.scratch = dir;
    calibration.window =
        std::min(options.window, source->config().maxPositionEmbeddings);
    calibration.threads = threads();
    calibration.maxRam = options.maxRam;
    calibration.cancel = options.cancel;
    RETORT_ASSIGN_OR_RETURN(LayerResult result,
                            runLayer(*source, layer, hidden, calibration));
    if (layer + 1 < source->config().numLayers) {
      RETORT_ASSIGN_OR_RETURN(
          SafetensorsWriter writer,
          SafetensorsWriter::create(
              statePath(layer + 1),
              {{"hidden",
                DType::F32,
                {result.hidden.rows, result.hidden.cols}}}));
      RETORT_RETURN_IF_ERROR(
          writer.append(std::span<const float>(result.hidden.values)));
      RETORT_RETURN_IF_ERROR(writer.commit());
    }
    return std::move(result.inputs);
  }

  Status writeShard(int64_t shard, const std::vector<const TensorView *> &views,
                    const LayerInputs &inputs) {
    std::vector<OutputTensor> quantized;
    std::vector<SafetensorsWriter::Tensor> declared;
    // Matrices with the same inputs follow each other, so that one Hessian
    // serves them all.
    std::vector<const TensorView *> order, plain;
    for (const TensorView *view : views)
      (isProjection(source->config(), *view) ? order : plain).push_back(view);
    auto inputsOf = [&](const TensorView *view) -> const Activations * {
      auto it = inputs.find(view->name);
      return it == inputs.end() ? nullptr : it->second.get();
    };
    std::vector<const Activations *> distinct;
    for (const TensorView *view : order)
      if (std::ranges::find(distinct, inputsOf(view)) == distinct.end())
        distinct.push_back(inputsOf(view));
    for (const Activations *activations : distinct) {
      std::optional<Hessian> hessian;
      if (activations) {
        step();
        hessian = Hessian::fromInputs(activations->values, activations->rows,
                                      activations->cols, threads());
      }
      for (const TensorView *view : order) {
        if (inputsOf(view) != activations)
          continue;
        RETORT_RETURN_IF_ERROR(cancelled());
        RETORT_RETURN_IF_ERROR(
            quantize(*view, hessian ? &*hessian : nullptr, quantized));
      }
    }
    for (const OutputTensor &tensor : quantized)
      declared.push_back(tensor.tensor);
    for (const TensorView *view : plain)
      declared.push_back({view->name, storedType(*view), view->shape});
    RETORT_ASSIGN_OR_RETURN(
        SafetensorsWriter writer,
        SafetensorsWriter::create(dir + "/" + shardName(shard), declared,
                                  {{"format", "pt"}}));
    for (const OutputTensor &tensor : quantized)
      RETORT_RETURN_IF_ERROR(writer.append(tensor.bytes));
    for (const TensorView *view : plain)
      RETORT_RETURN_IF_ERROR(copy(*view, writer));
    return writer.commit();
  }

  static bool isStoredPlain(const TensorView &view) {
    return !view.quantized && view.dtype != DType::F8E4M3;
  }
  /// Matrices that another tool has quantized and that stay are written as f32.
  static DType storedType(const TensorView &view) {
    return isStoredPlain(view) ? view.dtype : DType::F32;
  }

  Status quantize(const TensorView &view, const Hessian *hessian,
                  std::vector<OutputTensor> &out) {
    step();
    std::vector<float> weights(static_cast<size_t>(view.elements()));
    RETORT_RETURN_IF_ERROR(
        checkpoint::readRows(view, 0, view.shape[0], weights));
    source->dropResident(view, 0, view.bytes.size());
    for (size_t i = 0; i < weights.size(); ++i)
      if (!std::isfinite(weights[i]))
        return Status::error(Code::InvalidData,
                             std::string(view.file) + ": tensor " +
                                 checkpoint::quote(view.name) + ": row " +
                                 std::to_string(int64_t(i) / view.shape[1]) +
                                 ", column " +
                                 std::to_string(int64_t(i) % view.shape[1]) +
                                 ": expected a finite value, found " +
                                 std::to_string(weights[i]));
    if (!hessian && options.method != QuantizeMethod::Rtn)
      tell(view.name + " is not reached by the calibration text: rounded to "
                       "nearest");
    QuantizedResult result =
        hessian ? roundWithHessian(options.form, weights, view.shape[0],
                                   *hessian, threads())
                : roundToNearest(options.form, weights, view.shape[0],
                                 view.shape[1], threads());
    for (OutputTensor &part :
         storedParts(moduleOf(view.name), options.form, result))
      out.push_back(std::move(part));
    ++report.matrices;
    report.calibrated += hessian != nullptr;
    return Status::ok();
  }

  Status copy(const TensorView &view, SafetensorsWriter &writer) {
    constexpr uint64_t kPiece = uint64_t(8) << 20;
    for (uint64_t at = 0; isStoredPlain(view) && at < view.bytes.size();
         at += kPiece) {
      uint64_t size = std::min<uint64_t>(kPiece, view.bytes.size() - at);
      RETORT_RETURN_IF_ERROR(writer.append(view.bytes.subspan(at, size)));
      source->dropResident(view, at, size);
    }
    if (isStoredPlain(view))
      return Status::ok();
    std::vector<float> row(
        static_cast<size_t>(view.elements() / view.shape[0]));
    for (int64_t r = 0; r < view.shape[0]; ++r) {
      RETORT_RETURN_IF_ERROR(checkpoint::readRows(view, r, 1, row));
      RETORT_RETURN_IF_ERROR(writer.append(std::span<const float>(row)));
    }
    source->dropResident(view, 0, view.bytes.size());
    return Status::ok();
  }

  /// Modules that are linear and stay as they are.
  std::vector<std::string> ignoredModules() const {
    const ModelConfig &config = source->config();
    std::vector<std::string> ignored = {"lm_head"};
    if (config.moe)
      ignored.push_back("re:.*mlp\\.gate$");
    for (int64_t i = 0; i < config.numMtpLayers; ++i)
      ignored.push_back("re:model\\.layers\\." +
                        std::to_string(config.numLayers + i) + "\\..*");
    return ignored;
  }

  Status finish() {
    Json map = Json::object();
    for (int64_t shard = 0; shard < shardCount(); ++shard) {
      std::string path = dir + "/" + shardName(shard);
      RETORT_ASSIGN_OR_RETURN(checkpoint::SafetensorsFile file,
                              checkpoint::SafetensorsFile::open(path));
      for (const TensorView &view : file.tensors()) {
        map[view.name] = shardName(shard);
        report.bytes += view.bytes.size();
      }
    }
    Json index = {{"metadata", {{"total_size", report.bytes}}},
                  {"weight_map", std::move(map)}};
    RETORT_RETURN_IF_ERROR(
        writeText(dir + "/model.safetensors.index.json", index.dump(2) + "\n"));
    RETORT_ASSIGN_OR_RETURN(
        std::string config,
        quantizedConfig(source->configText(), options.form, ignoredModules()));
    RETORT_RETURN_IF_ERROR(writeText(dir + "/config.json", config));
    RETORT_RETURN_IF_ERROR(removeOthers([&](const std::string &name) {
      return name.starts_with("model") || name == "config.json";
    }));
    RETORT_RETURN_IF_ERROR(copyFiles());
    std::error_code error;
    if (fs::exists(options.output))
      fs::remove(options.output, error);
    if (!error)
      fs::rename(dir, options.output, error);
    return error ? systemError(options.output, "create", error) : Status::ok();
  }

  /// Everything beside the weights: tokenizer, templates, generation defaults.
  Status copyFiles() {
    constexpr const char *kNames[] = {
        "generation_config.json",  "tokenizer.json",  "tokenizer_config.json",
        "special_tokens_map.json", "tokenizer.model", "chat_template.jinja",
        "added_tokens.json",       "vocab.json",      "merges.txt",
    };
    std::error_code error;
    for (const char *name : kNames) {
      std::string from = options.checkpoint + "/" + name;
      if (!fs::exists(from, error))
        continue;
      fs::copy_file(from, dir + "/" + name,
                    fs::copy_options::overwrite_existing, error);
      if (error)
        return systemError(dir + "/" + name, "write", error);
    }
    return Status::ok();
  }

  const QuantizeOptions &options;
  std::string dir;
  std::unique_ptr<Checkpoint> source;
  QuantizeReport report;
  std::vector<int32_t> tokens; ///< of the calibration text; empty for rtn
  uint64_t totalMatrices = 0;
  int64_t largestRow = 0, largestMatrix = 0;
};

} // namespace

Result<QuantizeReport> quantizeCheckpoint(const QuantizeOptions &options) {
  try {
    return Quantization(options).run();
  } catch (const std::bad_alloc &) {
    return Status::error(Code::OutOfMemory, "no memory to quantize");
  }
}

} // namespace retort::ptq
