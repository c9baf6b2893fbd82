//===- TemplateValue.h - Values of the template language --------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The values that a chat template computes with. They behave as Python's do
/// in Jinja: lists and dictionaries cannot be changed (the sandbox that chat
/// templates are written for forbids it), namespaces can.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TEMPLATEVALUE_H
#define RETORT_RUNTIME_TEXT_TEMPLATEVALUE_H

#include "runtime/text/JsonReader.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace retort::text::jinja {

class Value;
struct Callable;

/// The absence of a value; `hint` says of which, for messages.
struct Undefined {
  std::string hint;
};

struct List {
  std::vector<Value> items;
  bool isTuple = false;
  int depth = 1;       ///< levels of nesting
  uint64_t weight = 1; ///< what comparing it may cost: its items, all levels
};

/// Keeps the order in which keys were added. Keys are strings, numbers, none.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;
  uint64_t weight = 1;
  const Value *find(const Value &key) const;
  const Value *find(std::string_view key) const;
  void set(Value key, Value value);
};

/// What `namespace()` makes: the one value whose attributes can be set.
struct Namespace {
  Dict attributes;
};

using StringPtr = std::shared_ptr<const std::string>;
using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;
using NamespacePtr = std::shared_ptr<Namespace>;
using CallablePtr = std::shared_ptr<const Callable>;

/// Lists and dictionaries nested deeper than this are refused, because
/// printing, comparing and freeing them recurse.
constexpr int kMaxValueDepth = 120;

class Value {
public:
  using Storage = std::variant<std::shared_ptr<const Undefined>, std::nullptr_t,
                               bool, int64_t, double, StringPtr, ListPtr,
                               DictPtr, NamespacePtr, CallablePtr>;

  Value() : storage(std::shared_ptr<const Undefined>()) {}
  Value(std::nullptr_t) : storage(nullptr) {}
  Value(bool v) : storage(v) {}
  Value(int64_t v) : storage(v) {}
  Value(double v) : storage(v) {}
  Value(std::string v)
      : storage(std::make_shared<const std::string>(std::move(v))) {}
  Value(ListPtr v) : storage(std::move(v)) {}
  Value(DictPtr v) : storage(std::move(v)) {}
  Value(NamespacePtr v) : storage(std::move(v)) {}
  Value(CallablePtr v) : storage(std::move(v)) {}
  static Value undefined(std::string hint);
  static Value list(std::vector<Value> items, bool isTuple = false);
  static Value dict(Dict items);

  bool isUndefined() const { return storage.index() == 0; }
  bool isNone() const { return storage.index() == 1; }
  bool isBool() const { return storage.index() == 2; }
  bool isInt() const { return storage.index() == 3; }
  bool isFloat() const { return storage.index() == 4; }
  bool isString() const { return storage.index() == 5; }
  bool isList() const { return storage.index() == 6; }
  bool isDict() const { return storage.index() == 7; }
  bool isNamespace() const { return storage.index() == 8; }
  bool isCallable() const { return storage.index() == 9; }
  /// True for what Python counts as a number: bool, int and float.
  bool isNumber() const { return isBool() || isInt() || isFloat(); }
  bool isIntegral() const { return isBool() || isInt(); }

  bool asBool() const { return std::get<bool>(storage); }
  /// The value of a bool or an int.
  int64_t asInt() const {
    return isBool() ? int64_t(asBool()) : std::get<int64_t>(storage);
  }
  /// The value of any number.
  double asDouble() const {
    return isFloat() ? std::get<double>(storage) : static_cast<double>(asInt());
  }
  const std::string &asString() const { return *std::get<StringPtr>(storage); }
  const List &asList() const { return *std::get<ListPtr>(storage); }
  const Dict &asDict() const { return *std::get<DictPtr>(storage); }
  const NamespacePtr &asNamespace() const {
    return std::get<NamespacePtr>(storage);
  }
  const Callable &asCallable() const { return *std::get<CallablePtr>(storage); }
  /// "'x' is undefined", for an undefined value.
  std::string undefinedMessage() const;

  /// Python's `bool(v)`.
  bool truth() const;
  /// The name of the Python type.
  const char *typeName() const;
  /// Levels of nesting; 0 for what holds no other values.
  int depth() const;
  /// How many values it holds, counted as often as they can be reached. Lists
  /// that share their items make this grow exponentially; it saturates.
  uint64_t weight() const;
  /// Python's `a == b`.
  friend bool equal(const Value &a, const Value &b);
  bool isSameObject(const Value &other) const;

private:
  Storage storage;
};

bool equal(const Value &a, const Value &b);

/// Python's `a < b`; nullopt when the types have no order.
std::optional<bool> lessThan(const Value &a, const Value &b);

/// Python's `str(v)` and `repr(v)`, appended to `out`, of at most `limit`
/// bytes; false when it is longer or nests too deeply.
bool appendStr(std::string &out, const Value &value, size_t limit);
bool appendRepr(std::string &out, const Value &value, size_t limit,
                int depth = 0);

/// Python's `repr` of a float.
std::string floatRepr(double value);

/// How `json.dumps` writes a value.
struct JsonStyle {
  int indent = -1; ///< spaces per level; below 0: one line
  bool ensureAscii = false;
  bool sortKeys = false;
  std::string itemSeparator = ", ", keySeparator = ": ";
  std::string indentText; ///< one level, when `indent` is not below 0
};
Status appendJson(std::string &out, const Value &value, const JsonStyle &style,
                  size_t limit, int level = 0);

/// A JSON document as a value. Fails on strings that are not UTF-8 and on
/// nesting beyond kMaxJsonDepth.
Result<Value> fromJson(const Json &json, int depth = 0);

} // namespace retort::text::jinja

#endif // RETORT_RUNTIME_TEXT_TEMPLATEVALUE_H
