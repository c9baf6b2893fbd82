//===- Checkpoint.cpp - A checkpoint directory ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Checkpoint.h"

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/Json.h"
#include "compiler/checkpoint/QuantizedTensors.h"
#include "compiler/checkpoint/Scales.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

namespace retort::checkpoint {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = size_t(16) << 20;
constexpr size_t kMaxTextBytes = size_t(256) << 20;
constexpr size_t kMaxIndexBytes = size_t(64) << 20;
constexpr const char *kSingleName = "model.safetensors";
constexpr const char *kIndexName = "model.safetensors.index.json";
constexpr const char *kEmbedding = "model.embed_tokens.weight";
constexpr const char *kHead = "lm_head.weight";

Status invalid(std::string message) {
  return Status::error(Code::InvalidData, std::move(message));
}

std::string andMore(size_t count) {
  return count > 1 ? " (and " + std::to_string(count - 1) + " more)" : "";
}

/// A shard is a file beside the index: no separators, no way out.
bool isShardName(const std::string &name) {
  return name.ends_with(".safetensors") && !name.starts_with('.') &&
         std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
         });
}

/// Tensors that old checkpoints carry and no reader uses: the rotary buffer
/// can be computed from the configuration.
bool isHarmlessExtra(const std::string &name) {
  return name.ends_with("rotary_emb.inv_freq");
}

} // namespace

/// Fills a Checkpoint in the order of the functions below.
class CheckpointReader {
public:
  explicit CheckpointReader(const std::string &directory) {
    checkpoint.dir = directory;
  }

  Result<Checkpoint> read() {
    RETORT_RETURN_IF_ERROR(readTexts());
    RETORT_RETURN_IF_ERROR(openWeights());
    resolveTies();
    resolveMtpLayers();
    RETORT_RETURN_IF_ERROR(takeInventory());
    RETORT_RETURN_IF_ERROR(refuseExtras());
    RETORT_RETURN_IF_ERROR(checkScales(checkpoint.used));
    RETORT_RETURN_IF_ERROR(checkIntegers());
    return std::move(checkpoint);
  }

  Result<Checkpoint> readWithoutWeights() {
    RETORT_RETURN_IF_ERROR(readTexts());
    const std::optional<Fp8Config> &fp8 = checkpoint.modelConfig.fp8;
    const std::optional<QuantConfig> &quant = checkpoint.modelConfig.quant;
    for (ExpectedTensor &tensor : expectedTensors(checkpoint.modelConfig)) {
      if (quant) {
        RETORT_ASSIGN_OR_RETURN(std::optional<TensorView> quantized,
                                imagineQuantized(*quant, tensor));
        if (quantized) {
          checkpoint.total += imaginedBytes(*quantized);
          checkpoint.used.push_back(std::move(*quantized));
          continue;
        }
      }
      TensorView view;
      view.name = std::move(tensor.name);
      view.dtype = tensor.dtype;
      view.shape = std::move(tensor.shape);
      if (fp8 && view.dtype == DType::F8E4M3 && view.shape.size() == 2) {
        std::vector<int64_t> shape = scaleShape(*fp8, view.shape);
        view.scales = BlockScales{.blockRows = fp8->blockRows,
                                  .blockCols = fp8->blockCols,
                                  .rows = shape[0],
                                  .cols = shape[1],
                                  .bytes = {},
                                  .file = {},
                                  .name = scaleTensorName(view.name)};
      }
      checkpoint.total +=
          static_cast<uint64_t>(view.elements()) * dtypeBytes(view.dtype);
      checkpoint.used.push_back(std::move(view));
    }
    indexUsed();
    return std::move(checkpoint);
  }

private:
  /// Of the elements of a quantized matrix without weights.
  static uint64_t imaginedBytes(const TensorView &view) {
    int bits = view.quantized ? view.quantized->bits : 8;
    return static_cast<uint64_t>(view.elements()) *
           static_cast<uint64_t>(bits) / 8;
  }

