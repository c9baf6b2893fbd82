//===- TemplateOps.cpp - Operators and attributes -------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateRuntime.h"
#include "runtime/text/Unicode.h"

#include <algorithm>
#include <cmath>

namespace retort::text::jinja {
namespace {

Status unsupportedOperands(std::string_view op, const Value &a,
                           const Value &b) {
  return typeError("unsupported operand types for " + std::string(op) + ": '" +
                   a.typeName() + "' and '" + b.typeName() + "'");
}

Status overflow() { return typeError("an integer exceeds 64 bits"); }

int64_t floorDivide(int64_t a, int64_t b) {
  int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

ValueResult integerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0)
      return typeError("zero cannot be raised to a negative power");
    return Value(
        std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
      return overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
      return overflow();
  }
  return Value(result);
}

ValueResult integerArithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool overflowed = false;
  if (op == "+")
    overflowed = __builtin_add_overflow(a, b, &out);
  else if (op == "-")
    overflowed = __builtin_sub_overflow(a, b, &out);
  else if (op == "*")
    overflowed = __builtin_mul_overflow(a, b, &out);
  else if (op == "**")
    return integerPower(a, b);
  else if (b == 0)
    return typeError("division by zero");
  else if (op == "/")
    return Value(static_cast<double>(a) / static_cast<double>(b));
  else if (b == -1) // the one divisor that can overflow
    overflowed = op == "//" && __builtin_sub_overflow(int64_t(0), a, &out);
  else if (op == "//")
    out = floorDivide(a, b);
  else
    out = a - floorDivide(a, b) * b;
  return overflowed ? ValueResult(overflow()) : ValueResult(Value(out));
}

ValueResult floatArithmetic(std::string_view op, double a, double b) {
  if (op == "+")
    return Value(a + b);
  if (op == "-")
    return Value(a - b);
  if (op == "*")
    return Value(a * b);
  if (op == "**")
    return Value(std::pow(a, b));
  if (b == 0)
    return typeError("division by zero");
  if (op == "/")
    return Value(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0))
    remainder += b;
  if (op == "%")
    return Value(remainder);
  return Value(std::floor((a - remainder) / b + 0.5));
}

ValueResult repeat(Budget &budget, const Value &value, int64_t count) {
  uint64_t n = static_cast<uint64_t>(std::max<int64_t>(count, 0));
  if (value.isString()) {
    const std::string &text = value.asString();
    if (!text.empty() && n > budget.maxBytes() / text.size())
      return budget.takeString(budget.maxBytes() + 1);
    RETORT_RETURN_IF_ERROR(budget.takeString(text.size() * n));
    std::string out;
    out.reserve(text.size() * n);
    for (uint64_t i = 0; i < n && !text.empty(); ++i)
      out += text;
    return Value(std::move(out));
  }
  const List &list = value.asList();
  uint64_t total = 0;
  if (__builtin_mul_overflow(n, static_cast<uint64_t>(list.items.size()),
                             &total))
    total = UINT64_MAX;
  RETORT_RETURN_IF_ERROR(budget.take(total));
  std::vector<Value> items;
  for (uint64_t i = 0; i < n && !list.items.empty(); ++i)
    items.insert(items.end(), list.items.begin(), list.items.end());
  return Value::list(std::move(items), list.isTuple);
}

ValueResult addValues(Budget &budget, const Value &a, const Value &b) {
  if (a.isString() && b.isString()) {
    RETORT_RETURN_IF_ERROR(
        budget.takeString(a.asString().size() + b.asString().size()));
    return Value(a.asString() + b.asString());
  }
  if (a.isList() && b.isList() && a.asList().isTuple == b.asList().isTuple) {
    std::vector<Value> items = a.asList().items;
    const auto &more = b.asList().items;
    RETORT_RETURN_IF_ERROR(budget.take(items.size() + more.size()));
    items.insert(items.end(), more.begin(), more.end());
    return Value::list(std::move(items), a.asList().isTuple);
  }
  return unsupportedOperands("+", a, b);
}

/// The bounds that Python's `slice.indices` computes.
struct SliceBounds {
  int64_t start, stop, step;
};

