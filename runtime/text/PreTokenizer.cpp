//===- PreTokenizer.cpp - Text to pieces ----------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/PreTokenizer.h"

#include "runtime/text/Unicode.h"

#include <algorithm>

namespace retort::text {
namespace {

constexpr int kMaxNesting = 16;

/// ByteLevel's own pattern, that of GPT-2.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Result<SplitBehavior> parseBehavior(const FieldReader &fields) {
  RETORT_ASSIGN_OR_RETURN(std::string name, fields.requireString("behavior"));
  constexpr std::pair<std::string_view, SplitBehavior> kNames[] = {
      {"Removed", SplitBehavior::Removed},
      {"Isolated", SplitBehavior::Isolated},
      {"MergedWithPrevious", SplitBehavior::MergedWithPrevious},
      {"MergedWithNext", SplitBehavior::MergedWithNext},
      {"Contiguous", SplitBehavior::Contiguous},
  };
  for (const auto &[known, behavior] : kNames)
    if (name == known)
      return behavior;
  return Status::error(Code::Unsupported, fields.pathOf("behavior") +
                                              ": unsupported behavior '" +
                                              name + "'");
}

void findDigits(std::string_view text, std::vector<Span> &matches) {
  matches.clear();
  for (size_t pos = 0; pos < text.size();) {
    size_t begin = pos;
    if (isNumeric(decodeUtf8(text, pos)))
      matches.push_back({begin, pos});
  }
}

} // namespace

void cut(std::string_view text, const std::vector<Span> &matches,
         SplitBehavior behavior, bool invert,
         std::vector<std::string_view> &pieces) {
  struct Part {
    Span span;
    bool isMatch;
  };
  std::vector<Part> parts;
  parts.reserve(matches.size() * 2 + 1);
  size_t done = 0;
  for (const Span &match : matches) {
    if (done < match.begin)
      parts.push_back({{done, match.begin}, invert});
    parts.push_back({match, !invert});
    done = match.end;
  }
  if (done < text.size())
    parts.push_back({{done, text.size()}, invert});

  auto emit = [&](Span span) {
    if (span.begin < span.end)
      pieces.push_back(text.substr(span.begin, span.end - span.begin));
  };
  switch (behavior) {
  case SplitBehavior::Removed:
    for (const Part &part : parts)
      if (!part.isMatch)
        emit(part.span);
    return;
  case SplitBehavior::Isolated:
    for (const Part &part : parts)
      emit(part.span);
    return;
  case SplitBehavior::Contiguous:
    for (size_t i = 0; i < parts.size();) {
      Span span = parts[i].span;
      size_t j = i + 1;
      for (; j < parts.size() && parts[j].isMatch == parts[i].isMatch; ++j)
        span.end = parts[j].span.end;
      emit(span);
      i = j;
    }
    return;
  case SplitBehavior::MergedWithPrevious:
    for (size_t i = 0; i < parts.size();) {
      Span span = parts[i].span;
      size_t j = i + 1;
      if (!parts[i].isMatch && j < parts.size() && parts[j].isMatch)
        span.end = parts[j++].span.end;
      emit(span);
      i = j;
    }
    return;
  case SplitBehavior::MergedWithNext:
    for (size_t i = 0; i < parts.size();) {
      Span span = parts[i].span;
      size_t j = i + 1;
      if (parts[i].isMatch && j < parts.size() && !parts[j].isMatch)
        span.end = parts[j++].span.end;
      emit(span);
      i = j;
    }
    return;
  }
}

Result<PreTokenizer> PreTokenizer::create(const Json &json, std::string where) {
  PreTokenizer result;
  RETORT_RETURN_IF_ERROR(result.addSteps(json, where, 0));
  for (size_t i = 0; i < result.steps.size(); ++i) {
    bool last = i + 1 == result.steps.size();
    if (last != (result.steps[i].kind == Step::ByteLevel))
      return Status::error(Code::Unsupported,
                           where + ": expected ByteLevel as the last step and "
                                   "nowhere else");
  }
  if (result.steps.empty())
    return Status::error(Code::Unsupported,
                         where + ": expected a ByteLevel step, found none");
  return result;
}

