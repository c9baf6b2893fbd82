//===- TemplateExec.cpp - Executing statements and calls ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateInterpreter.h"

namespace retort::text::jinja {

Value *Scope::find(std::string_view name) {
  for (auto &[key, value] : variables)
    if (key == name)
      return &value;
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  if (Value *found = find(name))
    *found = std::move(value);
  else
    variables.emplace_back(name, std::move(value));
}

Interpreter::~Interpreter() {
  // Namespaces can hold each other and themselves.
  for (const NamespacePtr &space : namespaces)
    space->attributes.items.clear();
}

Status Interpreter::atLine(Status status, int line) {
  if (status.isOk() || located)
    return status;
  located = true;
  return std::move(status).withContext("line " + std::to_string(line));
}

Scope *Interpreter::pushScope(Scope *parent) {
  stack.push_back(std::make_unique<Scope>());
  stack.back()->parent = parent;
  return stack.back().get();
}

void Interpreter::popScope(Scope *previous) {
  if (stack.back()->captured)
    kept.push_back(std::move(stack.back()));
  stack.pop_back();
  scope = previous;
}

Result<std::string> Interpreter::run(const SyntaxTree &tree,
                                     const Dict &inputs) {
  scope = pushScope(nullptr);
  for (const auto &[name, value] : inputs.items)
    scope->variables.emplace_back(name.asString(), value);
  // A block's assignments must not show in the inputs.
  scope = pushScope(scope);
  RETORT_RETURN_IF_ERROR(execute(tree.body));
  return std::move(output);
}

Result<Interpreter::Flow> Interpreter::execute(const Body &body) {
  for (const Stmt *stmt : body) {
    RETORT_RETURN_IF_ERROR(atLine(budget.take(1), stmt->line));
    if (++depth > limits.depth)
      return atLine(typeError("the template recurses too deeply"), stmt->line);
    Result<Flow> flow = execute(*stmt);
    --depth;
    if (!flow)
      return atLine(flow.takeStatus(), stmt->line);
    if (*flow != Flow::Next)
      return flow;
  }
  return Flow::Next;
}

Result<Interpreter::Flow> Interpreter::execute(const Stmt &stmt) {
  switch (stmt.kind) {
  case Stmt::Text:
    RETORT_RETURN_IF_ERROR(write(stmt.text));
    return Flow::Next;
  case Stmt::Print: {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(stmt.expr));
    if (value.isString()) {
      RETORT_RETURN_IF_ERROR(write(value.asString()));
      return Flow::Next;
    }
    RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, value));
    RETORT_RETURN_IF_ERROR(write(text));
    return Flow::Next;
  }
  case Stmt::If:
    return executeIf(stmt);
  case Stmt::For:
    return executeFor(stmt);
  case Stmt::Set:
  case Stmt::SetBlock:
    RETORT_RETURN_IF_ERROR(executeSet(stmt));
    return Flow::Next;
  case Stmt::Macro:
    scope->set(stmt.text, makeMacro(stmt, stmt.text));
    return Flow::Next;
  case Stmt::CallBlock:
    RETORT_RETURN_IF_ERROR(executeCallBlock(stmt));
    return Flow::Next;
  case Stmt::FilterBlock:
    RETORT_RETURN_IF_ERROR(executeFilterBlock(stmt));
    return Flow::Next;
  case Stmt::With:
    return executeWith(stmt);
  case Stmt::Scope: {
    Scope *previous = scope;
    scope = pushScope(previous);
    RETORT_ASSIGN_OR_RETURN(Flow flow, execute(stmt.body));
    popScope(previous);
    return flow;
  }
  case Stmt::Break:
    return Flow::Break;
  case Stmt::Continue:
    return Flow::Continue;
  }
  return Status::error(Code::Internal, "unknown kind of statement");
}

Status Interpreter::write(std::string_view text) {
  if (output.size() + text.size() > limits.outputBytes)
    return typeError("the output exceeds " +
                     std::to_string(limits.outputBytes) + " bytes");
  RETORT_RETURN_IF_ERROR(budget.takeString(text.size()));
  output += text;
  return Status::ok();
}