Result<SliceBounds> sliceBounds(int64_t length, const Value &start,
                                const Value &stop, const Value &step) {
  for (const Value *part : {&start, &stop, &step})
    if (!part->isNone() && !part->isIntegral())
      return typeError(std::string("a slice needs integers, found '") +
                       part->typeName() + "'");
  SliceBounds s;
  s.step = step.isNone() ? 1 : step.asInt();
  if (s.step == 0)
    return typeError("the step of a slice is zero");
  // A longer step takes one item at most, as does the longest useful one.
  s.step = std::clamp<int64_t>(s.step, -(length + 1), length + 1);
  bool back = s.step < 0;
  auto bound = [&](const Value &v, int64_t fallback) {
    if (v.isNone())
      return fallback;
    int64_t i = v.asInt();
    if (i < 0)
      i = i < -length ? (back ? -1 : 0) : i + length;
    return std::min(i, back ? length - 1 : length);
  };
  s.start = bound(start, back ? length - 1 : 0);
  s.stop = bound(stop, back ? -1 : length);
  return s;
}

} // namespace

Status typeError(const std::string &message) {
  return Status::error(Code::InvalidArgument, message);
}

const Value *Arguments::find(size_t index, std::string_view name) const {
  if (index < positional.size())
    return &positional[index];
  for (const auto &[key, value] : keywords)
    if (key == name)
      return &value;
  return nullptr;
}

ValueResult makeList(std::vector<Value> items, bool isTuple) {
  Value list = Value::list(std::move(items), isTuple);
  if (list.depth() > kMaxValueDepth)
    return typeError("lists nest too deeply");
  return list;
}

ValueResult makeDict(Dict dict) {
  if (dict.depth > kMaxValueDepth)
    return typeError("dictionaries nest too deeply");
  return Value::dict(std::move(dict));
}

Status addToDict(Budget &budget, Dict &dict, Value key, Value value) {
  if (!key.isString() && !key.isNumber() && !key.isNone())
    return typeError(std::string("a value of type '") + key.typeName() +
                     "' cannot be a key");
  RETORT_RETURN_IF_ERROR(budget.take(dict.items.size() / 8 + 1));
  dict.set(std::move(key), std::move(value));
  return Status::ok();
}

ValueResult arithmetic(Budget &budget, std::string_view op, const Value &left,
                       const Value &right) {
  if (left.isNumber() && right.isNumber()) {
    if (left.isFloat() || right.isFloat())
      return floatArithmetic(op, left.asDouble(), right.asDouble());
    return integerArithmetic(op, left.asInt(), right.asInt());
  }
  for (const Value *v : {&left, &right})
    if (v->isUndefined())
      return typeError(v->undefinedMessage());
  if (op == "+")
    return addValues(budget, left, right);
  if (op == "*" && (left.isString() || left.isList()) && right.isIntegral())
    return repeat(budget, left, right.asInt());
  if (op == "*" && left.isIntegral() && (right.isString() || right.isList()))
    return repeat(budget, right, left.asInt());
  if (op == "%" && left.isString())
    return formatPercent(budget, left.asString(), right);
  return unsupportedOperands(op, left, right);
}

Result<bool> contains(Budget &budget, const Value &container,
                      const Value &item) {
  if (container.isUndefined())
    return false;
  if (container.isString()) {
    if (!item.isString())
      return typeError(std::string("'in <string>' requires a string, found '") +
                       item.typeName() + "'");
    RETORT_RETURN_IF_ERROR(budget.take(container.asString().size() / 32 + 1));
    return container.asString().find(item.asString()) != std::string::npos;
  }
  if (container.isDict()) {
    RETORT_RETURN_IF_ERROR(budget.take(container.asDict().items.size()));
    return container.asDict().find(item) != nullptr;
  }
  if (!container.isList())
    return typeError(std::string("a value of type '") + container.typeName() +
                     "' contains nothing");
  for (const Value &v : container.asList().items) {
    RETORT_RETURN_IF_ERROR(budget.take(std::min(v.weight(), item.weight())));
    if (equal(v, item))
      return true;
  }
  return false;
}

