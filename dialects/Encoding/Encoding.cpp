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
  bool zeroPoints = false;
  if (parser.parseLess() || parser.parseKeyword(&kind))
    return {};
  if (succeeded(parser.parseOptionalComma())) {
    if (parser.parseInteger(group))
      return {};
    if (succeeded(parser.parseOptionalComma())) {
      if (parser.parseKeyword("zero_points"))
        return {};
      zeroPoints = true;
    }
  }
  if (parser.parseGreater())
    return {};
  std::string text = kind.str();
  if (group || zeroPoints)
    text += "<" + std::to_string(group) + (zeroPoints ? ", zero_points>" : ">");
  auto encoding = PackedEncoding::parse(text);
  if (!encoding) {
    parser.emitError(loc,
                     "expected f32, f16, bf16, fp8, int8 or int4 with a group "
                     "size of 32, 64 or 128 for integers and zero points "
                     "for int4 alone, found ")
        << text;
    return {};
  }
  return PackedAttr::get(parser.getContext(), *encoding);
}

void PackedAttr::print(AsmPrinter &printer) const {
  std::string text = getEncoding().str();
  StringRef kind = StringRef(text).split('<').first;
  printer << '<' << kind;
  if (getEncoding().isInteger())
    printer << ", " << getEncoding().groupSize;
  if (getEncoding().zeroPoints)
    printer << ", zero_points";
  printer << '>';
}

std::optional<PackedEncoding> getPackedEncoding(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return std::nullopt;
  if (auto packed = dyn_cast_or_null<PackedAttr>(tensor.getEncoding()))
    return packed.getEncoding();
  return std::nullopt;
}

} // namespace retort::encoding
