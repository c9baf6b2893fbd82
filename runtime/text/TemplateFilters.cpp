//===- TemplateFilters.cpp - Filters --------------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateRuntime.h"
#include "runtime/text/Unicode.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <list>

namespace retort::text::jinja {
namespace {

using Filter = ValueResult (*)(Budget &, const Value &, const Arguments &);

/// An argument that is `fallback` when absent.
Value argument(const Arguments &args, size_t index, std::string_view name,
               Value fallback) {
  const Value *v = args.find(index, name);
  return v ? *v : fallback;
}

Result<int64_t> integerArgument(const Arguments &args, size_t index,
                                std::string_view name, int64_t fallback) {
  Value v = argument(args, index, name, Value(fallback));
  if (!v.isIntegral())
    return typeError("argument '" + std::string(name) +
                     "': expected an integer, found '" + v.typeName() + "'");
  return v.asInt();
}

/// The arguments from `first` on, for a filter or test that is passed by name.
Arguments argumentsFrom(const Arguments &args, size_t first) {
  Arguments rest;
  for (size_t i = first; i < args.positional.size(); ++i)
    rest.positional.push_back(args.positional[i]);
  rest.keywords = args.keywords;
  return rest;
}

/// `a.b.0` as map, groupby and sort read it.
ValueResult path(Budget &budget, const Value &value, const Value &attribute) {
  if (attribute.isIntegral())
    return itemOf(budget, value, attribute);
  if (!attribute.isString())
    return typeError("an attribute must be a string or an integer");
  Value current = value;
  std::string dot = ".";
  for (const std::string &part : splitString(attribute.asString(), &dot, -1)) {
    bool digits = !part.empty() &&
                  part.find_first_not_of("0123456789") == std::string::npos &&
                  part.size() < 10;
    Value key = digits ? Value(int64_t(std::stoll(part))) : Value(part);
    RETORT_ASSIGN_OR_RETURN(current, itemOf(budget, current, key));
  }
  return current;
}

/// What sort, min, unique and their kin compare.
ValueResult sortKey(Budget &budget, const Value &value, const Value &attribute,
                    bool caseSensitive) {
  Value key = value;
  if (!attribute.isNone()) {
    RETORT_ASSIGN_OR_RETURN(key, path(budget, value, attribute));
  }
  if (!caseSensitive && key.isString()) {
    RETORT_RETURN_IF_ERROR(budget.takeString(key.asString().size()));
    return Value(toLower(key.asString()));
  }
  return key;
}

/// Sorts by the first of each pair; fails on keys without an order.
Status sortPairs(Budget &budget, std::vector<std::pair<Value, Value>> &pairs,
                 bool reverse) {
  size_t n = pairs.size();
  for (const auto &pair : pairs)
    for (size_t i = 0; i <= static_cast<size_t>(std::bit_width(n)); ++i)
      RETORT_RETURN_IF_ERROR(budget.take(pair.first.weight()));
  for (size_t i = 1; i < n; ++i)
    if (!lessThan(pairs[i - 1].first, pairs[i].first))
      return typeError(std::string("values of types '") +
                       pairs[i - 1].first.typeName() + "' and '" +
                       pairs[i].first.typeName() + "' have no order");
  // A list's sort keeps the order of equal keys, and stays within its bounds
  // even where nested values have no consistent order.
  std::list<std::pair<Value, Value>> sorted(
      std::make_move_iterator(pairs.begin()),
      std::make_move_iterator(pairs.end()));
  sorted.sort([&](const auto &a, const auto &b) {
    const Value &x = reverse ? b.first : a.first;
    const Value &y = reverse ? a.first : b.first;
    return lessThan(x, y).value_or(false);
  });
  pairs.assign(std::make_move_iterator(sorted.begin()),
               std::make_move_iterator(sorted.end()));
  return Status::ok();
}

ValueResult sortFilter(Budget &budget, const Value &value,
                       const Arguments &args) {
  bool reverse = argument(args, 0, "reverse", Value(false)).truth();
  bool caseSensitive =
      argument(args, 1, "case_sensitive", Value(false)).truth();
  Value attribute = argument(args, 2, "attribute", Value(nullptr));
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  std::vector<std::pair<Value, Value>> pairs;
  for (Value &item : items) {
    RETORT_ASSIGN_OR_RETURN(Value key,
                            sortKey(budget, item, attribute, caseSensitive));
    pairs.emplace_back(std::move(key), std::move(item));
  }
  RETORT_RETURN_IF_ERROR(sortPairs(budget, pairs, reverse));
  for (size_t i = 0; i < pairs.size(); ++i)
    items[i] = std::move(pairs[i].second);
  return makeList(std::move(items));
}

ValueResult dictSort(Budget &budget, const Value &value,
                     const Arguments &args) {
  if (!value.isDict())
    return typeError(std::string("dictsort: expected a dictionary, found '") +
                     value.typeName() + "'");
  bool caseSensitive =
      argument(args, 0, "case_sensitive", Value(false)).truth();
  Value by = argument(args, 1, "by", Value(std::string("key")));
  bool reverse = argument(args, 2, "reverse", Value(false)).truth();
  bool byValue = by.isString() && by.asString() == "value";
  std::vector<std::pair<Value, Value>> pairs;
  for (const auto &[key, item] : value.asDict().items) {
    RETORT_ASSIGN_OR_RETURN(Value by, sortKey(budget, byValue ? item : key,
                                              Value(nullptr), caseSensitive));
    pairs.emplace_back(std::move(by), Value::list({key, item}, true));
  }
  RETORT_RETURN_IF_ERROR(sortPairs(budget, pairs, reverse));
  std::vector<Value> items;
  for (auto &pair : pairs)
    items.push_back(std::move(pair.second));
  return makeList(std::move(items));
}

ValueResult uniqueFilter(Budget &budget, const Value &value,
                         const Arguments &args) {
  bool caseSensitive =
      argument(args, 0, "case_sensitive", Value(false)).truth();
  Value attribute = argument(args, 1, "attribute", Value(nullptr));
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  std::vector<Value> seen, out;
  for (Value &item : items) {
    RETORT_ASSIGN_OR_RETURN(Value key,
                            sortKey(budget, item, attribute, caseSensitive));
    for (const Value &v : seen)
      RETORT_RETURN_IF_ERROR(budget.take(std::min(v.weight(), key.weight())));
    bool known = std::any_of(seen.begin(), seen.end(),
                             [&](const Value &v) { return equal(v, key); });
    if (known)
      continue;
    seen.push_back(std::move(key));
    out.push_back(std::move(item));
  }
  return makeList(std::move(out));
}

ValueResult extreme(Budget &budget, const Value &value, const Arguments &args,
                    bool largest) {
  bool caseSensitive =
      argument(args, 0, "case_sensitive", Value(false)).truth();
  Value attribute = argument(args, 1, "attribute", Value(nullptr));
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  if (items.empty())
    return Value::undefined("no aggregated item, sequence was empty");
  Value best = items[0];
  RETORT_ASSIGN_OR_RETURN(Value bestKey,
                          sortKey(budget, best, attribute, caseSensitive));
  for (size_t i = 1; i < items.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(
        Value key, sortKey(budget, items[i], attribute, caseSensitive));
    std::optional<bool> less =
        largest ? lessThan(bestKey, key) : lessThan(key, bestKey);
    if (!less)
      return typeError("min and max need values of one type");
    if (*less) {
      best = items[i];
      bestKey = std::move(key);
    }
  }
  return best;
}

ValueResult sumFilter(Budget &budget, const Value &value,
                      const Arguments &args) {
  Value attribute = argument(args, 0, "attribute", Value(nullptr));
  Value total = argument(args, 1, "start", Value(int64_t(0)));
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  for (const Value &item : items) {
    Value term = item;
    if (!attribute.isNone()) {
      RETORT_ASSIGN_OR_RETURN(term, path(budget, item, attribute));
    }
    RETORT_ASSIGN_OR_RETURN(total, arithmetic(budget, "+", total, term));
  }
  return total;
}

ValueResult mapFilter(Budget &budget, const Value &value,
                      const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  const Value *attribute = nullptr, *fallback = nullptr;
  for (const auto &[key, v] : args.keywords) {
    attribute = key == "attribute" ? &v : attribute;
    fallback = key == "default" ? &v : fallback;
  }
  if (args.positional.empty() && attribute) {
    for (Value &item : items) {
      RETORT_ASSIGN_OR_RETURN(item, path(budget, item, *attribute));
      if (item.isUndefined() && fallback)
        item = *fallback;
    }
    return makeList(std::move(items));
  }
  if (args.positional.empty() || !args.positional[0].isString())
    return typeError("map: expected a filter's name or an attribute");
  const std::string &name = args.positional[0].asString();
  if (!isFilter(name))
    return typeError("map: unknown filter '" + name + "'");
  Arguments rest = argumentsFrom(args, 1);
  for (Value &item : items) {
    RETORT_RETURN_IF_ERROR(budget.take(1));
    RETORT_ASSIGN_OR_RETURN(item, applyFilter(budget, name, item, rest));
  }
  return makeList(std::move(items));
}

ValueResult choose(Budget &budget, const Value &value, const Arguments &args,
                   bool keep, bool byAttribute) {
  size_t at = byAttribute ? 1 : 0;
  if (byAttribute && args.positional.empty())
    return typeError("expected an attribute's name");
  std::string test;
  if (args.positional.size() > at) {
    if (!args.positional[at].isString())
      return typeError("expected a test's name");
    test = args.positional[at].asString();
    if (!isTest(test))
      return typeError("unknown test '" + test + "'");
  }
  Arguments rest = argumentsFrom(args, at + 1);
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  std::vector<Value> out;
  for (Value &item : items) {
    RETORT_RETURN_IF_ERROR(budget.take(1));
    Value subject = item;
    if (byAttribute) {
      RETORT_ASSIGN_OR_RETURN(subject, path(budget, item, args.positional[0]));
    }
    bool holds = subject.truth();
    if (!test.empty()) {
      RETORT_ASSIGN_OR_RETURN(holds, applyTest(budget, test, subject, rest));
    }
    if (holds == keep)
      out.push_back(std::move(item));
  }
  return makeList(std::move(out));
}

ValueResult groupBy(Budget &budget, const Value &value, const Arguments &args) {
  const Value *attribute = args.find(0, "attribute");
  if (!attribute)
    return typeError("groupby: expected an attribute");
  Value fallback = argument(args, 1, "default", Value());
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  std::vector<std::pair<Value, Value>> pairs;
  for (Value &item : items) {
    RETORT_ASSIGN_OR_RETURN(Value key, path(budget, item, *attribute));
    pairs.emplace_back(key.isUndefined() ? fallback : key, std::move(item));
  }
  RETORT_RETURN_IF_ERROR(sortPairs(budget, pairs, false));
  std::vector<Value> out;
  for (size_t i = 0; i < pairs.size();) {
    std::vector<Value> members;
    size_t j = i;
    for (; j < pairs.size() && equal(pairs[j].first, pairs[i].first); ++j)
      members.push_back(pairs[j].second);
    out.push_back(
        Value::list({pairs[i].first, Value::list(std::move(members))}, true));
    i = j;
  }
  return makeList(std::move(out));
}

ValueResult joinFilter(Budget &budget, const Value &value,
                       const Arguments &args) {
  Value separator = argument(args, 0, "d", Value(std::string()));
  Value attribute = argument(args, 1, "attribute", Value(nullptr));
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  RETORT_ASSIGN_OR_RETURN(std::string between, stringOf(budget, separator));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (!attribute.isNone()) {
      RETORT_ASSIGN_OR_RETURN(item, path(budget, item, attribute));
    }
    RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, item));
    if (i)
      out += between;
    out += text;
    RETORT_RETURN_IF_ERROR(budget.take(between.size() / 32 + 1));
    if (out.size() > budget.maxBytes())
      return budget.takeString(out.size());
  }
  return Value(std::move(out));
}

