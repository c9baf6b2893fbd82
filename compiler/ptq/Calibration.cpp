//===- Calibration.cpp - What enters matrices -----------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/Calibration.h"

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/Json.h"
#include "compiler/pack/Packer.h"
#include "compiler/pipelines/Compile.h"
#include "compiler/reference/Reference.h"
#include "dialects/Kernel/Kernel.h"
#include "runtime/api/ModelText.h"
#include "runtime/engine/Session.h"
#include "runtime/loader/Artifact.h"
#include "runtime/support/SafetensorsWriter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>

namespace retort::ptq {
namespace {

using checkpoint::Checkpoint;
using checkpoint::ModelConfig;
using checkpoint::TensorView;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr size_t kMaxTextBytes = size_t(64) << 20;
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";

/// Writes the layer as a checkpoint of one layer, which looks tokens up in
/// `hidden`.
class LayerCheckpoint {
public:
  LayerCheckpoint(const Checkpoint &source, int64_t layer,
                  const Activations &hidden)
      : source(source), layer(layer), hidden(hidden) {}

  Status write(const std::string &dir) {
    std::error_code error;
    fs::create_directories(dir, error);
    if (error)
      return Status::error(Code::Io,
                           dir + ": cannot create: " + error.message());
    RETORT_RETURN_IF_ERROR(writeConfig(dir + "/config.json"));
    std::string prefix = checkpoint::layerTensorName(layer, "");
    std::vector<SafetensorsWriter::Tensor> declared;
    std::vector<const TensorView *> views;
    for (const TensorView &view : source.tensors())
      if (view.name.starts_with(prefix)) {
        views.push_back(&view);
        std::string name =
            checkpoint::layerTensorName(0, view.name.substr(prefix.size()));
        declared.push_back(
            {name, isPlain(view) ? view.dtype : DType::F32, view.shape});
        if (isPlain(view) && view.scales)
          declared.push_back({checkpoint::scaleTensorName(name),
                              view.scales->dtype,
                              {view.scales->rows, view.scales->cols}});
      }
    declared.push_back(
        {std::string(kEmbedding), DType::F32, {hidden.rows, hidden.cols}});
    declared.push_back({"model.norm.weight", DType::F32, {hidden.cols}});
    RETORT_ASSIGN_OR_RETURN(
        SafetensorsWriter writer,
        SafetensorsWriter::create(dir + "/model.safetensors", declared));
    for (const TensorView *view : views)
      RETORT_RETURN_IF_ERROR(copy(*view, writer));
    RETORT_RETURN_IF_ERROR(
        writer.append(std::span<const float>(hidden.values)));
    std::vector<float> ones(static_cast<size_t>(hidden.cols), 1.0f);
    RETORT_RETURN_IF_ERROR(writer.append(std::span<const float>(ones)));
    return writer.commit();
  }

private:
  /// Copied as it is: floats, and fp8 with the blocks that the configuration
  /// still declares.
  bool isPlain(const TensorView &view) const {
    return !view.quantized &&
           (view.dtype != DType::F8E4M3 || source.config().fp8);
  }

  Status writeConfig(const std::string &path) {
    Json config = Json::parse(source.configText(), nullptr, false);
    config["num_hidden_layers"] = 1;
    config["vocab_size"] = hidden.rows;
    config["tie_word_embeddings"] = true;
    for (const char *token : {"bos_token_id", "eos_token_id", "pad_token_id"})
      config.erase(token);
    config.erase("layer_types");
    const ModelConfig &model = source.config();
    if (!model.fp8)
      config.erase("quantization_config");
    if (model.moe) {
      config["first_k_dense_replace"] = model.isMoeLayer(layer) ? 0 : 1;
      config["num_nextn_predict_layers"] = 0;
    }
    std::string text = config.dump();
    RETORT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path));
    RETORT_RETURN_IF_ERROR(file.writeAt(
        0, std::as_bytes(std::span<const char>(text.data(), text.size()))));
    return file.commit();
  }

  /// Of norms and biases; matrices are checked when they are rounded.
  static Status checkVector(const TensorView &view) {
    std::vector<float> values(static_cast<size_t>(view.elements()));
    RETORT_RETURN_IF_ERROR(
        checkpoint::readRows(view, 0, view.shape[0], values));
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        return Status::error(Code::InvalidData,
                             std::string(view.file) + ": tensor " +
                                 checkpoint::quote(view.name) + ": element " +
                                 std::to_string(i) +
                                 ": expected a finite value, found " +
                                 std::to_string(values[i]));
    return Status::ok();
  }