Result<std::string> Interpreter::capture(const Body &body) {
  std::string outer = std::exchange(output, {});
  Scope *previous = scope;
  scope = pushScope(previous);
  RETORT_RETURN_IF_ERROR(execute(body));
  popScope(previous);
  return std::exchange(output, std::move(outer));
}

Result<Interpreter::Flow> Interpreter::executeIf(const Stmt &stmt) {
  for (const auto &[condition, body] : stmt.branches) {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(condition));
    if (value.truth())
      return execute(body);
  }
  return execute(stmt.elseBody);
}

Result<Interpreter::Flow> Interpreter::executeFor(const Stmt &stmt) {
  RETORT_ASSIGN_OR_RETURN(Value iterable, evaluate(stmt.expr));
  RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, iterable));
  Scope *previous = scope;
  if (stmt.filter) {
    std::vector<Value> chosen;
    for (Value &item : items) {
      scope = pushScope(previous);
      RETORT_RETURN_IF_ERROR(assign(stmt.targets[0], item));
      RETORT_ASSIGN_OR_RETURN(Value keep, evaluate(stmt.filter));
      popScope(previous);
      if (keep.truth())
        chosen.push_back(std::move(item));
    }
    items = std::move(chosen);
  }
  LoopState loop{&items, 0, loopDepth + 1};
  ++loopDepth;
  Flow flow = Flow::Next;
  bool finishedTurn = false;
  for (; loop.index < items.size() && flow != Flow::Break; ++loop.index) {
    constexpr uint64_t kStepsPerTurn = 4; // a scope and a variable are made
    RETORT_RETURN_IF_ERROR(budget.take(kStepsPerTurn));
    scope = pushScope(previous);
    scope->loop = &loop;
    RETORT_RETURN_IF_ERROR(assign(stmt.targets[0], items[loop.index]));
    RETORT_ASSIGN_OR_RETURN(flow, execute(stmt.body));
    finishedTurn |= flow == Flow::Next;
    // A macro that was made here outlives the loop.
    scope->loop = nullptr;
    popScope(previous);
  }
  --loopDepth;
  // As in Jinja, `else` also runs when every turn was cut short.
  if (finishedTurn || stmt.elseBody.empty())
    return Flow::Next;
  scope = pushScope(previous);
  RETORT_ASSIGN_OR_RETURN(flow, execute(stmt.elseBody));
  popScope(previous);
  return flow;
}

Result<Interpreter::Flow> Interpreter::executeWith(const Stmt &stmt) {
  std::vector<Value> values;
  for (const Expr *expr : stmt.values) {
    RETORT_ASSIGN_OR_RETURN(Value value, evaluate(expr));
    values.push_back(std::move(value));
  }
  Scope *previous = scope;
  scope = pushScope(previous);
  for (size_t i = 0; i < values.size(); ++i)
    RETORT_RETURN_IF_ERROR(assign(stmt.targets[i], values[i]));
  RETORT_ASSIGN_OR_RETURN(Flow flow, execute(stmt.body));
  popScope(previous);
  return flow;
}

Status Interpreter::executeSet(const Stmt &stmt) {
  Value value;
  if (stmt.kind == Stmt::Set) {
    RETORT_ASSIGN_OR_RETURN(value, evaluate(stmt.expr));
    return assign(stmt.targets[0], value);
  }
  RETORT_ASSIGN_OR_RETURN(std::string text, capture(stmt.body));
  value = Value(std::move(text));
  // The filters of a block hang on each other, the innermost on nothing.
  std::vector<const Expr *> filters;
  for (const Expr *e = stmt.expr; e; e = e->kids[0])
    filters.push_back(e);
  for (size_t i = filters.size(); i-- > 0;) {
    RETORT_ASSIGN_OR_RETURN(value, evaluateFilter(*filters[i], value));
  }
  return assign(stmt.targets[0], value);
}

Status Interpreter::executeFilterBlock(const Stmt &stmt) {
  RETORT_ASSIGN_OR_RETURN(std::string text, capture(stmt.body));
  Value value(std::move(text));
  std::vector<const Expr *> filters;
  for (const Expr *e = stmt.expr; e; e = e->kids[0])
    filters.push_back(e);
  for (size_t i = filters.size(); i-- > 0;) {
    RETORT_ASSIGN_OR_RETURN(value, evaluateFilter(*filters[i], value));
  }
  RETORT_ASSIGN_OR_RETURN(std::string out, stringOf(budget, value));
  return write(out);
}

