//===- CheckpointBuilder.h - Small checkpoints for tests --------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Writes small random Qwen2, Llama and DeepSeek-V3 checkpoints in the hub's
/// layout into temporary directories. Failures of the helpers themselves throw.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_CHECKPOINT_CHECKPOINTBUILDER_H
#define RETORT_TEST_UNIT_CHECKPOINT_CHECKPOINTBUILDER_H

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/DType.h"
#include "runtime/support/SafetensorsWriter.h"

#include <nlohmann/json.hpp>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <stdexcept>

namespace retort::test {

/// A directory that is removed with all it holds at the end of a scope.
class TempDir {
public:
  TempDir() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "retort-test-XXXXXX")
            .string();
    if (!::mkdtemp(pattern.data()))
      throw std::runtime_error("cannot make a temporary directory");
    dir = pattern;
  }
  TempDir(const TempDir &) = delete;
  TempDir &operator=(const TempDir &) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(dir, ignored);
  }

  const std::string &path() const { return dir; }
  std::string path(std::string_view name) const {
    return dir + "/" + std::string(name);
  }

private:
  std::string dir;
};

inline void writeText(const std::string &path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  if (!out.flush())
    throw std::runtime_error("cannot write " + path);
}

/// The bytes of `values` as `dtype` (F32, BF16, F16 or F8E4M3), rounded to
/// nearest.
inline std::vector<std::byte> encodeFloats(DType dtype,
                                           std::span<const float> values) {
  std::vector<std::byte> out(values.size() * dtypeBytes(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits = std::bit_cast<uint32_t>(values[i]);
    std::byte *to = out.data() + i * dtypeBytes(dtype);
    if (dtype == DType::F32) {
      std::memcpy(to, &bits, 4);
    } else if (dtype == DType::BF16) {
      auto half =
          static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
      std::memcpy(to, &half, 2);
    } else if (dtype == DType::F16) {
      auto half = static_cast<_Float16>(values[i]);
      std::memcpy(to, &half, 2);
    } else if (dtype == DType::F8E4M3) {
      uint8_t best = 0;
      for (int code = 0; code < 256; ++code) {
        auto candidate = static_cast<uint8_t>(code);
        float distance =
            std::abs(checkpoint::f8e4m3ToF32(candidate) - values[i]);
        if (distance < std::abs(checkpoint::f8e4m3ToF32(best) - values[i]))
          best = candidate;
      }
      std::memcpy(to, &best, 1);
    } else {
      throw std::invalid_argument("encodeFloats: not a float type");
    }
  }
  return out;
}

/// What a small random model looks like.
struct TinyModel {
  std::string modelType = "qwen2"; ///< or "llama", "deepseek_v3"
  int64_t vocab = 48, hidden = 32, intermediate = 40, layers = 2;
  int64_t heads = 4, kvHeads = 2;
  bool tied = false;
  /// Of all tensors but e_score_correction_bias. With a quantization_config in
  /// `extra`, matrices of layers are fp8 with scales.
  DType dtype = DType::BF16;
  uint64_t seed = 1;
  /// Fields of config.json that are added or replaced, e.g.
  /// {"rope_scaling": {...}, "head_dim": 16}; a null is written as such.
  nlohmann::json extra = nlohmann::json::object();
};

/// A checkpoint to be written. A test may change any public part before
/// write(), so as to make it bad in one way.
class CheckpointBuilder {
public:
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    std::vector<std::byte> bytes;
    std::string shard; ///< file name; empty: by write()'s choice
  };

  nlohmann::json config;
  std::vector<Tensor> tensors;
  std::map<std::string, std::string> files; ///< further files: name to text

  /// Random weights for `model`: linear weights of variance 1 / columns, norm
  /// weights near 1, biases small. The same seed gives the same bytes.
  explicit CheckpointBuilder(const TinyModel &model = {}) {
    config = {{"model_type", model.modelType},
              {"architectures",
               {model.modelType == "qwen2"   ? "Qwen2ForCausalLM"
                : model.modelType == "llama" ? "LlamaForCausalLM"
                                             : "DeepseekV3ForCausalLM"}},
              {"vocab_size", model.vocab},
              {"hidden_size", model.hidden},
              {"intermediate_size", model.intermediate},
              {"num_hidden_layers", model.layers},
              {"num_attention_heads", model.heads},
              {"num_key_value_heads", model.kvHeads},
              {"hidden_act", "silu"},
              {"max_position_embeddings", 512},
              {"rms_norm_eps", 1e-6},
              {"rope_theta", 10000.0},
              {"tie_word_embeddings", model.tied},
              {"bos_token_id", 1},
              {"eos_token_id", 2},
              {"torch_dtype", model.dtype == DType::F16   ? "float16"
                              : model.dtype == DType::F32 ? "float32"
                                                          : "bfloat16"}};
    if (model.modelType == "deepseek_v3")
      config.update({{"num_key_value_heads", model.heads},
                     {"moe_intermediate_size", 24},
                     {"n_routed_experts", 8},
                     {"n_shared_experts", 1},
                     {"num_experts_per_tok", 2},
                     {"n_group", 2},
                     {"topk_group", 1},
                     {"first_k_dense_replace", 1},
                     {"q_lora_rank", 20},
                     {"kv_lora_rank", 16},
                     {"qk_nope_head_dim", 8},
                     {"qk_rope_head_dim", 4},
                     {"v_head_dim", 12},
                     {"num_nextn_predict_layers", 0}});
    for (const auto &[key, value] : model.extra.items())
      config[key] = value;
    auto parsed = checkpoint::parseConfig(config.dump());
    if (!parsed)
      throw std::invalid_argument(parsed.status().message());
    std::mt19937_64 random(model.seed);
    for (const auto &expected : checkpoint::expectedTensors(*parsed))
      addExpected(expected, *parsed, model.dtype, random);
  }

  /// Appends a random tensor and, if it is fp8 of a model with
  /// quantization_config, its scales, in [0.5, 1.5).
  void addExpected(const checkpoint::ExpectedTensor &expected,
                   const checkpoint::ModelConfig &parsed, DType dtype,
                   std::mt19937_64 &random) {
    bool isF8 = parsed.fp8 && expected.dtype == DType::F8E4M3;
    bool isF32 = expected.name.ends_with("e_score_correction_bias");
    if (!isF8) {
      add(expected.name, isF32 ? DType::F32 : dtype, expected.shape, random);
      return;
    }
    add(expected.name, DType::F8E4M3, expected.shape, random);
    std::vector<int64_t> shape =
        checkpoint::scaleShape(*parsed.fp8, expected.shape);
    std::vector<float> scales(static_cast<size_t>(shape[0] * shape[1]));
    for (float &scale : scales)
      scale = 0.5f + static_cast<float>(random() >> 40) * 0x1p-24f;
    tensors.push_back({checkpoint::scaleTensorName(expected.name),
                       DType::F32,
                       shape,
                       encodeFloats(DType::F32, scales),
                       {}});
  }

  /// Appends a random tensor.
  void add(const std::string &name, DType dtype, std::vector<int64_t> shape,
           std::mt19937_64 &random) {
    int64_t count = 1;
    for (int64_t dim : shape)
      count *= dim;
    bool isNorm = name.find("norm") != std::string::npos;
    double scale = shape.size() == 2
                       ? 1.0 / std::sqrt(static_cast<double>(shape[1]))
                       : 0.1;
    std::vector<float> values(static_cast<size_t>(count));
    // Uniform of unit variance: the same on every standard library, which
    // std::normal_distribution is not.
    for (float &value : values) {
      double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
      value = static_cast<float>((isNorm ? 1.0 : 0.0) +
                                 scale * (uniform - 0.5) * std::sqrt(12.0));
    }
    tensors.push_back(
        {name, dtype, std::move(shape), encodeFloats(dtype, values), {}});
  }

  /// The tensor of that name, which must exist.
  Tensor &tensor(std::string_view name) {
    for (Tensor &candidate : tensors)
      if (candidate.name == name)
        return candidate;
    throw std::out_of_range("no tensor " + std::string(name));
  }

  void remove(std::string_view name) {
    std::erase_if(tensors, [&](const Tensor &t) { return t.name == name; });
  }

  /// Writes config.json, further files, and the tensors into one file, or into
  /// `shards` files with an index.
  void write(const std::string &dir, size_t shards = 1) const {
    writeText(dir + "/config.json", config.dump(2));
    for (const auto &[name, text] : files)
      writeText(dir + "/" + name, text);
    std::map<std::string, std::vector<const Tensor *>> byFile;
    nlohmann::json map = nlohmann::json::object();
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::string file = "model.safetensors";
      if (shards > 1)
        file = shardName(i * shards / tensors.size() + 1, shards);
      if (!tensors[i].shard.empty())
        file = tensors[i].shard;
      byFile[file].push_back(&tensors[i]);
      map[tensors[i].name] = file;
    }
    for (const auto &[file, members] : byFile)
      writeTensors(dir + "/" + file, members);
    if (shards > 1)
      writeText(dir + "/model.safetensors.index.json",
                nlohmann::json{{"metadata", nlohmann::json::object()},
                               {"weight_map", map}}
                    .dump(2));
  }

  /// "model-00001-of-00003.safetensors"
  static std::string shardName(size_t index, size_t count) {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", index,
                  count);
    return name;
  }

private:
  static void writeTensors(const std::string &path,
                           const std::vector<const Tensor *> &members) {
    std::vector<SafetensorsWriter::Tensor> declared;
    for (const Tensor *t : members)
      declared.push_back({t->name, t->dtype, t->shape});
    auto writer = SafetensorsWriter::create(path, declared, {{"format", "pt"}});
    if (!writer)
      throw std::runtime_error(writer.status().message());
    for (const Tensor *t : members)
      if (Status s = writer->append(std::span<const std::byte>(t->bytes));
          !s.isOk())
        throw std::runtime_error(s.message());
    if (Status s = writer->commit(); !s.isOk())
      throw std::runtime_error(s.message());
  }
};

} // namespace retort::test

#endif // RETORT_TEST_UNIT_CHECKPOINT_CHECKPOINTBUILDER_H