Result<bool> compareValues(Budget &budget, std::string_view op,
                           const Value &left, const Value &right) {
  if (op == "in")
    return contains(budget, right, left);
  if (op == "not in") {
    RETORT_ASSIGN_OR_RETURN(bool found, contains(budget, right, left));
    return !found;
  }
  RETORT_RETURN_IF_ERROR(budget.take(std::min(left.weight(), right.weight())));
  if (op == "==")
    return equal(left, right);
  if (op == "!=")
    return !equal(left, right);
  bool swapped = op == ">" || op == "<=";
  std::optional<bool> less =
      swapped ? lessThan(right, left) : lessThan(left, right);
  if (!less) {
    for (const Value *v : {&left, &right})
      if (v->isUndefined())
        return typeError(v->undefinedMessage());
    return unsupportedOperands(op, left, right);
  }
  if (op == "<" || op == ">")
    return *less;
  // Not less is not enough for a number that is not one.
  bool ordered = !(left.isFloat() && std::isnan(left.asDouble())) &&
                 !(right.isFloat() && std::isnan(right.asDouble()));
  return !*less && ordered;
}

Value attributeOf(const Value &object, const std::string &name) {
  if (name.starts_with("_"))
    return Value::undefined("access to attribute '" + name + "' of '" +
                            object.typeName() + "' object is unsafe");
  if (hasMethod(object, name)) {
    auto method = std::make_shared<Callable>();
    method->kind = Callable::Method;
    method->name = name;
    method->self = object;
    return Value(CallablePtr(std::move(method)));
  }
  const Value *found = nullptr;
  if (object.isDict())
    found = object.asDict().find(std::string_view(name));
  else if (object.isNamespace())
    found = object.asNamespace()->attributes.find(std::string_view(name));
  if (found)
    return *found;
  return Value::undefined("'" + std::string(object.typeName()) +
                          " object' has no attribute '" + name + "'");
}

ValueResult itemOf(Budget &budget, const Value &object, const Value &key) {
  if (object.isUndefined())
    return typeError(object.undefinedMessage());
  if (object.isDict()) {
    RETORT_RETURN_IF_ERROR(budget.take(object.asDict().items.size() / 8));
    if (const Value *found = object.asDict().find(key))
      return *found;
  }
  if ((object.isList() || object.isString()) && key.isIntegral()) {
    int64_t index = key.asInt();
    if (object.isList()) {
      const auto &items = object.asList().items;
      int64_t n = static_cast<int64_t>(items.size());
      index += index < 0 ? n : 0;
      if (index >= 0 && index < n)
        return items[static_cast<size_t>(index)];
    } else {
      const std::string &text = object.asString();
      RETORT_RETURN_IF_ERROR(budget.take(text.size() / 32));
      int64_t n = static_cast<int64_t>(countCharacters(text));
      index += index < 0 ? n : 0;
      if (index >= 0 && index < n) {
        size_t pos = 0, begin = 0;
        for (; index >= 0; --index) {
          begin = pos;
          decodeUtf8(text, pos);
        }
        return Value(text.substr(begin, pos - begin));
      }
    }
  }
  if (key.isString())
    return attributeOf(object, key.asString());
  std::string shown;
  if (!appendRepr(shown, key, 100))
    shown = key.typeName();
  return Value::undefined("'" + std::string(object.typeName()) +
                          " object' has no element " + shown);
}

ValueResult sliceOf(Budget &budget, const Value &object, const Value &start,
                    const Value &stop, const Value &step) {
  if (object.isUndefined())
    return typeError(object.undefinedMessage());
  if (!object.isList() && !object.isString())
    return Value::undefined(std::string("a value of type '") +
                            object.typeName() + "' cannot be sliced");
  std::vector<size_t> offsets;
  int64_t length = 0;
  if (object.isString()) {
    const std::string &text = object.asString();
    RETORT_RETURN_IF_ERROR(budget.take(text.size() / 8 + 1));
    for (size_t pos = 0; pos < text.size();) {
      offsets.push_back(pos);
      decodeUtf8(text, pos);
    }
    length = static_cast<int64_t>(offsets.size());
    offsets.push_back(text.size());
  } else {
    length = static_cast<int64_t>(object.asList().items.size());
    RETORT_RETURN_IF_ERROR(budget.take(static_cast<uint64_t>(length) + 1));
  }
  RETORT_ASSIGN_OR_RETURN(SliceBounds s,
                          sliceBounds(length, start, stop, step));
  std::string text;
  std::vector<Value> items;
  for (int64_t i = s.start; s.step > 0 ? i < s.stop : i > s.stop; i += s.step) {
    size_t at = static_cast<size_t>(i);
    if (object.isString())
      text.append(object.asString(), offsets[at],
                  offsets[at + 1] - offsets[at]);
    else
      items.push_back(object.asList().items[at]);
  }
  if (object.isString())
    return Value(std::move(text));
  return Value::list(std::move(items), object.asList().isTuple);
}

