//===- Fp8Config.cpp - The quantization_config field ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Fp8Config.h"

#include <algorithm>

namespace retort::checkpoint {
namespace {

using nlohmann::json;

constexpr int64_t kMaxBlock = int64_t(1) << 20;

/// The fields that fp8 checkpoints carry. `scale_fmt` tells how the author
/// rounded scales, which are stored rounded, and the lists name modules whose
/// tensors have another type, which the tensors themselves say as well.
constexpr std::string_view kKnownFields[] = {
    "quant_method",      "fmt",        "weight_block_size",
    "activation_scheme", "scale_fmt",  "modules_to_not_convert",
    "ignored_layers",    "dequantize",
};

void checkOnly(ConfigFields &fields, std::string_view name,
               const std::string &only) {
  if (fields.string(name, only) != only)
    fields.fail(name, "'" + only + "', as no other is supported",
                Code::Unsupported);
}

void readBlockSize(ConfigFields &fields, Fp8Config &fp8) {
  constexpr std::string_view kName = "weight_block_size";
  if (!fields.has(kName))
    return; // the default of 128 by 128
  const json *sizes = fields.find(kName);
  auto isSize = [](const json &size) {
    return size.is_number_integer() && size >= 1 && size <= kMaxBlock;
  };
  if (!sizes || !sizes->is_array() || sizes->size() != 2 ||
      !isSize((*sizes)[0]) || !isSize((*sizes)[1])) {
    std::string found;
    if (sizes && sizes->is_array() && sizes->size() <= 4)
      found = " (" +
              sizes->dump(-1, ' ', true, json::error_handler_t::replace)
                  .substr(0, 80) +
              " here)";
    fields.fail(kName, "two positive integers up to " +
                           std::to_string(kMaxBlock) + found);
    return;
  }
  fp8.blockRows = (*sizes)[0].get<int64_t>();
  fp8.blockCols = (*sizes)[1].get<int64_t>();
}

} // namespace

Status readFp8(ConfigFields &root, ModelConfig &config) {
  constexpr std::string_view kName = "quantization_config";
  const json *object = root.find(kName);
  if (!object)
    return Status::ok();
  if (!object->is_object()) {
    root.fail(kName, "an object");
    return root.takeStatus();
  }
  if (object->empty())
    return Status::ok();
  ConfigFields fields(*object, std::string(kName) + ".");
  // The method comes first: the fields of others would only confuse.
  if (fields.string("quant_method") != "fp8")
    fields.fail("quant_method", "'fp8', as no other is supported",
                Code::Unsupported);
  for (const auto &[key, value] : object->items())
    if (std::find(std::begin(kKnownFields), std::end(kKnownFields), key) ==
        std::end(kKnownFields))
      fields.fail(key, "no such field, as it is not supported",
                  Code::Unsupported);
  checkOnly(fields, "fmt", "e4m3");
  checkOnly(fields, "activation_scheme", "dynamic");
  Fp8Config fp8;
  readBlockSize(fields, fp8);
  RETORT_RETURN_IF_ERROR(fields.takeStatus());
  config.fp8 = fp8;
  return Status::ok();
}

} // namespace retort::checkpoint
