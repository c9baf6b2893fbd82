//===- LogitsSource.h - What is scored --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A model as scoring sees it: tokens go in, rows of logits come out.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_LOGITSSOURCE_H
#define RETORT_RUNTIME_SCORE_LOGITSSOURCE_H

#include "runtime/api/ModelText.h"
#include "runtime/engine/Session.h"

namespace retort::score {

class LogitsSource {
public:
  virtual ~LogitsSource() = default;
  virtual uint32_t vocab() const = 0;
  virtual uint32_t maxContext() const = 0;
  /// A hash of the weights: models of the same identity give the same logits,
  /// but for rounding.
  virtual Result<uint64_t> identity() const = 0;
  /// Makes room for `context` tokens, of which `chunk` are computed at once.
  virtual Status open(uint32_t context, uint32_t chunk) = 0;
  /// Empties the context.
  virtual Status restart() = 0;
  /// As Session::feed(); logits only go to the sink.
  virtual Status feed(std::span<const int32_t> tokens,
                      const LogitsSink &sink) = 0;
  /// Makes the feed that runs return Cancelled soon. Async-signal-safe.
  virtual void cancel() = 0;
};

/// A model with what is needed to give it texts.
struct ScoreModel {
  std::string path;
  std::string name; ///< the last part of the path
  std::unique_ptr<LogitsSource> logits;
  ModelText text; ///< may be without a tokenizer
  /// Null if it isn't compiled code that computes; then it can't answer.
  std::shared_ptr<const Model> model;
  uint64_t bytes = 0; ///< of the artifact, or of the checkpoint
};

struct OpenModelOptions {
  unsigned threads = 0;
  std::string target; ///< code to run; empty: the best
  WeightCheck weights = WeightCheck::Auto;
};

/// Opens an artifact.
Result<ScoreModel> openModel(const std::string &path,
                             const OpenModelOptions &options);

/// The same for an artifact that is open.
Result<ScoreModel> openModel(std::shared_ptr<const Artifact> artifact,
                             const OpenModelOptions &options);

/// The identity of a model of these tensors: a hash of `config` and of what
/// `visit` passes to the function that it is given, names and bytes.
using TensorHasher =
    std::function<void(std::string_view name, std::span<const std::byte>)>;
uint64_t hashTensors(std::string_view config,
                     const std::function<void(const TensorHasher &)> &visit);

/// A hash of all tokens of a tokenizer; 0 if there is none.
uint64_t vocabularyHash(const text::Tokenizer *tokenizer);

/// How many ids distributions of a model are over: those of its tokenizer,
/// since what the output matrix has behind them is padding; all without one.
uint32_t comparedIds(const ScoreModel &model);

/// The ids that distributions of both are over. InvalidArgument if the models
/// have different tokens, or, without tokenizers, numbers of them.
Result<uint32_t> commonIds(const ScoreModel &model, const ScoreModel &other);

/// "models/student.retort" -> "student.retort".
std::string baseName(const std::string &path);

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_LOGITSSOURCE_H