ValueResult lengthFilter(Budget &budget, const Value &value,
                         const Arguments &) {
  if (value.isString()) {
    RETORT_RETURN_IF_ERROR(budget.take(value.asString().size() / 32));
    return Value(static_cast<int64_t>(countCharacters(value.asString())));
  }
  if (value.isList())
    return Value(static_cast<int64_t>(value.asList().items.size()));
  if (value.isDict())
    return Value(static_cast<int64_t>(value.asDict().items.size()));
  if (value.isUndefined())
    return Value(int64_t(0));
  return typeError(std::string("a value of type '") + value.typeName() +
                   "' has no length");
}

ValueResult firstOrLast(Budget &budget, const Value &value, bool last) {
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  if (items.empty())
    return Value::undefined("the sequence is empty");
  return last ? items.back() : items.front();
}

ValueResult reverseFilter(Budget &budget, const Value &value,
                          const Arguments &) {
  if (value.isString())
    return sliceOf(budget, value, Value(nullptr), Value(nullptr),
                   Value(int64_t(-1)));
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  std::reverse(items.begin(), items.end());
  return Value::list(std::move(items));
}

ValueResult intFilter(Budget &budget, const Value &value,
                      const Arguments &args) {
  Value fallback = argument(args, 0, "default", Value(int64_t(0)));
  RETORT_ASSIGN_OR_RETURN(int64_t base, integerArgument(args, 1, "base", 10));
  if (value.isIntegral())
    return Value(value.asInt());
  double real = 0;
  if (value.isFloat()) {
    real = value.asDouble();
  } else if (value.isString()) {
    std::string text(stripString(value.asString(), nullptr, true, true));
    std::erase(text, '_');
    const char *begin = text.c_str(), *end = begin + text.size();
    if (text.starts_with('+'))
      ++begin;
    int64_t whole = 0;
    if (base >= 2 && base <= 36) {
      auto rc = std::from_chars(begin, end, whole, static_cast<int>(base));
      if (rc.ec == std::errc() && rc.ptr == end)
        return Value(whole);
    }
    auto rc = std::from_chars(begin, end, real);
    if (rc.ec != std::errc() || rc.ptr != end)
      return fallback;
  } else {
    return fallback;
  }
  if (!(std::fabs(real) < 9.2e18))
    return fallback;
  return Value(static_cast<int64_t>(real));
}

