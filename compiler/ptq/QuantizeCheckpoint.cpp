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
#include "runtime/support/File.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace retort::ptq {
namespace {

using checkpoint::Checkpoint;
using checkpoint::ModelConfig;
using checkpoint::TensorView;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr size_t kMaxTextBytes = size_t(1) << 30;
/// In the folder of an unfinished run: what it depends on, and the checkpoint
/// as far as it is written.
constexpr const char *kState = "inputs.json";
constexpr const char *kContent = "checkpoint";
/// What any run needs beside matrices and activations: the compiler at work.
constexpr uint64_t kFixedBytes = uint64_t(256) << 20;

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

std::string withoutSlashes(std::string path) {
  while (path.size() > 1 && path.ends_with('/'))
    path.pop_back();
  return path;
}

/// A folder that no other process has, as long as this lives.
class FolderLock {
public:
  FolderLock() = default;
  FolderLock(const FolderLock &) = delete;
  FolderLock &operator=(const FolderLock &) = delete;
  ~FolderLock() {
    if (fd >= 0)
      ::close(fd);
  }
  Status take(const std::string &folder, const std::string &output) {
    fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
      return systemError(folder, "open",
                         std::error_code(errno, std::generic_category()));
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0)
      return Status::ok();
    if (errno == EWOULDBLOCK)
      return Status::error(Code::InvalidArgument,
                           output + ": another process is writing it");
    return systemError(folder, "lock",
                       std::error_code(errno, std::generic_category()));
  }

private:
  int fd = -1;
};

/// Activations of one token that are held with a layer, in elements: what
/// enters its matrices, what enters and leaves it, and a copy in order.
uint64_t elementsPerToken(const ModelConfig &config) {
  int64_t hidden = config.hiddenSize, largest = config.intermediateSize;
  int64_t mixer = hidden;
  if (const auto &mla = config.mla)
    mixer += mla->qLoraRank + mla->kvLoraRank + config.numHeads * mla->vHeadDim;
  else
    mixer += config.queryDim();
  int64_t feedForward = hidden + config.intermediateSize;
  // Tokens of an expert come one after the other: room is made twice.
  if (const auto &moe = config.moe)
    feedForward =
        std::max(feedForward,
                 2 * (hidden + moe->sharedIntermediateSize() +
                      moe->expertsPerToken * (hidden + moe->intermediateSize)));
  largest = std::max({largest, hidden, config.queryDim()});
  return static_cast<uint64_t>(mixer + feedForward + 3 * hidden + largest);
}

/// One run. The steps follow each other as run() has them.
class Quantization {
public:
  explicit Quantization(const QuantizeOptions &options)
      : options(options), output(withoutSlashes(options.output)),
        folder(output + ".partial"), content(folder + "/" + kContent) {}

  Result<QuantizeReport> run() {
    Status status = runSteps();
    if (status.isOk())
      return std::move(report);
    // Bad input leaves nothing; what can go on stays.
    bool isBad = status.code() != Code::Cancelled &&
                 status.code() != Code::Io &&
                 status.code() != Code::OutOfMemory;
    std::error_code ignored;
    if (isBad && ownsFolder)
      fs::remove_all(folder, ignored);
    return status;
  }

private:
  Status runSteps() {
    RETORT_RETURN_IF_ERROR(open());
    RETORT_RETURN_IF_ERROR(checkShapes());
    if (options.method.needsInputs())
      RETORT_RETURN_IF_ERROR(readCalibration());
    RETORT_RETURN_IF_ERROR(checkMemory());
    RETORT_ASSIGN_OR_RETURN(bool isFinished, prepareFolder());
    if (!isFinished) {
      RETORT_RETURN_IF_ERROR(writeShards());
      RETORT_RETURN_IF_ERROR(finish());
    }
    return Status::ok();
  }

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
    if (output.empty())
      return Status::error(Code::InvalidArgument, "expected an output");
    RETORT_ASSIGN_OR_RETURN(Checkpoint opened,
                            Checkpoint::open(options.checkpoint));
    source = std::make_unique<Checkpoint>(std::move(opened));
    for (const std::string &note : source->notes())
      tell(note);
    report.sourceBytes = source->totalBytes();
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