  /// Whether a tensor is there, as it is or quantized.
  bool isStored(const std::string &name) const {
    const std::optional<QuantConfig> &quant = checkpoint.modelConfig.quant;
    return stored.contains(name) ||
           (quant && isStoredQuantized(*quant, name, stored));
  }

  void indexUsed() {
    for (size_t i = 0; i < checkpoint.used.size(); ++i)
      checkpoint.usedIndex.emplace(checkpoint.used[i].name, i);
  }

  std::string pathOf(std::string_view name) const {
    return (fs::path(checkpoint.dir) / name).string();
  }

  Status readOptional(const char *name, size_t maxBytes,
                      std::optional<std::string> &text) {
    std::string path = pathOf(name);
    if (!pathExists(path))
      return Status::ok();
    RETORT_ASSIGN_OR_RETURN(text, readFile(path, maxBytes));
    return Status::ok();
  }

  Status readTexts() {
    std::error_code error;
    if (!fs::is_directory(checkpoint.dir, error))
      return Status::error(
          pathExists(checkpoint.dir) ? Code::InvalidArgument : Code::NotFound,
          checkpoint.dir + ": expected a checkpoint directory, found " +
              (pathExists(checkpoint.dir) ? "a file" : "nothing"));
    std::string configPath = pathOf("config.json");
    RETORT_ASSIGN_OR_RETURN(checkpoint.configJson,
                            readFile(configPath, kMaxConfigBytes));
    RETORT_RETURN_IF_ERROR(readOptional(
        "generation_config.json", kMaxConfigBytes, checkpoint.generationJson));
    RETORT_RETURN_IF_ERROR(readOptional("tokenizer.json", kMaxTextBytes,
                                        checkpoint.tokenizerJson));
    RETORT_RETURN_IF_ERROR(readOptional("tokenizer_config.json", kMaxTextBytes,
                                        checkpoint.tokenizerConfigJson));
    RETORT_RETURN_IF_ERROR(readOptional("chat_template.jinja", kMaxTextBytes,
                                        checkpoint.chatTemplate));
    std::string generationPath = pathOf("generation_config.json");
    if (checkpoint.generationJson && checkpoint.generationJson->empty())
      return invalid(generationPath +
                     ": expected an object, found an empty file");
    RETORT_ASSIGN_OR_RETURN(checkpoint.modelConfig,
                            parseConfig(checkpoint.configJson, configPath,
                                        checkpoint.generationJson.value_or(""),
                                        generationPath));
    return Status::ok();
  }

  /// The hub's order: one file, else an index, else one file of another
  /// name, e.g. `model.fp16.safetensors`.
  Status openWeights() {
    if (pathExists(pathOf(kSingleName)))
      return addFile(kSingleName);
    if (pathExists(pathOf(kIndexName)))
      return openShards();
    std::set<std::string> candidates;
    bool hasPickle = false;
    std::error_code error;
    for (fs::directory_iterator it(checkpoint.dir, error), end;
         !error && it != end; it.increment(error)) {
      std::string name = it->path().filename().string();
      if (name.starts_with("model") && isShardName(name))
        candidates.insert(name);
      hasPickle |= name.starts_with("pytorch_model") && name.ends_with(".bin");
    }
    if (candidates.size() == 1)
      return addFile(*candidates.begin());
    std::string found = "none";
    if (!candidates.empty())
      found = std::to_string(candidates.size()) +
              " safetensors files without an index";
    else if (hasPickle)
      found = "pytorch_model.bin, which must be converted to safetensors";
    return Status::error(Code::NotFound, checkpoint.dir + ": expected " +
                                             kSingleName + " or " + kIndexName +
                                             ", found " + found);
  }

  Status addFile(const std::string &name) {
    RETORT_ASSIGN_OR_RETURN(SafetensorsFile file,
                            SafetensorsFile::open(pathOf(name)));
    checkpoint.files.push_back(std::move(file));
    for (const TensorView &view : checkpoint.files.back().tensors()) {
      auto [it, isNew] = stored.emplace(view.name, &view);
      if (!isNew)
        return invalid(std::string(view.file) + ": tensor " + quote(view.name) +
                       " is stored in " + std::string(it->second->file) +
                       " too");
    }
    return Status::ok();
  }

