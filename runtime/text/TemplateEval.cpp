//===- TemplateEval.cpp - Evaluating expressions --------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateInterpreter.h"

namespace retort::text::jinja {

ValueResult Interpreter::evaluate(const Expr *expr) {
  RETORT_RETURN_IF_ERROR(atLine(budget.take(1), expr->line));
  if (++depth > limits.depth)
    return atLine(typeError("the template recurses too deeply"), expr->line);
  ValueResult result = evaluateNode(*expr);
  --depth;
  if (!result)
    return atLine(result.takeStatus(), expr->line);
  return result;
}

ValueResult Interpreter::evaluateNode(const Expr &expr) {
  switch (expr.kind) {
  case Expr::Constant:
    return expr.constant;
  case Expr::Name:
    return lookUp(expr.name);
  case Expr::ListLiteral:
  case Expr::TupleLiteral: {
    std::vector<Value> items;
    for (const Expr *kid : expr.kids) {
      RETORT_ASSIGN_OR_RETURN(Value item, evaluate(kid));
      items.push_back(std::move(item));
    }
    return makeList(std::move(items), expr.kind == Expr::TupleLiteral);
  }
  case Expr::DictLiteral:
    return evaluateDict(expr);
  case Expr::Attribute:
    return evaluateAttribute(expr);
  case Expr::Item: {
    RETORT_ASSIGN_OR_RETURN(Value object, evaluate(expr.kids[0]));
    RETORT_ASSIGN_OR_RETURN(Value key, evaluate(expr.kids[1]));
    return itemOf(budget, object, key);
  }
  case Expr::Slice: {
    RETORT_ASSIGN_OR_RETURN(Value object, evaluate(expr.kids[0]));
    Value parts[3] = {nullptr, nullptr, nullptr};
    for (size_t i = 0; i < 3; ++i)
      if (expr.kids[i + 1]) {
        RETORT_ASSIGN_OR_RETURN(parts[i], evaluate(expr.kids[i + 1]));
      }
    return sliceOf(budget, object, parts[0], parts[1], parts[2]);
  }
  case Expr::Call:
    return evaluateCall(expr);
  case Expr::Filter: {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(expr.kids[0]));
    return evaluateFilter(expr, std::move(value));
  }
  case Expr::Test: {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(expr.kids[0]));
    RETORT_ASSIGN_OR_RETURN(Arguments args, evaluateArguments(expr.arguments));
    RETORT_ASSIGN_OR_RETURN(bool holds,
                            applyTest(budget, expr.name, value, args));
    return Value(holds);
  }
  case Expr::Not: {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(expr.kids[0]));
    return Value(!value.truth());
  }
  case Expr::Negate:
  case Expr::Plus: {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(expr.kids[0]));
    if (value.isUndefined())
      return typeError(value.undefinedMessage());
    if (!value.isNumber())
      return typeError(std::string("a sign needs a number, found '") +
                       value.typeName() + "'");
    if (expr.kind == Expr::Negate && value.isFloat())
      return Value(-value.asDouble());
    return arithmetic(budget, expr.kind == Expr::Negate ? "-" : "+",
                      Value(int64_t(0)), value);
  }
  case Expr::Chain:
    return evaluateChain(expr);
  case Expr::Concat:
    return evaluateConcat(expr);
  case Expr::Compare:
    return evaluateCompare(expr);
  case Expr::And:
  case Expr::Or: {
    // The value is that of the operand that decides.
    Value value;
    for (const Expr *kid : expr.kids) {
      RETORT_ASSIGN_OR_RETURN(value, evaluate(kid));
      if (value.truth() == (expr.kind == Expr::Or))
        break;
    }
    return value;
  }
  case Expr::Condition: {
    RETORT_ASSIGN_OR_RETURN(Value condition, evaluate(expr.kids[0]));
    if (condition.truth())
      return evaluate(expr.kids[1]);
    if (expr.kids[2])
      return evaluate(expr.kids[2]);
    return Value::undefined("the inline if-expression evaluated to false and "
                            "has no else part");
  }
  }
  return Status::error(Code::Internal, "unknown kind of expression");
}

ValueResult Interpreter::evaluateChain(const Expr &expr) {
  RETORT_ASSIGN_OR_RETURN(Value value, evaluate(expr.kids[0]));
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(Value right, evaluate(expr.kids[i + 1]));
    RETORT_ASSIGN_OR_RETURN(value,
                            arithmetic(budget, expr.ops[i], value, right));
  }
  return value;
}

ValueResult Interpreter::evaluateConcat(const Expr &expr) {
  std::string out;
  for (const Expr *kid : expr.kids) {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(kid));
    if (!appendStr(out, value, budget.maxBytes()))
      return budget.takeString(budget.maxBytes() + 1);
  }
  RETORT_RETURN_IF_ERROR(budget.takeString(out.size()));
  return Value(std::move(out));
}

ValueResult Interpreter::evaluateCompare(const Expr &expr) {
  RETORT_ASSIGN_OR_RETURN(Value left, evaluate(expr.kids[0]));
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(Value right, evaluate(expr.kids[i + 1]));
    RETORT_ASSIGN_OR_RETURN(bool holds,
                            compareValues(budget, expr.ops[i], left, right));
    if (!holds)
      return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

ValueResult Interpreter::evaluateDict(const Expr &expr) {
  Dict dict;
  for (size_t i = 0; i + 1 < expr.kids.size(); i += 2) {
    RETORT_ASSIGN_OR_RETURN(Value key, evaluate(expr.kids[i]));
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(expr.kids[i + 1]));
    RETORT_RETURN_IF_ERROR(
        addToDict(budget, dict, std::move(key), std::move(value)));
  }
  return makeDict(std::move(dict));
}

