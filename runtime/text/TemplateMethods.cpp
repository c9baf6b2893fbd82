//===- TemplateMethods.cpp - Methods of template values -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateRuntime.h"
#include "runtime/text/Unicode.h"

#include <algorithm>

namespace retort::text::jinja {
namespace {

constexpr std::string_view kStringMethods[] = {
    "strip",      "lstrip",     "rstrip",    "split",        "rsplit",
    "splitlines", "startswith", "endswith",  "upper",        "lower",
    "title",      "capitalize", "replace",   "find",         "rfind",
    "index",      "count",      "join",      "removeprefix", "removesuffix",
    "isdigit",    "isalpha",    "isspace",   "isupper",      "islower",
    "isalnum",    "zfill",      "partition", "rpartition",   "swapcase"};
constexpr std::string_view kListMethods[] = {"index", "count"};
constexpr std::string_view kDictMethods[] = {"items", "keys", "values", "get",
                                             "copy"};
/// Methods that change their object; the sandbox has them, to refuse them.
constexpr std::string_view kForbidden[] = {
    "append", "extend", "insert",     "pop",     "remove", "sort",
    "clear",  "update", "setdefault", "popitem", "reverse"};

template <typename Names> bool isIn(const Names &names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

size_t characterOffset(std::string_view text, size_t bytes) {
  return countCharacters(text.substr(0, bytes));
}

/// The string argument at `index`: nullptr if it is absent or none.
Result<const std::string *> optionalString(const Arguments &args, size_t index,
                                           std::string_view name) {
  const Value *v = args.find(index, name);
  if (!v || v->isNone())
    return nullptr;
  if (!v->isString())
    return typeError("argument '" + std::string(name) +
                     "': expected a string, found '" + v->typeName() + "'");
  return &v->asString();
}

Result<const std::string *> requireString(const Arguments &args, size_t index,
                                          std::string_view name) {
  RETORT_ASSIGN_OR_RETURN(const std::string *text,
                          optionalString(args, index, name));
  if (!text)
    return typeError("argument '" + std::string(name) + "': expected a string");
  return text;
}

Result<int64_t> optionalInt(const Arguments &args, size_t index,
                            std::string_view name, int64_t fallback) {
  const Value *v = args.find(index, name);
  if (!v)
    return fallback;
  if (!v->isIntegral())
    return typeError("argument '" + std::string(name) +
                     "': expected an integer, found '" + v->typeName() + "'");
  return v->asInt();
}

ValueResult stringList(const std::vector<std::string> &parts,
                       bool isTuple = false) {
  std::vector<Value> items;
  for (const std::string &part : parts)
    items.push_back(Value(part));
  return Value::list(std::move(items), isTuple);
}

Result<bool> startsOrEndsWith(const std::string &text, const Value *affix,
                              bool ends) {
  auto matches = [&](const Value &v) {
    return v.isString() && (ends ? text.ends_with(v.asString())
                                 : text.starts_with(v.asString()));
  };
  if (affix && affix->isString())
    return matches(*affix);
  if (affix && affix->isList() && affix->asList().isTuple)
    return std::any_of(affix->asList().items.begin(),
                       affix->asList().items.end(), matches);
  return typeError(std::string(ends ? "endswith" : "startswith") +
                   ": expected a string or a tuple of strings");
}

template <typename Accepts>
bool allCharacters(const std::string &text, Accepts accepts) {
  for (size_t pos = 0; pos < text.size();)
    if (!accepts(decodeUtf8(text, pos)))
      return false;
  return !text.empty();
}

std::vector<std::string> splitLines(const std::string &text) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    size_t end = pos;
    char32_t c = decodeUtf8(text, pos);
    bool isBreak = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) ||
                   c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!isBreak)
      continue;
    if (c == '\r' && pos < text.size() && text[pos] == '\n')
      ++pos;
    lines.push_back(text.substr(begin, end - begin));
    begin = pos;
  }
  if (begin < text.size())
    lines.push_back(text.substr(begin));
  return lines;
}

