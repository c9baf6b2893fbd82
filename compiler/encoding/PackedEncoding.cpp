//===- PackedEncoding.cpp - How packed weights are laid out -----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/encoding/PackedEncoding.h"

namespace retort {

namespace {

std::string_view scaleSuffix(ScaleKind scales) {
  switch (scales) {
  case ScaleKind::BF16:
    return "";
  case ScaleKind::F16:
    return ", f16_scales";
  case ScaleKind::F32:
    return ", f32_scales";
  }
  return "";
}

} // namespace

std::string PackedEncoding::str() const {
  switch (kind) {
  case EncodingKind::F32:
    return "f32";
  case EncodingKind::F16:
    return "f16";
  case EncodingKind::BF16:
    return "bf16";
  case EncodingKind::Fp8:
    return "fp8";
  default:
    break;
  }
  return std::string(integers()->name) + "<" + std::to_string(groupSize) +
         (zeroPoints ? ", zero_points" : "") +
         std::string(scaleSuffix(scales)) + ">";
}

std::optional<PackedEncoding> PackedEncoding::parse(std::string_view text) {
  for (EncodingKind kind : {EncodingKind::F32, EncodingKind::F16,
                            EncodingKind::BF16, EncodingKind::Fp8})
    if (PackedEncoding e{kind, 0, false}; e.str() == text)
      return e;
  for (const IntegerFormat &format : kIntegerFormats)
    for (int32_t group : {32, 64, 128})
      for (ScaleKind scales : {ScaleKind::BF16, ScaleKind::F16, ScaleKind::F32})
        for (bool zp : {false, true}) {
          PackedEncoding e{format.kind, group, zp, scales};
          if ((format.hasZeroPoint || !zp) && e.str() == text)
            return e;
        }
  return std::nullopt;
}

} // namespace retort