ValueResult Interpreter::evaluateAttribute(const Expr &expr) {
  const Expr &base = *expr.kids[0];
  if (base.kind == Expr::Name && base.name == "loop")
    if (const LoopState *loop = currentLoop())
      return loopAttribute(*loop, expr.name);
  RETORT_ASSIGN_OR_RETURN(Value object, evaluate(&base));
  if (object.isUndefined())
    return typeError(object.undefinedMessage());
  if (object.isDict())
    RETORT_RETURN_IF_ERROR(budget.take(object.asDict().items.size() / 8));
  return attributeOf(object, expr.name);
}

ValueResult Interpreter::evaluateCall(const Expr &expr) {
  const Expr &callee = *expr.kids[0];
  // A method is called without making a value of it first.
  if (callee.kind == Expr::Attribute) {
    RETORT_ASSIGN_OR_RETURN(Value object, evaluate(callee.kids[0]));
    if (hasMethod(object, callee.name)) {
      RETORT_ASSIGN_OR_RETURN(Arguments args,
                              evaluateArguments(expr.arguments));
      return callMethod(budget, object, callee.name, args);
    }
    if (object.isUndefined())
      return typeError(object.undefinedMessage());
    RETORT_ASSIGN_OR_RETURN(Arguments args, evaluateArguments(expr.arguments));
    return call(attributeOf(object, callee.name), std::move(args));
  }
  RETORT_ASSIGN_OR_RETURN(Value function, evaluate(&callee));
  RETORT_ASSIGN_OR_RETURN(Arguments args, evaluateArguments(expr.arguments));
  return call(function, std::move(args));
}

ValueResult Interpreter::evaluateFilter(const Expr &expr, Value value) {
  RETORT_ASSIGN_OR_RETURN(Arguments args, evaluateArguments(expr.arguments));
  return applyFilter(budget, expr.name, value, args);
}

Result<Arguments>
Interpreter::evaluateArguments(const std::vector<Argument> &arguments) {
  Arguments out;
  for (const Argument &argument : arguments) {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(argument.value));
    switch (argument.kind) {
    case Argument::Positional:
      out.positional.push_back(std::move(value));
      break;
    case Argument::Keyword:
      out.keywords.emplace_back(argument.name, std::move(value));
      break;
    case Argument::Star: {
      RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
      for (Value &item : items)
        out.positional.push_back(std::move(item));
      break;
    }
    case Argument::DoubleStar:
      if (!value.isDict())
        return typeError("'**' needs a dictionary");
      for (const auto &[key, item] : value.asDict().items) {
        if (!key.isString())
          return typeError("'**' needs keys that are strings");
        RETORT_RETURN_IF_ERROR(budget.take(1));
        out.keywords.emplace_back(key.asString(), item);
      }
      break;
    }
  }
  return out;
}

ValueResult Interpreter::lookUp(const std::string &name) {
  for (Scope *s = scope; s; s = s->parent) {
    if (Value *found = s->find(name))
      return *found;
    if (s->loop && name == "loop")
      return loopObject(*s->loop);
  }
  for (std::string_view global :
       {"range", "namespace", "dict", "raise_exception", "strftime_now"})
    if (name == global) {
      auto function = std::make_shared<Callable>();
      function->kind = Callable::Global;
      function->name = name;
      return Value(CallablePtr(std::move(function)));
    }
  return Value::undefined("'" + name + "' is undefined");
}

const LoopState *Interpreter::currentLoop() const {
  for (Scope *s = scope; s; s = s->parent) {
    if (s->find("loop"))
      return nullptr;
    if (s->loop)
      return s->loop;
  }
  return nullptr;
}

Value Interpreter::loopAttribute(const LoopState &loop, std::string_view name) {
  int64_t index = static_cast<int64_t>(loop.index);
  int64_t length = static_cast<int64_t>(loop.items->size());
  if (name == "index")
    return Value(index + 1);
  if (name == "index0")
    return Value(index);
  if (name == "revindex")
    return Value(length - index);
  if (name == "revindex0")
    return Value(length - index - 1);
  if (name == "first")
    return Value(index == 0);
  if (name == "last")
    return Value(index + 1 == length);
  if (name == "length")
    return Value(length);
  if (name == "depth")
    return Value(int64_t(loop.depth));
  if (name == "depth0")
    return Value(int64_t(loop.depth - 1));
  if (name == "previtem" && index > 0)
    return (*loop.items)[loop.index - 1];
  if (name == "nextitem" && index + 1 < length)
    return (*loop.items)[loop.index + 1];
  if (name == "previtem" || name == "nextitem")
    return Value::undefined(
        "there is no " + std::string(name == "previtem" ? "previous" : "next") +
        " item");
  if (name == "cycle") {
    auto cycle = std::make_shared<Callable>();
    cycle->kind = Callable::Cycle;
    cycle->self = Value(index);
    return Value(CallablePtr(std::move(cycle)));
  }
  return Value::undefined("'loop' has no attribute '" + std::string(name) +
                          "'");
}

ValueResult Interpreter::loopObject(const LoopState &loop) {
  Dict dict;
  for (const char *name :
       {"index", "index0", "revindex", "revindex0", "first", "last", "length",
        "depth", "depth0", "previtem", "nextitem", "cycle"}) {
    Value value = loopAttribute(loop, name);
    if (!value.isUndefined())
      dict.set(Value(std::string(name)), std::move(value));
  }
  return makeDict(std::move(dict));
}

} // namespace retort::text::jinja
