//===- Trace.cpp - Models whose inner values can be seen --------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Trace.h"

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/encoding/ActivationEncoding.h"
#include "compiler/fuse/WeightBuilder.h"
#include "compiler/reference/Model.h"
#include "runtime/engine/Session.h"
#include "runtime/loader/WeightStamps.h"

#include <cstring>
#include <filesystem>

namespace retort {
namespace {

using checkpoint::ModelConfig;
using reference::TraceObserver;
using reference::TraceOp;
using reference::TracePoint;

Status cancelled() {
  return Status::error(Code::Cancelled, "the comparison was cancelled");
}

/// A stretch of a row as a launch leaves it: the values of a point, from
/// element `offset` on.
struct Stretch {
  TraceOp op;
  HeadLayout heads; ///< how they are padded; one head of all if they aren't
  int64_t offset = 0;

  int64_t width() const { return heads.heads * heads.headDim; }
  int64_t end() const { return offset + heads.paddedWidth(); }
};

/// One head of that size without gaps.
HeadLayout plainRow(int64_t width) { return {1, width, false}; }

/// What the result of a launch holds. Empty: no point that others have.
std::vector<Stretch> stretchesOf(const ModelConfig &config,
                                 const abi::Program &program,
                                 const abi::Launch &launch) {
  std::string_view label = launch.label()->string_view();
  HeadLayout queries{config.numHeads, config.headDim},
      keys{config.numKvHeads, config.headDim};
  auto hidden = [&](TraceOp op) {
    return std::vector<Stretch>{{op, plainRow(config.hiddenSize)}};
  };
  if (label == "embed")
    return hidden(TraceOp::Embedding);
  if (launch.layer() < 0 || launch.layer() >= config.numLayers)
    return {};
  if (label == "linear o")
    return hidden(TraceOp::Output);
  if (label == "linear down")
    return hidden(TraceOp::Down);
  if (label == "moe_down")
    return hidden(TraceOp::Experts);
  if (label == "linear gate_up")
    return {{TraceOp::GateUp, plainRow(config.intermediateSize)}};
  if (label == "linear router" && config.moe)
    return {{TraceOp::Router, plainRow(config.moe->numExperts)}};
  if (label == "head_linear v" && config.mla)
    return {{TraceOp::Attention,
             {config.numHeads, config.mla->vHeadDim, /*halves=*/false}}};
  if (config.mla)
    return {};
  if (label == "attention")
    return {{TraceOp::Attention, queries}};
  if (label == "rope_cache")
    return {{TraceOp::Rope, queries}};
  if (label != "linear qkv")
    return {};
  // Where the rotation is part of the launch, its result are queries alone.
  for (const abi::Arg *arg : *launch.args())
    if (arg->kind() == abi::ArgKind::Buffer &&
        program.buffers()->Get(arg->index())->kind() == abi::BufferKind::Cache)
      return {{TraceOp::Rope, queries}};
  return {{TraceOp::Query, queries, 0},
          {TraceOp::Key, keys, queries.paddedWidth()},
          {TraceOp::Value, keys, queries.paddedWidth() + keys.paddedWidth()}};
}

/// The rows of a launch's result, plain or quantized.
class ResultRows {
public:
  /// Nothing if a row of that many bytes can't hold `width` elements in any of
  /// the forms that launches write.
  static std::optional<ResultRows> create(std::byte *data, uint64_t rowBytes,
                                          int64_t width) {
    int64_t stride = roundUp<int64_t>(width, kStrideMultiple);
    auto bytes = static_cast<int64_t>(rowBytes);
    ResultRows rows{data, rowBytes, stride, std::nullopt};
    if (bytes == stride * static_cast<int64_t>(sizeof(float)))
      return rows;
    for (ActivationKind kind : {ActivationKind::Int8, ActivationKind::Int16}) {
      rows.encoding = ActivationEncoding{kind};
      if (bytes == rows.encoding->rowBytes(stride))
        return rows;
    }
    return std::nullopt;
  }

  std::vector<float> read(int64_t row) const {
    std::vector<float> out(static_cast<size_t>(stride));
    if (encoding)
      decodeActivation(*encoding, bytes(row), out);
    else
      std::memcpy(out.data(), bytes(row).data(), out.size() * sizeof(float));
    return out;
  }
  void write(int64_t row, std::span<const float> values) const {
    if (encoding)
      encodeActivation(*encoding, values, bytes(row));
    else
      std::memcpy(bytes(row).data(), values.data(), values.size_bytes());
  }

private:
  ResultRows(std::byte *data, uint64_t rowBytes, int64_t stride,
             std::optional<ActivationEncoding> encoding)
      : data(data), rowBytes(rowBytes), stride(stride), encoding(encoding) {}
  std::span<std::byte> bytes(int64_t row) const {
    return {data + static_cast<uint64_t>(row) * rowBytes, rowBytes};
  }

