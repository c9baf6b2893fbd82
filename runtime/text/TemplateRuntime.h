//===- TemplateRuntime.h - Operations on template values --------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What expressions of the template language are made of: operators,
/// attributes, methods, filters and tests. All of them draw on one budget, so
/// that no template can take more time or memory than its limits allow.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TEMPLATERUNTIME_H
#define RETORT_RUNTIME_TEXT_TEMPLATERUNTIME_H

#include "runtime/text/TemplateAst.h"

namespace retort::text::jinja {

/// What one rendering may use.
class Budget {
public:
  Budget(uint64_t steps, size_t bytes) : steps(steps), bytes(bytes) {}

  /// Takes `n` steps: one per node that is evaluated and per item that is
  /// made or looked at.
  Status take(uint64_t n) {
    if (n > steps)
      return Status::error(Code::InvalidArgument,
                           "the template takes too many steps");
    steps -= n;
    return Status::ok();
  }
  /// Takes steps for a string of `length` bytes, and refuses one that is
  /// longer than any output could be.
  Status takeString(size_t length) {
    if (length > bytes)
      return Status::error(Code::InvalidArgument,
                           "the template makes a string of more than " +
                               std::to_string(bytes) + " bytes");
    return take(length / kBytesPerStep + 1);
  }
  size_t maxBytes() const { return bytes; }

private:
  static constexpr size_t kBytesPerStep = 32;
  uint64_t steps;
  size_t bytes;
};

/// Arguments of a call, evaluated.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;

  /// The argument at `index` or named `name`; nullptr if it was not given.
  const Value *find(size_t index, std::string_view name) const;
  size_t count() const { return positional.size() + keywords.size(); }
};

struct Scope;

/// A value that can be called.
struct Callable {
  enum Kind { Macro, Global, Method, Cycle } kind = Global;
  std::string name;
  const Stmt *macro = nullptr; ///< of a macro, or the body of a `call` block
  Scope *closure = nullptr;
  Value self; ///< of a method; for Cycle the loop's index
};

using ValueResult = Result<Value>;

Status typeError(const std::string &message);

/// `left op right` for `+ - * / // % **`.
ValueResult arithmetic(Budget &budget, std::string_view op, const Value &left,
                       const Value &right);
/// `left op right` for `== != < <= > >= in` and `not in`.
Result<bool> compareValues(Budget &budget, std::string_view op,
                           const Value &left, const Value &right);
Result<bool> contains(Budget &budget, const Value &container,
                      const Value &item);
/// `object.name`, undefined when there is none.
Value attributeOf(const Value &object, const std::string &name);
/// `object[key]`, undefined when there is none.
ValueResult itemOf(Budget &budget, const Value &object, const Value &key);
/// `object[start:stop:step]`; absent parts are none.
ValueResult sliceOf(Budget &budget, const Value &object, const Value &start,
                    const Value &stop, const Value &step);
/// The items that a loop over `value` visits.
Result<std::vector<Value>> iterate(Budget &budget, const Value &value);
/// `str(value)`.
Result<std::string> stringOf(Budget &budget, const Value &value);
/// A list or tuple, if it does not nest too deeply.
ValueResult makeList(std::vector<Value> items, bool isTuple = false);
ValueResult makeDict(Dict dict);
/// Adds to a dictionary under construction; the key must be a string,
/// a number or none.
Status addToDict(Budget &budget, Dict &dict, Value key, Value value);
/// Python's `format % values`.
ValueResult formatPercent(Budget &budget, const std::string &format,
                          const Value &values);

/// True if values of this type have the method.
bool hasMethod(const Value &object, std::string_view name);
ValueResult callMethod(Budget &budget, const Value &object,
                       const std::string &name, const Arguments &args);

ValueResult applyFilter(Budget &budget, const std::string &name,
                        const Value &value, const Arguments &args);
Result<bool> applyTest(Budget &budget, const std::string &name,
                       const Value &value, const Arguments &args);

/// Splits as `str.split` does; `limit` < 0 for no limit.
std::vector<std::string>
splitString(std::string_view text, const std::string *separator, int64_t limit);
/// Strips the characters in `set`, or white space if it is null.
std::string_view stripString(std::string_view text, const std::string *set,
                             bool left, bool right);
/// Replaces up to `limit` occurrences; all of them if it is below 0.
Result<std::string> replaceAll(Budget &budget, const std::string &text,
                               const std::string &from, const std::string &to,
                               int64_t limit);
/// Upper case for the first character, lower case for the others.
std::string capitalize(std::string_view text);

} // namespace retort::text::jinja

#endif // RETORT_RUNTIME_TEXT_TEMPLATERUNTIME_H