  Status openShards() {
    std::string indexPath = pathOf(kIndexName);
    std::map<std::string, std::string> shardOf;
    Status status = readIndex(indexPath, shardOf);
    if (!status.isOk())
      return std::move(status).withContext(indexPath);
    // Shard by shard in the order of their names, each with one of its tensors.
    std::map<std::string, std::string> shards;
    for (const auto &[tensor, shard] : shardOf)
      shards.emplace(shard, tensor);
    for (const auto &[shard, tensor] : shards) {
      if (!pathExists(pathOf(shard)))
        return Status::error(Code::NotFound,
                             pathOf(shard) + ": expected the shard of tensor " +
                                 quote(tensor) + ", found no such file");
    }
    for (const auto &[shard, tensor] : shards)
      RETORT_RETURN_IF_ERROR(addFile(shard));

    for (const auto &[tensor, shard] : shardOf) {
      auto it = stored.find(tensor);
      if (it == stored.end() || it->second->file != pathOf(shard))
        return invalid(indexPath + ": weight_map: expected tensor " +
                       quote(tensor) + " in " + shard + ", found " +
                       (it == stored.end()
                            ? "it nowhere"
                            : "it in " + std::string(it->second->file)));
    }
    for (const auto &[tensor, view] : stored)
      if (!shardOf.contains(tensor))
        return invalid(std::string(view->file) + ": tensor " + quote(tensor) +
                       " is not in the weight_map of " + kIndexName);
    return Status::ok();
  }

  Status readIndex(const std::string &path,
                   std::map<std::string, std::string> &shardOf) {
    auto text = readFile(path, kMaxIndexBytes);
    if (!text)
      return invalid("cannot read the index: " + text.status().message());
    RETORT_ASSIGN_OR_RETURN(json root, parseJson(*text));
    if (!root.is_object() || !root.contains("weight_map") ||
        !root["weight_map"].is_object())
      return invalid("field 'weight_map': expected an object");
    for (const auto &[tensor, shard] : root["weight_map"].items()) {
      if (!shard.is_string() || !isShardName(shard.get<std::string>()))
        return invalid("weight_map: tensor " + quote(tensor) +
                       ": expected the name of a safetensors file beside the "
                       "index, found " +
                       describeJson(shard));
      shardOf.emplace(tensor, shard.get<std::string>());
    }
    return Status::ok();
  }

  /// The stored tensor of that name, or null.
  const TensorView *findStored(const std::string &name) const {
    auto it = stored.find(name);
    return it == stored.end() ? nullptr : it->second;
  }

  /// Follows transformers 5: a tied checkpoint that stores both matrices is
  /// tied only if they are equal, and one that stores the head alone uses it as
  /// the embedding.
  void resolveTies() {
    ModelConfig &config = checkpoint.modelConfig;
    const TensorView *head = findStored(kHead);
    if (!config.tieWordEmbeddings || !isStored(kHead))
      return;
    if (config.quant &&
        (isStoredQuantized(*config.quant, kHead, stored) || !head ||
         isStoredQuantized(*config.quant, kEmbedding, stored))) {
      untie();
      return;
    }
    const TensorView *headScales = findStored(scaleTensorName(kHead));
    const TensorView *embedding = findStored(kEmbedding);
    const TensorView *scales = findStored(scaleTensorName(kEmbedding));
    auto dropHead = [&] {
      stored.erase(kHead);
      stored.erase(scaleTensorName(kHead));
    };
    if (!embedding) {
      stored.emplace(kEmbedding, head);
      if (headScales)
        stored.emplace(scaleTensorName(kEmbedding), headScales);
      dropHead();
    } else if (sameData(*embedding, *head) &&
               (scales && headScales ? sameData(*scales, *headScales)
                                     : !scales && !headScales)) {
      dropHead();
    } else {
      untie();
    }
  }

  void untie() {
    checkpoint.modelConfig.tieWordEmbeddings = false;
    checkpoint.remarks.push_back(
        "config.json says tie_word_embeddings, but lm_head.weight differs "
        "from the embedding, so they are used as stored, untied");
  }

