//===- Config.cpp - What config.json says of a model ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Config.h"

#include "compiler/checkpoint/ConfigFields.h"
#include "compiler/checkpoint/DeepseekConfig.h"
#include "compiler/checkpoint/RopeConfig.h"
#include "runtime/support/CheckedMath.h"

#include <algorithm>
#include <span>

namespace retort::checkpoint {
namespace {

using nlohmann::json;

// Bounds well past any model, so that products of a few of them fit 64 bits.
constexpr int64_t kMaxVocab = int64_t(1) << 24;
constexpr int64_t kMaxHidden = int64_t(1) << 20;
constexpr int64_t kMaxIntermediate = int64_t(1) << 22;
constexpr int64_t kMaxLayers = int64_t(1) << 12;
constexpr int64_t kMaxHeads = int64_t(1) << 16;
constexpr int64_t kMaxHeadDim = int64_t(1) << 16;
constexpr int64_t kMaxQueryDim = int64_t(1) << 22;
constexpr int64_t kMaxPosition = int64_t(1) << 30;

/// A field that changes the result unless it has one of its neutral values;
/// absent and null are neutral too.
struct NeutralField {
  std::string_view name;
  const char *neutral; ///< JSON of the value that changes nothing
};

constexpr NeutralField kNeutralFields[] = {
    {"compression_config", "{}"},
    {"pretraining_tp", "1"},
    {"partial_rotary_factor", "1"},
    {"rotary_pct", "1"},
    {"rope_interleaved", "false"},
    {"use_mrope", "false"},
    {"no_rope_layers", "[]"},
    {"attn_logit_softcapping", "0"},
    {"final_logit_softcapping", "0"},
    {"query_pre_attn_scalar", "null"},
    {"attention_multiplier", "null"},
    {"embedding_multiplier", "1"},
    {"residual_multiplier", "1"},
    {"logits_scaling", "1"},
    {"logit_scale", "1"},
    {"clip_qkv", "null"},
    {"qk_layernorm", "false"},
    {"use_qk_norm", "false"},
    {"qk_norm", "false"},
    {"alibi", "false"},
    {"is_encoder_decoder", "false"},
    {"add_cross_attention", "false"},
    {"pruned_heads", "{}"},
};

/// Fields that deepseek_v3 gives a meaning.
constexpr NeutralField kDenseNeutralFields[] = {
    {"rope_interleave", "false"},
    {"num_experts", "0"},
    {"num_local_experts", "0"},
    {"n_routed_experts", "0"},
};

Status checkNeutralFields(ConfigFields &fields,
                          std::span<const NeutralField> neutrals) {
  for (const NeutralField &field : neutrals) {
    const json *value = fields.find(field.name);
    json neutral = json::parse(field.neutral);
    // 1 and 1.0 compare equal.
    if (!value || *value == neutral)
      continue;
    std::string expected = std::string(field.neutral) +
                           " or no such field, "
                           "as others are not supported";
    fields.fail(field.name, expected, Code::Unsupported);
  }
  return fields.takeStatus();
}

Status readFamily(ConfigFields &fields, ModelConfig &config) {
  std::string type = fields.string("model_type");
  if (type == "qwen2")
    config.family = Family::Qwen2;
  else if (type == "llama")
    config.family = Family::Llama;
  else if (type == "deepseek_v3")
    config.family = Family::DeepseekV3;
  else
    fields.fail("model_type", "'qwen2', 'llama' or 'deepseek_v3'",
                Code::Unsupported);
  RETORT_RETURN_IF_ERROR(fields.takeStatus());

  // A checkpoint of a classifier has another head, or none.
  const json *architectures = fields.find("architectures");
  if (!architectures)
    return Status::ok();
  bool generates = architectures->is_array() && architectures->empty();
  if (architectures->is_array())
    for (const json &name : *architectures)
      generates |= name.is_string() &&
                   name.get_ref<const std::string &>().ends_with("ForCausalLM");
  if (!generates)
    return Status::error(
        Code::Unsupported,
        "field 'architectures': expected a name that ends in 'ForCausalLM', "
        "found " +
            quote(architectures->dump()));
  return Status::ok();
}

Status readSizes(ConfigFields &fields, ModelConfig &config) {
  config.vocabSize = fields.integer("vocab_size", 1, kMaxVocab);
  config.hiddenSize = fields.integer("hidden_size", 1, kMaxHidden);
  config.intermediateSize =
      fields.integer("intermediate_size", 1, kMaxIntermediate);
  config.numLayers = fields.integer("num_hidden_layers", 1, kMaxLayers);
  config.numHeads = fields.integer("num_attention_heads", 1, kMaxHeads);
  bool qwen2 = config.family == Family::Qwen2;
  bool deepseek = config.family == Family::DeepseekV3;
  config.maxPositionEmbeddings =
      fields.integer("max_position_embeddings", 1, kMaxPosition,
                     qwen2      ? 32768
                     : deepseek ? 4096
                                : 2048);
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  if (deepseek)
    return readDeepseek(fields, config);

  // transformers gives an absent field of Qwen2 a number of its own.
  bool absent = !fields.has("num_key_value_heads");
  config.numKvHeads = fields.integer("num_key_value_heads", 1, kMaxHeads,
                                     qwen2 && absent ? 32 : config.numHeads);
  if (fields.isOk() && config.numHeads % config.numKvHeads != 0)
    fields.fail("num_key_value_heads",
                "a divisor of num_attention_heads (" +
                    std::to_string(config.numHeads) + ")" +
                    (absent ? ", which the default of 32 is not" : ""));
  RETORT_RETURN_IF_ERROR(fields.takeStatus());

  if (fields.find("head_dim"))
    config.headDim = fields.integer("head_dim", 1, kMaxHeadDim);
  else if (config.hiddenSize % config.numHeads == 0)
    config.headDim = config.hiddenSize / config.numHeads;
  else
    fields.fail("hidden_size", "a multiple of num_attention_heads (" +
                                   std::to_string(config.numHeads) +
                                   "), or a head_dim");
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  if (config.headDim % 2 != 0)
    return Status::error(
        Code::InvalidData,
        std::string("field '") +
            (fields.find("head_dim") ? "head_dim" : "hidden_size") +
            "': expected an even head dimension for RoPE, found " +
            std::to_string(config.headDim));
  if (config.queryDim() > kMaxQueryDim)
    return Status::error(Code::InvalidData,
                         "field 'head_dim': expected num_attention_heads * "
                         "head_dim up to " +
                             std::to_string(kMaxQueryDim) + ", found " +
                             std::to_string(config.queryDim()));
  return Status::ok();
}

Status readArithmetic(ConfigFields &fields, ModelConfig &config) {
  std::string act = fields.string("hidden_act", "silu");
  if (act != "silu" && act != "swish")
    fields.fail("hidden_act", "'silu'", Code::Unsupported);
  config.rmsNormEps = fields.number("rms_norm_eps", 0.0, 1.0, 1e-6);
  config.tieWordEmbeddings = fields.boolean("tie_word_embeddings", false);
  if (config.family == Family::Qwen2) {
    config.qkvBias = true;
  } else if (config.family == Family::DeepseekV3) {
    config.qkvBias = config.oBias = fields.boolean("attention_bias", false);
  } else {
    config.qkvBias = config.oBias = fields.boolean("attention_bias", false);
    config.mlpBias = fields.boolean("mlp_bias", false);
  }
  return fields.takeStatus();
}

/// True if `layer_types` has a layer of sliding-window attention. Any type
/// other than that and full attention is an error.
Result<bool> hasSlidingLayer(ConfigFields &fields, const json &types,
                             int64_t numLayers) {
  bool slides = false, known = types.is_array();
  if (known)
    for (const json &type : types) {
      slides |= type == "sliding_attention";
      known &= type == "sliding_attention" || type == "full_attention";
    }
  if (!known) {
    fields.fail("layer_types", "an array of 'full_attention'",
                Code::Unsupported);
    return fields.takeStatus();
  }
  if (types.size() != static_cast<size_t>(numLayers))
    return Status::error(Code::InvalidData, "field 'layer_types': expected " +
                                                std::to_string(numLayers) +
                                                " entries, found " +
                                                std::to_string(types.size()));
  return slides;
}

/// Sliding-window attention is not computed, so it must have no effect: off,
/// in no layer, or with a window no shorter than the context.
Status checkSlidingWindow(ConfigFields &fields, const ModelConfig &config) {
  bool qwen2 = config.family == Family::Qwen2;
  // A Llama configuration has no such switch; one with a window means it.
  bool enabled = fields.boolean("use_sliding_window",
                                !qwen2 && fields.find("sliding_window"));
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  bool slides = enabled;
  std::string_view culprit = "sliding_window";
  if (const json *types = fields.find("layer_types")) {
    culprit = "layer_types";
    RETORT_ASSIGN_OR_RETURN(slides,
                            hasSlidingLayer(fields, *types, config.numLayers));
  } else if (enabled && qwen2) {
    culprit = "use_sliding_window";
    slides = fields.integer("max_window_layers", 0, INT64_MAX, 28) <
             config.numLayers;
  }
  if (slides && enabled) {
    // An absent window of Qwen2 has a default, whereas a null one is none.
    bool defaulted = qwen2 && !fields.has("sliding_window");
    int64_t window = fields.integer("sliding_window", 1, INT64_MAX,
                                    defaulted ? 4096 : INT64_MAX);
    slides = window < config.maxPositionEmbeddings;
  }
  if (slides)
    fields.fail(culprit,
                "no sliding-window attention shorter than the context of " +
                    std::to_string(config.maxPositionEmbeddings) +
                    ", as it is not supported",
                Code::Unsupported);
  return fields.takeStatus();
}

Status readStoredDType(ConfigFields &fields, ModelConfig &config) {
  std::string_view field = fields.find("dtype") ? "dtype" : "torch_dtype";
  if (!fields.find(field))
    return Status::ok();
  std::string name = fields.string(field);
  std::string_view bare = name;
  if (bare.starts_with("torch."))
    bare.remove_prefix(6);
  if (bare == "float32")
    config.storedDType = DType::F32;
  else if (bare == "bfloat16")
    config.storedDType = DType::BF16;
  else if (bare == "float16")
    config.storedDType = DType::F16;
  else if (bare == "float8_e4m3fn")
    config.storedDType = DType::F8E4M3;
  else
    fields.fail(field, "'float32', 'bfloat16', 'float16' or 'float8_e4m3fn'",
                Code::Unsupported);
  return fields.takeStatus();
}

/// Reads `eos_token_id`, an id or a list of ids, if there is one.
Status readEos(ConfigFields &fields, int64_t vocabSize,
               std::optional<std::vector<int64_t>> &ids) {
  const json *value = fields.find("eos_token_id");
  if (!value)
    return Status::ok();
  ids.emplace();
  json list = value->is_array() ? *value : json::array({*value});
  for (const json &item : list) {
    // Each id goes through the bounds and messages of a field.
    json one = {{"eos_token_id", item}};
    ConfigFields single(one);
    int64_t id = single.integer("eos_token_id", 0, vocabSize - 1);
    RETORT_RETURN_IF_ERROR(single.takeStatus());
    if (std::find(ids->begin(), ids->end(), id) == ids->end())
      ids->push_back(id);
  }
  return Status::ok();
}

Status readTokenIds(ConfigFields &fields, ModelConfig &config) {
  if (fields.find("bos_token_id"))
    config.bosTokenId = fields.integer("bos_token_id", 0, config.vocabSize - 1);
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  std::optional<std::vector<int64_t>> ids;
  RETORT_RETURN_IF_ERROR(readEos(fields, config.vocabSize, ids));
  config.eosTokenIds = std::move(ids).value_or(std::vector<int64_t>());
  return Status::ok();
}

/// All tensors must have a size that fits 64 bits, as f32 and together.
Status checkTotalSize(const ModelConfig &config) {
  std::optional<int64_t> total = 0;
  for (const ExpectedTensor &tensor : expectedTensors(config)) {
    auto elements = checkedProduct(std::span<const int64_t>(tensor.shape));
    total = total && elements ? checkedAdd(*total, *elements) : std::nullopt;
  }
  if (!total || !checkedMul(*total, int64_t(4)))
    return Status::error(Code::InvalidData,
                         "the size of the model overflows 64 bits");
  return Status::ok();
}

Result<json> parseObject(std::string_view text) {
  RETORT_ASSIGN_OR_RETURN(json root, parseJson(text));
  if (!root.is_object())
    return Status::error(Code::InvalidData,
                         "expected an object, found " + describeJson(root));
  return root;
}

Status readConfig(std::string_view text, ModelConfig &config) {
  RETORT_ASSIGN_OR_RETURN(json root, parseObject(text));
  ConfigFields fields(root);
  RETORT_RETURN_IF_ERROR(readFamily(fields, config));
  RETORT_RETURN_IF_ERROR(checkNeutralFields(fields, kNeutralFields));
  if (config.family != Family::DeepseekV3)
    RETORT_RETURN_IF_ERROR(checkNeutralFields(fields, kDenseNeutralFields));
  RETORT_RETURN_IF_ERROR(readSizes(fields, config));
  RETORT_RETURN_IF_ERROR(readArithmetic(fields, config));
  RETORT_RETURN_IF_ERROR(readRope(fields, config));
  setSoftmaxScale(config);
  RETORT_RETURN_IF_ERROR(readQuantization(fields, config));
  RETORT_RETURN_IF_ERROR(checkSlidingWindow(fields, config));
  RETORT_RETURN_IF_ERROR(readStoredDType(fields, config));
  RETORT_RETURN_IF_ERROR(readTokenIds(fields, config));
  return checkTotalSize(config);
}

Status readGenerationConfig(std::string_view text, ModelConfig &config) {
  RETORT_ASSIGN_OR_RETURN(json root, parseObject(text));
  ConfigFields fields(root);
  std::optional<std::vector<int64_t>> ids;
  RETORT_RETURN_IF_ERROR(readEos(fields, config.vocabSize, ids));
  if (ids)
    config.eosTokenIds = std::move(*ids);
  return Status::ok();
}

} // namespace

std::string_view familyName(Family family) {
  switch (family) {
  case Family::Qwen2:
    return "qwen2";
  case Family::Llama:
    return "llama";
  case Family::DeepseekV3:
    return "deepseek_v3";
  }
  return "unknown";
}

Result<ModelConfig> parseConfig(std::string_view text, std::string_view file,
                                std::string_view generationText,
                                std::string_view generationFile) {
  ModelConfig config;
  if (Status status = readConfig(text, config); !status.isOk())
    return std::move(status).withContext(file);
  if (generationText.empty())
    return config;
  if (Status status = readGenerationConfig(generationText, config);
      !status.isOk())
    return std::move(status).withContext(generationFile);
  return config;
}

} // namespace retort::checkpoint