  std::byte *data;
  uint64_t rowBytes;
  int64_t stride;
  std::optional<ActivationEncoding> encoding;
};

class TracedArtifact : public TracedModel {
public:
  static Result<std::unique_ptr<TracedModel>> open(const std::string &path,
                                                   const TraceOptions &options);

  const ModelConfig &config() const override { return modelConfig; }
  int64_t maxContext() const override { return model->info().max_context(); }
  const ModelText &text() const override { return modelText; }
  std::string describe() const override {
    return model->artifact().path() + " (" + model->code().target() + ")";
  }
  Status run(std::span<const int32_t> tokens,
             const TraceObserver &observer) override;

private:
  explicit TracedArtifact(const TraceOptions &options) : options(options) {}
  /// Shows what a launch has left.
  Status show(const LaunchEvent &event, const TraceObserver &observer) const;

  TraceOptions options;
  std::shared_ptr<const Model> model;
  ModelConfig modelConfig;
  ModelText modelText;
};

Result<std::unique_ptr<TracedModel>>
TracedArtifact::open(const std::string &path, const TraceOptions &options) {
  OpenOptions open;
  open.threads = options.threads;
  open.weights = options.weights;
  open.stampFolder = defaultStampFolder();
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(path, open));
  std::unique_ptr<TracedArtifact> out(new TracedArtifact(options));
  RETORT_ASSIGN_OR_RETURN(std::string json, artifact->text("text/config.json"));
  auto config = checkpoint::parseConfig(json);
  if (!config.isOk())
    return config.takeStatus().withContext(path);
  out->modelConfig = std::move(*config);
  const abi::Model &info = *artifact->index().model();
  if (info.num_layers() != out->modelConfig.numLayers ||
      info.hidden_size() != out->modelConfig.hiddenSize ||
      info.vocab_size() != out->modelConfig.vocabSize)
    return Status::error(Code::InvalidData,
                         path + ": its config.json is that of another model");
  RETORT_ASSIGN_OR_RETURN(out->modelText, ModelText::read(*artifact));
  RETORT_ASSIGN_OR_RETURN(out->model,
                          Model::load(std::move(artifact), options.target));
  return std::unique_ptr<TracedModel>(std::move(out));
}

Status TracedArtifact::show(const LaunchEvent &event,
                            const TraceObserver &observer) const {
  if (event.rowBytes == 0)
    return Status::ok();
  std::vector<Stretch> stretches =
      stretchesOf(modelConfig, model->program(), event.launch);
  if (stretches.empty())
    return Status::ok();
  auto rows =
      ResultRows::create(event.result, event.rowBytes, stretches.back().end());
  if (!rows)
    return Status::error(
        Code::Unsupported,
        model->artifact().path() + ": launch '" + event.launch.label()->str() +
            "' of layer " + std::to_string(event.launch.layer()) +
            ": expected rows of " + std::to_string(stretches.back().end()) +
            " elements, found rows of " + std::to_string(event.rowBytes) +
            " bytes");
  int64_t count = event.scalars.n_tokens;
  std::vector<std::vector<float>> padded;
  for (int64_t t = 0; t < count; ++t)
    padded.push_back(rows->read(t));
  for (const Stretch &stretch : stretches) {
    int64_t width = stretch.width();
    std::vector<float> values(static_cast<size_t>(count * width));
    auto forEachRun = [&](auto &&run) {
      for (int64_t t = 0; t < count; ++t)
        stretch.heads.forEachRun([&](int64_t src, int64_t n, int64_t dst) {
          run(values.data() + t * width + src,
              padded[static_cast<size_t>(t)].data() + stretch.offset + dst, n);
        });
    };
    forEachRun([](float *plain, const float *pad, int64_t n) {
      std::copy_n(pad, n, plain);
    });
    TracePoint point{stretch.op == TraceOp::Embedding ? -1
                                                      : event.launch.layer(),
                     stretch.op};
    std::vector<float> before = values;
    RETORT_RETURN_IF_ERROR(
        observer(point, event.scalars.position, width, values));
    // Bytes, so that what isn't a number isn't taken for a change.
    if (std::memcmp(values.data(), before.data(),
                    values.size() * sizeof(float)) == 0)
      continue;
    forEachRun([](const float *plain, float *pad, int64_t n) {
      std::copy_n(plain, n, pad);
    });
    for (int64_t t = 0; t < count; ++t)
      rows->write(t, padded[static_cast<size_t>(t)]);
  }
  return Status::ok();
}

Status TracedArtifact::run(std::span<const int32_t> tokens,
                           const TraceObserver &observer) {
  SessionOptions session;
  session.context = static_cast<uint32_t>(tokens.size());
  session.threads = options.threads;
  session.prefillChunk = options.chunk;
  Status seen;
  std::unique_ptr<Session> s;
  session.observer = [&](const LaunchEvent &event) {
    if (!seen.isOk())
      return;
    seen = options.cancel && options.cancel->load() ? cancelled()
                                                    : show(event, observer);
    if (!seen.isOk())
      s->cancel();
  };
  RETORT_ASSIGN_OR_RETURN(s, Session::create(model, session));
  int64_t vocab = modelConfig.vocabSize;
  for (size_t done = 0; done < tokens.size();) {
    size_t count = std::min<size_t>(s->prefillChunk(), tokens.size() - done);
    // A token alone has launches of its own.
    if (tokens.size() - done - count == 1 && count > 2)
      --count;
    Status fed = s->feed(
        tokens.subspan(done, count), [&](uint64_t first, uint64_t rows,
                                         const float *logits, uint64_t stride) {
          std::vector<float> values;
          for (uint64_t r = 0; r < rows; ++r)
            values.insert(values.end(), logits + r * stride,
                          logits + r * stride + vocab);
          return observer({-1, TraceOp::Logits},
                          static_cast<int64_t>(done + first), vocab, values);
        });
    RETORT_RETURN_IF_ERROR(std::move(seen));
    RETORT_RETURN_IF_ERROR(std::move(fed));
    done += count;
  }
  return Status::ok();
}

class TracedCheckpoint : public TracedModel {
public:
  static Result<std::unique_ptr<TracedModel>> open(const std::string &path,
                                                   const TraceOptions &options);