  /// Removes tensors of `layer` from `stored` for which `drops(suffix)` is
  /// true, and returns how many there were.
  template <typename Drops> size_t dropFromLayer(int64_t layer, Drops drops) {
    std::string prefix = layerTensorName(layer, "");
    size_t dropped = 0;
    for (auto it = stored.lower_bound(prefix);
         it != stored.end() && it->first.starts_with(prefix);) {
      bool drop = drops(std::string_view(it->first).substr(prefix.size()));
      it = drop ? stored.erase(it) : std::next(it);
      dropped += drop;
    }
    return dropped;
  }

  /// Keeps the first multi-token-prediction layer if it is stored completely,
  /// and removes the others from `stored`.
  void resolveMtpLayers() {
    ModelConfig &config = checkpoint.modelConfig;
    auto everything = [](std::string_view) { return true; };
    auto note = [&](int64_t layer, const std::string &what) {
      checkpoint.remarks.push_back("multi-token-prediction layer " +
                                   std::to_string(layer) + " " + what);
    };
    for (int64_t i = 1; i < config.declaredMtpLayers; ++i)
      if (dropFromLayer(config.numLayers + i, everything) > 0)
        note(config.numLayers + i,
             "is ignored, as only the first of them is used");
    if (config.numMtpLayers == 0)
      return;
    int64_t layer = config.numLayers;
    std::string prefix = layerTensorName(layer, "");
    std::vector<ExpectedTensor> expected = expectedTensors(config);
    auto isMissing = [&](const ExpectedTensor &tensor) {
      return tensor.name.starts_with(prefix) && !isStored(tensor.name);
    };
    auto missing = std::find_if(expected.begin(), expected.end(), isMissing);
    if (missing != expected.end()) {
      config.numMtpLayers = 0;
      if (dropFromLayer(layer, everything) == 0)
        note(layer, "is declared by config.json and not stored");
      else
        note(layer, "is ignored, as it is stored in part: there is no " +
                        missing->name);
      return;
    }
    auto isCopy = [](std::string_view suffix) {
      return suffix.starts_with("embed_tokens.") ||
             suffix.starts_with("shared_head.head.");
    };
    if (dropFromLayer(layer, isCopy) > 0)
      note(layer, "uses the embedding and output projection of the model; "
                  "its own copies are ignored");
  }

  bool sameData(const TensorView &a, const TensorView &b) const {
    if (a.dtype != b.dtype || a.shape != b.shape)
      return false;
    constexpr size_t kChunk = size_t(8) << 20;
    for (size_t at = 0; at < a.bytes.size(); at += kChunk) {
      size_t size = std::min(kChunk, a.bytes.size() - at);
      bool same =
          std::memcmp(a.bytes.data() + at, b.bytes.data() + at, size) == 0;
      checkpoint.dropResident(a, at, size);
      checkpoint.dropResident(b, at, size);
      if (!same)
        return false;
    }
    return true;
  }