/// Splits from the right: `rsplit` with a separator.
std::vector<std::string>
splitRight(std::string_view text, const std::string &separator, int64_t limit) {
  std::vector<std::string> parts;
  for (; limit != 0; --limit) {
    size_t at = text.rfind(separator);
    if (at == std::string_view::npos)
      break;
    parts.emplace_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts.emplace_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

/// `rsplit` at white space.
std::vector<std::string> splitRightSpace(std::string_view text, int64_t limit) {
  std::vector<std::string> parts;
  text = stripString(text, nullptr, false, true);
  while (!text.empty() && limit != 0) {
    size_t begin = text.size();
    for (size_t pos = begin; pos > 0; begin = pos)
      if (isWhitespace(decodeUtf8Backwards(text, pos)))
        break;
    parts.emplace_back(text.substr(begin));
    text = stripString(text.substr(0, begin), nullptr, false, true);
    --limit;
  }
  text = stripString(text, nullptr, true, true);
  if (!text.empty())
    parts.emplace_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

ValueResult joinStrings(Budget &budget, const std::string &separator,
                        const Value *list) {
  if (!list)
    return typeError("join: expected a list");
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, *list));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].isString())
      return typeError(std::string("join: expected strings, found '") +
                       items[i].typeName() + "'");
    RETORT_RETURN_IF_ERROR(budget.takeString(
        out.size() / 1024 + separator.size() + items[i].asString().size()));
    if (i)
      out += separator;
    out += items[i].asString();
    if (out.size() > budget.maxBytes())
      return budget.takeString(out.size());
  }
  return Value(std::move(out));
}

ValueResult splitMethod(const std::string &text, const std::string &name,
                        const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(const std::string *separator,
                          optionalString(args, 0, "sep"));
  RETORT_ASSIGN_OR_RETURN(int64_t limit, optionalInt(args, 1, "maxsplit", -1));
  if (separator && separator->empty())
    return typeError("the separator is empty");
  if (name == "split")
    return stringList(splitString(text, separator, limit));
  return stringList(separator ? splitRight(text, *separator, limit)
                              : splitRightSpace(text, limit));
}

ValueResult partition(const std::string &text, const std::string &name,
                      const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(const std::string *separator,
                          requireString(args, 0, "sep"));
  if (separator->empty())
    return typeError("the separator is empty");
  bool right = name == "rpartition";
  size_t at = right ? text.rfind(*separator) : text.find(*separator);
  if (at == std::string::npos)
    return right ? stringList({"", "", text}, true)
                 : stringList({text, "", ""}, true);
  return stringList(
      {text.substr(0, at), *separator, text.substr(at + separator->size())},
      true);
}

ValueResult findMethod(const std::string &text, const std::string &name,
                       const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(const std::string *part,
                          requireString(args, 0, "sub"));
  if (args.count() > 1)
    return typeError(name + ": bounds are not supported");
  size_t at = name == "rfind" ? text.rfind(*part) : text.find(*part);
  if (at == std::string::npos) {
    if (name == "index")
      return typeError("index: the substring is not found");
    return Value(int64_t(-1));
  }
  return Value(static_cast<int64_t>(characterOffset(text, at)));
}

int64_t countOccurrences(const std::string &text, const std::string &part) {
  if (part.empty())
    return static_cast<int64_t>(countCharacters(text)) + 1;
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + part.size()))
    ++count;
  return count;
}

std::string swapCase(const std::string &text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    size_t begin = pos;
    decodeUtf8(text, pos);
    std::string c = text.substr(begin, pos - begin);
    std::string upper = toUpper(c);
    out += upper != c ? upper : toLower(c);
  }
  return out;
}

std::string zeroFill(const std::string &text, int64_t width) {
  int64_t missing = width - static_cast<int64_t>(countCharacters(text));
  if (missing <= 0)
    return text;
  size_t sign = text.starts_with('-') || text.starts_with('+');
  return text.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') +
         text.substr(sign);
}

