//===- Encoding.cpp - The encoding dialect ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "dialects/Encoding/Encoding.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

#include "dialects/Encoding/EncodingDialect.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Encoding/EncodingAttrs.cpp.inc"

namespace retort::encoding {

void EncodingDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Encoding/EncodingAttrs.cpp.inc"
      >();
}

Attribute PackedAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef kind;
  int32_t group = 0;
  if (parser.parseLess() || parser.parseKeyword(&kind))
    return {};
  std::string text = kind.str();
  if (succeeded(parser.parseOptionalComma())) {
    if (parser.parseInteger(group))
      return {};
    text += "<" + std::to_string(group);
    while (succeeded(parser.parseOptionalComma())) {
      StringRef word;
      if (parser.parseKeyword(&word))
        return {};
      text += ", " + word.str();
    }
    text += ">";
  }
  if (parser.parseGreater())
    return {};
  auto encoding = PackedEncoding::parse(text);
  if (!encoding) {
    parser.emitError(loc,
                     "expected f32, f16, bf16, fp8, or int2, int3, int4, int5, "
                     "int6, int8 or nf4 with a group size of 32, 64 or 128, "
                     "and zero points for int2 to int6 alone, found ")
        << text;
    return {};
  }
  return PackedAttr::get(parser.getContext(), *encoding);
}

void PackedAttr::print(AsmPrinter &printer) const {
  // "int4<32, zero_points>" becomes "<int4, 32, zero_points>".
  std::string text = getEncoding().str();
  auto [kind, rest] = StringRef(text).split('<');
  printer << '<' << kind;
  if (!rest.empty())
    printer << ", " << rest.drop_back();
  printer << '>';
}

Attribute ActivationAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef kind;
  int64_t group = 0;
  if (parser.parseLess() || parser.parseKeyword(&kind) || parser.parseComma() ||
      parser.parseInteger(group) || parser.parseGreater())
    return {};
  if ((kind != "int8" && kind != "int16") || group != kActivationGroup) {
    parser.emitError(loc, "expected int8 or int16 in groups of ")
        << kActivationGroup << ", found " << kind << " in groups of " << group;
    return {};
  }
  return ActivationAttr::get(parser.getContext(),
                             ActivationEncoding{kind == "int8"
                                                    ? ActivationKind::Int8
                                                    : ActivationKind::Int16});
}

void ActivationAttr::print(AsmPrinter &printer) const {
  printer << '<'
          << (getEncoding().kind == ActivationKind::Int8 ? "int8" : "int16")
          << ", " << kActivationGroup << '>';
}

std::optional<PackedEncoding> getPackedEncoding(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return std::nullopt;
  if (auto packed = dyn_cast_or_null<PackedAttr>(tensor.getEncoding()))
    return packed.getEncoding();
  return std::nullopt;
}

std::optional<ActivationEncoding> getActivationEncoding(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return std::nullopt;
  if (auto rows = dyn_cast_or_null<ActivationAttr>(tensor.getEncoding()))
    return rows.getEncoding();
  return std::nullopt;
}

} // namespace retort::encoding