ValueResult floatFilter(Budget &budget, const Value &value,
                        const Arguments &args) {
  if (value.isNumber())
    return Value(value.asDouble());
  if (value.isString()) {
    std::string text(stripString(value.asString(), nullptr, true, true));
    const char *begin = text.c_str(), *end = begin + text.size();
    if (text.starts_with('+'))
      ++begin;
    double real = 0;
    auto rc = std::from_chars(begin, end, real);
    if (rc.ec == std::errc() && rc.ptr == end)
      return Value(real);
  }
  return argument(args, 0, "default", Value(0.0));
}

ValueResult roundFilter(Budget &budget, const Value &value,
                        const Arguments &args) {
  if (!value.isNumber())
    return typeError(std::string("round: expected a number, found '") +
                     value.typeName() + "'");
  RETORT_ASSIGN_OR_RETURN(int64_t digits,
                          integerArgument(args, 0, "precision", 0));
  Value method = argument(args, 1, "method", Value(std::string("common")));
  std::string name = method.isString() ? method.asString() : "";
  if (name == "common" && value.isIntegral() && digits >= 0)
    return Value(value.asInt());
  double real = value.asDouble();
  if (name == "ceil" || name == "floor") {
    double scale = std::pow(10.0, static_cast<double>(digits));
    real = name == "ceil" ? std::ceil(real * scale) : std::floor(real * scale);
    return Value(real / scale);
  }
  if (name != "common")
    return typeError("round: unknown method");
  if (!std::isfinite(real) || digits > 300)
    return Value(real);
  if (digits < 0) {
    double scale = std::pow(10.0, static_cast<double>(-digits));
    return Value(std::isinf(scale) ? 0.0
                                   : std::nearbyint(real / scale) * scale);
  }
  // printf rounds the exact value, half to even, as Python's round does.
  char buffer[700];
  int n = std::snprintf(buffer, sizeof(buffer), "%.*f",
                        static_cast<int>(digits), real);
  double out = real;
  std::from_chars(buffer, buffer + n, out);
  return Value(out);
}

