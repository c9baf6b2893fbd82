//===- WeightChoice.cpp - What --weights asks for ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/quantize/WeightChoice.h"

#include <string>

namespace retort {
namespace {

struct NamedWish {
  std::string_view name;
  WeightWish wish;
};

constexpr NamedWish kFloatWishes[] = {
    {"keep", {}},
    {"f32", {EncodingKind::F32}},
    {"f16", {EncodingKind::F16}},
    {"bf16", {EncodingKind::BF16}},
};

constexpr std::string_view kClassNames[kWeightClasses] = {
    "attention", "experts", "dense", "embedding", "head"};

Status unexpected(std::string_view what, const std::string &choices,
                  std::string_view found) {
  return Status::error(Code::InvalidArgument,
                       std::string(what) + ": expected " + choices +
                           ", found '" + std::string(found) + "'");
}

Result<WeightWish> parseWish(std::string_view text) {
  std::string choices;
  auto offer = [&](std::string_view name) {
    choices += (choices.empty() ? "one of " : ", ") + std::string(name);
    return name == text;
  };
  for (const NamedWish &known : kFloatWishes)
    if (offer(known.name))
      return known.wish;
  for (const IntegerFormat &format : kIntegerFormats)
    if (offer(format.name))
      return WeightWish{format.kind};
  return unexpected("encoding of weights", choices, text);
}

Result<size_t> parseClass(std::string_view text) {
  std::string choices;
  for (size_t i = 0; i < kWeightClasses; ++i) {
    if (kClassNames[i] == text)
      return i;
    choices +=
        (choices.empty() ? "one of " : ", ") + std::string(kClassNames[i]);
  }
  return unexpected("class of weights", choices, text);
}

} // namespace

std::string_view weightClassName(WeightClass weightClass) {
  return kClassNames[static_cast<size_t>(weightClass)];
}

WeightWish WeightChoice::wishFor(WeightClass weightClass) const {
  if (const auto &wish = namedFor(weightClass))
    return *wish;
  bool isOuter =
      weightClass == WeightClass::Embedding || weightClass == WeightClass::Head;
  const IntegerFormat *integers =
      base.kind ? integerFormat(*base.kind) : nullptr;
  if (isOuter && integers && integers->bits < 8)
    return {EncodingKind::Int8};
  return base;
}

bool WeightChoice::usesIntegers() const {
  for (size_t i = 0; i < kWeightClasses; ++i) {
    WeightWish wish = wishFor(static_cast<WeightClass>(i));
    if (wish.kind && integerFormat(*wish.kind))
      return true;
  }
  return false;
}

bool WeightChoice::isExact() const {
  for (size_t i = 0; i < kWeightClasses; ++i) {
    WeightWish wish = wishFor(static_cast<WeightClass>(i));
    if (wish.kind && wish.kind != EncodingKind::F32)
      return false;
  }
  return true;
}

Result<WeightChoice> parseWeightChoice(std::string_view text) {
  WeightChoice choice;
  for (size_t number = 0;; ++number) {
    size_t comma = text.find(',');
    std::string_view item = text.substr(0, comma);
    size_t equals = item.find('=');
    if (number == 0) {
      if (equals != std::string_view::npos)
        return unexpected("weights", "an encoding in front of the classes",
                          item);
      RETORT_ASSIGN_OR_RETURN(choice.base, parseWish(item));
    } else if (equals == std::string_view::npos) {
      return unexpected("weights", "CLASS=ENCODING behind the first encoding",
                        item);
    } else {
      RETORT_ASSIGN_OR_RETURN(size_t index, parseClass(item.substr(0, equals)));
      if (choice.named[index])
        return unexpected("weights", "every class once", item);
      RETORT_ASSIGN_OR_RETURN(choice.named[index],
                              parseWish(item.substr(equals + 1)));
    }
    if (comma == std::string_view::npos)
      return choice;
    text.remove_prefix(comma + 1);
  }
}

} // namespace retort