ValueResult stringMethod(Budget &budget, const std::string &text,
                         const std::string &name, const Arguments &args) {
  RETORT_RETURN_IF_ERROR(budget.take(text.size() / 4 + 1));
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    RETORT_ASSIGN_OR_RETURN(const std::string *set,
                            optionalString(args, 0, "chars"));
    return Value(std::string(
        stripString(text, set, name != "rstrip", name != "lstrip")));
  }
  if (name == "split" || name == "rsplit")
    return splitMethod(text, name, args);
  if (name == "splitlines")
    return stringList(splitLines(text));
  if (name == "startswith" || name == "endswith") {
    RETORT_ASSIGN_OR_RETURN(
        bool found,
        startsOrEndsWith(text, args.find(0, "prefix"), name == "endswith"));
    return Value(found);
  }
  if (name == "upper")
    return Value(toUpper(text));
  if (name == "lower")
    return Value(toLower(text));
  if (name == "title")
    return Value(toTitle(text));
  if (name == "capitalize")
    return Value(capitalize(text));
  if (name == "swapcase")
    return Value(swapCase(text));
  if (name == "replace") {
    RETORT_ASSIGN_OR_RETURN(const std::string *from,
                            requireString(args, 0, "old"));
    RETORT_ASSIGN_OR_RETURN(const std::string *to,
                            requireString(args, 1, "new"));
    RETORT_ASSIGN_OR_RETURN(int64_t limit, optionalInt(args, 2, "count", -1));
    RETORT_ASSIGN_OR_RETURN(std::string out,
                            replaceAll(budget, text, *from, *to, limit));
    return Value(std::move(out));
  }
  if (name == "find" || name == "rfind" || name == "index")
    return findMethod(text, name, args);
  if (name == "count") {
    RETORT_ASSIGN_OR_RETURN(const std::string *part,
                            requireString(args, 0, "sub"));
    return Value(countOccurrences(text, *part));
  }
  if (name == "join")
    return joinStrings(budget, text, args.find(0, "iterable"));
  if (name == "removeprefix" || name == "removesuffix") {
    RETORT_ASSIGN_OR_RETURN(const std::string *part,
                            requireString(args, 0, "affix"));
    if (name == "removeprefix" && text.starts_with(*part))
      return Value(text.substr(part->size()));
    if (name == "removesuffix" && text.ends_with(*part))
      return Value(text.substr(0, text.size() - part->size()));
    return Value(text);
  }
  if (name == "isdigit")
    return Value(allCharacters(text, isNumeric));
  if (name == "isalpha")
    return Value(allCharacters(text, isLetter));
  if (name == "isalnum")
    return Value(allCharacters(
        text, [](char32_t c) { return isLetter(c) || isNumeric(c); }));
  if (name == "isspace")
    return Value(allCharacters(text, isWhitespace));
  if (name == "isupper")
    return Value(toUpper(text) == text && toLower(text) != text);
  if (name == "islower")
    return Value(toLower(text) == text && toUpper(text) != text);
  if (name == "zfill") {
    RETORT_ASSIGN_OR_RETURN(int64_t width, optionalInt(args, 0, "width", 0));
    RETORT_RETURN_IF_ERROR(
        budget.takeString(static_cast<size_t>(std::max<int64_t>(width, 0))));
    return Value(zeroFill(text, width));
  }
  return partition(text, name, args);
}

ValueResult listMethod(Budget &budget, const List &list,
                       const std::string &name, const Arguments &args) {
  const Value *wanted = args.find(0, "value");
  if (!wanted)
    return typeError(name + ": expected a value");
  int64_t count = 0;
  for (size_t i = 0; i < list.items.size(); ++i) {
    RETORT_RETURN_IF_ERROR(
        budget.take(std::min(wanted->weight(), list.items[i].weight())));
    if (!equal(list.items[i], *wanted))
      continue;
    if (name == "index")
      return Value(static_cast<int64_t>(i));
    ++count;
  }
  if (name == "index")
    return typeError("index: the value is not in the list");
  return Value(count);
}

ValueResult dictMethod(Budget &budget, const Value &object,
                       const std::string &name, const Arguments &args) {
  const Dict &dict = object.asDict();
  RETORT_RETURN_IF_ERROR(budget.take(dict.items.size() + 1));
  if (name == "copy")
    return object;
  if (name == "get") {
    const Value *key = args.find(0, "key");
    if (!key)
      return typeError("get: expected a key");
    if (const Value *found = dict.find(*key))
      return *found;
    const Value *fallback = args.find(1, "default");
    return fallback ? *fallback : Value(nullptr);
  }
  std::vector<Value> items;
  for (const auto &[key, value] : dict.items) {
    if (name == "items")
      items.push_back(Value::list({key, value}, true));
    else
      items.push_back(name == "keys" ? key : value);
  }
  return makeList(std::move(items));
}

} // namespace