ValueResult absFilter(Budget &budget, const Value &value, const Arguments &) {
  if (value.isFloat())
    return Value(std::fabs(value.asDouble()));
  if (!value.isIntegral())
    return typeError(std::string("abs: expected a number, found '") +
                     value.typeName() + "'");
  return value.asInt() < 0 ? arithmetic(budget, "-", Value(int64_t(0)), value)
                           : ValueResult(Value(value.asInt()));
}

ValueResult toJson(Budget &budget, const Value &value, const Arguments &args) {
  JsonStyle style;
  style.ensureAscii = argument(args, 0, "ensure_ascii", Value(false)).truth();
  Value indent = argument(args, 1, "indent", Value(nullptr));
  Value separators = argument(args, 2, "separators", Value(nullptr));
  style.sortKeys = argument(args, 3, "sort_keys", Value(false)).truth();
  if (indent.isIntegral() || indent.isString()) {
    style.indent = 0;
    style.itemSeparator = ",";
    constexpr int64_t kWidest = 64;
    style.indentText =
        indent.isString() ? indent.asString()
                          : std::string(static_cast<size_t>(std::clamp<int64_t>(
                                            indent.asInt(), 0, kWidest)),
                                        ' ');
  }
  if (separators.isList() && separators.asList().items.size() == 2 &&
      separators.asList().items[0].isString() &&
      separators.asList().items[1].isString()) {
    style.itemSeparator = separators.asList().items[0].asString();
    style.keySeparator = separators.asList().items[1].asString();
  }
  std::string out;
  RETORT_RETURN_IF_ERROR(appendJson(out, value, style, budget.maxBytes()));
  RETORT_RETURN_IF_ERROR(budget.takeString(out.size()));
  return Value(std::move(out));
}