  const ModelConfig &config() const override { return source.config(); }
  int64_t maxContext() const override {
    return source.config().maxPositionEmbeddings;
  }
  const ModelText &text() const override { return modelText; }
  std::string describe() const override {
    return source.directory() + " (reference)";
  }
  Status run(std::span<const int32_t> tokens,
             const TraceObserver &observer) override;

private:
  TracedCheckpoint(checkpoint::Checkpoint source, const TraceOptions &options)
      : source(std::move(source)), options(options) {}

  checkpoint::Checkpoint source;
  TraceOptions options;
  ModelText modelText;
};

Result<std::unique_ptr<TracedModel>>
TracedCheckpoint::open(const std::string &path, const TraceOptions &options) {
  if (!options.target.empty())
    return Status::error(Code::InvalidArgument,
                         path +
                             ": is a checkpoint directory, which the "
                             "reference interpreter computes: expected an "
                             "artifact for the code of '" +
                             options.target + "'");
  RETORT_ASSIGN_OR_RETURN(checkpoint::Checkpoint source,
                          checkpoint::Checkpoint::open(path));
  if (!source.holdsWeights())
    return Status::error(Code::NotFound, path + ": holds no weights");
  std::unique_ptr<TracedCheckpoint> out(
      new TracedCheckpoint(std::move(source), options));
  if (out->source.tokenizerText()) {
    RETORT_ASSIGN_OR_RETURN(out->modelText, ModelText::readDirectory(path));
  }
  return std::unique_ptr<TracedModel>(std::move(out));
}

Status TracedCheckpoint::run(std::span<const int32_t> tokens,
                             const TraceObserver &observer) {
  reference::ReferenceOptions run;
  run.threads = static_cast<int>(options.threads);
  run.cancel = options.cancel;
  run.trace = observer;
  try {
    reference::Model model(source, run);
    RETORT_ASSIGN_OR_RETURN(reference::Matrix hidden,
                            model.feed(tokens, nullptr));
    RETORT_ASSIGN_OR_RETURN(reference::Matrix logits, model.logits(hidden));
    return observer({-1, TraceOp::Logits}, 0, logits.cols, logits.values);
  } catch (const std::bad_alloc &) {
    return Status::error(Code::OutOfMemory,
                         "no memory to compute the reference");
  }
}

} // namespace

Result<std::unique_ptr<TracedModel>> openTraced(const std::string &path,
                                                const TraceOptions &options) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored)
             ? TracedCheckpoint::open(path, options)
             : TracedArtifact::open(path, options);
}

} // namespace retort
