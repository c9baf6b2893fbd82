//===- LogitsSource.cpp - What is scored ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/LogitsSource.h"

#include "runtime/loader/WeightStamps.h"

#include <algorithm>
#include <xxhash.h>

namespace retort::score {
namespace {

/// A hash over values and texts.
class Hasher {
public:
  void add(std::string_view text) {
    add(text.size());
    hash = XXH3_64bits_withSeed(text.data(), text.size(), hash);
  }
  void add(uint64_t value) {
    hash = XXH3_64bits_withSeed(&value, sizeof value, hash);
  }
  uint64_t value() const { return hash; }

private:
  uint64_t hash = 0;
};

class SessionLogits : public LogitsSource {
public:
  SessionLogits(std::shared_ptr<const Model> model, unsigned threads)
      : model(std::move(model)), threads(threads) {}

  uint32_t vocab() const override { return model->info().vocab_size(); }
  uint32_t maxContext() const override { return model->info().max_context(); }

  Result<uint64_t> identity() const override {
    Hasher hasher;
    hasher.add(model->info().family()->string_view());
    for (const abi::Weight *weight : *model->index().program()->weights()) {
      hasher.add(weight->name()->string_view());
      hasher.add(weight->encoding()->string_view());
      hasher.add(weight->hash());
    }
    return hasher.value();
  }

  Status open(uint32_t context, uint32_t chunk) override {
    SessionOptions options;
    options.context = context;
    options.threads = threads;
    options.prefillChunk = std::min(chunk, model->info().max_chunk());
    RETORT_ASSIGN_OR_RETURN(session, Session::create(model, options));
    return Status::ok();
  }
  Status restart() override { return session->rewind(0); }
  Status feed(std::span<const int32_t> tokens,
              const LogitsSink &sink) override {
    return session->feed(tokens, sink);
  }
  void cancel() override {
    if (session)
      session->cancel();
  }

private:
  std::shared_ptr<const Model> model;
  unsigned threads;
  std::unique_ptr<Session> session;
};

std::string quoted(std::optional<std::string_view> token) {
  return token ? "'" + std::string(*token) + "'" : "no token";
}

} // namespace

std::string baseName(const std::string &path) {
  std::string trimmed = path.substr(0, path.find_last_not_of('/') + 1);
  size_t slash = trimmed.rfind('/');
  return slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
}

Result<ScoreModel> openModel(const std::string &path,
                             const OpenModelOptions &options) {
  OpenOptions open;
  open.threads = options.threads;
  open.weights = options.weights;
  open.stampFolder = defaultStampFolder();
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(path, open));
  return openModel(std::move(artifact), options);
}

Result<ScoreModel> openModel(std::shared_ptr<const Artifact> artifact,
                             const OpenModelOptions &options) {
  ScoreModel out;
  out.path = artifact->path();
  out.name = baseName(out.path);
  out.bytes = artifact->storedBytes();
  RETORT_ASSIGN_OR_RETURN(out.text, ModelText::read(*artifact));
  RETORT_ASSIGN_OR_RETURN(out.model,
                          Model::load(std::move(artifact), options.target));
  out.logits = std::make_unique<SessionLogits>(out.model, options.threads);
  return out;
}

uint64_t hashTensors(std::string_view config,
                     const std::function<void(const TensorHasher &)> &visit) {
  Hasher hasher;
  hasher.add(config);
  visit([&](std::string_view name, std::span<const std::byte> bytes) {
    hasher.add(name);
    hasher.add(std::string_view(reinterpret_cast<const char *>(bytes.data()),
                                bytes.size()));
  });
  return hasher.value();
}

uint64_t vocabularyHash(const text::Tokenizer *tokenizer) {
  if (!tokenizer)
    return 0;
  Hasher hasher;
  for (size_t id = 0; id < tokenizer->vocabSize(); ++id) {
    auto token = tokenizer->idToToken(static_cast<int32_t>(id));
    hasher.add(uint64_t(token.has_value()));
    hasher.add(token.value_or(std::string_view()));
  }
  return std::max<uint64_t>(hasher.value(), 1);
}

uint32_t comparedIds(const ScoreModel &model) {
  const text::Tokenizer *tokenizer = model.text.tokenizer();
  uint32_t vocab = model.logits->vocab();
  return tokenizer ? static_cast<uint32_t>(
                         std::min<uint64_t>(vocab, tokenizer->vocabSize()))
                   : vocab;
}

Result<uint32_t> commonIds(const ScoreModel &model, const ScoreModel &other) {
  auto refuse = [&](const std::string &why) {
    return Status::error(Code::InvalidArgument,
                         model.path + " and " + other.path +
                             " can't be compared: " + why);
  };
  const text::Tokenizer *a = model.text.tokenizer();
  const text::Tokenizer *b = other.text.tokenizer();
  if (!a || !b) {
    if (model.logits->vocab() != other.logits->vocab())
      return refuse("expected vocabularies of one size where there are no two "
                    "tokenizers, found " +
                    std::to_string(model.logits->vocab()) + " and " +
                    std::to_string(other.logits->vocab()));
    return std::min(comparedIds(model), comparedIds(other));
  }
  size_t limit = std::max(a->vocabSize(), b->vocabSize());
  for (size_t id = 0; id < limit; ++id) {
    auto left = a->idToToken(static_cast<int32_t>(id));
    auto right = b->idToToken(static_cast<int32_t>(id));
    if (left != right)
      return refuse("token " + std::to_string(id) + " is " + quoted(left) +
                    " in the one and " + quoted(right) + " in the other");
  }
  if (comparedIds(model) != comparedIds(other))
    return refuse("expected logits for all tokens of the tokenizer, found " +
                  std::to_string(model.logits->vocab()) + " and " +
                  std::to_string(other.logits->vocab()) + " for " +
                  std::to_string(a->vocabSize()) + " tokens");
  return comparedIds(model);
}

} // namespace retort::score