Status Interpreter::executeCallBlock(const Stmt &stmt) {
  const Expr &expr = *stmt.expr;
  RETORT_ASSIGN_OR_RETURN(Value function, evaluate(expr.kids[0]));
  RETORT_ASSIGN_OR_RETURN(Arguments args, evaluateArguments(expr.arguments));
  args.keywords.emplace_back("caller", makeMacro(stmt, "caller"));
  RETORT_ASSIGN_OR_RETURN(Value value, call(function, std::move(args)));
  RETORT_ASSIGN_OR_RETURN(std::string text, stringOf(budget, value));
  return write(text);
}

Status Interpreter::assign(const Target &target, const Value &value) {
  if (!target.parts.empty()) {
    RETORT_ASSIGN_OR_RETURN(std::vector<Value> items, iterate(budget, value));
    if (items.size() != target.parts.size())
      return typeError("cannot unpack: expected " +
                       std::to_string(target.parts.size()) + " values, found " +
                       std::to_string(items.size()));
    for (size_t i = 0; i < items.size(); ++i)
      RETORT_RETURN_IF_ERROR(assign(target.parts[i], items[i]));
    return Status::ok();
  }
  if (target.attribute.empty()) {
    scope->set(target.name, value);
    return Status::ok();
  }
  RETORT_ASSIGN_OR_RETURN(Value object, lookUp(target.name));
  if (!object.isNamespace())
    return typeError("cannot assign attribute on non-namespace object");
  return addToDict(budget, object.asNamespace()->attributes,
                   Value(target.attribute), value);
}

Value Interpreter::makeMacro(const Stmt &stmt, std::string name) {
  for (Scope *s = scope; s && !s->captured; s = s->parent)
    s->captured = true;
  auto macro = std::make_shared<Callable>();
  macro->kind = Callable::Macro;
  macro->name = std::move(name);
  macro->macro = &stmt;
  macro->closure = scope;
  return Value(CallablePtr(std::move(macro)));
}

ValueResult Interpreter::call(const Value &callee, Arguments args) {
  if (callee.isUndefined())
    return typeError(callee.undefinedMessage());
  if (!callee.isCallable())
    return typeError(std::string("a value of type '") + callee.typeName() +
                     "' cannot be called");
  const Callable &function = callee.asCallable();
  switch (function.kind) {
  case Callable::Macro:
    return callMacro(function, std::move(args));
  case Callable::Method:
    return callMethod(budget, function.self, function.name, args);
  case Callable::Cycle: {
    if (args.positional.empty())
      return typeError("cycle: expected values");
    size_t index = static_cast<size_t>(function.self.asInt());
    return args.positional[index % args.positional.size()];
  }
  case Callable::Global:
    return callGlobal(function.name, args);
  }
  return Status::error(Code::Internal, "unknown kind of function");
}

ValueResult Interpreter::callMacro(const Callable &macro, Arguments args) {
  const std::vector<Parameter> &parameters = macro.macro->parameters;
  if (args.positional.size() > parameters.size())
    return typeError("macro '" + macro.name + "' takes not more than " +
                     std::to_string(parameters.size()) + " argument(s)");
  Scope *previous = scope;
  Scope *inner = pushScope(macro.closure);
  std::vector<bool> used(args.keywords.size(), false);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter &p = parameters[i];
    const Value *given =
        i < args.positional.size() ? &args.positional[i] : nullptr;
    for (size_t k = 0; k < args.keywords.size(); ++k)
      if (args.keywords[k].first == p.name && !used[k]) {
        if (given)
          return typeError("macro '" + macro.name +
                           "' got two values for argument '" + p.name + "'");
        given = &args.keywords[k].second;
        used[k] = true;
      }
    if (given) {
      inner->set(p.name, *given);
    } else if (p.fallback) {
      // A default sees the parameters before it.
      scope = inner;
      RETORT_ASSIGN_OR_RETURN(Value fallback, evaluate(p.fallback));
      scope = previous;
      inner->set(p.name, std::move(fallback));
    } else {
      inner->set(p.name, Value::undefined("parameter '" + p.name +
                                          "' was not provided"));
    }
  }
  for (size_t k = 0; k < args.keywords.size(); ++k) {
    if (used[k])
      continue;
    if (args.keywords[k].first != "caller")
      return typeError("macro '" + macro.name +
                       "' takes no keyword argument '" +
                       args.keywords[k].first + "'");
    inner->set("caller", args.keywords[k].second);
  }
  scope = inner;
  std::string outer = std::exchange(output, {});
  RETORT_RETURN_IF_ERROR(execute(macro.macro->body));
  std::string text = std::exchange(output, std::move(outer));
  popScope(previous);
  return Value(std::move(text));
}

