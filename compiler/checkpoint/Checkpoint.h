//===- Checkpoint.h - A checkpoint directory --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Opens a Hugging Face checkpoint directory: configuration, tokenizer files as
/// raw bytes, and weights in one safetensors file or in shards under an index.
/// Nothing of a tensor's data is read when opening, except to compare an
/// `lm_head.weight` with the embedding it is said to be tied to, and the scales
/// of fp8 matrices, which are checked.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_CHECKPOINT_H
#define RETORT_COMPILER_CHECKPOINT_CHECKPOINT_H

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/Safetensors.h"

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace retort::checkpoint {

/// A checkpoint whose tensors are exactly those that its configuration needs,
/// each with the right shape, a type that readRows takes, and the scales of an
/// fp8 matrix (`TensorView::scales`) if it has some.
class Checkpoint {
public:
  /// Opens and checks a directory. Errors name the file, and the field or
  /// tensor with what was expected and found.
  static Result<Checkpoint> open(const std::string &directory);

  /// Opens the configuration and the texts of a directory, whatever weights lie
  /// there: tensors() are those of expectedTensors() with the types named there
  /// and, if fp8, scales of the configuration's blocks, but none has bytes.
  static Result<Checkpoint> openWithoutWeights(const std::string &directory);

  /// Whether a directory holds weights: a file or an index that open() would
  /// read.
  static bool hasWeights(const std::string &directory);

  /// False for what openWithoutWeights() made.
  bool holdsWeights() const { return !files.empty(); }

  Checkpoint(Checkpoint &&) = default;
  Checkpoint &operator=(Checkpoint &&) = default;

  const ModelConfig &config() const { return modelConfig; }
  const std::string &directory() const { return dir; }

  /// The tensors of expectedTensors(config()), in that order.
  const std::vector<TensorView> &tensors() const { return used; }
  /// One of tensors() by name; null if there is none.
  const TensorView *find(std::string_view name) const;
  /// Sum of the sizes of tensors(), without scales.
  uint64_t totalBytes() const { return total; }

  /// Tells the system that bytes [begin, begin + size) of a tensor of this
  /// checkpoint won't be needed soon.
  void dropResident(const TensorView &tensor, uint64_t begin,
                    uint64_t size) const;

  /// Raw text of files beside the weights; absent where the file is.
  const std::string &configText() const { return configJson; }
  const std::optional<std::string> &generationConfigText() const {
    return generationJson;
  }
  const std::optional<std::string> &tokenizerText() const {
    return tokenizerJson;
  }
  const std::optional<std::string> &tokenizerConfigText() const {
    return tokenizerConfigJson;
  }
  const std::optional<std::string> &chatTemplateText() const {
    return chatTemplate;
  }

  /// Sentences for the user about things that are no error, e.g. an ignored
  /// tensor. Lower case, no full stop.
  const std::vector<std::string> &notes() const { return remarks; }

private:
  friend class CheckpointReader;
  Checkpoint() = default;

  std::string dir;
  ModelConfig modelConfig;
  std::string configJson;
  std::optional<std::string> generationJson, tokenizerJson, tokenizerConfigJson,
      chatTemplate;
  std::vector<SafetensorsFile> files;
  std::vector<TensorView> used;
  std::unordered_map<std::string_view, size_t> usedIndex; ///< keys in `used`
  std::vector<std::string> remarks;
  uint64_t total = 0;
};

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_CHECKPOINT_H
