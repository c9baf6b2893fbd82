//===- ConfigFuzz.cpp - Fuzzes config.json ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Rope.h"

#include <cmath>
#include <cstdlib>

using namespace retort::checkpoint;

/// The input is config.json, or, split at the first NUL, config.json and
/// generation_config.json. What is accepted must be usable.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text(reinterpret_cast<const char *>(data), size);
  size_t split = text.find('\0');
  std::string_view generation;
  if (split != std::string_view::npos) {
    generation = text.substr(split + 1);
    text = text.substr(0, split);
  }
  auto config = parseConfig(text, "config.json", generation);
  if (!config) {
    if (config.status().message().find('\n') != std::string::npos)
      std::abort();
    return 0;
  }
  if (config->numHeads % config->numKvHeads != 0 || config->headDim % 2 != 0)
    std::abort();
  if (config->headDim <= 1024)
    for (double freq : ropeInvFreq(*config))
      if (!std::isfinite(freq))
        std::abort();
  if (!std::isfinite(ropeAttentionFactor(*config)))
    std::abort();
  if (config->numLayers <= 16 && expectedTensors(*config).empty())
    std::abort();
  return 0;
}
