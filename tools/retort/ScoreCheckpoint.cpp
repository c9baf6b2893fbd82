//===- ScoreCheckpoint.cpp - Checkpoints to score ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/retort/ScoreCheckpoint.h"

#include "compiler/checkpoint/QuantizedMatrix.h"
#include "compiler/pipelines/Compile.h"
#include "compiler/reference/Model.h"
#include "tools/common/Cli.h"
#include "tools/common/Progress.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace retort::tools {
namespace {

using checkpoint::Checkpoint;
using score::ScoreModel;

/// A directory that goes with the object.
class TemporaryDirectory {
public:
  static Result<TemporaryDirectory> create() {
    const char *parent = std::getenv("TMPDIR");
    std::string path =
        std::string(parent && *parent ? parent : "/tmp") + "/retort-XXXXXX";
    if (!::mkdtemp(path.data()))
      return Status::error(Code::Io, path + ": cannot create a directory: " +
                                         std::strerror(errno));
    TemporaryDirectory out;
    out.path = path;
    return out;
  }
  TemporaryDirectory(TemporaryDirectory &&other) noexcept
      : path(std::exchange(other.path, {})) {}
  ~TemporaryDirectory() {
    std::error_code ignored;
    if (!path.empty())
      std::filesystem::remove_all(path, ignored);
  }
  std::string file(const char *name) const { return path + "/" + name; }

private:
  TemporaryDirectory() = default;
  std::string path;
};

Result<ScoreModel> compileAndOpen(const std::string &path,
                                  const score::OpenModelOptions &options) {
  RETORT_ASSIGN_OR_RETURN(TemporaryDirectory folder,
                          TemporaryDirectory::create());
  CancelFlag cancel;
  CompileOptions compile;
  compile.checkpoint = path;
  compile.output = folder.file("model.retort");
  compile.threads = static_cast<int>(options.threads);
  if (!options.target.empty())
    compile.targets = {options.target};
  compile.cancel = cancel.get();
  Progress progress(stderr);
  compile.progress = [&](const std::string &step, uint64_t done,
                         uint64_t total) {
    progress.update(step, done, total);
  };
  auto report = compileCheckpoint(compile);
  progress.finish();
  if (!report.isOk())
    return report.takeStatus();
  // It was packed a moment ago.
  OpenOptions open;
  open.weights = WeightCheck::Never;
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(compile.output, open));
  RETORT_ASSIGN_OR_RETURN(ScoreModel model,
                          score::openModel(std::move(artifact), options));
  model.bytes = report->checkpointBytes;
  return model;
}

/// Logits of the reference interpreter.
class ReferenceLogits : public score::LogitsSource {
public:
  ReferenceLogits(Checkpoint source, unsigned threads)
      : source(std::move(source)) {
    options.threads = static_cast<int>(threads);
    options.cancel = &cancelled;
  }

  uint32_t vocab() const override {
    return static_cast<uint32_t>(source.config().vocabSize);
  }
  uint32_t maxContext() const override {
    return static_cast<uint32_t>(
        std::min<int64_t>(source.config().maxPositionEmbeddings, INT32_MAX));
  }
  Result<uint64_t> identity() const override {
    return score::hashTensors(source.configText(), [&](auto &&add) {
      for (const checkpoint::TensorView &tensor : source.tensors()) {
        auto addPart = [&](const checkpoint::TensorView &part) {
          add(part.name, part.bytes);
          source.dropResident(part, 0, part.bytes.size());
        };
        if (tensor.quantized)
          tensor.quantized->forEachPart(addPart);
        else
          addPart(tensor);
      }
    });
  }
  Status open(uint32_t, uint32_t) override { return restart(); }
  Status restart() override {
    model.emplace(source, options);
    return Status::ok();
  }
  Status feed(std::span<const int32_t> tokens,
              const LogitsSink &sink) override {
    if (cancelled)
      return Status::error(Code::Cancelled, "the reference was cancelled");
    RETORT_ASSIGN_OR_RETURN(reference::Matrix hidden,
                            model->feed(tokens, nullptr));
    if (!sink)
      return Status::ok();
    RETORT_ASSIGN_OR_RETURN(reference::Matrix rows, model->logits(hidden));
    return sink(0, static_cast<uint64_t>(rows.rows), rows.values.data(),
                static_cast<uint64_t>(rows.cols));
  }
  void cancel() override { cancelled = true; }

private:
  Checkpoint source;
  reference::ReferenceOptions options;
  std::atomic<bool> cancelled{false};
  std::optional<reference::Model> model;
};

Result<ScoreModel> openReference(const std::string &path, unsigned threads) {
  RETORT_ASSIGN_OR_RETURN(Checkpoint source, Checkpoint::open(path));
  ScoreModel out;
  if (source.tokenizerText()) {
    RETORT_ASSIGN_OR_RETURN(out.text, ModelText::readDirectory(path));
  }
  out.bytes = source.totalBytes();
  out.logits = std::make_unique<ReferenceLogits>(std::move(source), threads);
  return out;
}

} // namespace

Result<ScoreModel> openCheckpoint(const std::string &path,
                                  const score::OpenModelOptions &options,
                                  bool reference) {
  RETORT_ASSIGN_OR_RETURN(ScoreModel model,
                          reference ? openReference(path, options.threads)
                                    : compileAndOpen(path, options));
  model.path = path;
  model.name = score::baseName(path);
  return model;
}

} // namespace retort::tools