std::vector<std::string> splitString(std::string_view text,
                                     const std::string *separator,
                                     int64_t limit) {
  std::vector<std::string> parts;
  if (separator) {
    for (; limit != 0; --limit) {
      size_t at = text.find(*separator);
      if (at == std::string_view::npos)
        break;
      parts.emplace_back(text.substr(0, at));
      text.remove_prefix(at + separator->size());
    }
    parts.emplace_back(text);
    return parts;
  }
  text = stripString(text, nullptr, true, false);
  while (!text.empty() && limit != 0) {
    size_t end = 0;
    for (size_t pos = 0; pos < text.size(); end = pos)
      if (isWhitespace(decodeUtf8(text, pos)))
        break;
    parts.emplace_back(text.substr(0, end));
    text = stripString(text.substr(end), nullptr, true, false);
    --limit;
  }
  if (!text.empty())
    parts.emplace_back(text);
  return parts;
}

std::string_view stripString(std::string_view text, const std::string *set,
                             bool left, bool right) {
  auto strips = [&](std::string_view bytes, char32_t c) {
    // Python's strip takes the separators U+001C to U+001F as well.
    return set ? set->find(bytes) != std::string::npos
               : isWhitespace(c) || (c >= 0x1C && c <= 0x1F);
  };
  while (left && !text.empty()) {
    size_t pos = 0;
    char32_t c = decodeUtf8(text, pos);
    if (!strips(text.substr(0, pos), c))
      break;
    text.remove_prefix(pos);
  }
  while (right && !text.empty()) {
    size_t pos = text.size();
    char32_t c = decodeUtf8Backwards(text, pos);
    if (!strips(text.substr(pos), c))
      break;
    text = text.substr(0, pos);
  }
  return text;
}

Result<std::string> replaceAll(Budget &budget, const std::string &text,
                               const std::string &from, const std::string &to,
                               int64_t limit) {
  std::string out;
  size_t pos = 0;
  auto fits = [&] { return out.size() <= budget.maxBytes(); };
  if (from.empty()) {
    // Python puts the replacement before every character and at the end.
    for (; limit != 0 && fits(); --limit) {
      out += to;
      if (pos == text.size())
        break;
      size_t begin = pos;
      decodeUtf8(text, pos);
      out.append(text, begin, pos - begin);
    }
  } else {
    for (; limit != 0 && fits(); --limit) {
      size_t at = text.find(from, pos);
      if (at == std::string::npos)
        break;
      out.append(text, pos, at - pos).append(to);
      pos = at + from.size();
    }
  }
  out.append(text, pos);
  RETORT_RETURN_IF_ERROR(budget.takeString(out.size()));
  return out;
}

std::string capitalize(std::string_view text) {
  if (text.empty())
    return {};
  size_t pos = 0;
  decodeUtf8(text, pos);
  return toUpper(text.substr(0, pos)) + toLower(text.substr(pos));
}

bool hasMethod(const Value &object, std::string_view name) {
  if (object.isString())
    return isIn(kStringMethods, name);
  if (object.isList())
    return isIn(kListMethods, name) ||
           (!object.asList().isTuple && isIn(kForbidden, name));
  if (object.isDict())
    return isIn(kDictMethods, name) ||
           (isIn(kForbidden, name) && name != "append" && name != "extend" &&
            name != "insert" && name != "remove" && name != "sort" &&
            name != "reverse");
  return false;
}

ValueResult callMethod(Budget &budget, const Value &object,
                       const std::string &name, const Arguments &args) {
  if (!object.isString() && isIn(kForbidden, name))
    return typeError("access to attribute '" + name + "' of '" +
                     object.typeName() + "' object is unsafe");
  if (object.isString())
    return stringMethod(budget, object.asString(), name, args);
  if (object.isList())
    return listMethod(budget, object.asList(), name, args);
  return dictMethod(budget, object, name, args);
}

} // namespace retort::text::jinja