ValueResult indentFilter(Budget &budget, const Value &value,
                         const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, value));
  Value width = argument(args, 0, "width", Value(int64_t(4)));
  bool first = argument(args, 1, "first", Value(false)).truth();
  bool blank = argument(args, 2, "blank", Value(false)).truth();
  std::string space;
  if (width.isString()) {
    space = width.asString();
  } else if (width.isIntegral()) {
    size_t n = static_cast<size_t>(std::max<int64_t>(width.asInt(), 0));
    RETORT_RETURN_IF_ERROR(budget.takeString(n));
    space.assign(n, ' ');
  }
  std::string newLine = "\n";
  std::vector<std::string> lines = splitString(text, &newLine, -1);
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i)
      out += '\n';
    if (i == 0 ? first : (blank || !lines[i].empty()))
      out += space;
    out += lines[i];
    RETORT_RETURN_IF_ERROR(budget.take(space.size() / 32 + 1));
    if (out.size() > budget.maxBytes())
      return budget.takeString(out.size());
  }
  return Value(std::move(out));
}

ValueResult itemsFilter(Budget &budget, const Value &value,
                        const Arguments &args) {
  if (value.isUndefined())
    return Value::list({});
  if (!value.isDict())
    return typeError("items: can only get item pairs from a mapping");
  return callMethod(budget, value, "items", args);
}

ValueResult listFilter(Budget &budget, const Value &value, const Arguments &) {
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  return Value::list(std::move(items));
}

ValueResult batchFilter(Budget &budget, const Value &value,
                        const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(int64_t size,
                          integerArgument(args, 0, "linecount", 0));
  if (size <= 0)
    return typeError("batch: expected a positive size");
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
  const Value *fill = args.find(1, "fill_with");
  std::vector<Value> out, batch;
  for (Value &item : items) {
    batch.push_back(std::move(item));
    if (static_cast<int64_t>(batch.size()) == size)
      out.push_back(Value::list(std::exchange(batch, {})));
  }
  if (!batch.empty()) {
    uint64_t missing = static_cast<uint64_t>(size) - batch.size();
    if (fill && !fill->isNone()) {
      RETORT_RETURN_IF_ERROR(budget.take(missing));
      batch.insert(batch.end(), missing, *fill);
    }
    out.push_back(Value::list(std::move(batch)));
  }
  return makeList(std::move(out));
}

/// Jinja's `title`: words begin behind white space, hyphens and brackets.
ValueResult titleFilter(Budget &budget, const Value &value, const Arguments &) {
  RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, value));
  std::string out;
  bool inside = false;
  for (size_t pos = 0; pos < text.size();) {
    size_t begin = pos;
    char32_t c = decodeUtf8(text, pos);
    std::string one = text.substr(begin, pos - begin);
    bool separates = isWhitespace(c) || c == '-' || c == '(' || c == '{' ||
                     c == '[' || c == '<';
    out += separates ? one : inside ? toLower(one) : toUpper(one);
    inside = !separates;
  }
  return Value(std::move(out));
}

/// A filter that maps the string of a value.
template <auto Map>
ValueResult stringFilter(Budget &budget, const Value &value,
                         const Arguments &) {
  RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, value));
  return Value(Map(text));
}

std::string same(std::string_view text) { return std::string(text); }

std::string escapeHtml(std::string_view text) {
  std::string out;
  for (char c : text)
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '"':
      out += "&#34;";
      break;
    case '\'':
      out += "&#39;";
      break;
    default:
      out += c;
    }
  return out;
}

ValueResult trimFilter(Budget &budget, const Value &value,
                       const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, value));
  const Value *set = args.find(0, "chars");
  const std::string *chars =
      set && set->isString() ? &set->asString() : nullptr;
  return Value(std::string(stripString(text, chars, true, true)));
}

