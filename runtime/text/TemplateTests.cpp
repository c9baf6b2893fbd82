//===- TemplateTests.cpp - Tests ------------------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateRuntime.h"
#include "runtime/text/Unicode.h"

namespace retort::text::jinja {
namespace {

using Test = Result<bool> (*)(Budget &, const Value &, const Arguments &);

template <auto Predicate>
Result<bool> kind(Budget &, const Value &v, const Arguments &) {
  return (v.*Predicate)();
}

Result<const Value *> operand(const Arguments &args) {
  if (args.positional.empty())
    return typeError("the test needs an operand");
  return &args.positional[0];
}

struct Symbol {
  const char *text;
};
constexpr Symbol kEqual{"=="}, kUnequal{"!="}, kLess{"<"}, kLessEqual{"<="},
    kGreater{">"}, kGreaterEqual{">="}, kIn{"in"};

template <const Symbol &Op>
Result<bool> relation(Budget &budget, const Value &v, const Arguments &args) {
  RETORT_ASSIGN_OR_RETURN(const Value *other, operand(args));
  return compareValues(budget, Op.text, v, *other);
}

Result<bool> remainderIs(Budget &budget, const Value &v, const Value &divisor,
                         int64_t wanted) {
  RETORT_ASSIGN_OR_RETURN(Value rest, arithmetic(budget, "%", v, divisor));
  return equal(rest, Value(wanted));
}

constexpr std::pair<std::string_view, Test> kTests[] = {
    {"!=", relation<kUnequal>},
    {"<", relation<kLess>},
    {"<=", relation<kLessEqual>},
    {"==", relation<kEqual>},
    {">", relation<kGreater>},
    {">=", relation<kGreaterEqual>},
    {"boolean", kind<&Value::isBool>},
    {"callable", kind<&Value::isCallable>},
    {"defined",
     [](Budget &, const Value &v, const Arguments &) -> Result<bool> {
       return !v.isUndefined();
     }},
    {"divisibleby",
     [](Budget &b, const Value &v, const Arguments &a) -> Result<bool> {
       RETORT_ASSIGN_OR_RETURN(const Value *divisor, operand(a));
       return remainderIs(b, v, *divisor, 0);
     }},
    {"eq", relation<kEqual>},
    {"equalto", relation<kEqual>},
    {"escaped",
     [](Budget &, const Value &, const Arguments &) -> Result<bool> {
       return false;
     }},
    {"even",
     [](Budget &b, const Value &v, const Arguments &) {
       return remainderIs(b, v, Value(int64_t(2)), 0);
     }},
    {"false",
     [](Budget &, const Value &v, const Arguments &) -> Result<bool> {
       return v.isBool() && !v.asBool();
     }},
    {"filter",
     [](Budget &, const Value &v, const Arguments &) -> Result<bool> {
       return v.isString() && isFilter(v.asString());
     }},
    {"float", kind<&Value::isFloat>},
    {"ge", relation<kGreaterEqual>},
    {"greaterthan", relation<kGreater>},
    {"gt", relation<kGreater>},
    {"in", relation<kIn>},
    {"integer", kind<&Value::isInt>},
    {"iterable",
     [](Budget &, const Value &v, const Arguments &) -> Result<bool> {
       return v.isString() || v.isList() || v.isDict() || v.isUndefined();
     }},
    {"le", relation<kLessEqual>},
    {"lessthan", relation<kLess>},
    {"lower",
     [](Budget &b, const Value &v, const Arguments &) -> Result<bool> {
       RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(b, v));
       return toLower(text) == text && toUpper(text) != text;
     }},
    {"lt", relation<kLess>},
    {"mapping", kind<&Value::isDict>},
    {"ne", relation<kUnequal>},
    {"none", kind<&Value::isNone>},
    {"number", kind<&Value::isNumber>},
    {"odd",
     [](Budget &b, const Value &v, const Arguments &) {
       return remainderIs(b, v, Value(int64_t(2)), 1);
     }},
    {"sameas",
     [](Budget &, const Value &v, const Arguments &a) -> Result<bool> {
       RETORT_ASSIGN_OR_RETURN(const Value *other, operand(a));
       return v.isSameObject(*other);
     }},
    {"sequence",
     [](Budget &, const Value &v, const Arguments &) -> Result<bool> {
       return v.isString() || v.isList() || v.isDict() || v.isUndefined();
     }},
    {"string", kind<&Value::isString>},
    {"test",
     [](Budget &, const Value &v, const Arguments &) -> Result<bool> {
       return v.isString() && isTest(v.asString());
     }},
    {"true",
     [](Budget &, const Value &v, const Arguments &) -> Result<bool> {
       return v.isBool() && v.asBool();
     }},
    {"undefined", kind<&Value::isUndefined>},
    {"upper",
     [](Budget &b, const Value &v, const Arguments &) -> Result<bool> {
       RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(b, v));
       return toUpper(text) == text && toLower(text) != text;
     }},
};

Test findTest(std::string_view name) {
  for (const auto &[known, test] : kTests)
    if (known == name)
      return test;
  return nullptr;
}

} // namespace

bool isTest(std::string_view name) { return findTest(name) != nullptr; }

Result<bool> applyTest(Budget &budget, const std::string &name,
                       const Value &value, const Arguments &args) {
  return findTest(name)(budget, value, args);
}

} // namespace retort::text::jinja