  Status copy(const TensorView &view, SafetensorsWriter &writer) {
    if (view.shape.size() == 1)
      RETORT_RETURN_IF_ERROR(checkVector(view));
    if (isPlain(view)) {
      RETORT_RETURN_IF_ERROR(writer.append(view.bytes));
      source.dropResident(view, 0, view.bytes.size());
      return view.scales ? writer.append(view.scales->bytes) : Status::ok();
    }
    constexpr int64_t kRows = 256;
    int64_t cols = view.shape.size() == 2 ? view.shape[1] : 1;
    std::vector<float> rows;
    for (int64_t row = 0; row < view.shape[0]; row += kRows) {
      int64_t count = std::min(kRows, view.shape[0] - row);
      rows.resize(static_cast<size_t>(count * cols));
      RETORT_RETURN_IF_ERROR(checkpoint::readRows(view, row, count, rows));
      RETORT_RETURN_IF_ERROR(writer.append(std::span<const float>(rows)));
    }
    source.dropResident(view, 0, view.bytes.size());
    return Status::ok();
  }

  const Checkpoint &source;
  int64_t layer;
  const Activations &hidden;
};

/// Runs the one layer and collects rows by matrix, named as in layer 0.
class LayerRun {
public:
  LayerRun(const ModelConfig &model, const Activations &hidden,
           const CalibrationOptions &options)
      : hidden(hidden), options(options),
        hasQueryLatent(model.mla && model.mla->qLoraRank > 0) {
    out.rows = hidden.rows;
    out.cols = hidden.cols;
    out.values.reserve(hidden.values.size());
  }

  /// Through the reference interpreter, which tells of every matrix of every
  /// family what enters it.
  Status interpret(const Checkpoint &model) {
    return forWindows([&](std::span<const int32_t> tokens) -> Status {
      reference::ReferenceOptions reference;
      reference.threads = options.threads;
      reference.cancel = options.cancel;
      reference.keepHiddenStates = true;
      reference.lastLogitsOnly = true;
      reference.inputs = [&](const TensorView &weight, std::span<float> row) {
        if (weight.name != kEmbedding && !sharerOf(weight.name))
          add(weight.name, row.data(), static_cast<int64_t>(row.size()));
      };
      RETORT_ASSIGN_OR_RETURN(
          reference::ReferenceOutput result,
          reference::runReference(model, tokens, reference));
      out.values.insert(out.values.end(), result.lastLayer.begin(),
                        result.lastLayer.end());
      return Status::ok();
    });
  }

  /// Through compiled code, for layers of grouped-query attention and a SwiGLU.
  Status execute(const Checkpoint &model, const std::string &artifactPath) {
    const ModelConfig &config = model.config();
    OpenOptions open;
    open.weights = WeightCheck::Never;
    RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(artifactPath, open));
    RETORT_ASSIGN_OR_RETURN(auto loaded, Model::load(std::move(artifact)));
    return forWindows([&](std::span<const int32_t> tokens) -> Status {
      int norms = 0;
      SessionOptions session;
      session.context = static_cast<uint32_t>(tokens.size());
      session.threads = static_cast<unsigned>(options.threads);
      session.observer = [&](const LaunchEvent &event) {
        if (event.launch.layer() < 0)
          return;
        std::string_view label = event.launch.label()->string_view();
        auto count = event.scalars.n_tokens;
        for (int64_t t = 0; t < count; ++t) {
          auto *row = reinterpret_cast<const float *>(
              event.result + static_cast<uint64_t>(t) * event.rowBytes);
          if (label == "rms_norm" && norms % 2 == 0)
            add(name("self_attn.q_proj"), row, config.hiddenSize);
          else if (label == "rms_norm")
            add(name("mlp.gate_proj"), row, config.hiddenSize);
          else if (label == "attention")
            addHeads(row, config);
          else if (label == "linear gate_up")
            add(name("mlp.down_proj"), row, config.intermediateSize);
          else if (label == "linear down")
            out.values.insert(out.values.end(), row, row + config.hiddenSize);
        }
        norms += label == "rms_norm";
      };
      RETORT_ASSIGN_OR_RETURN(auto s, Session::create(loaded, session));
      return s->feed(tokens);
    });
  }

  /// Moves what was collected, to the names of `layer`; `model` has one layer.
  LayerResult take(const Checkpoint &model, int64_t layer) {
    for (const TensorView &view : model.tensors())
      if (auto with = sharerOf(view.name))
        if (auto it = collected.find(*with); it != collected.end())
          collected[view.name] = it->second;
    LayerResult result;
    result.hidden = std::move(out);
    std::string from = checkpoint::layerTensorName(0, "");
    for (auto &[matrix, rows] : collected)
      result.inputs[checkpoint::layerTensorName(
          layer, matrix.substr(from.size()))] = rows;
    return result;
  }