  /// Held at once: a matrix in f32, once more as it is rounded, and its
  /// integers; with calibration the inputs of a layer, and two squares.
  Status checkMemory() const {
    auto row = static_cast<uint64_t>(largestRow);
    uint64_t least = kFixedBytes + static_cast<uint64_t>(largestMatrix) * 10;
    least += tokens.size() * elementsPerToken(source->config()) * 4;
    if (options.method.compensates)
      least += 2 * row * row * 4;
    if (least <= options.maxRam)
      return Status::ok();
    return Status::error(
        Code::OutOfMemory,
        "quantizing needs a memory limit of at least " +
            std::to_string((least >> 20) + 1) + " MiB, found " +
            std::to_string(options.maxRam >> 20) + " MiB" +
            (tokens.empty() ? "" : ": fewer calibration tokens need less"));
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
    out["uses activations"] = options.method.usesActivations;
    out["compensates"] = options.method.compensates;
    out["window"] = options.window;
    out["calibration tokens"] = tokens;
    return out.dump(-1, ' ', true, Json::error_handler_t::replace);
  }

  /// Makes the folder, or takes over what an interrupted run has left there.
  /// True if nothing was left to do but to remove the folder.
  Result<bool> prepareFolder() {
    RETORT_ASSIGN_OR_RETURN(std::string inputs, describeInputs());
    std::string state = folder + "/" + kState;
    bool isKnown = pathExists(state), isOccupied = !checkOutput().isOk();
    if (isOccupied && !isKnown)
      return checkOutput();
    std::error_code error;
    bool isNew = fs::create_directory(folder, error);
    if (error)
      return systemError(folder, "create", error);
    RETORT_RETURN_IF_ERROR(lock.take(folder, output));
    if (!isNew && !isKnown)
      RETORT_RETURN_IF_ERROR(checkFolder());
    ownsFolder = true;
    bool resumes = false;
    if (isKnown && options.resume) {
      auto found = readFile(state, kMaxTextBytes);
      resumes = found && *found == inputs;
    }
    if (isOccupied) {
      // A run may have been stopped after giving the checkpoint its name.
      ownsFolder = false;
      if (resumes && !pathExists(content) &&
          pathExists(output + "/config.json"))
        return finishMoved();
      return checkOutput();
    }
    if (resumes && pathExists(content)) {
      RETORT_RETURN_IF_ERROR(removeUnfinished(folder));
      RETORT_RETURN_IF_ERROR(removeUnfinished(content));
      return false;
    }
    if (isKnown && options.resume)
      tell("what an interrupted run has left in " + folder +
           " came from other inputs and is made anew");
    RETORT_RETURN_IF_ERROR(clear(folder));
    fs::create_directory(content, error);
    if (error)
      return systemError(content, "create", error);
    RETORT_RETURN_IF_ERROR(writeText(state, inputs));
    return false;
  }

  Status checkOutput() const {
    std::error_code error;
    if (fs::exists(output, error) &&
        !(fs::is_directory(output, error) && fs::is_empty(output, error)))
      return Status::error(Code::InvalidArgument,
                           output + ": expected a directory that is empty or "
                                    "does not exist");
    return Status::ok();
  }

