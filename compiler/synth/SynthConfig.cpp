//===- SynthConfig.cpp - The config.json of random models -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/synth/SynthConfig.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace retort::synth {

using checkpoint::ModelConfig;
using nlohmann::ordered_json;

Result<std::string> adaptConfig(const std::string &text,
                                const std::string &path,
                                const SynthOptions &options) {
  RETORT_ASSIGN_OR_RETURN(ModelConfig config,
                          checkpoint::parseConfig(text, path));
  // It has been parsed, so it is an object without surprises.
  ordered_json root = ordered_json::parse(text, nullptr, false);
  if (options.layers) {
    int64_t layers = *options.layers;
    if (layers < 1)
      return Status::error(Code::InvalidArgument,
                           "--layers: expected a positive number, found " +
                               std::to_string(layers));
    root["num_hidden_layers"] = layers;
    if (config.moe)
      root["first_k_dense_replace"] = std::min(config.moe->firstDense, layers);
    auto types = root.find("layer_types");
    if (types != root.end() && types->is_array() && !types->empty()) {
      ordered_json resized = ordered_json::array();
      for (int64_t i = 0; i < std::min<int64_t>(layers, 1 << 12); ++i)
        resized.push_back(
            (*types)[std::min(static_cast<size_t>(i), types->size() - 1)]);
      *types = std::move(resized);
    }
  }
  if (options.mtp && config.declaredMtpLayers == 0)
    return Status::error(Code::InvalidArgument,
                         "--mtp: expected a configuration with "
                         "num_nextn_predict_layers, found none in " +
                             path);
  if (config.mla) {
    root["num_nextn_predict_layers"] = options.mtp ? 1 : 0;
    root.erase("num_mtp_layers");
  }
  if (options.dtype == DType::BF16) {
    root.erase("quantization_config");
    root[root.contains("dtype") ? "dtype" : "torch_dtype"] = "bfloat16";
  } else if (options.dtype == DType::F8E4M3 && !config.fp8) {
    root["quantization_config"] = {{"activation_scheme", "dynamic"},
                                   {"fmt", "e4m3"},
                                   {"quant_method", "fp8"},
                                   {"weight_block_size", {128, 128}}};
    root[root.contains("dtype") ? "dtype" : "torch_dtype"] = "bfloat16";
  }
  return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) +
         "\n";
}

} // namespace retort::synth