private:
  static std::string name(const std::string &module) {
    return checkpoint::layerTensorName(0, module + ".weight");
  }

  /// The matrix before this one that sees the same inputs, if there is one.
  std::optional<std::string> sharerOf(const std::string &matrix) const {
    auto replaced = [&](std::string_view end, std::string_view by) {
      return matrix.substr(0, matrix.size() - end.size()) + std::string(by);
    };
    for (std::string_view end : {"k_proj.weight", "v_proj.weight"})
      if (matrix.ends_with(end))
        return replaced(end, "q_proj.weight");
    if (std::string_view end = "up_proj.weight"; matrix.ends_with(end))
      return replaced(end, "gate_proj.weight");
    if (std::string_view end = "kv_a_proj_with_mqa.weight";
        matrix.ends_with(end))
      return replaced(end,
                      hasQueryLatent ? "q_a_proj.weight" : "q_proj.weight");
    return std::nullopt;
  }

  template <typename Run> Status forWindows(const Run &run) {
    std::vector<int32_t> tokens(static_cast<size_t>(hidden.rows));
    for (size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<int32_t>(i);
    for (size_t at = 0; at < tokens.size();
         at += static_cast<size_t>(options.window)) {
      if (options.cancel && options.cancel->load())
        return Status::error(Code::Cancelled, "quantizing was cancelled");
      size_t count =
          std::min(static_cast<size_t>(options.window), tokens.size() - at);
      RETORT_RETURN_IF_ERROR(run(std::span(tokens).subspan(at, count)));
    }
    return Status::ok();
  }

  void add(const std::string &matrix, const float *row, int64_t cols) {
    std::shared_ptr<Activations> &to = collected[matrix];
    if (!to) {
      to = std::make_shared<Activations>();
      // All tokens, unless a router chooses.
      if (matrix.find(".experts.") == std::string::npos)
        to->values.reserve(static_cast<size_t>(hidden.rows * cols));
    }
    to->cols = cols;
    ++to->rows;
    to->values.insert(to->values.end(), row, row + cols);
  }

  /// Heads may lie padded.
  void addHeads(const float *row, const ModelConfig &config) {
    int64_t padded = kernel::paddedHeadSize(config.headDim);
    if (padded == config.headDim)
      return add(name("self_attn.o_proj"), row, config.queryDim());
    std::vector<float> heads;
    int64_t half = config.headDim / 2;
    for (int64_t i = 0; i < 2 * config.numHeads; ++i)
      heads.insert(heads.end(), row + i * padded / 2,
                   row + i * padded / 2 + half);
    add(name("self_attn.o_proj"), heads.data(), config.queryDim());
  }

  const Activations &hidden;
  const CalibrationOptions &options;
  bool hasQueryLatent;
  Activations out;
  std::map<std::string, std::shared_ptr<Activations>> collected;
};

/// The weights of an artifact that is there, behind its first `begin` bytes.
class PlacedWeights : public WeightSink {
public:
  explicit PlacedWeights(uint64_t begin) : begin(begin) {}
  Status open(const std::string &path) {
    RETORT_ASSIGN_OR_RETURN(file,
                            WritableFile::open(path, path, /*truncate=*/false));
    return Status::ok();
  }
  Status write(uint64_t offset, std::span<const std::byte> bytes) override {
    return file.writeAt(begin + offset, bytes);
  }

private:
  uint64_t begin;
  WritableFile file;
};

/// The text of a line of JSONL.
Result<std::string> promptOf(const std::string &line) {
  RETORT_ASSIGN_OR_RETURN(nlohmann::json value, checkpoint::parseJson(line));
  if (value.is_string())
    return value.get<std::string>();
  for (const char *field : {"prompt", "text"})
    if (value.is_object() && value.contains(field) && value[field].is_string())
      return value[field].get<std::string>();
  return Status::error(Code::InvalidData,
                       "expected a string, or an object with a string 'prompt' "
                       "or 'text', found " +
                           checkpoint::describeJson(value));
}

Result<std::string> calibrationText(const std::string &file) {
  if (file.empty())
    return std::string(defaultCalibrationText());
  RETORT_ASSIGN_OR_RETURN(std::string text, readFile(file, kMaxTextBytes));
  if (!file.ends_with(".jsonl"))
    return text;
  std::string prompts;
  size_t number = 0;
  for (size_t at = 0; at < text.size(); ++number) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos)
      continue;
    Result<std::string> prompt = promptOf(line);
    if (!prompt)
      return prompt.takeStatus().withContext(file + ": line " +
                                             std::to_string(number + 1));
    prompts += *prompt + "\n";
  }
  return prompts;
}

} // namespace