  /// What a user put there is not removed.
  Status checkFolder() const {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end;
         it.increment(error)) {
      std::string name = it->path().filename().string();
      if (name == kContent && fs::is_empty(it->path(), error))
        continue;
      if (!name.starts_with(std::string(kState) + ".partial-"))
        return Status::error(Code::InvalidArgument,
                             folder + ": expected a folder of an unfinished "
                                      "run, found other files: move it away");
    }
    return error ? systemError(folder, "read", error) : Status::ok();
  }

  template <typename Removes>
  Status removeFrom(const std::string &from, Removes removes) const {
    std::error_code error;
    std::vector<fs::path> paths;
    for (fs::directory_iterator it(from, error), end; !error && it != end;
         it.increment(error))
      if (removes(it->path().filename().string()))
        paths.push_back(it->path());
    for (const fs::path &path : paths)
      if (!error)
        fs::remove_all(path, error);
    return error ? systemError(from, "clean up", error) : Status::ok();
  }
  Status clear(const std::string &from) const {
    return removeFrom(from, [](const std::string &) { return true; });
  }
  /// Files that a killed run was in the middle of.
  Status removeUnfinished(const std::string &from) const {
    return removeFrom(from, [](const std::string &name) {
      return name.find(".partial-") != std::string::npos;
    });
  }

  // Shards: what comes before the layers, each layer, what comes after.
  int64_t shardCount() const { return source->config().numLayers + 2; }
  std::string shardName(int64_t shard) const {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05d-of-%05d.safetensors",
                  static_cast<int>(shard + 1), static_cast<int>(shardCount()));
    return name;
  }
  bool isLayer(int64_t shard) const {
    return shard > 0 && shard + 1 < shardCount();
  }
  int64_t shardOf(const TensorView &view) const {
    if (view.name == "model.embed_tokens.weight")
      return 0;
    constexpr std::string_view prefix = "model.layers.";
    int64_t layer = source->config().numLayers;
    if (view.name.starts_with(prefix))
      layer = std::atoll(view.name.c_str() + prefix.size());
    return std::min(layer + 1, shardCount() - 1);
  }
  std::string reportPath(int64_t shard) const {
    return folder + "/report-" + std::to_string(shard) + ".json";
  }

  Status writeShards() {
    std::vector<std::vector<const TensorView *>> members(
        static_cast<size_t>(shardCount()));
    for (const TensorView &view : source->tensors())
      members[static_cast<size_t>(shardOf(view))].push_back(&view);
    for (int64_t shard = 0; shard < shardCount(); ++shard) {
      RETORT_RETURN_IF_ERROR(cancelled());
      if (pathExists(content + "/" + shardName(shard))) {
        report.resumedLayers += isLayer(shard);
        RETORT_RETURN_IF_ERROR(readReport(shard));
      } else {
        RETORT_RETURN_IF_ERROR(
            write(shard, members[static_cast<size_t>(shard)]));
      }
      // What the layer began with.
      std::error_code ignored;
      fs::remove(statePath(shard - 1), ignored);
    }
    return Status::ok();
  }

  Status write(int64_t shard, const std::vector<const TensorView *> &views) {
    LayerInputs inputs;
    if (isLayer(shard) && !tokens.empty()) {
      RETORT_ASSIGN_OR_RETURN(inputs, calibrate(shard - 1));
    }
    uint64_t before = report.matrices;
    ShardTask task{*source,
                   content + "/" + shardName(shard),
                   isLayer(shard) ? shard - 1 : -1,
                   options.form,
                   options.method,
                   threads(),
                   options.cancel,
                   [&] {
                     ++report.matrices;
                     step();
                   },
                   [&](const ShardReport &found) {
                     return writeText(reportPath(shard), toJson(found).dump());
                   }};
    step();
    RETORT_ASSIGN_OR_RETURN(ShardReport found,
                            writeShard(task, views, std::move(inputs)));
    report.matrices = before;
    add(found);
    return Status::ok();
  }

  static Json toJson(const ShardReport &shard) {
    return {{"matrices", shard.matrices},
            {"calibrated", shard.calibrated},
            {"scaled", shard.scaled},
            {"unreached", shard.unreached}};
  }
  void add(const ShardReport &shard) {
    report.matrices += shard.matrices;
    report.calibrated += shard.calibrated;
    report.scaled += shard.scaled;
    report.unreached.insert(report.unreached.end(), shard.unreached.begin(),
                            shard.unreached.end());
  }
  /// What an interrupted run found out about a shard.
  Status readReport(int64_t shard) {
    RETORT_ASSIGN_OR_RETURN(std::string text,
                            readFile(reportPath(shard), kMaxTextBytes));
    ShardReport found;
    try {
      Json json = Json::parse(text);
      found.matrices = json.at("matrices").get<uint64_t>();
      found.calibrated = json.at("calibrated").get<uint64_t>();
      found.scaled = json.at("scaled").get<uint64_t>();
      found.unreached = json.at("unreached").get<std::vector<std::string>>();
    } catch (const Json::exception &exception) {
      return Status::error(Code::InvalidData,
                           reportPath(shard) + ": " + exception.what());
    }
    add(found);
    return Status::ok();
  }

  std::string statePath(int64_t layer) const {
    return folder + "/hidden-" + std::to_string(layer) + ".safetensors";
  }

  Result<Activations> readState(int64_t layer) const {
    RETORT_ASSIGN_OR_RETURN(
        checkpoint::SafetensorsFile file,
        checkpoint::SafetensorsFile::open(statePath(layer)));
    const TensorView *view = file.find("hidden");
    auto count = static_cast<int64_t>(tokens.size());
    if (!view || view->dtype != DType::F32 ||
        view->shape != std::vector<int64_t>{count, source->config().hiddenSize})
      return Status::error(Code::InvalidData,
                           statePath(layer) + ": expected a tensor 'hidden' of "
                                              "a row per token");
    Activations hidden{count, view->shape[1], {}};
    hidden.values.resize(static_cast<size_t>(view->elements()));
    RETORT_RETURN_IF_ERROR(
        checkpoint::readRows(*view, 0, hidden.rows, hidden.values));
    return hidden;
  }

  Status writeState(int64_t layer, const Activations &hidden) const {
    RETORT_ASSIGN_OR_RETURN(
        SafetensorsWriter writer,
        SafetensorsWriter::create(
            statePath(layer),
            {{"hidden", DType::F32, {hidden.rows, hidden.cols}}}));
    RETORT_RETURN_IF_ERROR(
        writer.append(std::span<const float>(hidden.values)));
    return writer.commit();
  }

  /// Runs a layer on what the one before left, and leaves what the next needs
  /// before this one counts as done.
  Result<LayerInputs> calibrate(int64_t layer) {
    step();
    Activations hidden;
    if (layer == 0) {
      RETORT_ASSIGN_OR_RETURN(hidden, embedTokens(*source, tokens));
    } else {
      RETORT_ASSIGN_OR_RETURN(hidden, readState(layer));
    }
    if (!runner) {
      CalibrationOptions calibration;
      calibration.scratch = folder;
      calibration.window =
          std::min(options.window, source->config().maxPositionEmbeddings);
      calibration.threads = threads();
      calibration.maxRam = options.maxRam;
      calibration.cancel = options.cancel;
      runner.emplace(*source, calibration);
    }
    RETORT_ASSIGN_OR_RETURN(LayerResult result, runner->run(layer, hidden));
    if (layer + 1 < source->config().numLayers)
      RETORT_RETURN_IF_ERROR(writeState(layer + 1, result.hidden));
    return std::move(result.inputs);
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
      RETORT_ASSIGN_OR_RETURN(
          checkpoint::SafetensorsFile file,
          checkpoint::SafetensorsFile::open(content + "/" + shardName(shard)));
      for (const TensorView &view : file.tensors()) {
        map[view.name] = shardName(shard);
        report.bytes += view.bytes.size();
      }
    }
    Json index = {{"metadata", {{"total_size", report.bytes}}},
                  {"weight_map", std::move(map)}};
    RETORT_RETURN_IF_ERROR(writeText(content + "/model.safetensors.index.json",
                                     index.dump(2) + "\n"));
    RETORT_RETURN_IF_ERROR(copyFiles());
    // The configuration last: a directory with it is complete.
    RETORT_ASSIGN_OR_RETURN(
        std::string config,
        quantizedConfig(source->configText(), options.form, ignoredModules()));
    RETORT_RETURN_IF_ERROR(writeText(content + "/config.json", config));
    std::error_code error;
    fs::rename(content, output, error);
    if (error)
      return systemError(output, "create", error);
    fs::remove_all(folder, error);
    ownsFolder = false;
    return error ? systemError(folder, "remove", error) : Status::ok();
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
      std::string to = content + "/" + name;
      if (!fs::exists(from, error))
        continue;
      fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
      if (error)
        return systemError(to, "write", error);
    }
    return Status::ok();
  }

  /// Everything is in place but for the folder.
  Result<bool> finishMoved() {
    for (int64_t shard = 0; shard < shardCount(); ++shard) {
      RETORT_ASSIGN_OR_RETURN(
          checkpoint::SafetensorsFile file,
          checkpoint::SafetensorsFile::open(output + "/" + shardName(shard)));
      for (const TensorView &view : file.tensors())
        report.bytes += view.bytes.size();
      if (pathExists(reportPath(shard)))
        RETORT_RETURN_IF_ERROR(readReport(shard));
      report.resumedLayers += isLayer(shard);
    }
    std::error_code error;
    fs::remove_all(folder, error);
    if (error)
      return systemError(folder, "remove", error);
    return true;
  }

  const QuantizeOptions &options;
  std::string output, folder, content;
  FolderLock lock; ///< of `folder`
  bool ownsFolder = false;
  std::unique_ptr<Checkpoint> source;
  std::optional<LayerRunner> runner;
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