  /// Moves every tensor that the configuration needs from `stored` to the
  /// checkpoint.
  Status takeInventory() {
    std::vector<ExpectedTensor> expected =
        expectedTensors(checkpoint.modelConfig);
    std::vector<const ExpectedTensor *> missing;
    for (const ExpectedTensor &tensor : expected)
      if (!isStored(tensor.name))
        missing.push_back(&tensor);
    if (!missing.empty())
      return Status::error(Code::NotFound,
                           checkpoint.dir + ": expected tensor " +
                               quote(missing[0]->name) + " of shape " +
                               formatShape(missing[0]->shape) + ", found none" +
                               andMore(missing.size()));
    checkpoint.used.reserve(expected.size());
    for (const ExpectedTensor &tensor : expected) {
      if (checkpoint.modelConfig.quant) {
        RETORT_ASSIGN_OR_RETURN(
            std::optional<TensorView> quantized,
            takeQuantized(*checkpoint.modelConfig.quant, tensor, stored));
        if (quantized) {
          checkpoint.total += quantized->bytes.size();
          checkpoint.used.push_back(std::move(*quantized));
          continue;
        }
      }
      auto it = stored.find(tensor.name);
      TensorView view = *it->second;
      std::string where =
          std::string(view.file) + ": tensor " + quote(view.name) + ": ";
      if (view.shape != tensor.shape)
        return invalid(where + "expected shape " + formatShape(tensor.shape) +
                       ", found " + formatShape(view.shape));
      if (!isFloatWeight(view.dtype))
        return Status::error(Code::Unsupported,
                             where +
                                 "expected dtype F32, BF16, F16 or F8_E4M3, "
                                 "found " +
                                 std::string(dtypeName(view.dtype)));
      view.name = tensor.name;
      auto scales = stored.find(scaleTensorName(tensor.name));
      RETORT_RETURN_IF_ERROR(
          attachScales(view, scales == stored.end() ? nullptr : scales->second,
                       checkpoint.modelConfig.fp8));
      if (scales != stored.end())
        stored.erase(scales);
      checkpoint.total += view.bytes.size();
      checkpoint.used.push_back(std::move(view));
      stored.erase(it);
    }
    indexUsed();
    return Status::ok();
  }

  /// Checks what quantized matrices consist of, and notes what is left out.
  Status checkIntegers() {
    const std::optional<QuantConfig> &quant = checkpoint.modelConfig.quant;
    if (!quant)
      return Status::ok();
    RETORT_RETURN_IF_ERROR(checkQuantized(checkpoint.used, *quant));
    for (const TensorView &tensor : checkpoint.used)
      if (tensor.quantized)
        tensor.quantized->forEachPart([&](const TensorView &part) {
          checkpoint.dropResident(part, 0, part.bytes.size());
        });
    if (quant->quantizesActivations)
      checkpoint.remarks.push_back(
          "config.json asks for quantized activations, which are not computed: "
          "weights are what the checkpoint says, activations are not rounded");
    return Status::ok();
  }

  /// Some tools write biases of zeros for quantized modules that have none.
  bool isZeroBias(const std::string &name, const TensorView &view) const {
    constexpr std::string_view kBias = ".bias";
    if (!name.ends_with(kBias))
      return false;
    const TensorView *weight =
        checkpoint.find(name.substr(0, name.size() - kBias.size()) + ".weight");
    return weight && weight->quantized &&
           std::ranges::all_of(
               view.bytes, [](std::byte byte) { return byte == std::byte(0); });
  }

  Status refuseExtras() {
    std::vector<const TensorView *> extras;
    for (const auto &[name, view] : stored)
      if (!isHarmlessExtra(name) && !isZeroBias(name, *view))
        extras.push_back(view);
    if (extras.empty())
      return Status::ok();
    const TensorView &first = *extras[0];
    return invalid(std::string(first.file) + ": unexpected tensor " +
                   quote(first.name) + " of shape " + formatShape(first.shape) +
                   andMore(extras.size()) +
                   ": the configuration has no use for it");
  }

  Checkpoint checkpoint;
  /// Every tensor that is stored and not yet accounted for, by name.
  StoredTensors stored;
};

Result<Checkpoint> Checkpoint::open(const std::string &directory) {
  return CheckpointReader(directory).read();
}

Result<Checkpoint>
Checkpoint::openWithoutWeights(const std::string &directory) {
  return CheckpointReader(directory).readWithoutWeights();
}

bool Checkpoint::hasWeights(const std::string &directory) {
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    std::string name = it->path().filename().string();
    if (name == kIndexName || (name.starts_with("model") && isShardName(name)))
      return true;
  }
  return false;
}

const TensorView *Checkpoint::find(std::string_view name) const {
  auto it = usedIndex.find(name);
  return it == usedIndex.end() ? nullptr : &used[it->second];
}

void Checkpoint::dropResident(const TensorView &tensor, uint64_t begin,
                              uint64_t size) const {
  for (const SafetensorsFile &file : files)
    if (file.path().data() == tensor.file.data())
      file.dropResident(tensor, begin, size);
}

} // namespace retort::checkpoint