Status PreTokenizer::addSteps(const Json &json, const std::string &where,
                              int depth) {
  if (depth > kMaxNesting)
    return Status::error(Code::Unsupported,
                         where + ": sequences nested too deeply");
  if (json.is_null())
    return Status::ok();
  RETORT_ASSIGN_OR_RETURN(FieldReader fields, FieldReader::create(json, where));
  RETORT_ASSIGN_OR_RETURN(std::string type, fields.requireString("type"));
  if (type == "Sequence") {
    RETORT_ASSIGN_OR_RETURN(const Json *list,
                            fields.requireArray("pretokenizers"));
    for (size_t i = 0; i < list->size(); ++i)
      RETORT_RETURN_IF_ERROR(addSteps((*list)[i],
                                      fields.pathOf("pretokenizers") + '[' +
                                          std::to_string(i) + ']',
                                      depth + 1));
    return Status::ok();
  }
  if (type == "Split")
    return addSplit(fields);
  if (type == "Digits") {
    Step step;
    step.kind = Step::Digits;
    RETORT_ASSIGN_OR_RETURN(bool individual,
                            fields.boolean("individual_digits", false));
    step.behavior =
        individual ? SplitBehavior::Isolated : SplitBehavior::Contiguous;
    steps.push_back(std::move(step));
    return Status::ok();
  }
  if (type == "ByteLevel") {
    Step step;
    step.kind = Step::ByteLevel;
    RETORT_ASSIGN_OR_RETURN(step.addPrefixSpace,
                            fields.boolean("add_prefix_space", true));
    RETORT_ASSIGN_OR_RETURN(bool useRegex, fields.boolean("use_regex", true));
    if (useRegex) {
      RETORT_ASSIGN_OR_RETURN(step.regex, Regex::compile(kByteLevelPattern));
    }
    steps.push_back(std::move(step));
    return Status::ok();
  }
  return fields.error(Code::Unsupported,
                      "unsupported pre-tokenizer '" + type + "'");
}

Status PreTokenizer::addSplit(const FieldReader &fields) {
  const Json *pattern = fields.find("pattern");
  if (!pattern || !pattern->is_object() || pattern->size() != 1)
    return fields.expected("pattern", "an object with Regex or String");
  std::string where = fields.pathOf("pattern");
  std::string key = pattern->begin().key();
  const Json &value = *pattern->begin();
  if (key != "Regex" && key != "String")
    return Status::error(Code::Unsupported,
                         where + ": unsupported pattern '" + key + "'");
  if (!value.is_string())
    return Status::error(Code::InvalidData, where + '.' + key +
                                                ": expected a string, found " +
                                                describeKind(value));
  const std::string &source = value.get_ref<const std::string &>();
  auto regex = key == "Regex" ? Regex::compile(source) : Regex::literal(source);
  if (!regex)
    return regex.takeStatus().withContext(where);
  Step step;
  step.regex = std::move(*regex);
  RETORT_ASSIGN_OR_RETURN(step.behavior, parseBehavior(fields));
  RETORT_ASSIGN_OR_RETURN(step.invert, fields.boolean("invert", false));
  steps.push_back(std::move(step));
  return Status::ok();
}

Status PreTokenizer::apply(const Step &step, std::string_view text,
                           Pieces &pieces) {
  if (step.kind == Step::ByteLevel && step.addPrefixSpace &&
      !text.starts_with(' '))
    text = pieces.storage.emplace_back(" ").append(text);
  if (step.kind == Step::Digits) {
    findDigits(text, pieces.matches);
  } else if (step.regex) {
    RETORT_RETURN_IF_ERROR(step.regex->findAll(text, pieces.matches));
  } else {
    pieces.scratch.push_back(text);
    return Status::ok();
  }
  cut(text, pieces.matches, step.behavior, step.invert, pieces.scratch);
  return Status::ok();
}

Status PreTokenizer::split(std::string_view text, Pieces &pieces) const {
  pieces.views.clear();
  pieces.storage.clear();
  if (!text.empty())
    pieces.views.push_back(text);
  for (const Step &step : steps) {
    pieces.scratch.clear();
    for (std::string_view view : pieces.views)
      RETORT_RETURN_IF_ERROR(apply(step, view, pieces));
    pieces.views.swap(pieces.scratch);
  }
  return Status::ok();
}

} // namespace retort::text
