//===- QuantConfig.cpp - What quantization_config says --------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/QuantConfig.h"

#include "compiler/checkpoint/Config.h"
#include "compiler/checkpoint/ConfigFields.h"
#include "compiler/checkpoint/Fp8Config.h"
#include "compiler/checkpoint/Json.h"
#include "runtime/text/Regex.h"

#include <algorithm>

namespace retort::checkpoint {
namespace {

using nlohmann::json;

constexpr std::string_view kName = "quantization_config";
constexpr int64_t kMaxGroup = int64_t(1) << 24;
constexpr size_t kMaxPatterns = 65536;
constexpr size_t kMaxPatternBytes = 4096;

/// Fields that say how scales were found, or are for other engines: what the
/// weights mean does not depend on them. Others might change it, so that they
/// are refused.
constexpr std::string_view kGptqFields[] = {
    "quant_method",
    "bits",
    "group_size",
    "desc_act",
    "sym",
    "checkpoint_format",
    "pack_dtype",
    "dynamic",
    "is_marlin_format",
    "damp_percent",
    "damp_auto_increment",
    "static_groups",
    "true_sequential",
    "lm_head",
    "meta",
    "format",
    "model_name_or_path",
    "model_file_base_name",
    "dataset",
    "tokenizer",
    "module_name_preceding_first_block",
    "modules_in_block_to_quantize",
    "block_name_to_quantize",
    "batch_size",
    "pad_token_id",
    "use_exllama",
    "use_cuda_fp16",
    "max_input_length",
    "exllama_config",
    "disable_exllama",
    "cache_block_outputs",
    "model_seqlen",
    "backend",
    "mse",
    "act_group_aware",
};
constexpr std::string_view kAwqFields[] = {
    "quant_method",    "bits",
    "w_bit",           "group_size",
    "q_group_size",    "zero_point",
    "version",         "backend",
    "do_fuse",         "fuse_max_seq_len",
    "modules_to_fuse", "modules_to_not_convert",
    "exllama_config",
};
constexpr std::string_view kCompressedFields[] = {
    "quant_method",
    "format",
    "config_groups",
    "ignore",
    "kv_cache_scheme",
    "sparsity_config",
    "transform_config",
    "quantization_status",
    "global_compression_ratio",
    "version",
};
constexpr std::string_view kGroupFields[] = {
    "targets", "weights", "input_activations", "output_activations", "format",
};
constexpr std::string_view kWeightsFields[] = {
    "num_bits",        "type",        "symmetric",
    "group_size",      "strategy",    "dynamic",
    "actorder",        "observer",    "observer_kwargs",
    "block_structure", "scale_dtype", "zp_dtype",
};

void refuseUnknown(ConfigFields &fields, const json &object,
                   std::span<const std::string_view> known) {
  for (const auto &[key, value] : object.items())
    if (std::ranges::find(known, key) == known.end())
      fields.fail(key, "no such field, as it is not supported",
                  Code::Unsupported);
}

/// 4 or 8; other widths are unsupported, not bad.
int readBits(ConfigFields &fields, std::string_view name, bool only4 = false) {
  int64_t bits = fields.integer(name, 1, 64);
  if (fields.isOk() && bits != 4 && (bits != 8 || only4))
    fields.fail(name,
                only4 ? "4, as no other is supported"
                      : "4 or 8, as no other is supported",
                Code::Unsupported);
  return static_cast<int>(bits);
}

/// A positive group size, or -1: whole rows.
void readGroupSize(ConfigFields &fields, std::string_view name,
                   QuantScheme &scheme) {
  int64_t size = fields.integer(name, -1, kMaxGroup);
  if (size == 0)
    fields.fail(name, "-1 or a positive integer");
  if (size == -1)
    scheme.strategy = QuantStrategy::Channel;
  else
    scheme.groupSize = size;
}

Result<std::vector<std::string>> readStrings(ConfigFields &fields,
                                             std::string_view name) {
  std::vector<std::string> out;
  const json *list = fields.find(name);
  if (!list)
    return out;
  bool isList = list->is_array() && list->size() <= kMaxPatterns;
  for (size_t i = 0; isList && i < list->size(); ++i) {
    isList =
        (*list)[i].is_string() &&
        (*list)[i].get_ref<const std::string &>().size() <= kMaxPatternBytes;
    if (isList)
      out.push_back((*list)[i].get<std::string>());
  }
  if (!isList) {
    fields.fail(name, "a list of names");
    return fields.takeStatus();
  }
  return out;
}

Result<std::vector<ModulePattern>> readPatterns(ConfigFields &fields,
                                                const std::string &prefix,
                                                std::string_view name) {
  RETORT_ASSIGN_OR_RETURN(auto texts, readStrings(fields, name));
  std::vector<ModulePattern> out;
  for (const std::string &text : texts) {
    Result<ModulePattern> pattern = ModulePattern::parse(text);
    if (!pattern)
      return pattern.takeStatus().withContext("field '" + prefix +
                                              std::string(name) + "'");
    out.push_back(std::move(*pattern));
  }
  return out;
}

Result<QuantConfig> readGptq(const json &object) {
  ConfigFields fields(object, std::string(kName) + ".");
  QuantConfig quant;
  quant.method = QuantMethod::Gptq;
  quant.scheme.bits = readBits(fields, "bits");
  readGroupSize(fields, "group_size", quant.scheme);
  quant.scheme.symmetric = fields.boolean("sym", true);
  quant.actOrder = fields.boolean("desc_act", false);
  std::string format = fields.string("checkpoint_format", "gptq");
  quant.zerosLessOne = format == "gptq";
  if (format != "gptq" && format != "gptq_v2")
    fields.fail("checkpoint_format",
                "'gptq' or 'gptq_v2', as no other is supported",
                Code::Unsupported);
  if (fields.boolean("is_marlin_format", false))
    fields.fail("is_marlin_format", "false, as no other is supported",
                Code::Unsupported);
  if (fields.string("pack_dtype", "int32") != "int32")
    fields.fail("pack_dtype", "'int32', as no other is supported",
                Code::Unsupported);
  if (const json *dynamic = fields.find("dynamic");
      dynamic && !(dynamic->is_object() && dynamic->empty()))
    fields.fail("dynamic",
                "no settings of single modules, as they are not "
                "supported",
                Code::Unsupported);
  refuseUnknown(fields, object, kGptqFields);
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  return quant;
}

Result<QuantConfig> readAwq(const json &object) {
  ConfigFields fields(object, std::string(kName) + ".");
  QuantConfig quant;
  quant.method = QuantMethod::Awq;
  quant.scheme.symmetric = false;
  quant.scheme.bits =
      readBits(fields, fields.has("w_bit") ? "w_bit" : "bits", true);
  readGroupSize(fields,
                fields.has("q_group_size") ? "q_group_size" : "group_size",
                quant.scheme);
  if (!fields.boolean("zero_point", true))
    fields.fail("zero_point", "true, as no other is supported",
                Code::Unsupported);
  std::string version = fields.string("version", "gemm");
  if (version != "gemm" && version != "GEMM")
    fields.fail("version", "'gemm', as no other is supported",
                Code::Unsupported);
  refuseUnknown(fields, object, kAwqFields);
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  RETORT_ASSIGN_OR_RETURN(quant.excluded,
                          readStrings(fields, "modules_to_not_convert"));
  return quant;
}

/// [rows, columns] of a block.
void readBlock(ConfigFields &fields, QuantScheme &scheme) {
  const json *sizes = fields.find("block_structure");
  auto isSize = [](const json &size) {
    return size.is_number_integer() && size >= 1 && size <= kMaxGroup;
  };
  if (!sizes || !sizes->is_array() || sizes->size() != 2 ||
      !isSize((*sizes)[0]) || !isSize((*sizes)[1]))
    return fields.fail("block_structure", "two positive integers");
  scheme.blockRows = (*sizes)[0].get<int64_t>();
  scheme.blockCols = (*sizes)[1].get<int64_t>();
}

void readStrategy(ConfigFields &fields, QuantScheme &scheme) {
  int64_t size = fields.integer("group_size", -1, kMaxGroup, -1);
  // As the library does it where the strategy is left out.
  std::string strategy =
      fields.string("strategy", size > 0 ? "group"
                                : size == -1 && fields.has("group_size") &&
                                        fields.find("group_size")
                                    ? "channel"
                                    : "tensor");
  if (strategy == "tensor") {
    scheme.strategy = QuantStrategy::Tensor;
  } else if (strategy == "channel") {
    scheme.strategy = QuantStrategy::Channel;
  } else if (strategy == "group") {
    scheme.strategy = QuantStrategy::Group;
    scheme.groupSize = size;
    if (size < 1)
      fields.fail("group_size", "a positive integer for groups");
  } else if (strategy == "block" && scheme.isFloat) {
    scheme.strategy = QuantStrategy::Block;
    readBlock(fields, scheme);
  } else {
    fields.fail("strategy",
                scheme.isFloat ? "'tensor', 'channel', 'group' or 'block', as "
                                 "no other is supported"
                               : "'tensor', 'channel' or 'group', as no other "
                                 "is supported",
                Code::Unsupported);
  }
}

Result<QuantScheme> readWeights(const json &object, const std::string &prefix,
                                const std::string &format) {
  ConfigFields fields(object, prefix);
  QuantScheme scheme;
  std::string type = fields.string("type", "int");
  scheme.isFloat = type == "float";
  if (type != "int" && type != "float")
    fields.fail("type", "'int' or 'float'");
  scheme.bits = readBits(fields, "num_bits");
  if (scheme.isFloat && scheme.bits == 4)
    fields.fail("num_bits", "8 for floats, as no other is supported",
                Code::Unsupported);
  scheme.symmetric = fields.boolean("symmetric", true);
  if (scheme.isFloat && !scheme.symmetric)
    fields.fail("symmetric", "true for floats");
  if (const json *dynamic = fields.find("dynamic");
      dynamic && *dynamic != json(false))
    fields.fail("dynamic", "false for weights");
  readStrategy(fields, scheme);
  scheme.packed = format == "pack-quantized";
  bool fits =
      format == "naive-quantized" ||
      format == (scheme.isFloat ? "float-quantized" : "int-quantized") ||
      (scheme.packed && !scheme.isFloat);
  if (fields.isOk() && !fits)
    fields.fail("type", "weights that the format '" + format + "' can hold");
  refuseUnknown(fields, object, kWeightsFields);
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  return scheme;
}

/// What activations are quantized to does not change the weights.
Status checkActivations(ConfigFields &fields, QuantConfig &quant) {
  if (const json *inputs = fields.find("input_activations")) {
    if (!inputs->is_object())
      fields.fail("input_activations", "an object or null");
    quant.quantizesActivations = true;
  }
  if (fields.find("output_activations"))
    fields.fail("output_activations", "null, as they are not supported",
                Code::Unsupported);
  return fields.takeStatus();
}

Result<QuantGroup> readGroup(const std::string &name, const json &object,
                             const std::string &format, QuantConfig &quant) {
  std::string prefix = std::string(kName) + ".config_groups." + name + ".";
  ConfigFields fields(object, prefix);
  QuantGroup group;
  group.name = name;
  refuseUnknown(fields, object, kGroupFields);
  RETORT_ASSIGN_OR_RETURN(group.targets,
                          readPatterns(fields, prefix, "targets"));
  if (group.targets.empty())
    fields.fail("targets", "at least one name");
  const json *weights = fields.find("weights");
  if (!weights || !weights->is_object())
    fields.fail("weights", "an object");
  std::string own = fields.string("format", format);
  if (own != "pack-quantized" && own != "int-quantized" &&
      own != "float-quantized" && own != "naive-quantized")
    fields.fail("format",
                "'pack-quantized', 'int-quantized', 'float-quantized' or "
                "'naive-quantized', as no other is supported",
                Code::Unsupported);
  RETORT_RETURN_IF_ERROR(checkActivations(fields, quant));
  RETORT_ASSIGN_OR_RETURN(group.scheme,
                          readWeights(*weights, prefix + "weights.", own));
  return group;
}

/// Empty, or what says the same: an empty object, or a format "dense".
void refuseSet(ConfigFields &fields, std::string_view name) {
  const json *value = fields.find(name);
  if (!value || (value->is_object() && value->empty()) ||
      (value->is_object() && value->value("format", json()) == json("dense")))
    return;
  fields.fail(name, "nothing, as it is not supported", Code::Unsupported);
}

Result<QuantConfig> readCompressedTensors(const json &object) {
  ConfigFields fields(object, std::string(kName) + ".");
  QuantConfig quant;
  quant.method = QuantMethod::CompressedTensors;
  std::string status = fields.string("quantization_status", "compressed");
  if (status != "compressed")
    fields.fail("quantization_status", "'compressed'", Code::Unsupported);
  for (std::string_view name :
       {"kv_cache_scheme", "sparsity_config", "transform_config"})
    refuseSet(fields, name);
  refuseUnknown(fields, object, kCompressedFields);
  std::string format = fields.string("format", "");
  const json *groups = fields.find("config_groups");
  if (!groups || !groups->is_object() || groups->empty() ||
      groups->size() > kMaxPatterns)
    fields.fail("config_groups", "an object with at least one group");
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  RETORT_ASSIGN_OR_RETURN(
      quant.ignored, readPatterns(fields, std::string(kName) + ".", "ignore"));
  for (const auto &[name, group] : groups->items()) {
    if (!group.is_object()) {
      fields.fail("config_groups", "objects as groups");
      return fields.takeStatus();
    }
    // A group's name goes into messages.
    std::string shown = quote(name);
    RETORT_ASSIGN_OR_RETURN(
        QuantGroup read,
        readGroup(shown.substr(1, shown.size() - 2), group, format, quant));
    quant.groups.push_back(std::move(read));
  }
  return quant;
}

/// The class that a Hugging Face module of that name has, as far as patterns
/// tell classes apart.
std::string_view classOf(std::string_view module) {
  if (module.ends_with("embed_tokens"))
    return "Embedding";
  if (module.ends_with("mlp.gate"))
    return "Router";
  return "Linear";
}

} // namespace

std::string_view quantMethodName(QuantMethod method) {
  switch (method) {
  case QuantMethod::Gptq:
    return "gptq";
  case QuantMethod::Awq:
    return "awq";
  case QuantMethod::CompressedTensors:
    return "compressed-tensors";
  }
  return "";
}

struct ModulePattern::Compiled {
  text::Regex regex;
};

Result<ModulePattern> ModulePattern::parse(const std::string &text) {
  ModulePattern pattern;
  pattern.source = text;
  if (!text.starts_with("re:"))
    return pattern;
  auto regex = text::Regex::compile(std::string_view(text).substr(3));
  if (!regex)
    return Status::error(Code::InvalidData,
                         "expected a regular expression, found " + quote(text) +
                             ": " + regex.status().message());
  pattern.regex = std::make_shared<const Compiled>(Compiled{std::move(*regex)});
  return pattern;
}

Result<bool> ModulePattern::matchesName(std::string_view module) const {
  if (!regex)
    return source == module;
  std::vector<text::Span> matches;
  RETORT_RETURN_IF_ERROR(regex->regex.findAll(module, matches));
  return !matches.empty() && matches[0].begin == 0;
}

bool ModulePattern::matchesClass(std::string_view moduleClass) const {
  return !regex && source == moduleClass;
}

Result<const QuantScheme *>
QuantConfig::schemeFor(std::string_view module) const {
  if (method != QuantMethod::CompressedTensors) {
    bool isExcluded = std::ranges::any_of(excluded, [&](const auto &part) {
      return module.find(part) != std::string_view::npos;
    });
    return isExcluded ? nullptr : &scheme;
  }
  std::string_view moduleClass = classOf(module);
  for (const ModulePattern &pattern : ignored) {
    RETORT_ASSIGN_OR_RETURN(bool named, pattern.matchesName(module));
    if (named || pattern.matchesClass(moduleClass))
      return nullptr;
  }
  // A name says more than a class.
  for (const QuantGroup &group : groups)
    for (const ModulePattern &pattern : group.targets) {
      RETORT_ASSIGN_OR_RETURN(bool named, pattern.matchesName(module));
      if (named)
        return &group.scheme;
    }
  for (const QuantGroup &group : groups)
    for (const ModulePattern &pattern : group.targets)
      if (pattern.matchesClass(moduleClass))
        return &group.scheme;
  return nullptr;
}

Status readQuantization(ConfigFields &root, ModelConfig &config) {
  const json *object = root.find(kName);
  if (!object || !object->is_object() || object->empty())
    return readFp8(root, config);
  ConfigFields fields(*object, std::string(kName) + ".");
  // The method comes first: the fields of others would only confuse.
  std::string method = fields.string("quant_method");
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  if (method == "fp8")
    return readFp8(root, config);
  Result<QuantConfig> quant = [&]() -> Result<QuantConfig> {
    if (method == "gptq")
      return readGptq(*object);
    if (method == "awq")
      return readAwq(*object);
    if (method == "compressed-tensors")
      return readCompressedTensors(*object);
    fields.fail("quant_method",
                "'fp8', 'gptq', 'awq' or 'compressed-tensors', as no other is "
                "supported",
                Code::Unsupported);
    return fields.takeStatus();
  }();
  if (!quant)
    return quant.takeStatus();
  config.quant = std::move(*quant);
  return Status::ok();
}

} // namespace retort::checkpoint