Result<std::vector<int32_t>> calibrationTokens(const Checkpoint &checkpoint,
                                               const std::string &file,
                                               int64_t count) {
  RETORT_ASSIGN_OR_RETURN(std::string text, calibrationText(file));
  std::string shown = file.empty() ? "the calibration text" : file;
  Result<ModelText> model = ModelText::readDirectory(checkpoint.directory());
  if (!model)
    return model.takeStatus().withContext("calibrating needs a tokenizer");
  auto encoded = model->encode(text, /*addSpecial=*/false);
  if (!encoded)
    return encoded.takeStatus().withContext(shown);
  if (encoded->empty())
    return Status::error(Code::InvalidData,
                         shown + ": expected text to calibrate with, found "
                                 "none");
  if (static_cast<int64_t>(encoded->size()) > count)
    encoded->resize(static_cast<size_t>(count));
  return std::move(*encoded);
}

Result<Activations> embedTokens(const Checkpoint &checkpoint,
                                std::span<const int32_t> tokens) {
  const TensorView *table = checkpoint.find(kEmbedding);
  Activations out;
  out.rows = static_cast<int64_t>(tokens.size());
  out.cols = checkpoint.config().hiddenSize;
  out.values.resize(static_cast<size_t>(out.rows * out.cols));
  for (int64_t t = 0; t < out.rows; ++t) {
    int32_t id = tokens[static_cast<size_t>(t)];
    if (id < 0 || id >= checkpoint.config().vocabSize)
      return Status::error(Code::InvalidData,
                           "calibration token " + std::to_string(t) +
                               ": expected an id in [0, " +
                               std::to_string(checkpoint.config().vocabSize) +
                               "), found " + std::to_string(id));
    RETORT_RETURN_IF_ERROR(
        checkpoint::readRows(*table, id, 1,
                             std::span(out.values)
                                 .subspan(static_cast<size_t>(t * out.cols),
                                          static_cast<size_t>(out.cols))));
  }
  checkpoint.dropResident(*table, 0, table->bytes.size());
  return out;
}

Result<LayerResult> LayerRunner::run(int64_t layer, const Activations &hidden) {
  std::string dir = options.scratch + "/layer";
  RETORT_RETURN_IF_ERROR(LayerCheckpoint(checkpoint, layer, hidden).write(dir));
  RETORT_ASSIGN_OR_RETURN(Checkpoint model, Checkpoint::open(dir));
  LayerRun run(model.config(), hidden, options);
  bool isDense = !model.config().mla && !model.config().moe;
  if (isDense) {
    RETORT_RETURN_IF_ERROR(prepare(dir, layer, model));
    RETORT_RETURN_IF_ERROR(run.execute(model, artifactPath()));
  } else {
    RETORT_RETURN_IF_ERROR(run.interpret(model));
  }
  std::error_code ignored;
  fs::remove_all(dir, ignored);
  return run.take(model, layer);
}

/// Makes the artifact that of `model`, which lies in `dir`.
Status LayerRunner::prepare(const std::string &dir, int64_t layer,
                            const Checkpoint &model) {
  std::string key = model.configText();
  for (const TensorView &view : model.tensors())
    key += "\n" + view.name + " " + std::string(dtypeName(view.dtype)) + " " +
           checkpoint::formatShape(view.shape);
  auto failed = [&](Status status) {
    return std::move(status).withContext("compiling layer " +
                                         std::to_string(layer));
  };
  if (key == compiled) {
    uint64_t begin = 0;
    {
      OpenOptions open;
      open.weights = WeightCheck::Never;
      RETORT_ASSIGN_OR_RETURN(auto artifact,
                              Artifact::open(artifactPath(), open));
      begin = static_cast<uint64_t>(artifact->weights().data() -
                                    artifact->bytes().data());
    }
    PlacedWeights sink(begin);
    RETORT_RETURN_IF_ERROR(sink.open(artifactPath()));
    PackOptions pack;
    pack.threads = options.threads;
    pack.maxRam = options.maxRam;
    pack.cancel = options.cancel;
    auto packed = packWeights(specs, model, sink, pack);
    return packed ? Status::ok() : failed(packed.takeStatus());
  }
  compiled.clear();
  CompileOptions compile;
  compile.checkpoint = dir;
  compile.output = artifactPath();
  compile.weights = "keep";
  compile.kv = "f32";
  compile.maxContext =
      std::min<int64_t>(options.window, model.config().maxPositionEmbeddings);
  compile.threads = options.threads;
  compile.maxRam = options.maxRam;
  compile.resume = false;
  compile.cancel = options.cancel;
  auto report = compileCheckpoint(compile);
  if (!report)
    return failed(report.takeStatus());
  auto plan = planCompile(compile);
  if (!plan)
    return failed(plan.takeStatus());
  specs = std::move(plan->weights);
  compiled = std::move(key);
  return Status::ok();
}

} // namespace retort::ptq