ValueResult Interpreter::callGlobal(const std::string &name,
                                    const Arguments &args) {
  if (name == "range")
    return range(args);
  if (name == "strftime_now")
    return timeNow(args);
  if (name == "raise_exception") {
    const Value *message = args.find(0, "message");
    std::string text = "the template raised an exception";
    if (message) {
      RETORT_ASSIGN_OR_RETURN(text, stringOf(budget, *message));
    }
    return typeError(text);
  }
  // `dict` and `namespace` take a dictionary or pairs, and keywords.
  Dict dict;
  if (!args.positional.empty()) {
    const Value &source = args.positional[0];
    if (source.isDict()) {
      RETORT_RETURN_IF_ERROR(budget.take(source.asDict().items.size()));
      dict = source.asDict();
    } else {
      RETORT_ASSIGN_OR_RETURN(std::vector<Value> pairs,
                              iterate(budget, source));
      for (const Value &pair : pairs) {
        if (!pair.isList() || pair.asList().items.size() != 2)
          return typeError(name + ": expected a dictionary or pairs");
        RETORT_RETURN_IF_ERROR(addToDict(budget, dict, pair.asList().items[0],
                                         pair.asList().items[1]));
      }
    }
  }
  for (const auto &[key, value] : args.keywords)
    RETORT_RETURN_IF_ERROR(addToDict(budget, dict, Value(key), value));
  if (name == "dict")
    return makeDict(std::move(dict));
  auto space = std::make_shared<Namespace>();
  space->attributes = std::move(dict);
  namespaces.push_back(space);
  return Value(NamespacePtr(std::move(space)));
}

ValueResult Interpreter::range(const Arguments &args) {
  int64_t bounds[3] = {0, 0, 1};
  size_t n = args.positional.size();
  if (n < 1 || n > 3 || !args.keywords.empty())
    return typeError("range: expected one to three integers");
  for (size_t i = 0; i < n; ++i) {
    if (!args.positional[i].isIntegral())
      return typeError(std::string("range: expected integers, found '") +
                       args.positional[i].typeName() + "'");
    bounds[n == 1 ? 1 : i] = args.positional[i].asInt();
  }
  auto [start, stop, step] = bounds;
  if (step == 0)
    return typeError("range: the step is zero");
  std::vector<Value> items;
  // The limit is that of Jinja's sandbox.
  constexpr size_t kMaxRange = 100'000;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() == kMaxRange)
      return typeError("range: expected at most " + std::to_string(kMaxRange) +
                       " items");
    items.push_back(Value(i));
    if (__builtin_add_overflow(i, step, &i))
      break;
  }
  RETORT_RETURN_IF_ERROR(budget.take(items.size()));
  return Value::list(std::move(items));
}

ValueResult Interpreter::timeNow(const Arguments &args) {
  const Value *format = args.find(0, "format");
  if (!format || !format->isString())
    return typeError("strftime_now: expected a format");
  constexpr size_t kLongest = 256;
  const std::string &text = format->asString();
  if (text.size() > kLongest || text.find('\0') != std::string::npos)
    return typeError("strftime_now: the format is too long");
  if (text.empty())
    return Value(std::string());
  char buffer[kLongest * 16];
  size_t n = std::strftime(buffer, sizeof(buffer), text.c_str(), &now);
  return Value(std::string(buffer, n));
}

} // namespace retort::text::jinja