Result<std::vector<Value>> iterate(Budget &budget, const Value &value) {
  std::vector<Value> items;
  if (value.isUndefined())
    return items;
  if (value.isList()) {
    RETORT_RETURN_IF_ERROR(budget.take(value.asList().items.size()));
    return value.asList().items;
  }
  if (value.isDict()) {
    RETORT_RETURN_IF_ERROR(budget.take(value.asDict().items.size()));
    for (const auto &[key, item] : value.asDict().items)
      items.push_back(key);
    return items;
  }
  if (value.isString()) {
    const std::string &text = value.asString();
    RETORT_RETURN_IF_ERROR(budget.take(text.size()));
    for (size_t pos = 0; pos < text.size();) {
      size_t begin = pos;
      decodeUtf8(text, pos);
      items.push_back(Value(text.substr(begin, pos - begin)));
    }
    return items;
  }
  return typeError(std::string("a value of type '") + value.typeName() +
                   "' cannot be iterated over");
}

Result<std::string> stringOf(Budget &budget, const Value &value) {
  std::string out;
  if (!appendStr(out, value, budget.maxBytes()))
    return budget.takeString(budget.maxBytes() + 1);
  RETORT_RETURN_IF_ERROR(budget.takeString(out.size()));
  return out;
}

ValueResult formatPercent(Budget &budget, const std::string &format,
                          const Value &values) {
  std::vector<Value> list;
  if (values.isList() && values.asList().isTuple)
    list = values.asList().items;
  else
    list.push_back(values);
  std::string out;
  size_t used = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    std::string spec;
    for (++i; i < format.size() &&
              std::string_view("-+ 0#.123456789").find(format[i]) !=
                  std::string_view::npos;
         ++i)
      spec += format[i];
    char kind = i < format.size() ? format[i] : '\0';
    if (kind == '%') {
      out += '%';
      continue;
    }
    size_t run = 0;
    for (char c : spec) {
      run = c >= '0' && c <= '9' ? run + 1 : 0;
      if (run > 3 || spec.size() > 12)
        return typeError("a width in a format is too large");
    }
    if (used == list.size())
      return typeError("not enough arguments for the format");
    const Value &value = list[used++];
    if (kind == 's' || kind == 'r') {
      if (!spec.empty())
        return typeError("a width for '%s' is not supported");
      bool fits = kind == 's' ? appendStr(out, value, budget.maxBytes())
                              : appendRepr(out, value, budget.maxBytes());
      if (!fits)
        return budget.takeString(budget.maxBytes() + 1);
    } else if (std::string_view("dixXofeEgG").find(kind) !=
                   std::string_view::npos &&
               kind != '\0') {
      if (!value.isNumber())
        return typeError(std::string("the format '%") + kind +
                         "' needs a number, found '" + value.typeName() + "'");
      char buffer[2500]; // 999 digits behind the point of the largest double
      bool real =
          std::string_view("feEgG").find(kind) != std::string_view::npos;
      std::string pattern = '%' + spec + (real ? "" : "ll") + kind;
      if (!real && value.isFloat() && !(std::fabs(value.asDouble()) < 9e18))
        return typeError("a number is out of range for the format");
      int64_t whole = !real && value.isFloat()
                          ? static_cast<int64_t>(value.asDouble())
                      : real ? 0
                             : value.asInt();
      int n = real ? std::snprintf(buffer, sizeof(buffer), pattern.c_str(),
                                   value.asDouble())
                   : std::snprintf(buffer, sizeof(buffer), pattern.c_str(),
                                   static_cast<long long>(whole));
      out.append(buffer, static_cast<size_t>(std::clamp(n, 0, 2499)));
    } else {
      return typeError("the format is not supported");
    }
  }
  if (used < list.size() && !values.isDict())
    return typeError("not all arguments are used by the format");
  RETORT_RETURN_IF_ERROR(budget.takeString(out.size()));
  return Value(std::move(out));
}

} // namespace retort::text::jinja