ValueResult replaceFilter(Budget &budget, const Value &value,
                          const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, value));
  const Value *from = args.find(0, "old"), *to = args.find(1, "new");
  if (!from || !to)
    return typeError("replace: expected two strings");
  RETORT_ASSIGN_OR_RETURN(std::string old, stringOf(budget, *from));
  RETORT_ASSIGN_OR_RETURN(std::string fresh, stringOf(budget, *to));
  int64_t limit = -1;
  if (const Value *count = args.find(2, "count"); count && count->isIntegral())
    limit = count->asInt();
  RETORT_ASSIGN_OR_RETURN(std::string out,
                          replaceAll(budget, text, old, fresh, limit));
  return Value(std::move(out));
}

ValueResult defaultFilter(Budget &, const Value &value, const Arguments &args) {
  bool falsy = argument(args, 1, "boolean", Value(false)).truth();
  if (value.isUndefined() || (falsy && !value.truth()))
    return argument(args, 0, "default_value", Value(std::string()));
  return value;
}

ValueResult formatFilter(Budget &budget, const Value &value,
                         const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(std::string format, stringOf(budget, value));
  return formatPercent(budget, format, Value::list(args.positional, true));
}

ValueResult attributeFilter(Budget &, const Value &value,
                            const Arguments &args) {
  const Value *name = args.find(0, "name");
  if (!name || !name->isString())
    return typeError("attr: expected a name");
  // Keys of a dictionary are no attributes.
  if (value.isDict() && !hasMethod(value, name->asString()))
    return Value::undefined("'dict object' has no attribute '" +
                            name->asString() + "'");
  return attributeOf(value, name->asString());
}

ValueResult wordCount(Budget &budget, const Value &value, const Arguments &) {
  RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, value));
  int64_t count = 0;
  bool inside = false;
  for (size_t pos = 0; pos < text.size();) {
    bool word = isWord(decodeUtf8(text, pos));
    count += word && !inside;
    inside = word;
  }
  return Value(count);
}

constexpr std::pair<std::string_view, Filter> kFilters[] = {
    {"abs", absFilter},
    {"attr", attributeFilter},
    {"batch", batchFilter},
    {"capitalize", stringFilter<capitalize>},
    {"count", lengthFilter},
    {"d", defaultFilter},
    {"default", defaultFilter},
    {"dictsort", dictSort},
    {"e", stringFilter<escapeHtml>},
    {"escape", stringFilter<escapeHtml>},
    {"first", [](Budget &b, const Value &v,
                 const Arguments &) { return firstOrLast(b, v, false); }},
    {"float", floatFilter},
    {"format", formatFilter},
    {"groupby", groupBy},
    {"indent", indentFilter},
    {"int", intFilter},
    {"items", itemsFilter},
    {"join", joinFilter},
    {"last", [](Budget &b, const Value &v,
                const Arguments &) { return firstOrLast(b, v, true); }},
    {"length", lengthFilter},
    {"list", listFilter},
    {"lower", stringFilter<toLower>},
    {"map", mapFilter},
    {"max", [](Budget &b, const Value &v,
               const Arguments &a) { return extreme(b, v, a, true); }},
    {"min", [](Budget &b, const Value &v,
               const Arguments &a) { return extreme(b, v, a, false); }},
    {"reject",
     [](Budget &b, const Value &v, const Arguments &a) {
       return choose(b, v, a, false, false);
     }},
    {"rejectattr",
     [](Budget &b, const Value &v, const Arguments &a) {
       return choose(b, v, a, false, true);
     }},
    {"replace", replaceFilter},
    {"reverse", reverseFilter},
    {"round", roundFilter},
    {"safe", stringFilter<same>},
    {"select", [](Budget &b, const Value &v,
                  const Arguments &a) { return choose(b, v, a, true, false); }},
    {"selectattr",
     [](Budget &b, const Value &v, const Arguments &a) {
       return choose(b, v, a, true, true);
     }},
    {"sort", sortFilter},
    {"string", stringFilter<same>},
    {"sum", sumFilter},
    {"title", titleFilter},
    {"tojson", toJson},
    {"trim", trimFilter},
    {"unique", uniqueFilter},
    {"upper", stringFilter<toUpper>},
    {"wordcount", wordCount},
};

Filter findFilter(std::string_view name) {
  for (const auto &[known, filter] : kFilters)
    if (known == name)
      return filter;
  return nullptr;
}

} // namespace

bool isFilter(std::string_view name) { return findFilter(name) != nullptr; }

ValueResult applyFilter(Budget &budget, const std::string &name,
                        const Value &value, const Arguments &args) {
  // `map` may name itself, but each level takes an argument away.
  return findFilter(name)(budget, value, args);
}

} // namespace retort::text::jinja
