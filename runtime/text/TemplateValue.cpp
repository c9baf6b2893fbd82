//===- TemplateValue.cpp - Values of the template language ----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateRuntime.h"
#include "runtime/text/Unicode.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <list>

namespace retort::text::jinja {
namespace {

constexpr const char *kHexDigits = "0123456789abcdef";

void appendHex(std::string &out, const char *prefix, char32_t c, int digits) {
  out += prefix;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
    out += kHexDigits[c >> shift & 15];
}

void appendStringRepr(std::string &out, const std::string &text) {
  bool single = text.find('\'') == std::string::npos ||
                text.find('"') != std::string::npos;
  char quote = single ? '\'' : '"';
  out += quote;
  for (size_t pos = 0; pos < text.size();) {
    char32_t c = decodeUtf8(text, pos);
    if (c == static_cast<char32_t>(quote) || c == '\\')
      (out += '\\') += static_cast<char>(c);
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (isPrintable(c))
      appendUtf8(out, c);
    else if (c < 0x100)
      appendHex(out, "\\x", c, 2);
    else if (c < 0x10000)
      appendHex(out, "\\u", c, 4);
    else
      appendHex(out, "\\U", c, 8);
  }
  out += quote;
}

void appendJsonString(std::string &out, const std::string &text, bool ascii) {
  out += '"';
  for (size_t pos = 0; pos < text.size();) {
    char32_t c = decodeUtf8(text, pos);
    switch (c) {
    case '"':
      out += "\\\"";
      continue;
    case '\\':
      out += "\\\\";
      continue;
    case '\n':
      out += "\\n";
      continue;
    case '\r':
      out += "\\r";
      continue;
    case '\t':
      out += "\\t";
      continue;
    case '\f':
      out += "\\f";
      continue;
    case '\b':
      out += "\\b";
      continue;
    default:
      break;
    }
    if (c < 0x20 || (ascii && c > 0x7E && c < 0x10000)) {
      appendHex(out, "\\u", c, 4);
    } else if (ascii && c >= 0x10000) {
      appendHex(out, "\\u", 0xD800 + ((c - 0x10000) >> 10), 4);
      appendHex(out, "\\u", 0xDC00 + ((c - 0x10000) & 0x3FF), 4);
    } else {
      appendUtf8(out, c);
    }
  }
  out += '"';
}

std::string jsonFloat(double value) {
  if (std::isnan(value))
    return "NaN";
  if (std::isinf(value))
    return value < 0 ? "-Infinity" : "Infinity";
  return floatRepr(value);
}

int compareNumbers(const Value &a, const Value &b) {
  if (a.isIntegral() && b.isIntegral())
    return a.asInt() < b.asInt() ? -1 : a.asInt() > b.asInt();
  double x = a.asDouble(), y = b.asDouble();
  return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

int nesting(const std::vector<Value> &items) {
  int depth = 0;
  for (const Value &item : items)
    depth = std::max(depth, item.depth());
  return depth + 1;
}

uint64_t addWeights(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

} // namespace

const Value *Dict::find(const Value &key) const {
  for (const auto &[k, v] : items)
    if (equal(k, key))
      return &v;
  return nullptr;
}

const Value *Dict::find(std::string_view key) const {
  for (const auto &[k, v] : items)
    if (k.isString() && k.asString() == key)
      return &v;
  return nullptr;
}

void Dict::set(Value key, Value value) {
  depth = std::max(depth, value.depth() + 1);
  weight = addWeights(weight, addWeights(key.weight(), value.weight()));
  for (auto &[k, v] : items)
    if (equal(k, key)) {
      v = std::move(value);
      return;
    }
  items.emplace_back(std::move(key), std::move(value));
}

Value Value::undefined(std::string hint) {
  Value v;
  v.storage = std::make_shared<const Undefined>(Undefined{std::move(hint)});
  return v;
}

Value Value::list(std::vector<Value> items, bool isTuple) {
  auto list = std::make_shared<List>();
  list->depth = nesting(items);
  for (const Value &item : items)
    list->weight = addWeights(list->weight, item.weight());
  list->items = std::move(items);
  list->isTuple = isTuple;
  return Value(ListPtr(std::move(list)));
}

Value Value::dict(Dict items) {
  return Value(DictPtr(std::make_shared<const Dict>(std::move(items))));
}

std::string Value::undefinedMessage() const {
  const auto &p = std::get<std::shared_ptr<const Undefined>>(storage);
  return p && !p->hint.empty() ? p->hint : "a value is undefined";
}

bool Value::truth() const {
  switch (storage.index()) {
  case 0:
  case 1:
    return false;
  case 2:
    return asBool();
  case 3:
    return asInt() != 0;
  case 4:
    return asDouble() != 0;
  case 5:
    return !asString().empty();
  case 6:
    return !asList().items.empty();
  case 7:
    return !asDict().items.empty();
  default:
    return true;
  }
}

const char *Value::typeName() const {
  constexpr const char *kNames[] = {"Undefined", "NoneType", "bool", "int",
                                    "float",     "str",      "list", "dict",
                                    "Namespace", "function"};
  if (isList() && asList().isTuple)
    return "tuple";
  return kNames[storage.index()];
}

int Value::depth() const {
  if (isList())
    return asList().depth;
  if (isCallable())
    return asCallable().self.depth() + 1;
  return isDict() ? asDict().depth : 0;
}

uint64_t Value::weight() const {
  if (isString())
    return asString().size() / 64 + 1;
  if (isList())
    return asList().weight;
  return isDict() ? asDict().weight : 1;
}

bool Value::isSameObject(const Value &other) const {
  if (storage.index() != other.storage.index())
    return false;
  if (isUndefined() || isFloat())
    return false;
  return storage == other.storage;
}

bool equal(const Value &a, const Value &b) {
  if (a.isNumber() && b.isNumber())
    return compareNumbers(a, b) == 0;
  if (a.storage.index() != b.storage.index())
    return false;
  if (a.isUndefined() || a.isNone())
    return true;
  if (a.isString())
    return a.asString() == b.asString();
  if (a.isList()) {
    const List &x = a.asList(), &y = b.asList();
    return x.isTuple == y.isTuple &&
           std::equal(x.items.begin(), x.items.end(), y.items.begin(),
                      y.items.end(), equal);
  }
  if (a.isDict()) {
    const Dict &x = a.asDict(), &y = b.asDict();
    if (x.items.size() != y.items.size())
      return false;
    for (const auto &[key, value] : x.items) {
      const Value *other = y.find(key);
      if (!other || !equal(value, *other))
        return false;
    }
    return true;
  }
  return a.storage == b.storage;
}

std::optional<bool> lessThan(const Value &a, const Value &b) {
  if (a.isNumber() && b.isNumber())
    return compareNumbers(a, b) == -1;
  // UTF-8 sorts by code point, as Python does.
  if (a.isString() && b.isString())
    return a.asString() < b.asString();
  if (!a.isList() || !b.isList() || a.asList().isTuple != b.asList().isTuple)
    return std::nullopt;
  const auto &x = a.asList().items, &y = b.asList().items;
  for (size_t i = 0; i < x.size() && i < y.size(); ++i)
    if (!equal(x[i], y[i]))
      return lessThan(x[i], y[i]);
  return x.size() < y.size();
}

std::string floatRepr(double value) {
  if (std::isnan(value))
    return "nan";
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  char buffer[64];
  auto end = std::to_chars(buffer, buffer + sizeof(buffer), value,
                           std::chars_format::scientific)
                 .ptr;
  // The shortest digits that read back, laid out by Python's rule: without an
  // exponent from 1e-4 up to 1e16.
  std::string text(buffer, end);
  size_t e = text.find('e');
  int exponent = std::atoi(text.c_str() + e + 1);
  if (exponent >= -4 && exponent < 16) {
    end = std::to_chars(buffer, buffer + sizeof(buffer), value,
                        std::chars_format::fixed)
              .ptr;
    text.assign(buffer, end);
    if (text.find('.') == std::string::npos)
      text += ".0";
  }
  return text;
}

bool appendStr(std::string &out, const Value &value, size_t limit) {
  if (value.isString()) {
    if (out.size() + value.asString().size() > limit)
      return false;
    out += value.asString();
    return true;
  }
  if (value.isUndefined())
    return true;
  return appendRepr(out, value, limit);
}

bool appendRepr(std::string &out, const Value &value, size_t limit, int depth) {
  if (depth > kMaxValueDepth || out.size() > limit)
    return false;
  auto appendDict = [&](const Dict &dict) {
    out += '{';
    for (size_t i = 0; i < dict.items.size(); ++i) {
      out += i ? ", " : "";
      if (!appendRepr(out, dict.items[i].first, limit, depth + 1))
        return false;
      out += ": ";
      if (!appendRepr(out, dict.items[i].second, limit, depth + 1))
        return false;
    }
    out += '}';
    return true;
  };
  if (value.isUndefined()) {
    out += "Undefined";
  } else if (value.isNone()) {
    out += "None";
  } else if (value.isBool()) {
    out += value.asBool() ? "True" : "False";
  } else if (value.isInt()) {
    out += std::to_string(value.asInt());
  } else if (value.isFloat()) {
    out += floatRepr(value.asDouble());
  } else if (value.isString()) {
    appendStringRepr(out, value.asString());
  } else if (value.isList()) {
    const List &list = value.asList();
    out += list.isTuple ? '(' : '[';
    for (size_t i = 0; i < list.items.size(); ++i) {
      out += i ? ", " : "";
      if (!appendRepr(out, list.items[i], limit, depth + 1))
        return false;
    }
    if (list.isTuple && list.items.size() == 1)
      out += ',';
    out += list.isTuple ? ')' : ']';
  } else if (value.isDict()) {
    return appendDict(value.asDict());
  } else if (value.isNamespace()) {
    out += "<Namespace ";
    if (!appendDict(value.asNamespace()->attributes))
      return false;
    out += '>';
  } else {
    out += "<function>";
  }
  return out.size() <= limit;
}

Status appendJson(std::string &out, const Value &value, const JsonStyle &style,
                  size_t limit, int level) {
  if (level > kMaxValueDepth || out.size() > limit)
    return Status::error(Code::InvalidArgument,
                         "tojson: the value is too large");
  auto newLine = [&](int depth) {
    if (style.indent < 0)
      return;
    out += '\n';
    for (int i = 0; i < depth && out.size() <= limit; ++i)
      out += style.indentText;
  };
  if (value.isNone()) {
    out += "null";
  } else if (value.isBool()) {
    out += value.asBool() ? "true" : "false";
  } else if (value.isInt()) {
    out += std::to_string(value.asInt());
  } else if (value.isFloat()) {
    out += jsonFloat(value.asDouble());
  } else if (value.isString()) {
    appendJsonString(out, value.asString(), style.ensureAscii);
  } else if (value.isList()) {
    const auto &items = value.asList().items;
    out += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      out += i ? style.itemSeparator : "";
      newLine(level + 1);
      RETORT_RETURN_IF_ERROR(
          appendJson(out, items[i], style, limit, level + 1));
    }
    if (!items.empty())
      newLine(level);
    out += ']';
  } else if (value.isDict()) {
    auto items = value.asDict().items;
    if (style.sortKeys) {
      std::list<std::pair<Value, Value>> sorted(items.begin(), items.end());
      sorted.sort([](const auto &a, const auto &b) {
        return lessThan(a.first, b.first).value_or(false);
      });
      items.assign(sorted.begin(), sorted.end());
    }
    out += '{';
    for (size_t i = 0; i < items.size(); ++i) {
      out += i ? style.itemSeparator : "";
      newLine(level + 1);
      const Value &key = items[i].first;
      std::string text;
      if (key.isString())
        text = key.asString();
      else
        RETORT_RETURN_IF_ERROR(appendJson(text, key, style, limit, level + 1));
      appendJsonString(out, text, style.ensureAscii);
      out += style.keySeparator;
      RETORT_RETURN_IF_ERROR(
          appendJson(out, items[i].second, style, limit, level + 1));
    }
    if (!items.empty())
      newLine(level);
    out += '}';
  } else {
    return Status::error(Code::InvalidArgument,
                         std::string("tojson: a value of type ") +
                             value.typeName() + " has no JSON form");
  }
  return Status::ok();
}

Result<Value> fromJson(const Json &json, int depth) {
  if (depth > kMaxJsonDepth)
    return Status::error(Code::InvalidArgument,
                         "expected at most " + std::to_string(kMaxJsonDepth) +
                             " levels of nesting, found more");
  switch (json.type()) {
  case Json::value_t::boolean:
    return Value(json.get<bool>());
  case Json::value_t::number_integer:
    return Value(json.get<int64_t>());
  case Json::value_t::number_unsigned:
    if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      return Value(json.get<double>());
    return Value(json.get<int64_t>());
  case Json::value_t::number_float:
    return Value(json.get<double>());
  case Json::value_t::string: {
    const std::string &text = json.get_ref<const std::string &>();
    RETORT_RETURN_IF_ERROR(validateUtf8(text, "text"));
    return Value(text);
  }
  case Json::value_t::array: {
    std::vector<Value> items;
    items.reserve(json.size());
    for (const Json &entry : json) {
      RETORT_ASSIGN_OR_RETURN(Value item, fromJson(entry, depth + 1));
      items.push_back(std::move(item));
    }
    return Value::list(std::move(items));
  }
  case Json::value_t::object: {
    Dict dict;
    for (const auto &[key, entry] : json.items()) {
      RETORT_RETURN_IF_ERROR(validateUtf8(key, "key"));
      RETORT_ASSIGN_OR_RETURN(Value item, fromJson(entry, depth + 1));
      dict.depth = std::max(dict.depth, item.depth() + 1);
      dict.weight = addWeights(dict.weight, item.weight() + 1);
      // Keys of a JSON object are distinct already.
      dict.items.emplace_back(Value(key), std::move(item));
    }
    return Value::dict(std::move(dict));
  }
  default:
    return Value(nullptr);
  }
}

} // namespace retort::text::jinja
