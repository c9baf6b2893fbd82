//===- PackedEncoding.cpp - How packed weights are laid out -----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/encoding/PackedEncoding.h"

namespace retort {

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
  case EncodingKind::Int8:
    return "int8<" + std::to_string(groupSize) + ">";
  case EncodingKind::Int4:
    return "int4<" + std::to_string(groupSize) +
           (zeroPoints ? ", zero_points>" : ">");
  }
  return "";
}

std::optional<PackedEncoding> PackedEncoding::parse(std::string_view text) {
  auto accept = [&](EncodingKind kind, int32_t group,
                    bool zp) -> std::optional<PackedEncoding> {
    PackedEncoding e{kind, group, zp};
    return e.str() == text ? std::optional(e) : std::nullopt;
  };
  for (EncodingKind kind : {EncodingKind::F32, EncodingKind::F16,
                            EncodingKind::BF16, EncodingKind::Fp8})
    if (auto e = accept(kind, 0, false))
      return e;
  for (int32_t group : {32, 64, 128}) {
    if (auto e = accept(EncodingKind::Int8, group, false))
      return e;
    for (bool zp : {false, true})
      if (auto e = accept(EncodingKind::Int4, group, zp))
        return e;
  }
  return std::nullopt;
}

} // namespace retort
