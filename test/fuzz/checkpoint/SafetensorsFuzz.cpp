//===- SafetensorsFuzz.cpp - Fuzzes the safetensors header ------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/DType.h"
#include "compiler/checkpoint/Safetensors.h"

#include <cstdlib>
#include <string>

using namespace retort;
using namespace retort::checkpoint;

/// The input is a header; the bytes before it give the data's size. The length
/// field is made right half of the time, so that most inputs reach the parser.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2)
    return 0;
  size_t dataBytes = data[0];
  bool isWhole = data[1] & 1;
  std::string text;
  if (!isWhole)
    for (int i = 0; i < 8; ++i)
      text += static_cast<char>((size - 2) >> (8 * i));
  text.append(reinterpret_cast<const char *>(data) + 2, size - 2);
  text.resize(text.size() + dataBytes);
  auto file = SafetensorsFile::parse(std::as_bytes(std::span(text)), "fuzz");
  if (!file) {
    if (file.status().message().find('\n') != std::string::npos)
      std::abort();
    return 0;
  }
  for (const TensorView &view : file->tensors()) {
    if (file->find(view.name) != &view)
      std::abort();
    std::vector<float> values(static_cast<size_t>(view.elements()));
    if (convertToF32(view.dtype, view.bytes, values).isOk() !=
        isFloatWeight(view.dtype))
      std::abort();
  }
  return 0;
}
